"""The value that reading returns, and the checks on it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError, InputError

__all__ = [
    "Stack",
    "blank_sections",
    "check_finite",
    "check_image",
    "check_pair",
    "native",
    "no_thickness",
    "parse_slices",
    "sized",
    "span",
]


#: Standard deviations of a section, one of which most of its values share.
_OUTSHONE = 30


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Sections as they lie in a file, and what the file says about them.

    Parameters
    ----------
    array
        Pixels, ZYX, always three axes, the dtype of the file in native byte order.
    range
        Lowest and highest value that a pixel may have: the span of the dtype for 8 and 16-bit
        integers; the finite span of the data for floats and wider integers.
    voxel_size
        ZYX in nm where the file gives all three, else None.
    source
        The path, for messages.
    notes
        One sentence for every conversion that reading made.
    holds
        What the file says it holds, ``"membrane map"`` or ``"cells"`` for instance; None where it
        does not say.
    info
        The JSON object that our own files carry, empty for others.
    labels
        For a truth that was read from labels, those labels; `array` is then its membrane.
    pixel_size
        YX in nm where the file gives these but not the thickness of sections, else None.
    """

    array: NDArray[Any]
    range: tuple[float, float]
    voxel_size: tuple[float, float, float] | None
    source: str
    notes: tuple[str, ...] = ()
    holds: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    labels: NDArray[Any] | None = None
    pixel_size: tuple[float, float] | None = None


def sized(
    nm: Sequence[float | None],
) -> tuple[tuple[float, float, float] | None, tuple[float, float] | None]:
    """Return the voxel size, or else the pixel size, that lengths along Z, Y and X make up."""
    z, y, x = (length if length and 0 < length < math.inf else None for length in nm)
    if y is None or x is None:
        return None, None
    return (None, (y, x)) if z is None else ((z, y, x), None)


def no_thickness(pixel_size: tuple[float, float]) -> str:
    """Return the note on a file that gives a pixel size alone."""
    y, x = pixel_size
    return (
        f"the file gives pixels of {y:.4g} × {x:.4g} nm (Y × X) and no thickness of sections: it is"
        " used for what networks see, and results are written without a voxel size"
    )


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array with its bytes in this machine's order, its rows one after the other.

    Of two names that numpy has for one type of 64 bits, what writes files knows but one.
    """
    return np.ascontiguousarray(array, np.dtype(array.dtype.newbyteorder("=").str))


def span(array: NDArray[Any]) -> tuple[float, float]:
    """Return the lowest and highest value that a pixel of `array` may have; see `Stack.range`."""
    if array.dtype.kind in "ui" and array.dtype.itemsize <= 2:
        limits = np.iinfo(array.dtype)
        return float(limits.min), float(limits.max)
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def blank_sections(array: NDArray[Any]) -> list[int]:
    """Return the sections (Z, Y, X) that show nothing: one grey value, or not all finite."""
    return [
        z
        for z, section in enumerate(array)
        if section.min() == section.max() or not np.isfinite(section).all()
    ]


def check_finite(stack: Stack, *, instead: str = "") -> Stack:
    """Return `stack`, or raise `ImageError` where it holds NaN or infinity.

    Parameters
    ----------
    stack
        What was read.
    instead
        What else could be done about it, the end of the message.
    """
    if stack.array.dtype.kind != "f":
        return stack
    bad = ~np.isfinite(stack.array)
    count = int(bad.sum())
    if count:
        first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        raise ImageError(
            f"{stack.source}: {_counted(count, 'pixel')} NaN or infinite, the first at ZYX {first};"
            f" replace them by ordinary values{instead}"
        )
    return stack


def check_image(stack: Stack, *, first: int = 0, instead: str = "") -> Stack:
    """Return `stack`, or raise `ImageError` where it cannot be an image.

    Parameters
    ----------
    stack
        What was read.
    first
        The number of its first section, for messages about a part of a stack.
    instead
        What else could be done about it, the end of the message.

    Raises
    ------
    ImageError
        For NaN or infinity, for a section whose pixels are all equal, and where a few values, such
        as -1e30 for "no data", are so far off that nothing else can be seen.
    """
    check_finite(stack, instead=instead)
    constant = np.flatnonzero(stack.array.min(axis=(1, 2)) == stack.array.max(axis=(1, 2)))
    if constant.size:
        where = int(constant[0])
        more = f" (and {constant.size - 1} more)" if constant.size > 1 else ""
        raise ImageError(
            f"{stack.source}: section {first + where}{more} is constant, every pixel is"
            f" {stack.array[where, 0, 0]}; leave it out or replace it{instead}"
        )
    if stack.array.dtype.kind == "f":
        for z, section in enumerate(stack.array, start=first):
            y, x = (max(1, side // 512) for side in section.shape)
            low, high = np.percentile(section[::y, ::x], (1, 99)).tolist()
            with np.errstate(over="ignore"):
                spread = float(section.std(dtype=np.float64))
            if 0 < high - low < spread / _OUTSHONE:
                far = section.min() if low - section.min() > section.max() - high else section.max()
                raise ImageError(
                    f"{stack.source}: section {z} has values as far off as {far:g}, beside which"
                    f" the others, {low:g} to {high:g}, cannot be told apart; replace them"
                )
    return stack


def check_pair(image: Stack, truth: Stack) -> None:
    """Raise `ImageError` unless an image and its truth have one shape."""
    if image.array.shape != truth.array.shape:
        raise ImageError(
            f"{truth.source}: the truth has the shape {truth.array.shape} but its image"
            f" {image.source} has {image.array.shape} (sections, rows, columns);"
            " an expert's drawing must cover its image pixel for pixel"
        )


def parse_slices(text: str, count: int) -> range:
    """Return the sections that ``"a-b"`` (both included) or ``"a"`` names.

    Parameters
    ----------
    text
        What was typed; sections count from 0.
    count
        How many sections there are.

    Raises
    ------
    InputError
        If the text is malformed, names several blocks, or leaves the stack.

    Examples
    --------
    >>> parse_slices("0-24", 30)
    range(0, 25)
    """
    have = f"there are {count} sections, 0-{count - 1}"
    if "," in text:
        raise InputError(f"slices '{text}': splits are contiguous, give one block a-b; {have}")
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", text)
    if match is None:
        raise InputError(f"slices '{text}': expected a-b or a, for example 0-24; {have}")
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise InputError(f"slices '{text}': the first lies behind the last; {have}")
    if last >= count:
        raise InputError(f"slices '{text}': section {last} does not exist; {have}")
    return range(first, last + 1)


def check_sections(sections: Sequence[int], count: int, source: str) -> None:
    """Raise `InputError` unless every index of `sections` lies in a stack of `count`."""
    if not sections:
        raise InputError(f"{source}: no sections were asked for")
    outside = [i for i in sections if not 0 <= i < count]
    if outside:
        raise InputError(
            f"{source}: section {outside[0]} does not exist; there are {count} sections,"
            f" 0-{count - 1}"
        )


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"
