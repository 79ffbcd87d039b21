"""The numbers of cells and neurons, in whatever width a file keeps them, as 32 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.labels import distinct, renumbered

__all__ = ["numbered"]

# The highest numbers of 64 bits stand for "no cell here": transparent, invalid, outside.
RESERVED = 2**64 - 16


def numbered(
    labels: NDArray[Any], source: str, *, ids: NDArray[Any] | None = None
) -> tuple[NDArray[np.uint32], tuple[str, ...]]:
    """Return labels as numbers of 32 bits, 0 where there is no cell.

    Parameters
    ----------
    labels
        Integers (Z, Y, X). Of 64 bits the highest 16 numbers mean what 0 means.
    source
        The path, for messages.
    ids
        The values of `labels`, in order, where they are known already.

    Returns
    -------
    labels
        The same numbers wherever all are below 2³², else new ones from 1 on in the same order.
    notes
        One sentence for each thing that was changed.

    Raises
    ------
    ImageError
        If a label is negative.
    """
    ids = distinct(labels) if ids is None else ids
    if ids[0] < 0:
        raise ImageError(
            f"{source}: the truth has negative labels, the lowest {ids[0]}; give each cell a"
            " positive number and membrane 0"
        )
    notes = []
    real = ids[(ids != 0) & (ids < RESERVED)] if ids.dtype == np.uint64 else ids[ids != 0]
    if real.size < np.count_nonzero(ids):
        notes.append("the number 2^64 - 1 and its neighbours mean no cell and were read as 0")
    if real.size and real[-1] >= 2**32:
        notes.append(f"{real.size} labels are too high for 32 bits and were numbered anew from 1")
        return renumbered(labels, real), tuple(notes)
    if notes:
        return np.where(labels < RESERVED, labels, 0).astype(np.uint32), tuple(notes)
    return labels.astype(np.uint32), ()
