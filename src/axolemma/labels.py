"""Label arrays: what two labels that touch have between them, and the pieces of a label."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["label_borders", "pieces"]


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
