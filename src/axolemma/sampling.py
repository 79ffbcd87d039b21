"""Where the pixels of a part of a section come from: mirrored beyond its edges, or at another size.

Every function works for a part alone, so that a section of any size is never needed whole: what it
returns for a part equals the same part of what it returns for the whole, bit for bit.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Samples", "mirrored", "resampled", "samples"]


def mirrored(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Return the pixel that stands for each of ``start … stop - 1`` along an axis.

    Parameters
    ----------
    start, stop
        Any integers; pixels below 0 and from `size` on are mirrored at the edge, which is repeated,
        as often as it takes.
    size
        Pixels that there are.

    Examples
    --------
    >>> mirrored(-2, 5, 3).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    place = np.arange(start, stop) % (2 * size)
    return np.minimum(place, 2 * size - 1 - place)


@dataclass(frozen=True, slots=True)
class Samples:
    """What each pixel of a resized axis is a mean of.

    Parameters
    ----------
    places
        (n, k), pixels of the axis that is resized.
    weights
        (n, k), their weights, float32; they add up to 1.
    """

    places: NDArray[np.intp]
    weights: NDArray[np.float32]

    @property
    def span(self) -> tuple[int, int]:
        """First pixel that is needed, and first behind the last."""
        return int(self.places.min()), int(self.places.max()) + 1


def samples(start: int, stop: int, old: int, new: int) -> Samples:
    """Tell from which pixels of an axis those of a resized one come, by linear interpolation.

    What shrinks to less than its half is averaged over a triangle as wide as a new pixel on either
    side, so that noise does not turn into texture.

    Parameters
    ----------
    start, stop
        The part of the new axis, within 0 … `new`.
    old, new
        Pixels of the axis and of the resized one. Their outer edges lie on one another.

    Examples
    --------
    >>> samples(0, 4, 2, 4).weights.tolist()
    [[0.25, 0.75], [0.75, 0.25], [0.25, 0.75], [0.75, 0.25]]
    """
    if old == new:
        return Samples(np.arange(start, stop)[:, None], np.ones((stop - start, 1), np.float32))
    scale = old / new
    centre = (np.arange(start, stop) + 0.5) * scale - 0.5
    reach = scale if scale > 2 else 1.0
    first = np.floor(centre - reach).astype(np.intp) + 1
    places = first[:, None] + np.arange(math.ceil(2 * reach))
    weights = np.maximum(0, 1 - np.abs(places - centre[:, None]) / reach)
    inside = (places >= 0) & (places < old)
    if scale > 2:
        weights *= inside
    weights /= weights.sum(axis=1, keepdims=True)
    # Beyond the outermost centres there is nothing to interpolate with: the edge goes on.
    return Samples(np.clip(places, 0, old - 1), weights.astype(np.float32))


def resampled(sections: NDArray[Any], rows: Samples, columns: Samples) -> NDArray[np.float32]:
    """Resize sections along both axes.

    Parameters
    ----------
    sections
        (C, Y, X), the part that the samples span: its first pixel is the first that they need.
    rows, columns
        From `samples`.

    Returns
    -------
    NDArray[np.float32]
        (C, n rows, n columns).
    """
    found = _along(np.asarray(sections, np.float32), rows, 1)
    return _along(found, columns, 2)


def _along(array: NDArray[np.float32], axis: Samples, number: int) -> NDArray[np.float32]:
    places, shape = axis.places - axis.span[0], [1, 1, 1]
    shape[number] = -1
    total: NDArray[np.float32] | None = None
    for place, weight in zip(places.T, axis.weights.T, strict=True):
        part = np.take(array, place, number)
        part *= weight.reshape(shape)
        if total is None:
            total = part
        else:
            total += part
    assert total is not None
    return total
