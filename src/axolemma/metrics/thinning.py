"""Border thinning: what the ISBI 2012 scores do to a proposal before they count it.

Every cell grows into the membrane around it until two different cells meet, so a closed contour
shrinks to a line about one pixel wide, and a membrane that separates nothing disappears. The score
then no longer depends on how thick a membrane was drawn, only on which cells it separates.
"""

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.errors import InputError

__all__ = ["label_cells", "thin"]


def label_cells(interior: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give a number to each of the 4-connected components of a section's interior.

    Parameters
    ----------
    interior
        Shape (Y, X); True where a pixel is cell interior.

    Returns
    -------
    NDArray[np.int32]
        Shape (Y, X); 0 = membrane, 1 … n = cells in scan order.
    """
    labels = np.empty(interior.shape, np.int32)
    ndimage.label(interior, output=labels)
    return labels


def thin(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Flood the cells of one section into its membrane, first in, first out.

    The queue starts with the membrane pixels that touch a cell, in column-major order. A pixel
    taken from it looks at its four neighbours, left, up, right, down: it joins their cell where
    all the labelled ones agree, stays membrane where they do not, and in both cases queues the
    neighbours not seen yet. The order is part of the definition: it decides to the pixel where the
    remaining lines lie.

    Parameters
    ----------
    labels
        Shape (Y, X); 0 = membrane, other values = cells.

    Returns
    -------
    NDArray[np.int32]
        Shape (Y, X); the grown cells, 0 on the lines between them. A section that holds no cell
        at all becomes one single cell, as in the reference implementation.

    Raises
    ------
    InputError
        If `labels` is not two-dimensional, negative or above 2**31 - 1.

    References
    ----------
    Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142; the reference implementation is Fiji's
    Trainable Weka Segmentation.
    """
    if labels.ndim != 2:
        raise InputError(f"thinning takes one section (Y, X), got an array of shape {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        raise InputError("thinning takes labels from 0 to 2**31 - 1; number them anew first")
    small = np.ascontiguousarray(labels, np.int32)
    return np.asarray(_flood(small)) if small.any() else np.ones_like(small)


@numba.njit(cache=True)
def _flood(labels):  # type: ignore[no-untyped-def]
    # One row and column of padding all round saves every bounds check. `state` of the padding is
    # queued, so the flood never goes there.
    height, width = labels.shape
    stride = width + 2
    flat = np.zeros((height + 2) * stride, np.int32)
    queued = np.ones((height + 2) * stride, np.bool_)
    for y in range(height):
        for x in range(width):
            p = (y + 1) * stride + x + 1
            flat[p] = labels[y, x]
            queued[p] = labels[y, x] != 0
    queue = np.empty(height * width, np.int32)
    tail = 0
    for x in range(width):
        for y in range(height):
            p = (y + 1) * stride + x + 1
            if not queued[p] and (
                flat[p - 1] != 0
                or flat[p - stride] != 0
                or flat[p + 1] != 0
                or flat[p + stride] != 0
            ):
                queued[p] = True
                queue[tail] = p
                tail += 1
    steps = (-1, -stride, 1, stride)
    head = 0
    while head < tail:
        p = queue[head]
        head += 1
        found = 0
        agree = True
        for step in steps:
            neighbour = flat[p + step]
            if neighbour != 0:
                if found == 0:
                    found = neighbour
                elif neighbour != found:
                    agree = False
        if agree:
            flat[p] = found
        for step in steps:
            q = p + step
            if not queued[q]:
                queued[q] = True
                queue[tail] = q
                tail += 1
    out = np.empty((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            out[y, x] = flat[(y + 1) * stride + x + 1]
    return out
