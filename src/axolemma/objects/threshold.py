"""From a membrane map to cells: labels out."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["threshold_cells"]


def threshold_cells(membrane: NDArray[np.floating], threshold: float) -> NDArray[np.uint32]:
    """Label the cells of every section by thresholding the membrane map.

    Parameters
    ----------
    membrane
        (Z, Y, X), 1 = membrane.
    threshold
        A pixel is cell interior where ``1 - membrane > threshold``.

    Returns
    -------
    NDArray[np.uint32]
        (Z, Y, X); 0 = membrane, every 4-connected piece of interior of every section has its own
        number, from 1 in section and scan order, so that no number is used in two sections.
    """
    labels = np.zeros(membrane.shape, np.uint32)
    last = 0
    for z, section in enumerate(membrane):
        found, count = ndimage.label(1.0 - section.astype(np.float64) > threshold)
        labels[z] = np.where(found > 0, found + last, 0)
        last += count
    return labels
