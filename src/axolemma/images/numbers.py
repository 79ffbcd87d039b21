"""The numbers of cells and neurons, in whatever width a file keeps them, as 32 bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.images.read import read
from axolemma.images.stack import Stack
from axolemma.labels import RESERVED, distinct, is_flat, renumbered

__all__ = ["numbered", "read_labels"]

_NONE = "the number 2^64 - 1 and its neighbours mean no cell and were read as 0"


def read_labels(path: str | Path, *, kind: str | None = None) -> Stack:
    """Read cells or neurons, with the numbers that they have.

    Parameters
    ----------
    path
        Anything that `read` reads, or the folder of a segmentation.
    kind
        Which of such a folder's, ``cells`` or ``neurons``; by default neurons where it has any.

    Returns
    -------
    Stack
        Integers, 0 = membrane; of 64 bits the highest 16 numbers, which mean no cell, are 0, which
        a note tells.

    Raises
    ------
    ImageError
        As `read`; and where the file says that it holds something else, or shows grey values.
    """
    if (Path(path) / "run.json").is_file():
        files = [Path(path) / f"{name}.tif" for name in ([kind] if kind else ["neurons", "cells"])]
        path = next((file for file in files if file.is_file()), files[-1])
    stack = read(path)
    array, ours = stack.array, stack.holds in ("cells", "neurons", "fragments")
    if stack.holds is not None and not ours:
        raise ImageError(
            f"{stack.source}: the file says that it holds a {stack.holds}; give cells or neurons,"
            " cells.tif beside membrane.tif or labels/cells in an OME-Zarr"
        )
    if array.dtype.kind not in "iu" or not (ours or is_flat(array)):
        raise ImageError(
            f"{stack.source}: this looks like grey values ({array.dtype}), where each cell or"
            " neuron should have a number of its own; give labels"
        )
    if not ours and array.dtype == np.uint8 and {*np.unique(array).tolist()} == {0, 255}:
        raise ImageError(
            f"{stack.source}: it holds 0 and 255 alone, a mask, where each cell or neuron should"
            " have a number of its own; give labels, such as the cells.tif that segment writes"
        )
    if array.dtype == np.uint64 and array.size and array.max() >= RESERVED:
        array = np.where(array < RESERVED, array, np.uint64(0))
        return replace(stack, array=array, notes=(*stack.notes, _NONE))
    return stack


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
            f"{source}: there are negative labels, the lowest {ids[0]}; give each cell a"
            " positive number and membrane 0"
        )
    notes = []
    real = ids[(ids != 0) & (ids < RESERVED)] if ids.dtype == np.uint64 else ids[ids != 0]
    if real.size < np.count_nonzero(ids):
        notes.append(_NONE)
    if real.size and real[-1] >= 2**32:
        notes.append(f"{real.size} labels are too high for 32 bits and were numbered anew from 1")
        return renumbered(labels, real), tuple(notes)
    if notes:
        return np.where(labels < RESERVED, labels, 0).astype(np.uint32), tuple(notes)
    return labels.astype(np.uint32), ()
