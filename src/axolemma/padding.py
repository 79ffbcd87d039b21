"""What is no tissue: the frame of one value that stitching and aligning leave around sections."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["padded"]

#: Pixels of one value in a row, at the edge of what is looked at, that no tissue has.
_RUN = 32

_EDGES: tuple[Any, ...] = (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])


def padded(section: NDArray[Any], values: Iterable[float]) -> NDArray[np.bool_] | None:
    """Tell which pixels are padding: of one value, and in one piece with a row of it at an edge.

    Parameters
    ----------
    section
        Grey values (Y, X) of a section or of a part of it.
    values
        Which padding may have, such as the `padding` of a `quality.Contrast`.

    Returns
    -------
    NDArray[np.bool_] or None
        Of the shape of the section, True where there is padding; None where there is none.
    """
    outside = None
    for value in values:
        lines = [section[edge] == value for edge in _EDGES]
        runs = [ndimage.binary_opening(line, np.ones(min(_RUN, line.size))) for line in lines]
        # Most sections have no frame: their edges alone are looked at.
        if any(run.any() for run in runs):
            pieces, _ = ndimage.label(section == value)
            at_edges = [pieces[edge][run] for edge, run in zip(_EDGES, runs, strict=True)]
            found = np.isin(pieces, np.unique(np.concatenate(at_edges)))
            outside = found if outside is None else outside | found
    return outside
