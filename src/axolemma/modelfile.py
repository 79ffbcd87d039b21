"""One file holds a model: the weights and all that is needed to use them."""

import hashlib
import json
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from axolemma import models
from axolemma._version import __version__
from axolemma.calibration import Calibration
from axolemma.errors import InputError, ModelFileError, nearest
from axolemma.images import replacing

__all__ = ["FORMAT", "Model", "ModelInfo", "bundled", "load_model", "save_model"]

#: Version of the file format; raised when an older Axolemma could misread a newer file.
FORMAT = 1


Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _rising(found: Calibration) -> Calibration:
    if not (0 < found.slope < math.inf and math.isfinite(found.shift)):
        raise ValueError("a calibration has a finite slope above 0 and a finite shift")
    return found


class ModelInfo(BaseModel):
    """What a model file says about its weights.

    Parameters
    ----------
    format
        Version of the file format.
    architecture, arguments
        The network's name and keyword arguments.
    normalisation
        How grey values are prepared; one way so far, see `quality.normalise`.
    axes
        Order of the axes the model was trained on.
    context
        Neighbouring sections on either side that one prediction looks at.
    voxel_size
        (Z, Y, X) in nm of the training data, None where it is not known.
    threshold
        A pixel is cell interior where ``1 - membrane map > threshold``, as the validation sections
        chose it.
    boundary
        How far the membrane map must rise between two cells to part them, as the validation
        sections chose it; see `objects.segment_cells`.
    calibration
        Slope and shift that turn the membrane map into probabilities, as the validation sections
        chose them; None in older files.
    training
        Where the weights come from: data, slices, settings, scores, versions.
    licence
        Terms of the weights, which follow from those of the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    architecture: str
    arguments: dict[str, Any]
    normalisation: Literal["section mean and deviation"] = "section mean and deviation"
    axes: Literal["ZYX"] = "ZYX"
    context: int = Field(default=0, ge=0)
    voxel_size: tuple[Length, Length, Length] | None = None
    threshold: Share
    boundary: Share = 0.6
    calibration: Annotated[Calibration, AfterValidator(_rising)] | None = None
    training: dict[str, Any] = {}
    licence: str = ""
    axolemma: str = __version__

    @model_validator(mode="before")
    @classmethod
    def _of_older_files(cls, told: Any) -> Any:
        if not isinstance(told, dict):
            return told
        # A factor of prediction that no model of use had other than 1.
        told = {
            name: value for name, value in told.items() if (name, value) != ("magnification", 1)
        }
        # A threshold and a calibration for each way of averaging.
        if "thresholds" not in told:
            return told
        each = {one: told.pop(f"{one}s", {}) for one in ("threshold", "calibration")}
        if not all(isinstance(found, dict) for found in each.values()):
            raise ValueError("thresholds and calibrations are by ways of averaging")
        # The last one is that of the most poses.
        return told | {one: list(found.values())[-1] for one, found in each.items() if found}


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights, ready to predict, and what is known about it."""

    network: nn.Module
    info: ModelInfo
    source: str


def save_model(path: str | Path, network: nn.Module, info: ModelInfo) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path
        Where to, by custom ``*.safetensors``. The folder must exist.
    network, info
        The weights and what is said about them.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with replacing(path) as partial:
        try:
            # By `save_file` nobody but its maker could read it.
            partial.write_bytes(save(weights, metadata={"axolemma": info.model_dump_json()}))
        except SafetensorError as error:
            raise InputError(f"{path}: the model file cannot be written: {error}") from error


def load_model(name_or_path: str | Path) -> Model:
    """Load a model by its name or from its file.

    Parameters
    ----------
    name_or_path
        A bundled model's name, a model file, or a run folder that holds ``model.safetensors``.

    Returns
    -------
    Model
        With the network in evaluation mode on the CPU.

    Raises
    ------
    ModelFileError
        If there is no such model, or the file is not an Axolemma model.
    """
    path = _locate(name_or_path)
    info = _read_info(path)
    try:
        network = models.build(info.architecture, **info.arguments)
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        network.load_state_dict(weights)
        if info.training.get("weights_sha256", found := state_hash(network)) != found:
            raise ValueError("they have changed since they were written; the file is damaged")
        if info.arguments.get("in_channels", 1) != 2 * info.context + 1:
            raise ValueError(f"{info.context} neighbours do not fit its input channels")
    except (RuntimeError, SafetensorError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path}: its weights do not fit its description: {reason}") from error
    return Model(network.eval(), info, str(path))


def bundled() -> dict[str, Path]:
    """Return the models that come with the package, by name."""
    folder = Path(str(resources.files("axolemma"))) / "weights"
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"), key=lambda f: f.stem)}


def _locate(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_dir():
        if (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        raise ModelFileError(
            f"{path}: this folder holds no model.safetensors; name a finished run or a model file"
        )
    if path.is_file():
        return path
    shipped = bundled()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    hint = nearest(str(name_or_path), shipped) if shipped else "; no model comes with this version"
    raise ModelFileError(f"no model file or model named '{name_or_path}'{hint}")


def _read_info(path: Path) -> ModelInfo:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return ModelInfo.model_validate(json.loads(metadata["axolemma"]))
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path}: this is not a model file ({error})") from error
    except KeyError as error:
        raise ModelFileError(
            f"{path}: these weights do not come from Axolemma: their description is missing"
        ) from error
    except (ValidationError, json.JSONDecodeError) as error:
        raise ModelFileError(
            f"{path}: its description cannot be read by Axolemma {__version__} "
            f"(format {FORMAT}); it may come from a newer version"
        ) from error


def state_hash(network: nn.Module) -> str:
    """Return a sha256 of a network's weights, for provenance and for comparing two trainings."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
