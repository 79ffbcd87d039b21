"""A seeded watershed whose answer at a pixel depends on what is near it alone."""

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = ["flood"]

_LEVELS = 1 << 16  # steps that heights from 0 to 1 are told apart in


def flood(height: NDArray[np.floating], seeds: NDArray[np.integer]) -> NDArray[np.int32]:
    """Flood a landscape from its seeds until all of it is covered.

    Water rises level by level. A pixel that it reaches is flooded from then on, and what it reaches
    at one level is flooded first in, first out; so plateaus are shared out by distance. Seeds start
    in scan order, and a pixel hands on to the ones above, left, right and below, in this order.

    Parameters
    ----------
    height
        (Y, X), in [0, 1]; told apart in 65,536 steps.
    seeds
        Equal shape; 0 = to be flooded, numbers up to 2**31 - 1 are basins.

    Returns
    -------
    NDArray[np.int32]
        Equal shape: the basin of every pixel, 4-connected with its seed; 0 everywhere where there
        is no seed.

    Raises
    ------
    InputError
        If the shapes differ or a height is outside [0, 1].

    Notes
    -----
    Who floods a pixel first is decided by the paths that lead to it: by the highest level on them,
    then by that of what came before, and so on back to the seeds. Paths compare the same whatever
    lies elsewhere. So a pixel has the same basin in a part of the landscape as in the whole if the
    path by which it was flooded lies in that part: blocks of a section agree.

    References
    ----------
    Meyer 1994, Topographic distance and watershed lines, Signal Process. 38:113.
    """
    if height.shape != seeds.shape:
        raise InputError(f"heights of shape {height.shape} and seeds of {seeds.shape} do not fit")
    if height.size and not (height.min() >= 0 and height.max() <= 1):
        raise InputError("a height is outside 0 to 1 or no number; rescale the landscape")
    basins = np.array(seeds, np.int32, order="C")
    levels = np.rint(height * (_LEVELS - 1)).astype(np.uint16)
    # The queues of all levels are lists through one array: whom to flood after each pixel.
    after = np.empty(basins.size, np.int32 if basins.size < 2**31 else np.int64)
    _rise(levels.ravel(), basins.ravel(), after, basins.shape[1])
    return basins


@numba.njit(cache=True)
def _queue(pixel, level, first, last, after):  # type: ignore[no-untyped-def]
    """Put a pixel at the end of the list of its level."""
    if first[level] < 0:
        first[level] = pixel
    else:
        after[last[level]] = pixel
    last[level] = pixel
    after[pixel] = -1


@numba.njit(cache=True)
def _rise(levels, basins, after, width):  # type: ignore[no-untyped-def]
    """Flood `basins`, a section line by line, in place."""
    first = np.full(_LEVELS, -1, after.dtype)
    last = np.full(_LEVELS, -1, after.dtype)
    steps = (-width, -1, 1, width)
    for pixel in range(len(basins)):
        if basins[pixel] != 0:
            _queue(pixel, levels[pixel], first, last, after)
    for water in range(_LEVELS):
        pixel = first[water]
        while pixel >= 0:
            column = pixel % width
            for way in range(4):
                if (way == 1 and column == 0) or (way == 2 and column == width - 1):
                    continue
                beside = pixel + steps[way]
                if beside < 0 or beside >= len(basins) or basins[beside] != 0:
                    continue
                basins[beside] = basins[pixel]
                _queue(beside, max(water, levels[beside]), first, last, after)
            pixel = after[pixel]
            # What is flooded is off the list, so that the list is empty when all is.
            first[water] = pixel
