"""How far sections lie beside each other."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from axolemma.geometry import Box

__all__ = ["CLEAR", "LARGEST", "Shift", "section_shift", "section_shifts"]

#: Gives the grey values (1, Y, X) of a part of one section.
Read = Callable[[Box], NDArray[Any]]

#: The largest shift that is looked for, in pixels along either axis.
LARGEST = 60
#: A shift is believed from this height of its peak on, in deviations of all that is no peak.
CLEAR = 5.0
#: Where contrast is opposite a trough is so many times as deep as the highest peak is high; else
#: something dark met something bright. Peaks of sections alike are 1.7 to 5 times their troughs.
_TROUGH = 1.5
_WINDOW, _ALONG = 512, 3  # side of the windows that are compared, and their number along a side
_FINE, _COARSE = 1.5, 16.0  # px: what is finer is noise, what is coarser uneven light


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the content of section `section` continues in section `other`.

    Parameters
    ----------
    section, other
        Their numbers.
    rows, columns
        In pixels: pixel (y, x) continues at ``(y + rows, x + columns)``.
    clarity
        Height of the correlation's peak in standard deviations of the correlation; its depth where
        sections are most unlike there.
    likeness
        Correlation of both at that shift, from -1 to 1; below 0 where what is bright in one is dark
        in the other.
    """

    section: int
    other: int
    rows: int
    columns: int
    clarity: float
    likeness: float

    @property
    def clear(self) -> bool:
        """Whether the two sections have enough in common to tell."""
        return self.clarity >= CLEAR

    @property
    def length(self) -> float:
        """In pixels."""
        return math.hypot(self.rows, self.columns)


def section_shifts(
    read: Read, shape: tuple[int, ...], sections: Sequence[int] | None = None
) -> list[Shift]:
    """Find the shift from each section to the next.

    Parameters
    ----------
    read
        Gives any part of a section as (1, Y, X).
    shape
        Of the volume.
    sections
        Those to compare, each with the next of them; all where None. Leave out what shows nothing.
    """
    chosen = range(shape[0]) if sections is None else sections
    return [section_shift(read, shape, one, other) for one, other in pairwise(chosen)]


def section_shift(read: Read, shape: tuple[int, ...], section: int, other: int) -> Shift:
    """Find how far one section lies beside another one, by phase correlation.

    Up to nine windows of 512 pixels, spread evenly, are compared, the same wherever the blocks of
    the volume lie, so that a section of any size costs the same. Their spectra are whitened
    by half: fully whitened (Kuglin and Hines 1975) noise weighs as much as tissue, unwhitened a
    peak is as broad as a cell. The correlations are added up.

    Parameters
    ----------
    read, shape
        See `section_shifts`.
    section, other
        Numbers of the two.
    """
    windows = _windows(shape[1:])
    sides = (windows[0].shape[0], windows[0].shape[1])
    shown = [
        [_shown(read(Box((z, *window.start), (z + 1, *window.stop)))[0]) for window in windows]
        for z in (section, other)
    ]
    reach = [min(LARGEST, side // 4) for side in sides]
    moves = [np.arange(-most, most + 1) for most in reach]
    table = np.zeros([len(axis) for axis in moves])
    plain, level = np.zeros_like(table), 0.0
    for one, two in zip(*shown, strict=True):
        product = np.conj(one) * two * _band(sides) ** 2
        whitened = product / np.sqrt(np.maximum(np.abs(product), 1e-12))
        table += fft.irfft2(whitened, sides)[np.ix_(*moves)]
        plain += fft.irfft2(product, sides)[np.ix_(*moves)]
        level += math.prod(_energy(spectrum, sides) for spectrum in (one, two))
    spread = float(table.std())
    table -= table.mean()
    # Of two sections of opposite contrast the place that fits has by far the lowest value.
    inverted = -table.min() > _TROUGH * table.max()
    place = table.argmin() if inverted else table.argmax()
    row, column = np.unravel_index(int(place), table.shape)
    if spread == 0 or level == 0:
        return Shift(section, other, 0, 0, 0.0, 0.0)
    return Shift(
        section,
        other,
        int(moves[0][row]),
        int(moves[1][column]),
        float(abs(table[row, column]) / spread),
        float(plain[row, column] / level),
    )


def _windows(shape: tuple[int, ...]) -> list[Box]:
    """Return the windows of a section (Y, X) that are compared: all of it where it is small."""
    starts = []
    for side in shape:
        most = max(0, side - _WINDOW)
        count = min(_ALONG, -(-side // _WINDOW))
        starts.append(sorted({most * n // max(1, count - 1) for n in range(count)}))
    return [
        Box((y, x), (min(y + _WINDOW, shape[0]), min(x + _WINDOW, shape[1])))
        for y in starts[0]
        for x in starts[1]
    ]


def _shown(window: NDArray[Any]) -> NDArray[np.complex64]:
    """Return the spectrum of a window of mean 0 and deviation 1 that fades towards its border."""
    values = np.nan_to_num(window.astype(np.float32), posinf=0, neginf=0)
    values = (values - values.mean()) / max(float(values.std()), 1e-12)
    fade = np.outer(*(np.hanning(side + 2)[1:-1] for side in window.shape)).astype(np.float32)
    return np.asarray(fft.rfft2(values * fade), np.complex64)


def _energy(spectrum: NDArray[np.complex64], sides: tuple[int, int]) -> float:
    """Return the norm of what a spectrum shows, band-passed."""
    return float(np.linalg.norm(fft.irfft2(spectrum * _band(sides), sides)))


@cache
def _band(sides: tuple[int, int]) -> NDArray[np.float32]:
    """Return what the difference of two Gaussian filters leaves of each frequency."""
    height, width = sides
    square = np.add.outer(fft.fftfreq(height) ** 2, fft.rfftfreq(width) ** 2)
    fine, coarse = (np.exp(-2 * (np.pi * sigma) ** 2 * square) for sigma in (_FINE, _COARSE))
    return np.asarray(fine - coarse, np.float32)
