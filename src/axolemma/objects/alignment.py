"""How far the content of a section lies beside that of another, everywhere in it.

One shift of the whole section (`shift`), then what differs from it from place to place
(`displacement`), which may be asked for a part of a section alone.
"""

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from axolemma.geometry import Box

__all__ = ["ALIGNED", "REACH", "Displacement", "displacement", "follow", "shift", "shrinkage"]

_COARSE = 4  # px of a section in one pixel, a side, where local shifts are sought
_WINDOW = 13  # side of the window that must agree, in coarse pixels
_RANGE = 4  # the largest local shift, in coarse pixels
_DOUBT = 0.004  # correlation that a local shift must win for each of its square coarse pixels
_SMOOTH = 3  # coarse pixels over which local shifts are smoothed
_STEPS = 1000  # that maps are told apart in there
_BLUR = 2  # px by which maps are blurred, so that thin membranes that miss each other still agree

#: The largest side of a section, in pixels, of which the shift is sought at full resolution.
ALIGNED = 2048

#: Pixels: the largest local shift; and how far around it what is seen decides about a pixel's.
LOCAL = _RANGE * _COARSE
REACH = _COARSE * (_WINDOW // 2 + 4 * _SMOOTH + _RANGE + 1) + 4 * _BLUR


@dataclass(frozen=True, slots=True)
class Displacement:
    """Where each pixel of a part of a section continues in another one.

    Parameters
    ----------
    rows, columns
        Shape (Y, X), in pixels: pixel (y, x) continues at ``(y + rows[y, x], x + columns[y, x])``,
        which may lie outside.
    part
        Which part (Y, X) of the section this is.
    whole
        Sides (Y, X) of the section.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    part: Box
    whole: tuple[int, int]

    def places(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the row and the column at which each pixel continues."""
        y, x = (
            np.arange(a, b, dtype=np.int32)
            for a, b in zip(self.part.start, self.part.stop, strict=True)
        )
        return y[:, None] + self.rows, x + self.columns

    def inside(self) -> NDArray[np.bool_]:
        """Tell which pixels continue within the other section."""
        (row, column), (height, width) = self.places(), self.whole
        return np.asarray((row >= 0) & (row < height) & (column >= 0) & (column < width))

    def then(self, other: "Displacement") -> "Displacement":
        """Return both steps in one: first this one, then `other` from where it leads."""
        row, column = _kept(self)
        return Displacement(
            self.rows + other.rows[row, column],
            self.columns + other.columns[row, column],
            self.part,
            self.whole,
        )


def follow(section: NDArray[Any], step: Displacement) -> NDArray[Any]:
    """Return, for each pixel, what it continues as; 0 where it leaves the section.

    Parameters
    ----------
    section
        The same part of the other section. What continues beyond the part is taken from its edge.
    step
        The way there.
    """
    found = section[_kept(step)]
    found[~step.inside()] = 0
    return found


def shrinkage(shape: tuple[int, ...]) -> int:
    """Return how many pixels a side become one where the shift of a section (Y, X) is sought."""
    return -(-max(shape) // ALIGNED)


def shift(
    section: NDArray[np.floating],
    other: NDArray[np.floating],
    *,
    largest: int = 40,
    shrunk: int = 1,
) -> tuple[int, int]:
    """Find the shift, of the whole section, at which two sections agree best.

    Parameters
    ----------
    section, other
        Shape (Y, X), membrane maps, in [0, 1], perhaps shrunk.
    largest
        The largest shift that is tried, in pixels of the section along either axis.
    shrunk
        How many pixels of the section, a side, one of these stands for.

    Returns
    -------
    int, int
        Rows and columns, in pixels of the section: the peak of the cross-correlation; 0, 0 where a
        section has no contrast.
    """
    one, two = (_blurred(shown, float(shown.mean()), _BLUR / shrunk) for shown in (section, other))
    down, right = _peak(one, two, math.ceil(largest / shrunk))
    return down * shrunk, right * shrunk


def displacement(
    section: NDArray[np.floating],
    other: NDArray[np.floating],
    *,
    largest: int = 40,
    whole: tuple[int, int] | None = None,
    part: Box | None = None,
    means: tuple[float, float] | None = None,
    moved: tuple[int, int] | None = None,
) -> Displacement:
    """Find where each pixel of a section continues in another one.

    What is left of a bend or of oblique fibres, when the sections are shifted as a whole, is sought
    in windows of some 50 pixels at a quarter of the resolution, and must win the more the farther
    it leads.

    Parameters
    ----------
    section, other
        Shape (Y, X), membrane maps, in [0, 1].
    largest
        See `shift`.
    whole, part
        Of a part of a section: the sides (Y, X) of the section, and which part it is, its start
        at a multiple of 4. The steps of pixels less than `REACH` from its edges are not those of
        the whole.
    means, moved
        Of a part: the means of both whole sections, and their `shift`.

    Returns
    -------
    Displacement
        0 everywhere where a section has no contrast.
    """
    sides = (section.shape[0], section.shape[1])
    part = part or Box.of(sides)
    means = means or (float(section.mean()), float(other.mean()))
    down, right = shift(section, other, largest=largest) if moved is None else moved
    one, two = (
        # To four digits, so that sums in another order make no difference.
        _blurred(shown, round(mean, 4), _BLUR)
        for shown, mean in zip((section, other), means, strict=True)
    )
    rows, columns = (np.full(section.shape, step, np.int32) for step in (down, right))
    step = Displacement(rows, columns, part, whole or sides)
    coarse = tuple(side // _COARSE for side in section.shape)
    if min(coarse) <= 2 * _RANGE:
        return step
    small = _shrunk(one, coarse), _shrunk(follow(two, step), coarse)
    del one, two  # of the size of a section, as is what follows
    for whole_step, along in zip((rows, columns), _local(*small), strict=True):
        whole_step += _enlarged(along, section.shape)
    return step


def _kept(step: Displacement) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return where in the part pixels continue, or the nearest place to it at its border."""
    row, column = step.places()
    for place, start, side in zip((row, column), step.part.start, step.part.shape, strict=True):
        place -= np.int32(start)
        np.clip(place, 0, side - 1, out=place)
    return row, column


def _blurred(shown: NDArray[np.floating], mean: float, blur: float) -> NDArray[np.float32]:
    """Blur a map and take its mean from it."""
    soft = ndimage.gaussian_filter(shown.astype(np.float32), blur)
    return np.asarray(soft - np.float32(mean))


def _peak(one: NDArray[np.float32], two: NDArray[np.float32], largest: int) -> tuple[int, int]:
    """Return the shift, within `largest` along both axes, at which two sections agree best."""
    reach = [min(largest, side - 1) for side in one.shape]
    padded = [side + most for side, most in zip(one.shape, reach, strict=True)]
    product = np.conj(fft.rfft2(one, padded)) * fft.rfft2(two, padded)
    agreement = np.asarray(fft.irfft2(product, padded))
    shifts = [np.arange(-most, most + 1) for most in reach]
    table = agreement[np.ix_(shifts[0], shifts[1])]
    # Of equal agreements the least shift is meant: an empty section agrees with all.
    far = np.add.outer(shifts[0] ** 2, shifts[1] ** 2)
    level = np.sqrt(float((one**2).sum()) * float((two**2).sum()))
    best = table >= table.max() - 1e-4 * max(level, 1e-6)
    row, column = np.unravel_index(int(np.where(best, far, far.max() + 1).argmin()), far.shape)
    return int(shifts[0][row]), int(shifts[1][column])


def _local(
    one: NDArray[np.float32], two: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the local shifts, rows and columns, of every coarse pixel, in coarse pixels."""
    # Whole numbers add up to the same sums wherever a part of a section begins.
    exact, other = (np.rint(_STEPS * np.float64(shown)).astype(np.int64) for shown in (one, two))
    rows, columns = _searched(exact, np.pad(other, _RANGE))
    return ndimage.gaussian_filter(rows, _SMOOTH), ndimage.gaussian_filter(columns, _SMOOTH)


@numba.njit(cache=True)
def _searched(one, padded):  # type: ignore[no-untyped-def]
    """Find for every pixel the shift at which the windows around it agree best."""
    height, width = one.shape
    best = np.full(one.shape, -np.inf)
    rows, columns = np.zeros(one.shape), np.zeros(one.shape)
    energy = np.empty(one.shape, np.int64)
    own, met, there = (
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
    )
    agreed, others = np.empty(width, np.int64), np.empty(width, np.int64)
    for y in range(height):
        _window_rows(one, one, y, own)
        _along_row(own, energy[y])
    for dy in range(-_RANGE, _RANGE + 1):
        for dx in range(-_RANGE, _RANGE + 1):
            other = padded[_RANGE + dy : _RANGE + dy + height, _RANGE + dx : _RANGE + dx + width]
            doubt = _DOUBT * (dy * dy + dx * dx)
            for y in range(height):
                _window_rows(one, other, y, met)
                _window_rows(other, other, y, there)
                _along_row(met, agreed)
                _along_row(there, others)
                for x in range(width):
                    level = np.sqrt(float(energy[y, x]) * float(others[x])) + 1
                    agreement = agreed[x] / level - doubt
                    if agreement > best[y, x]:
                        best[y, x] = agreement
                        rows[y, x], columns[y, x] = dy, dx
    return rows, columns


@numba.njit(cache=True)
def _window_rows(one, other, y, sums):  # type: ignore[no-untyped-def]
    """Make the sums over the rows of the window those around row `y`, from those around the last.

    Rows beyond the border are mirrored at it.
    """
    height, half = len(one), _WINDOW // 2
    if y == 0:
        sums[:] = 0
        for step in range(-half, half + 1):
            row = _mirrored(step, height)
            sums += one[row] * other[row]
    else:
        new, old = _mirrored(y + half, height), _mirrored(y - half - 1, height)
        sums += one[new] * other[new] - one[old] * other[old]


@numba.njit(cache=True)
def _along_row(sums, window):  # type: ignore[no-untyped-def]
    """Add up the sums over rows in the columns of the window."""
    width, half = len(sums), _WINDOW // 2
    total = 0
    for step in range(-half, half + 1):
        total += sums[_mirrored(step, width)]
    window[0] = total
    for x in range(1, width):
        total += sums[_mirrored(x + half, width)] - sums[_mirrored(x - half - 1, width)]
        window[x] = total


@numba.njit(cache=True)
def _mirrored(place, size):  # type: ignore[no-untyped-def]
    if place < 0:
        return -place - 1
    return min(place, 2 * size - 1 - place)


def _shrunk(section: NDArray[np.float32], coarse: tuple[int, ...]) -> NDArray[np.float32]:
    """Average blocks of pixels; what is left over at the far borders is dropped."""
    height, width = coarse
    whole = section[: height * _COARSE, : width * _COARSE]
    # In an order of adding that does not depend on the shape of the part.
    total = np.zeros(coarse, np.float32)
    for y in range(_COARSE):
        for x in range(_COARSE):
            total += whole[y::_COARSE, x::_COARSE]
    return total / np.float32(_COARSE**2)


def _enlarged(field: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Bring shifts from coarse pixels to pixels, linearly between their centres."""
    fine = _COARSE * field
    for axis in (0, 1):
        at = ((np.arange(shape[axis]) + 0.5) / _COARSE - 0.5).clip(0, field.shape[axis] - 1)
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, field.shape[axis] - 1)
        share = np.expand_dims(at - low, 1 - axis)
        fine, above = fine.take(low, axis), fine.take(high, axis)
        fine *= 1 - share
        fine += np.multiply(above, share, out=above)
    return np.rint(fine, out=fine).astype(np.int32)
