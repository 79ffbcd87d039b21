"""Whether the membranes of a stack are dark or bright, by its lines."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.engines.cores import cores
from axolemma.errors import InputError
from axolemma.geometry import Box
from axolemma.padding import padded
from axolemma.quality.statistics import contrast_of, normalise

__all__ = ["Polarity", "looked_at", "polarity_of"]

Polarity = Literal["dark", "bright"]

#: What tells the polarity: by how much lines are smoothed, in a network's pixels (what tells more
#: counts, for the size of pixels may not be known), and the ratio from which one kind prevails.
_LINES, _CLEARLY = (2.5, 5.0), 1.1

#: Windows along a side of a section that are looked at for that, their least and their largest side
#: in a network's pixels, and the share of padding from which one shows nothing.
_SPREAD, _LEAST_WINDOW, _MOST_WINDOW, _MOST_PADDING = 4, 96, 256, 0.7

#: Windows at most that are looked at side by side.
_WORKERS = 4


def polarity_of(
    read: Callable[[Box], NDArray[Any]], shape: tuple[int, ...], *, magnification: float = 1.0
) -> Polarity:
    """Say whether the membranes of a stack are dark, as networks learn them, or bright.

    Membranes are the lines of a section, so the strength of its dark lines is compared with that of
    its bright ones: lines are where the smoothed grey values bend across (one eigenvalue of their
    Hessian) and not along. Unlike the histogram this does not depend on how the contrast was set.
    Windows all over three sections are looked at, in each of these the half with the strongest
    lines counts: elsewhere may be resin. Where neither is clearly stronger membranes are taken for
    dark.

    Parameters
    ----------
    read
        Gives a part of the stack, (Z, Y, X), of any real dtype.
    shape
        Of the stack, (Z, Y, X).
    magnification
        Factor by which a network wants the sections enlarged.
    """
    rows, columns = (_windows(side, magnification) for side in shape[1:])
    places = [Box((0, y, x), (1, y + a, x + b)) for y, a in rows for x, b in columns]
    widths = [width / magnification for width in _LINES]
    votes: list[list[float]] = [[] for _ in widths]
    workers = min(_WORKERS, cores())
    with ThreadPoolExecutor(workers) as pool:
        for z in looked_at(shape[0]):
            seen: list[list[tuple[float, float]]] = []
            for first in range(0, len(places), workers):  # so that few windows are in memory
                boxes = places[first : first + workers]
                parts = [read(box.moved((z, 0, 0)))[0] for box in boxes]
                seen += [
                    found for found in pool.map(partial(_lines, widths=widths), parts) if found
                ]
            for of, parted in zip(votes, zip(*seen, strict=True), strict=False):
                strongest = sorted(parted, reverse=True)[: -(-len(parted) // 2)]
                of.append(float(np.median([vote for _, vote in strongest])))
    each = [float(np.median(of)) for of in votes if of]
    clearest = max(each, key=abs, default=0.0)
    return "bright" if clearest > math.log(_CLEARLY) else "dark"


def looked_at(depth: int) -> list[int]:
    """Return the sections by which a stack is judged."""
    return sorted({depth // 4, depth // 2, 3 * depth // 4})


def _windows(side: int, magnification: float) -> list[tuple[int, int]]:
    """Return start and length of a few windows along a side, evenly spread."""
    count = max(1, min(_SPREAD, int(side * magnification) // _LEAST_WINDOW))
    length = min(side // count, math.ceil(_MOST_WINDOW / magnification))
    return [(round(n), length) for n in np.linspace(0, side - length, count)]


def _lines(part: NDArray[Any], widths: Sequence[float]) -> list[tuple[float, float]]:
    """Return how strong the lines of a part of a section are, and how much more bright ones.

    The latter as the logarithm of a ratio; for each width. Empty where nothing is to be seen.
    """
    try:
        by = contrast_of(part)
    except InputError:
        return []
    outside = padded(part, by.padding)
    if outside is not None and outside.mean() > _MOST_PADDING:
        return []
    grey = normalise(part, by)
    least, found = float(np.finfo(np.float32).tiny), []
    for width in widths:
        smooth = ndimage.gaussian_filter(grey, width)
        inner = smooth[1:-1, 1:-1]
        yy = smooth[2:, 1:-1] - 2 * inner + smooth[:-2, 1:-1]
        xx = smooth[1:-1, 2:] - 2 * inner + smooth[1:-1, :-2]
        xy = (smooth[2:, 2:] - smooth[2:, :-2] - smooth[:-2, 2:] + smooth[:-2, :-2]) / 4
        middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
        # Half of what the eigenvalues, middle ± spread, differ by in size; dark lines bend upwards.
        line = np.minimum(np.abs(middle), spread) ** 2
        if outside is not None:
            beside = ndimage.binary_dilation(outside, iterations=math.ceil(3 * width))
            line[beside[1:-1, 1:-1]] = 0
        bright, dark = (float(line[way].sum(dtype=np.float64)) for way in (middle < 0, middle > 0))
        strength = (bright + dark) * float(by.deviation) ** 2
        found.append((strength, math.log((bright + least) / (dark + least))))
    return found
