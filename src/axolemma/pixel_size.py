"""The pixel size of sections that do not tell it, by what a network can see in them.

A network is sure of membranes as long as they are about as wide as those that it learned from, and
half as wide it sees next to none. So sections are shown to it smaller and larger, from small on:
the share of membrane that it is sure of rises steeply and then no more. The sizes at which it rises
differ little between tissues, contrasts and networks; what comes after depends on all of them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.sampling import resampled, samples

__all__ = ["LOOKED_AT", "likely_enlargement"]

#: Sizes that are tried, as factors, from small to large.
_FACTORS = tuple(2 ** (octave / 2) for octave in range(-6, 5))

#: Side in pixels of what a network is shown, at least and at most.
_LEAST, _MOST = 96, 384

#: Side in pixels of the part of a section that can be shown at the smallest size.
LOOKED_AT = round(_MOST / _FACTORS[0])

#: A network is sure of more than .9, and not of what is between .1 and .9. The share of the former
#: rises no more where the next size has less than 1.07 times as much, and is .8 of that where
#: sections have .48 of the size that they should have (`bench/pixel_size.py`).
_SURE, _UNSURE, _RISES, _OF_TOP, _REACHED = 0.9, 0.1, 1.07, 0.8, 0.48

#: A rise to less than this is none: there are no membranes, or the network does not know them.
#: After 300 steps of training it is sure of .32, after 600 of .40, later of .51, in noise of .45.
_LEAST_SURE = 0.42

#: Nearer to the model's own size sections are taken for it: a network bears that much, and some
#: tissues look that much finer than others.
_ALIKE = 1.4

#: Pixels beside what is no tissue that are not looked at: its edge is no membrane.
_BESIDE = 6


def likely_enlargement(
    section: NDArray[np.float32],
    map_of: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> float | None:
    """Return the factor that likely brings a section to the size that a network learned at.

    Parameters
    ----------
    section
        (Y, X), NaN where there is no tissue; the middle `LOOKED_AT` pixels suffice.
    map_of
        Gives the membrane map (Y, X) in [0, 1] of a section of any size.

    Returns
    -------
    float or None
        From 1/4 to 4; 1 where it seems to have about that size, None where it cannot be judged.
    """
    sure: list[tuple[float, float]] = []
    for factor in _FACTORS:
        share = _share(section, factor, map_of)
        if share is None:
            continue
        if sure and sure[-1][1] > _LEAST_SURE and share < _RISES * sure[-1][1]:
            return _judged(sure)
        sure.append((factor, share))
    return None


def _judged(sure: Sequence[tuple[float, float]]) -> float | None:
    """Return the factor, by where the share reached most of the last one."""
    aim = _OF_TOP * sure[-1][1]
    below = max((n for n, (_, share) in enumerate(sure) if share < aim), default=None)
    if below is None:
        return None
    (low, few), (high, many) = sure[below : below + 2]
    reached = low * (high / low) ** ((aim - few) / (many - few))
    factor = min(max(reached / _REACHED, 1 / 4), 4.0)
    return 1.0 if 1 / _ALIKE <= factor <= _ALIKE else factor


def _share(
    section: NDArray[np.float32],
    factor: float,
    map_of: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> float | None:
    """Return the share of membrane that a network is sure of; None where a section is too small."""
    times = 2 ** max(0, math.floor(-1 - math.log2(factor)))
    sides = [min(side, math.ceil(_MOST / factor)) for side in section.shape]
    if min(sides) * factor < _LEAST:
        return None
    first = [(side - part) // 2 for side, part in zip(section.shape, sides, strict=True)]
    part = section[tuple(slice(a, a + b) for a, b in zip(first, sides, strict=True))]
    part = _coarse(part, times)
    new = [round(side * factor * times) for side in part.shape]
    rows, columns = (samples(0, b, a, b) for a, b in zip(part.shape, new, strict=True))
    y, x = (slice(*axis.span) for axis in (rows, columns))
    grey = resampled(part[None, y, x], rows, columns)[0]
    hidden = np.isnan(grey)
    grey[hidden] = 0
    shown = map_of(grey)
    if hidden.any():
        shown = np.where(ndimage.binary_dilation(hidden, iterations=_BESIDE), 0, shown)
    sure = int((shown > _SURE).sum())
    unsure = int(((shown > _UNSURE) & (shown <= _SURE)).sum())
    return sure / (sure + unsure) if sure + unsure else 0.0


def _coarse(section: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Average squares of so many pixels along a side."""
    if times == 1:
        return section
    height, width = (side // times for side in section.shape)
    total = np.zeros((height, width), np.float32)
    for y in range(times):
        for x in range(times):
            total += section[y : y + height * times : times, x : x + width * times : times]
    return np.asarray(total / times**2, np.float32)
