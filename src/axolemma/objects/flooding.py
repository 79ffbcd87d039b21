"""A seeded watershed whose answer at a pixel depends on what is near it alone."""

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = ["flood", "strips"]

_BITS = 16
_LEVELS = 1 << _BITS  # steps that heights from 0 to 1 are told apart in
_CHUNK = 64  # numbers in a chunk of a queue
_STRIP = 2**18  # pixels that are prepared at once


def strips(shape: tuple[int, ...]) -> list[slice]:
    """Return rows of a section (Y, X) to work out one after the other.

    What is passed on from step to step then stays near; for a large section the system would have
    to find memory for each, which takes longer than the step.
    """
    rows = max(1, _STRIP // max(1, shape[1]))
    return [slice(first, first + rows) for first in range(0, shape[0], rows)]


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
    # A pixel's basin above its level in one number, so that both come in one read. The rim, which
    # is below zero, is nobody's to flood.
    state = np.empty((height.shape[0] + 2, height.shape[1] + 2), np.int64)
    state[[0, -1]] = state[:, [0, -1]] = -1
    inner = state[1:-1, 1:-1]
    for strip in strips(height.shape):
        inner[strip] = np.rint(height[strip] * (_LEVELS - 1))
        inner[strip] += seeds[strip].astype(np.int64) << _BITS
    flat = state.ravel()
    given = np.flatnonzero(flat >= _LEVELS)
    given = given[np.argsort(flat[given] & (_LEVELS - 1), kind="stable")]
    # Taken from the system as they are filled, which few are at a time.
    kind = np.int32 if state.size < 2**31 else np.int64
    chunks = np.empty((state.size // (_CHUNK - 1) + _LEVELS + 1, _CHUNK), kind)
    _rise(flat, given, chunks, state.shape[1])
    found = np.empty(height.shape, np.int32)
    for strip in strips(height.shape):
        found[strip] = inner[strip] >> _BITS
    return found


@numba.njit(cache=True)
def _rise(state, given, chunks, width):  # type: ignore[no-untyped-def]
    """Flood what is of no basin yet, a section line by line with a rim, in place.

    `given` are the seeds by level. Behind them every level's queue is a list of chunks, each the
    number of the next and then pixels, so that what is queued together lies together: pixels
    linked one by one wait for memory.
    """
    first = np.full(_LEVELS, -1, np.int32)
    last = np.full(_LEVELS, -1, np.int32)
    filled = np.zeros(_LEVELS, np.int32)
    used, spare = 0, -1  # how many chunks were ever taken, and the first of those given back
    seed = 0
    for water in range(_LEVELS):
        chunk, place = -1, 1
        while True:
            if seed < len(given) and state[given[seed]] & (_LEVELS - 1) == water:
                pixel = given[seed]
                seed += 1
            else:
                if chunk < 0:
                    chunk = first[water]
                if chunk < 0 or (chunk == last[water] and place == filled[water]):
                    break
                if place == _CHUNK:
                    after = chunks[chunk, 0]
                    chunks[chunk, 0] = spare
                    spare = chunk
                    chunk, place = after, 1
                pixel = chunks[chunk, place]
                place += 1
            basin = state[pixel] & -_LEVELS
            for beside in (pixel - width, pixel - 1, pixel + 1, pixel + width):
                level = state[beside]
                if not 0 <= level < _LEVELS:
                    continue
                state[beside] = basin | level
                level = max(water, level)
                tail = last[level]
                if tail < 0 or filled[level] == _CHUNK:
                    added = spare
                    if added < 0:
                        added = used
                        used += 1
                    else:
                        spare = chunks[added, 0]
                    if tail < 0:
                        first[level] = added
                    else:
                        chunks[tail, 0] = added
                    last[level] = tail = added
                    filled[level] = 1
                chunks[tail, filled[level]] = beside
                filled[level] += 1
        if chunk >= 0:
            chunks[chunk, 0] = spare
            spare = chunk
