"""A run's folder: its settings, its story, and the state that a killed training goes on from.

::

    settings.json        what was asked for, and the hashes of the data and of the start's weights
    metrics.jsonl        one line per report: step, loss, validation scores
    state.safetensors    everything needed to go on after a kill; gone once the run is finished
    model.safetensors    the result
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from axolemma._version import __version__
from axolemma.errors import InputError, SettingsError
from axolemma.images import replacing
from axolemma.lock import Lock
from axolemma.settings import TrainSettings

__all__ = ["LOCK", "Metrics", "State", "Weights", "load_state", "open_run", "save_state"]

#: The file in a run's folder that whoever trains there holds; gone once the run is finished.
LOCK = ".lock"

#: What may change when a run goes on: where the data and the start's weights lie (not what they
#: are), how often to save.
_MAY_CHANGE = ("data", "from", "save_every", "device")


@dataclass(slots=True)
class State:
    """Where a run stands, beside its weights."""

    step: int = 0
    seconds: float = 0.0
    validations: int = 0
    validation_seconds: float = 0.0
    boundary_seconds: float = 0.0
    v_rand: float | None = None
    best: float = -1.0


@dataclass(frozen=True, slots=True)
class Weights:
    """What a training changes: its network, the running average, the best average so far."""

    network: nn.Module
    average: nn.Module
    best: nn.Module
    optimizer: torch.optim.Optimizer


class Metrics:
    """The file of reports; lines after the resumed step are dropped, they will come again.

    Where it is not `mine`, another process writes it.
    """

    def __init__(self, path: Path, *, up_to: int, mine: bool = True) -> None:
        self._path, self._mine = path, mine
        if not mine:
            return
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        kept = []
        for line in lines:
            try:
                if json.loads(line)["step"] <= up_to:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                break  # A kill in the middle of a write leaves half a line, always the last.
        with replacing(path) as partial:
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Append one line."""
        if self._mine:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")


def open_run(
    run: Path, settings: TrainSettings, *, data_sha256: str, start_sha256: str | None = None
) -> Lock:
    """Make the folder, or check that it belongs to a run of the same settings, data and start.

    Returns
    -------
    Lock
        Which keeps another process from training there as long as it is held.

    Raises
    ------
    SettingsError
        If the run there has other settings, other data or began with other weights.
    InputError
        If something else is there, the folder cannot be made, or another process trains there.
    """
    asked = settings.model_dump(mode="json", by_alias=True) | {"data_sha256": data_sha256}
    if start_sha256 is not None:
        asked["start_sha256"] = start_sha256
    file = run / "settings.json"
    try:
        begun = file.is_file()
        if begun:
            there = json.loads(file.read_text(encoding="utf-8"))["settings"]
            for key in sorted(asked.keys() | there.keys()):
                if key not in _MAY_CHANGE and asked.get(key) != there.get(key):
                    raise SettingsError(
                        f"{run}: the run there has {key} = {there.get(key)!r}, this one "
                        f"{asked.get(key)!r}; repeat its settings to go on, or choose another "
                        "folder"
                    )
        # Files whose names begin with a dot are left by a kill or by the system's file browser.
        elif run.is_dir() and any(not f.name.startswith(".") for f in run.iterdir()):
            raise InputError(f"{run}: this folder holds other files; choose a new one for the run")
        run.mkdir(parents=True, exist_ok=True)
        lock = Lock(run / LOCK)
    except InputError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{run}: the run's folder cannot be made, {reason}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{file}: this is no run's settings file; choose another folder"
        ) from error
    try:
        if not begun:
            with replacing(file) as partial:
                text = json.dumps({"axolemma": __version__, "settings": asked}, indent=2)
                partial.write_text(text, encoding="utf-8")
    except BaseException:
        lock.release()
        raise
    return lock


def save_state(run: Path, state: State, weights: Weights) -> None:
    """Write the state, whole or not at all."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in _tensors(weights)}
    about = {name: getattr(state, name) for name in State.__slots__}
    with replacing(run / "state.safetensors") as partial:
        save_file(tensors, partial, metadata={"state": json.dumps(about)})


def load_state(run: Path, weights: Weights) -> State:
    """Read the state into the weights and return where the run stands.

    Raises
    ------
    InputError
        If the file is damaged or belongs to another network.
    """
    path = run / "state.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            state = State(**json.loads(file.metadata()["state"]))
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, rest = key.split(".", 1)
            parts.setdefault(part, {})[rest] = value
        for name, module in _modules(weights):
            module.load_state_dict(parts[name])
        optimizer = weights.optimizer
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            index, rest = key.split(".", 1)
            like = parameters[int(index)]
            # The fused optimizer walks through memory: moments must lie as their weights do.
            laid = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            moments.setdefault(int(index), {})[rest] = laid
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path}: the run's state cannot be read ({error}); remove the folder to start anew"
        ) from error
    return state


def _modules(weights: Weights) -> Iterator[tuple[str, nn.Module]]:
    yield "network", weights.network
    yield "average", weights.average
    yield "best", weights.best


def _tensors(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a run's state under its name in the file."""
    for name, module in _modules(weights):
        for key, value in module.state_dict().items():
            yield f"{name}.{key}", value
    for index, values in weights.optimizer.state_dict()["state"].items():
        for key, value in values.items():
            yield f"optimizer.{index}.{key}", value
