"""How far the content of one section lies beside that of another, everywhere in it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

__all__ = ["Displacement", "displacement", "follow"]

_COARSE = 4  # px of a section in one pixel, a side, where local shifts are sought
_WINDOW = 13  # side of the window that must agree, in coarse pixels
_RANGE = 4  # the largest local shift, in coarse pixels
_DOUBT = 0.004  # correlation that a local shift must win for each of its square coarse pixels


@dataclass(frozen=True, slots=True)
class Displacement:
    """Where each pixel of a section continues in another one.

    Parameters
    ----------
    rows, columns
        Shape (Y, X), in pixels: pixel (y, x) continues at ``(y + rows[y, x], x + columns[y, x])``,
        which may lie outside.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and the column at which each pixel continues."""
        height, width = self.rows.shape
        return np.arange(height)[:, None] + self.rows, np.arange(width) + self.columns

    def inside(self) -> NDArray[np.bool_]:
        """Tell which pixels continue within the other section."""
        (row, column), (height, width) = self.places(), self.rows.shape
        return np.asarray((row >= 0) & (row < height) & (column >= 0) & (column < width))

    def then(self, other: "Displacement") -> "Displacement":
        """Return both steps in one: first this one, then `other` from where it leads."""
        row, column = _kept(self)
        return Displacement(
            self.rows + other.rows[row, column], self.columns + other.columns[row, column]
        )


def follow(section: NDArray[Any], step: Displacement) -> NDArray[Any]:
    """Return, for each pixel, what it continues as; 0 where it leaves the section."""
    return np.where(step.inside(), section[_kept(step)], 0)


def displacement(
    section: NDArray[np.floating], other: NDArray[np.floating], *, largest: int = 40
) -> Displacement:
    """Find where each pixel of a section continues in another one.

    One shift of the whole section is the peak of the cross-correlation of both sections; what is
    left of a bend or of oblique fibres is sought in windows of some 50 pixels at a quarter of
    the resolution, and must win the more the farther it leads.

    Parameters
    ----------
    section, other
        Shape (Y, X), membrane maps, in [0, 1].
    largest
        The largest shift of the whole section that is tried, in pixels along either axis.

    Returns
    -------
    Displacement
        0 everywhere where a section has no contrast.
    """
    one, two = (_blurred(shown) for shown in (section, other))
    down, right = _peak(one, two, largest)
    whole = Displacement(np.full(section.shape, down), np.full(section.shape, right))
    coarse = tuple(side // _COARSE for side in section.shape)
    if min(coarse) <= 2 * _RANGE:
        return whole
    moved = follow(two, whole)
    rows, columns = _local(_shrunk(one, coarse), _shrunk(moved, coarse))
    return Displacement(
        whole.rows + _enlarged(rows, section.shape),
        whole.columns + _enlarged(columns, section.shape),
    )


def _kept(step: Displacement) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where pixels continue, or the nearest place to it at the border."""
    row, column = step.places()
    height, width = row.shape
    return np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)


def _blurred(shown: NDArray[np.floating]) -> NDArray[np.float32]:
    """Blur a map, so that thin membranes that miss each other by a little still agree."""
    soft = ndimage.gaussian_filter(shown.astype(np.float32), 2)
    return np.asarray(soft - soft.mean(), np.float32)


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
    padded = np.pad(two, _RANGE)
    height, width = one.shape
    energy = ndimage.uniform_filter(one**2, _WINDOW)
    best = np.full(one.shape, -np.inf)
    rows, columns = np.zeros(one.shape), np.zeros(one.shape)
    for dy in range(-_RANGE, _RANGE + 1):
        for dx in range(-_RANGE, _RANGE + 1):
            there = padded[_RANGE + dy :, _RANGE + dx :][:height, :width]
            energies = energy * ndimage.uniform_filter(there**2, _WINDOW)
            agreement = ndimage.uniform_filter(one * there, _WINDOW)
            # Running sums leave a little less than nothing where nothing is.
            agreement /= np.sqrt(np.maximum(energies, 0)) + 1e-6
            agreement -= _DOUBT * (dy * dy + dx * dx)
            better = agreement > best
            best[better] = agreement[better]
            rows[better], columns[better] = dy, dx
    return ndimage.gaussian_filter(rows, 3), ndimage.gaussian_filter(columns, 3)


def _shrunk(section: NDArray[np.float32], coarse: tuple[int, ...]) -> NDArray[np.float32]:
    """Average blocks of pixels; what is left over at the far borders is dropped."""
    height, width = coarse
    whole = section[: height * _COARSE, : width * _COARSE]
    blocks = whole.reshape(height, _COARSE, width, _COARSE).mean(axis=(1, 3))
    return np.asarray(blocks, np.float32)


def _enlarged(field: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Bring shifts from coarse pixels to pixels."""
    at = np.meshgrid(*((np.arange(side) + 0.5) / _COARSE - 0.5 for side in shape), indexing="ij")
    fine = ndimage.map_coordinates(field, np.stack(at), order=1, mode="nearest")
    return np.rint(_COARSE * fine).astype(np.int64)
