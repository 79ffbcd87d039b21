"""What an expert drew, in whatever convention, as 1 = membrane."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.images.numbers import numbered
from axolemma.images.read import read
from axolemma.images.stack import Stack, check_finite
from axolemma.labels import distinct, label_borders

__all__ = ["TruthIs", "read_truth", "to_membrane", "to_truth"]

TruthIs = Literal["auto", "interior", "membrane", "labels"]

LEAST_INTERIOR = 0.4  # cells fill more of the tissue than this; .73 to .83 in the ISBI 2012 truths
WORN_AWAY = 0.1  # a class is thin when erosion has left no more of it than this
FLAT = 0.7  # share of neighbours that are equal: near 1 in a drawing, below .2 in a micrograph
LOSSY = 0.98  # share of pixels near black or white in a drawing that went through JPEG


def read_truth(
    path: str | Path, *, truth_is: TruthIs = "auto", sections: Sequence[int] | None = None
) -> Stack:
    """Read what an expert drew and turn it into a membrane truth.

    Parameters
    ----------
    path
        Anything that `read` reads.
    truth_is
        See `to_truth`.
    sections
        Read only these; all where None.

    Returns
    -------
    Stack
        uint8, 1 = membrane, with a note for each conversion; and the labels, if it had them.

    Raises
    ------
    ImageError
        As `read` and `to_truth`.
    """
    return to_truth(read(path, sections=sections), truth_is=truth_is)


def to_truth(truth: Stack, *, truth_is: TruthIs = "auto") -> Stack:
    """Turn a truth of any convention into 1 = membrane.

    Parameters
    ----------
    truth
        Two values, or integer labels of which 0 is membrane.
    truth_is
        What the truth shows as bright, or as numbers: ``"interior"`` (the higher of two values is
        cell interior, as in the ISBI 2012 challenge), ``"membrane"`` (the higher is membrane), or
        ``"labels"`` (each cell has its number). ``"auto"`` believes what a file says of itself,
        takes two values for interior and membrane and more for labels, and refuses a truth that
        looks inverted.

    Returns
    -------
    Stack
        uint8, ZYX, 1 = membrane, with one more note for each conversion that is not plain. Where
        the truth was labels they are kept, uint32, as they were drawn: labels that touch have
        membrane between them in the array only.

    Raises
    ------
    ImageError
        If the truth has one value only, looks inverted, or is a grey image.
    """
    check_finite(truth)
    array = truth.array
    notes: tuple[str, ...] = ()
    labels = None
    values = distinct(array)
    if truth_is == "auto":
        truth_is = _stated(truth)
    if truth_is != "labels" and len(values) > 2 and _is_lossy(array, values):
        array, notes = _halved(array)
        values = np.unique(array)
    if len(values) < 2:
        raise ImageError(
            f"{truth.source}: every pixel of the truth is {values[0]}; a truth needs membrane and"
            " interior"
        )
    if truth_is == "labels" or (len(values) > 2 and truth_is == "auto"):
        _check_labels(array, values, truth.source, sure=truth_is == "labels")
        labels, notes = numbered(array, truth.source, ids=values)
        membrane = label_borders(labels)
        touching = membrane.sum() > (labels == 0).sum()
        notes += (
            "labels were read as interior, and 0 and one pixel where two labels touch as membrane"
            if touching
            else "labels were read as interior and 0 as membrane",
        )
    elif len(values) > 2:
        raise ImageError(
            f"{truth.source}: the truth holds {len(values)} values where interior and membrane are"
            " two; threshold it, or say --truth-is labels (truth_is='labels')"
        )
    else:
        membrane = array == (values[1] if truth_is == "membrane" else values[0])
    if truth_is == "auto" and _looks_inverted(membrane):
        raise ImageError(
            f"{truth.source}: the truth looks inverted, {membrane.mean():.0%} of it would be"
            " membrane, in patches thicker than the cells; if its bright pixels are membrane say"
            " --truth-is membrane (truth_is='membrane'), if they are interior say"
            " --truth-is interior"
        )
    return replace(
        truth,
        array=membrane.astype(np.uint8),
        range=(0, 1),
        notes=truth.notes + notes,
        holds="membrane truth",
        labels=labels,
    )


def to_membrane(
    truth: Stack, *, truth_is: TruthIs = "auto"
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the membrane that `to_truth` finds, and the notes that it adds."""
    found = to_truth(truth, truth_is=truth_is)
    return found.array, found.notes[len(truth.notes) :]


def _stated(truth: Stack) -> TruthIs:
    holds = truth.holds or ""
    if holds.startswith("membrane"):
        return "membrane"
    return "labels" if holds in ("cells", "neurons") else "auto"


def _is_lossy(array: NDArray[Any], values: NDArray[Any]) -> bool:
    """Tell a black and white drawing that JPEG has blurred."""
    low, high = float(values[0]), float(values[-1])
    if array.dtype != np.uint8 or low > 25 or high < 230:
        return False
    return bool(((array <= 25) | (array >= 230)).mean() >= LOSSY)


def _halved(array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    note = "the truth is blurred as by JPEG; it was cut at half its range, save it as PNG instead"
    return array > 127, (note,)


def _check_labels(array: NDArray[Any], values: NDArray[Any], source: str, *, sure: bool) -> None:
    flat = sure or (array[:, :, 1:] == array[:, :, :-1]).mean() >= FLAT
    if array.dtype.kind == "f" or not flat:
        raise ImageError(
            f"{source}: the truth looks like a grey image ({len(values)} values, {array.dtype});"
            " a truth has two values, or integer labels with 0 for membrane. Threshold it, and save"
            " it as PNG or TIFF, not as JPEG"
        )


def _looks_inverted(membrane: NDArray[np.bool_]) -> bool:
    """Tell whether what should be thin and few is thick or most of the stack."""
    sample = membrane[:: max(1, len(membrane) // 16)]
    interior = ~sample
    return interior.mean() < LEAST_INTERIOR or _thinner(interior, sample)


def _thinner(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> bool:
    """Tell whether erosion wears class `a` away before class `b`."""
    areas = a.sum(), b.sum()
    for _ in range(max(a.shape)):  # a section that is all one class never wears away
        a, b = _eroded(a), _eroded(b)
        left, right = a.sum() / areas[0], b.sum() / areas[1]
        if min(left, right) <= WORN_AWAY:
            return bool(right > WORN_AWAY)
    return False


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Erode each section by one pixel, 4-connectedly; beyond the edge nothing is known."""
    result = mask.copy()
    result[:, 1:] &= mask[:, :-1]
    result[:, :-1] &= mask[:, 1:]
    result[:, :, 1:] &= mask[:, :, :-1]
    result[:, :, :-1] &= mask[:, :, 1:]
    return result
