"""Randomness that depends on position alone.

A value is a pure function of a key and of integer lattice coordinates, so any block of a volume
can be computed by itself and agrees with its neighbours. Only integer arithmetic, ``+ - * /`` and
square roots are used: these are exact in every standard floating-point unit, so the same seed gives
the same bytes everywhere.
"""

import math
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "blur",
    "compiled",
    "correlated_noise",
    "derive",
    "mix",
    "normal",
    "smooth_field",
    "smooth_value",
    "uniform",
]

_Function = TypeVar("_Function", bound=Callable[..., object])

# The standard deviation that three cubic B-spline interpolations of unit noise leave; measured as
# the mean over positions, which varies by some 10 % between a knot and the middle of a cell.
_SPLINE_SIGMA = 0.31


def compiled(function: _Function) -> _Function:
    """Compile a function, once per machine, to code that rounds just as it is written."""
    return cast(_Function, njit(cache=True)(function))


@compiled
def mix(key: np.uint64, a: int, b: int, c: int) -> np.uint64:
    """Hash a 64-bit key and three integers (any sign) into 64 well-mixed bits."""
    h = np.uint64(key)
    for part in (np.uint64(a), np.uint64(b), np.uint64(c)):
        h = (h ^ part) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0xD1B54A32D192ED03)
        h ^= h >> np.uint64(32)
        h *= np.uint64(0xD6E8FEB86659FD93)
        h ^= h >> np.uint64(29)
    return h


@compiled
def uniform(key: np.uint64, a: int, b: int, c: int) -> float:
    """Return a random number in [0, 1)."""
    return np.float64(mix(key, a, b, c) >> np.uint64(11)) * 2.0**-53


@compiled
def normal(key: np.uint64, a: int, b: int, c: int) -> float:
    """Return a nearly normal random number of unit variance, bounded by 3.5: four uniform ones."""
    bits = mix(key, a, b, c)
    lane = np.uint64(0xFFFF)
    total = (bits & lane) + (bits >> np.uint64(16) & lane)
    total += (bits >> np.uint64(32) & lane) + (bits >> np.uint64(48))
    return (np.float64(total) / 65536.0 - 2.0) * 1.7320508075688772


@compiled
def _weights(t: float) -> tuple[float, float, float, float]:
    """Return the four cubic B-spline weights at the fraction `t` of a lattice cell."""
    s = 1.0 - t
    inner = t * t * (t - 2.0) * 0.5 + 2.0 / 3.0
    return s * s * s / 6.0, inner, s * s * (s - 2.0) * 0.5 + 2.0 / 3.0, t * t * t / 6.0


@compiled
def smooth_value(key: np.uint64, a: int, b: int, position: float) -> float:
    """Return a smooth random function of one `position` (knots at integers), of sigma about 1."""
    k = math.floor(position)
    w = _weights(position - k)
    total = 0.0
    for n in range(4):
        total += w[n] * normal(key, k + n, a, b)
    return total / 0.7


@compiled
def smooth_field(
    key: np.uint64,
    z: float,
    corner: tuple[int, int],
    shape: tuple[int, int],
    step_z: float,
    step: float,
    offset: tuple[float, float],
) -> NDArray[np.float64]:
    """Return one section of a smooth random field of zero mean and sigma about 1.

    Parameters
    ----------
    key
        Which field.
    z
        The section, in sections.
    corner, shape
        First pixel (y, x) of the wanted window, and its size.
    step_z, step
        Distance between lattice knots, in sections and in pixels: the grain of the field.
    offset
        Added to the pixel positions, in pixels.
    """
    height, width = shape
    low_y = math.floor((corner[0] + offset[0]) / step)
    low_x = math.floor((corner[1] + offset[1]) / step)
    rows = math.floor((corner[0] + height - 1 + offset[0]) / step) - low_y + 4
    cols = math.floor((corner[1] + width - 1 + offset[1]) / step) - low_x + 4
    low_z = math.floor(z / step_z)
    wz = _weights(z / step_z - low_z)
    knots = np.empty((rows, cols))
    for i in range(rows):
        for j in range(cols):
            total = 0.0
            for n in range(4):
                total += wz[n] * normal(key, low_z + n, low_y + i, low_x + j)
            knots[i, j] = total / _SPLINE_SIGMA
    starts = np.empty(width, np.int64)
    wx = np.empty((width, 4))
    for c in range(width):
        x = (corner[1] + c + offset[1]) / step
        starts[c] = math.floor(x) - low_x
        wx[c] = _weights(x - math.floor(x))
    line = np.empty(cols)
    field = np.empty(shape)
    for r in range(height):
        y = (corner[0] + r + offset[0]) / step
        i = math.floor(y) - low_y
        wy = _weights(y - math.floor(y))
        for j in range(cols):
            line[j] = (
                wy[0] * knots[i, j]
                + wy[1] * knots[i + 1, j]
                + wy[2] * knots[i + 2, j]
                + wy[3] * knots[i + 3, j]
            )
        for c in range(width):
            j = starts[c]
            field[r, c] = (
                wx[c, 0] * line[j]
                + wx[c, 1] * line[j + 1]
                + wx[c, 2] * line[j + 2]
                + wx[c, 3] * line[j + 3]
            )
    return field


@compiled
def correlated_noise(
    key: np.uint64,
    z: int,
    corner: tuple[int, int],
    shape: tuple[int, int],
    taps: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return white noise of unit variance, independent per section, filtered along both axes.

    `taps` is the half kernel, from the centre outwards; the kernel is applied as it is.
    """
    halo = len(taps) - 1
    height, width = shape
    white = np.empty((height + 2 * halo, width + 2 * halo))
    for r in range(white.shape[0]):
        for c in range(white.shape[1]):
            white[r, c] = normal(key, z, corner[0] - halo + r, corner[1] - halo + c)
    return blur(white, taps)


@compiled
def blur(image: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter along both axes with a symmetric kernel; the result is smaller by its halo."""
    halo = len(taps) - 1
    height, width = image.shape[0] - 2 * halo, image.shape[1] - 2 * halo
    rows = np.empty((height, image.shape[1]))
    for r in range(height):
        for c in range(image.shape[1]):
            total = taps[0] * image[r + halo, c]
            for n in range(1, halo + 1):
                total += taps[n] * (image[r + halo - n, c] + image[r + halo + n, c])
            rows[r, c] = total
    result = np.empty((height, width))
    for r in range(height):
        for c in range(width):
            total = taps[0] * rows[r, c + halo]
            for n in range(1, halo + 1):
                total += taps[n] * (rows[r, c + halo - n] + rows[r, c + halo + n])
            result[r, c] = total
    return result


def derive(seed: int, name: str) -> np.uint64:
    """Return the key of the random stream called `name` under `seed`."""
    key = np.uint64(seed % 2**64)
    for letter in name.encode():
        key = np.uint64(mix(key, letter, 0, 0))
    return key
