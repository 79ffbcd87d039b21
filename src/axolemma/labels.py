"""Label arrays: their numbers, what is between two that touch, and the pieces of a label."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["IGNORED", "distinct", "label_borders", "pieces", "renumbered"]

#: In a truth, beside 1 = membrane and 0 = interior: a pixel that the expert did not annotate. It
#: stands in the truth itself, so that no step between the file and the loss can lose it.
IGNORED = 2


def distinct(array: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a stack (Z, Y, X) once each, in order; NaN as often as in sections."""
    # Section by section: sorting a whole volume at once takes several times its memory.
    return np.unique(np.concatenate([np.unique(section) for section in array]))


def renumbered(labels: NDArray[np.integer], ids: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Replace the labels by their places among `ids`, from 1 on, and all others by 0.

    Parameters
    ----------
    labels
        (Z, Y, X).
    ids
        The numbers to keep, in ascending order, fewer than 2³².

    Returns
    -------
    NDArray[np.uint32]
        Equal shape.

    Examples
    --------
    >>> renumbered(np.array([[[7, 0, 900]]]), np.array([7, 900])).tolist()
    [[[1, 0, 2]]]
    """
    result = np.zeros(labels.shape, np.uint32)
    if ids.size:
        for section, new in zip(labels, result, strict=True):
            place = np.searchsorted(ids, section).clip(max=len(ids) - 1)
            new[...] = np.where(ids[place] == section, place + 1, 0)
    return result


def label_borders(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return label 0, and one pixel between two labels of a section that touch, as membrane.

    Parameters
    ----------
    labels
        (…, Y, X); 0 = membrane or background.

    Returns
    -------
    NDArray[np.bool_]
        Equal shape, True = membrane.
    """
    border = labels == 0
    for here, beyond in (
        (np.s_[..., :-1, :], np.s_[..., 1:, :]),
        (np.s_[..., :, :-1], np.s_[..., :, 1:]),
    ):
        a, b = labels[here], labels[beyond]
        border[here] |= (a != b) & (a != 0) & (b != 0)
    return np.asarray(border)


def pieces(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give a number to each of the 4-connected pieces of equal label in a section.

    Parameters
    ----------
    labels
        (Y, X); 0 = membrane or background.

    Returns
    -------
    NDArray[np.int32]
        (Y, X); 0 stays 0, and two pixels have one number where a path of steps through equal
        labels joins them.
    """
    # Every pixel gets a 2 x 2 block, with a bridge to the next pixel where the labels are equal:
    # one pass of the ordinary labelling then tells labels apart that touch.
    height, width = labels.shape
    open_ = np.zeros((2 * height, 2 * width), bool)
    open_[::2, ::2] = labels != 0
    open_[1:-1:2, ::2] = (labels[1:] == labels[:-1]) & (labels[1:] != 0)
    open_[::2, 1:-1:2] = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != 0)
    found, _ = ndimage.label(open_)
    return np.ascontiguousarray(found[::2, ::2], np.int32)
