"""What an expert drew, in whatever convention, as 1 = membrane."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError, SettingsError
from axolemma.images.numbers import numbered
from axolemma.images.read import read
from axolemma.images.stack import Stack, check_finite
from axolemma.labels import IGNORED, distinct, is_flat, label_borders

__all__ = ["TruthIs", "check_truth_is", "read_truth", "to_membrane", "to_truth"]

TruthIs = Literal["auto", "interior", "membrane", "labels"]

LEAST_INTERIOR = 0.4  # cells fill more of the tissue than this; .73 to .83 in the ISBI 2012 truths
WORN_AWAY = 0.1  # a class is thin when erosion has left no more of it than this
LOSSY = 0.98  # share of pixels near black or white in a drawing that went through JPEG


def read_truth(
    path: str | Path,
    *,
    truth_is: TruthIs = "auto",
    ignore_value: int | None = None,
    sections: Sequence[int] | None = None,
) -> Stack:
    """Read what an expert drew and turn it into a membrane truth.

    Parameters
    ----------
    path
        Anything that `read` reads.
    truth_is, ignore_value
        See `to_truth`.
    sections
        Read only these; all where None.

    Returns
    -------
    Stack
        uint8, 1 = membrane, 2 = not annotated, with a note for each conversion; and the labels,
        if it had them.

    Raises
    ------
    ImageError
        As `read` and `to_truth`.
    """
    return to_truth(read(path, sections=sections), truth_is=truth_is, ignore_value=ignore_value)


def check_truth_is(truth_is: str) -> None:
    """Raise `SettingsError` unless this is a kind of truth, a word of `TruthIs`."""
    if truth_is not in (known := get_args(TruthIs)):
        raise SettingsError(f"--truth-is is one of {', '.join(known)}, not '{truth_is}'")


def to_truth(truth: Stack, *, truth_is: TruthIs = "auto", ignore_value: int | None = None) -> Stack:
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
    ignore_value
        The value of pixels that nobody annotated, such as 128 beside 0 and 255. Where None all
        are annotated.

    Returns
    -------
    Stack
        uint8, ZYX, 1 = membrane, 0 = interior, 2 = not annotated (`labels.IGNORED`), with one more
        note for each conversion that is not plain. Where the truth was labels they are kept,
        uint32, as they were drawn: labels that touch have membrane between them in the array only.

    Raises
    ------
    ImageError
        If nothing is annotated, or what is has one value only, looks inverted, or is a grey image.
    SettingsError
        If there is no such `truth_is`.
    """
    check_truth_is(truth_is)
    check_finite(truth)
    array = truth.array
    notes: tuple[str, ...] = ()
    labels = None
    values = distinct(array)
    ignored = None if ignore_value is None else array == ignore_value
    if ignored is not None:
        notes = _told(ignored, ignore_value, truth.source)
        values = values[values != ignore_value]
    if truth_is == "auto":
        truth_is = _stated(truth)
    if truth_is != "labels" and len(values) > 2:
        _check_third(array, values, truth.source)
        if ignored is None and _is_lossy(array, values):
            array, notes = _halved(array)
            values = np.unique(array)
    # What is ignored may have taken membrane's number from labels: borders are membrane still.
    if len(values) < 2 and not (truth_is == "labels" and ignored is not None):
        raise ImageError(
            f"{truth.source}: every {'' if ignored is None else 'annotated '}pixel of the truth is"
            f" {values[0]}; a truth needs membrane and interior"
        )
    if truth_is == "labels" or (len(values) > 2 and truth_is == "auto"):
        _check_labels(array, values, truth.source, sure=truth_is == "labels")
        drawn = array if ignored is None else np.where(ignored, array.dtype.type(0), array)
        labels, more = numbered(drawn, truth.source, ids=values if ignored is None else None)
        notes += more
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
            " two; threshold it, say --truth-is labels (truth_is='labels'), or --ignore-value V"
            " (ignore_value=V) for pixels of value V that nobody annotated"
        )
    else:
        membrane = array == (values[1] if truth_is == "membrane" else values[0])
    counted = np.ones_like(membrane) if ignored is None else ~ignored
    if truth_is == "auto" and _looks_inverted(membrane, counted):
        raise ImageError(
            f"{truth.source}: the truth looks inverted, {membrane[counted].mean():.0%} would be"
            " membrane, in patches thicker than the cells; if its bright pixels are membrane say"
            " --truth-is membrane (truth_is='membrane'), if they are interior say"
            " --truth-is interior"
        )
    return replace(
        truth,
        array=np.where(counted, membrane, np.uint8(IGNORED)).astype(np.uint8),
        range=(0, 1),
        notes=truth.notes + notes,
        holds="membrane truth",
        labels=labels,
    )


def to_membrane(
    truth: Stack, *, truth_is: TruthIs = "auto"
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the membrane that `to_truth` finds, and the notes that it adds; all is annotated."""
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


def _told(ignored: NDArray[np.bool_], value: int | None, source: str) -> tuple[str, ...]:
    """Say how much is not annotated; refuse where that is all of it."""
    share = float(ignored.mean())
    if share == 1:
        raise ImageError(
            f"{source}: nothing is annotated, every pixel has the value {value} that is ignored;"
            " leave the file out or annotate a part of it"
        )
    if share == 0:
        return (f"no pixel has the value {value} that is ignored: all of the truth counts",)
    return (f"{share:.1%} of the truth, value {value}, is not annotated and does not count",)


def _check_third(array: NDArray[Any], values: NDArray[Any], source: str) -> None:
    """Refuse a third grey beside black and white: no labels, but what somebody left undecided."""
    if array.dtype == np.uint8 and len(values) == 3 and (values[0], values[2]) == (0, 255):
        raise ImageError(
            f"{source}: the truth is black and white but for pixels of value {values[1]}; if nobody"
            f" annotated these say --ignore-value {values[1]} (ignore_value={values[1]}), if the"
            " values number cells say --truth-is labels (truth_is='labels')"
        )


def _check_labels(array: NDArray[Any], values: NDArray[Any], source: str, *, sure: bool) -> None:
    if array.dtype.kind == "f" or not (sure or is_flat(array)):
        raise ImageError(
            f"{source}: the truth looks like a grey image ({len(values)} values, {array.dtype});"
            " a truth has two values, or integer labels with 0 for membrane. Threshold it, and save"
            " it as PNG or TIFF, not as JPEG"
        )


def _looks_inverted(membrane: NDArray[np.bool_], counted: NDArray[np.bool_]) -> bool:
    """Tell whether what should be thin and few is thick or most of what is annotated."""
    annotated = np.flatnonzero(counted.any(axis=(1, 2)))
    some = annotated[:: max(1, len(annotated) // 16)]
    sample, where = membrane[some], counted[some]
    return sample[where].mean() > 1 - LEAST_INTERIOR or _thinner(~sample, sample, where)


def _thinner(a: NDArray[np.bool_], b: NDArray[np.bool_], counted: NDArray[np.bool_]) -> bool:
    """Tell whether erosion wears class `a` away before class `b`; only `counted` is looked at."""
    # What is not annotated erodes nothing, as what lies beyond the edge.
    a, b = a | ~counted, b | ~counted
    areas = max(1, (a & counted).sum()), max(1, (b & counted).sum())
    for _ in range(max(a.shape)):  # a section that is all one class never wears away
        a, b = _eroded(a), _eroded(b)
        left, right = (a & counted).sum() / areas[0], (b & counted).sum() / areas[1]
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
