"""A stack through a model to the windows whose annotation would teach it most."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.images import replacing
from axolemma.modelfile import Model, load_model
from axolemma.pictures import grey, membrane_over, side_by_side
from axolemma.predict import Precision, choose_polarity, membrane_map
from axolemma.segmentation import BLUR, likely_size_of
from axolemma.settings import SegmentSettings, check
from axolemma.uncertainty import uncertainty_map
from axolemma.windows import Window, choose_windows

__all__ = ["Suggestion", "suggest", "windows_picture", "write_windows"]


@dataclass(frozen=True, slots=True, eq=False)
class Suggestion:
    """Windows to annotate, and why.

    Parameters
    ----------
    windows
        The most instructive first.
    uncertainty
        (Z, Y, X), float32 in [0, log 2], see `uncertainty.uncertainty_map`.
    """

    windows: tuple[Window, ...]
    uncertainty: NDArray[np.float32]


def suggest(
    stack: NDArray[Any],
    *,
    model: str | Path | Model = "neurites",
    count: int = 10,
    size: int = 128,
    polarity: str = "auto",
    voxel_size: tuple[float, float, float] | None = None,
    precision: Precision = "auto",
    device: str = "auto",
    advance: Callable[[int], None] = lambda _: None,
) -> Suggestion:
    """Suggest windows of a stack to annotate.

    Every section is predicted in eight poses. Where their mean is undecided, and membranes lie
    dense, an annotation tells the model most: windows chosen by that teach it more than others do,
    and than those in which poses contradict each other (docs/results/suggest.json).

    Parameters
    ----------
    stack
        Sections (Z, Y, X), any real dtype.
    model
        A model file, a run folder, the name of a bundled model, or a loaded model.
    count, size
        How many windows, and their side in pixels of the stack.
    polarity, voxel_size, precision, device
        See `SegmentSettings`.
    advance
        Called with the number of section pixels that were finished.

    Returns
    -------
    Suggestion
        With fewer windows where no more fit.

    Raises
    ------
    InputError
        If windows do not fit into the sections, or stack and model do not fit.
    """
    if stack.ndim != 3:
        raise InputError(f"a stack has axes (Z, Y, X), this array has shape {stack.shape}")
    # Before the long part: what cannot be chosen from an empty map cannot be chosen at all.
    choose_windows(np.zeros((1, *stack.shape[1:])), count=count, size=size)
    values = {"polarity": polarity, "voxel_size": voxel_size}
    values |= {"precision": precision, "device": device}
    chosen = check(SegmentSettings, values)
    loaded = model if isinstance(model, Model) else load_model(model)
    magnification = likely_size_of(stack, loaded, chosen) or 1.0
    uncertainty = np.empty(stack.shape, np.float32)
    maps = membrane_map(
        loaded.network,
        stack,
        polarity=choose_polarity(
            chosen.polarity,
            lambda box: stack[box.slices],
            stack.shape,
            magnification=magnification,
        ),
        context=loaded.info.context,
        magnification=magnification,
        average="dihedral",
        precision=precision,
        device=device,
        advance=advance,
    )
    for z, map_ in enumerate(maps):
        uncertainty[z] = uncertainty_map(map_, smoothing=BLUR / magnification)
    return Suggestion(choose_windows(uncertainty, count=count, size=size), uncertainty)


def write_windows(path: str | Path, windows: Sequence[Window], *, first: int = 0) -> None:
    """Write windows as a table, the most instructive first.

    Parameters
    ----------
    path
        The CSV file to make or replace.
    windows
        From `suggest`.
    first
        The number of the stack's first section.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Window)])
        table.writeheader()
        table.writerows(asdict(replace(w, section=first + w.section)) for w in windows)


def windows_picture(
    stack: NDArray[Any], uncertainty: NDArray[np.float32], windows: Sequence[Window]
) -> NDArray[np.uint8]:
    """Show windows one below the other, the first on top: the image, and beside it what is unsure.

    Parameters
    ----------
    stack, uncertainty
        (Z, Y, X).
    windows
        At least one, with sections as they are numbered in the stack.

    Returns
    -------
    NDArray[np.uint8]
        (Y, X, 3).
    """
    rows: list[NDArray[np.uint8]] = []
    for window in windows:
        part = np.s_[window.y : window.y + window.size, window.x : window.x + window.size]
        image, unsure = stack[window.section][part], uncertainty[window.section][part]
        strength = unsure / max(float(unsure.max()), 1e-12)
        rows.append(side_by_side(grey(image), membrane_over(image, strength)))
    gap = np.full((8, *rows[0].shape[1:]), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])
