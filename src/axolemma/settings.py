"""Frozen, validated settings: flags and YAML files end here. No behaviour."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from axolemma.errors import SettingsError, nearest

__all__ = [
    "RECIPES",
    "Average",
    "CompareSettings",
    "Minutes",
    "SegmentSettings",
    "TrainSettings",
    "check",
    "minutes",
    "read_yaml",
    "voxel_size",
]

#: Over how many poses of a section predictions are averaged: 1, 2, 4 or 8.
Average = Literal["none", "half-turn", "flips", "dihedral"]

_MOST_SEEDS = 1000

_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}


def minutes(text: str | float) -> float:
    """Turn ``"90s"``, ``"10m"``, ``"1.5h"`` or a number of minutes into minutes.

    Raises
    ------
    ValueError
        If it is none of these, or not above zero.
    """
    match = re.fullmatch(r"\s*(\d{1,7}(?:\.\d{1,7})?)\s*([smh]?)\s*", str(text))
    if match is None or float(match[1]) == 0:
        raise ValueError(f"'{text}' is no duration; write for instance 90s, 10m or 2h")
    return float(match[1]) * _UNITS[match[2] or "m"]


def voxel_size(value: str | Sequence[float]) -> tuple[float, float, float]:
    """Turn ``"50,4,4"`` or three numbers into a voxel size (Z, Y, X) in nm.

    Raises
    ------
    ValueError
        If it is not three lengths between 0.001 and 10⁹ nm.
    """
    try:
        z, y, x = (float(v) for v in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        z = y = x = 0.0
    if not all(1e-3 <= side <= 1e9 for side in (z, y, x)):
        raise ValueError("a voxel size is three lengths Z,Y,X in nm, for instance 50,4,4")
    return z, y, x


def _list(value: object) -> object:
    """Turn ``"a,b"`` into a list."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _seeds(value: object) -> object:
    """Turn a number of seeds into the seeds from 0 on, and ``"0,5"`` into a list."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    return list(range(min(value, _MOST_SEEDS + 1))) if isinstance(value, int) else _list(value)


def _folds(value: object) -> object:
    text = str(value).strip()
    if text != "seed" and not (text.isdecimal() and int(text) > 1):
        raise ValueError("folds are 'seed' or a number from 2 on")
    return text if text == "seed" else int(text)


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


Minutes = Annotated[float, BeforeValidator(minutes)]
VoxelSize = Annotated[tuple[float, float, float], BeforeValidator(voxel_size)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+]*$")]
Names = Annotated[
    tuple[Name, ...], BeforeValidator(_list), Field(min_length=1), AfterValidator(_once)
]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[
    tuple[Seed, ...],
    BeforeValidator(_seeds),
    Field(min_length=1, max_length=_MOST_SEEDS),
    AfterValidator(_once),
]
Folds = Annotated[Literal["seed"] | int, BeforeValidator(_folds)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # YAML reads a single section's number as a number
        populate_by_name=True,  # `from` is a word of Python: there it is written `start`
    )


class TrainSettings(_Settings):
    """Settings of one training.

    Parameters
    ----------
    data
        ``isbi2012``, ``phantom``, a CREMI or SNEMI3D volume's path, or a folder of pairs.
    truth_is
        What a folder's truths show bright, or whether they number the cells.
    ignore_value
        The value in its truths of pixels that nobody annotated; see `images.to_truth`.
    start
        A model file, a run folder or the name of a bundled model to go on from: the network begins
        with its weights, and is what it was there. Written ``from`` on the command line and in
        YAML.
    voxel_size
        (Z, Y, X) in nm of the data, where its files do not give it or give it wrong.
    model
        Name of the network.
    width, depth
        Channels of its finest level and number of levels; the network's own where None.
    arguments
        More of its keyword arguments, see `axolemma.models`: ``{"dropout": 0.2}``.
    recipe
        Name of settings that hold where no others are given, see `RECIPES`.
    context
        Neighbouring sections on either side that the network looks at.
    slices
        Sections to learn from, ``"0-24"``; all where None.
    validate_slices
        Sections among them that are held out to choose the weights; the last eighth
        where None. ``"none"`` learns from all of them and chooses by how well it does on those,
        which flatters, and takes no threshold below the usual .6; for a last model of few sections,
        or of all. Written ``validate`` on the
        command line and in YAML.
    budget
        Minutes of wall-clock time, validation included, at most: see `training.enough_steps`.
    steps
        Steps instead of minutes: the result then does not depend on the machine's speed.
    seed
        Seed of weights and augmentation.
    batch, crop
        Crops per step, and their side in pixels.
    learning_rate, weight_decay
        Of the optimizer; the rate is the highest that the schedule comes to.
    optimizer
        ``adamw``, or ``adam``, whose decay is an L2 term of the loss: half of it times the sum of
        the squared weights.
    schedule
        ``cosine``: a rise, then a cosine to zero at the end of the budget; ``step``: that of the
        earlier project, see `axolemma.training.schedule`.
    loss
        Name of the loss, see `axolemma.losses`.
    preset
        Augmentation: our own; ``robust``, a stronger one for weights that others will use, see
        `axolemma.augment.PRESETS`; that of the earlier project (`augment_keras`); or none.
    dice
        For the loss ``bce_dice``: weight of the soft Dice loss beside binary cross-entropy.
    thicken
        Pixels by which the membrane is thickened on every side for learning. The scores forgive a
        thick membrane, not a gap.
    averaging
        Share of the steps so far that the running average of the weights reaches back over; the
        average of step n moves by 1 / (1 + averaging · n). 0 takes the weights as they are.
    save_every
        Seconds between two writes of the state that a killed run goes on from.
    device, precision
        Where and how to compute.
    """

    data: str
    voxel_size: VoxelSize | None = None
    model: str = "resunet"
    width: int | None = Field(default=None, ge=1, le=4096)
    depth: int | None = Field(default=None, ge=1, le=8)
    arguments: dict[str, bool | int | float] = Field(default={})
    recipe: str | None = None
    start: str | None = Field(default=None, alias="from")
    context: int = Field(default=0, ge=0, le=8)
    truth_is: Literal["auto", "interior", "membrane", "labels"] = "auto"
    ignore_value: int | None = None
    slices: str | None = None
    validate_slices: str | None = Field(default=None, alias="validate")
    budget: Minutes | None = None
    steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    batch: int = Field(default=4, ge=1, le=4096)
    crop: int = Field(default=256, ge=32, le=8192)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "step"] = "cosine"
    loss: str = "bce_dice"
    preset: Literal["axolemma", "robust", "keras", "none"] = "axolemma"
    dice: float = Field(default=0.5, ge=0)
    thicken: int = Field(default=1, ge=0, le=20)
    averaging: float = Field(default=0.33, ge=0, le=1)
    save_every: float = Field(default=20.0, ge=0)
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"


_EARLIER: dict[str, Any] = {
    "preset": "keras",
    "crop": 512,
    "batch": 1,
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "schedule": "step",
    "loss": "bce",
    "thicken": 0,
    "averaging": 0,
}

#: Settings of a training by name. The two are those of an earlier student project on the
#: challenge's data: epochs of 300 single sections, 10 for its U-Net, 15 for its U-Net++.
RECIPES: dict[str, dict[str, Any]] = {
    "seed-unet": _EARLIER
    | {
        "model": "unet",
        "arguments": {"normalisation": False, "narrow_head": True},
        "steps": 3000,
        "weight_decay": 0,
    },
    "seed-unetplusplus": _EARLIER
    | {
        "model": "unetplusplus",
        "arguments": {
            "normalisation": False,
            "dropout": 0.5,
            "dropout_twice": True,
            "deep_supervision": False,
        },
        "steps": 4500,
        # Keras adds 1e-4 times the squares, this optimizer half of its decay times them.
        "weight_decay": 2e-4,
    },
}


class SegmentSettings(_Settings):
    """Settings of one segmentation.

    Parameters
    ----------
    model
        A model file, a run folder or the name of a bundled model.
    polarity
        Whether membranes are ``dark`` or ``bright``; ``auto`` looks.
    slices
        Sections to segment; all where None. Nothing else of the stack is looked at.
    voxel_size
        (Z, Y, X) in nm, where the file does not give it or gives it wrong.
    threshold
        A pixel is cell interior where ``1 - membrane map > threshold``; the model's own where
        None.
    average
        Average predictions over a half turn (2 poses), flips (4) or the dihedral group (8), or take
        one.
    objects
        ``cells`` labels the cells of every section, ``neurons`` also links them through the stack;
        ``none`` stops at the membrane map.
    method
        How cells are found: ``mean`` and ``multicut`` judge contacts as a whole, ``threshold``
        takes the pieces of interior; see `axolemma.objects.segment_cells`.
    boundary
        How far the membrane map must rise between two cells to part them; the model's own where
        None, of a multicut 0.4. Lower values find more cells.
    filled
        Let cells touch instead of leaving a line one pixel wide between them.
    bad_sections
        What happens to sections of one grey value, or with NaN or infinity: ``refuse`` the
        stack, or ``mask`` them: they are membrane everywhere, without cells, and neurons are linked
        across them.
    bits
        Of the membrane map's file: 32 for float, 8 for unsigned integers scaled to 255.
    calibrated
        Write the membrane map as probabilities that come true, as the model's validation chose:
        of the pixels at .5 half are membrane. Thresholds move along, cells stay the same.
    uncertainty
        Also write where the membrane map is likely to be wrong, see
        `axolemma.uncertainty.uncertainty_map`.
    device, precision, tile
        Where, how, and in which largest side of tiles to compute. ``int8`` compiles the network
        with 8-bit integers for this very image, and is used only if it then says the same as
        float32.
    """

    model: str = "neurites"
    polarity: Literal["auto", "dark", "bright"] = "auto"
    slices: str | None = None
    voxel_size: VoxelSize | None = None
    threshold: float | None = Field(default=None, ge=0, lt=1)
    average: Average = "half-turn"
    objects: Literal["none", "cells", "neurons"] = "cells"
    method: Literal["multicut", "mean", "threshold"] = "mean"
    boundary: float | None = Field(default=None, gt=0, lt=1)
    filled: bool = False
    bad_sections: Literal["refuse", "mask"] = "refuse"
    bits: Literal[8, 32] = 32
    calibrated: bool = False
    uncertainty: bool = False
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    tile: int = Field(default=2560, ge=512, le=65536)

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        about = {"boundary": self.boundary, "filled": self.filled, "method": self.method != "mean"}
        for name, given in about.items() if self.objects == "none" else ():
            if given not in (None, False):
                raise ValueError(f"{name} is about cells, and with objects none there are none")
        if self.method == "threshold" and self.boundary is not None:
            raise ValueError("boundary is for contacts, at which method threshold does not look")
        return self


class CompareSettings(_Settings):
    """Settings of one comparison.

    Parameters
    ----------
    data
        ``isbi2012``, ``phantom``, a CREMI or SNEMI3D volume's path, or a folder of pairs.
    truth_is
        What a folder's truths show bright, or whether they number the cells.
    ignore_value
        As in `TrainSettings`; such pixels count in no score.
    models, losses, presets
        Every network is trained with every loss and every augmentation.
    seeds
        How many seeds, from 0 on, or a list of them.
    folds
        ``"seed"`` trains on the first sections and tests on the last sixth: 0-24 and 25-29 of 30.
        A number tests every section once, in so many contiguous blocks, and trains on the others.
    budget, steps
        Of each training, in minutes or in steps.
    average
        How predictions of the test sections are averaged.
    arguments
        Of a network that shall not have its own: ``{"unet": {"width": 16, "unshuffle": 4}}``.
    training
        Other settings that all trainings share, see `TrainSettings`: ``{"crop": 128}``.
    """

    data: str
    truth_is: Literal["auto", "interior", "membrane", "labels"] = "auto"
    ignore_value: int | None = None
    models: Names
    losses: Names = ("bce_dice",)
    presets: Names = ("axolemma",)
    seeds: Seeds = (0, 1, 2)
    folds: Folds = "seed"
    budget: Minutes | None = None
    steps: int | None = Field(default=None, ge=1)
    average: Average = "dihedral"
    arguments: dict[str, dict[str, bool | int | float]] = Field(default={})
    training: dict[str, Any] = Field(default={})


Kind = TypeVar("Kind", bound=_Settings)


def check(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Build settings from plain values.

    Parameters
    ----------
    kind
        `TrainSettings`, `SegmentSettings` or `CompareSettings`.
    values
        By the names on the command line; those that are None take the default.

    Raises
    ------
    SettingsError
        If a name is unknown, a value is missing or out of range, or values contradict each
        other; one sentence that names it.
    """
    known = [field.alias or name for name, field in kind.model_fields.items()]
    for key in values:
        if key not in known and key not in kind.model_fields:
            raise SettingsError(f"unknown setting '{key}'{nearest(key, known)}")
    given = {key: value for key, value in values.items() if value is not None}
    if issubclass(kind, TrainSettings) and "recipe" in given:
        given = _with_recipe(given)
    if given.get("budget") is not None and given.get("steps") is not None:
        raise SettingsError("give a budget in minutes or a number of steps, not both")
    for name, field in kind.model_fields.items():
        value = given.get(name, given.get(field.alias or name))
        # YAML's true would count as 1.
        if isinstance(value, bool) and bool not in (field.annotation, *get_args(field.annotation)):
            raise SettingsError(
                f"setting '{field.alias or name}': no matter of yes or no, got {value}"
            )
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        # A union's error also names the kind that did not fit.
        name = ".".join(str(part) for part in first["loc"] if part not in ("bool", "int", "float"))
        reason = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # about several settings, which the reason names
            raise SettingsError(reason) from error
        if first["type"] == "missing":
            raise SettingsError(f"setting '{name}' is missing") from error
        raise SettingsError(f"setting '{name}': {reason}, got {first['input']!r}") from error


def _with_recipe(given: dict[str, Any]) -> dict[str, Any]:
    """Put the settings of the recipe that is named under those that were given."""
    name = str(given["recipe"])
    if name not in RECIPES:
        raise SettingsError(f"unknown recipe '{name}'{nearest(name, RECIPES)}")
    recipe = dict(RECIPES[name])
    if given.get("model", recipe["model"]) != recipe["model"]:
        raise SettingsError(
            f"recipe '{name}' is one for model '{recipe['model']}', not for '{given['model']}'"
        )
    if "budget" in given:
        del recipe["steps"]
    merged = recipe | given
    if isinstance(more := given.get("arguments"), Mapping):
        merged["arguments"] = recipe["arguments"] | more
    return merged


class _Once(yaml.SafeLoader):
    """Refuses a name that is given twice, of which only the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"'{name}' is given twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises
    ------
    SettingsError
        If the file cannot be read or holds anything but names and values.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _Once)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"{path}: the settings cannot be read: {reason.lower()}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{path}: this is not valid YAML: {reason}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected lines of the form 'name: value'")
    return {str(key): value for key, value in values.items()}
