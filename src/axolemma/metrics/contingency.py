"""One table of overlaps between two segmentations, built once and shared by the scores."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = ["Contingency", "contingency"]


@dataclass(frozen=True, slots=True)
class Contingency:
    """How the pixels inside the truth's cells are shared among the proposal's cells.

    Parameters
    ----------
    overlaps
        Counts n_ij > 0 of pixels in truth cell i and proposal cell j ≠ 0, in no order.
    truth_sizes
        Counts a_i > 0 of pixels in truth cell i ≠ 0.
    proposal_sizes
        Counts b_j > 0 of pixels in proposal cell j ≠ 0 that lie inside the truth's cells.
    singletons
        Pixels inside the truth's cells where the proposal is 0: each counts as a segment of
        its own.
    """

    overlaps: NDArray[np.int64]
    truth_sizes: NDArray[np.int64]
    proposal_sizes: NDArray[np.int64]
    singletons: int

    @property
    def pixels(self) -> int:
        """How many pixels are counted: those inside the truth's cells."""
        return int(self.truth_sizes.sum())


def contingency(proposal: NDArray[np.integer], truth: NDArray[np.integer]) -> Contingency:
    """Count the overlaps of two label arrays inside the truth's cells.

    Parameters
    ----------
    proposal, truth
        Non-negative labels of equal shape, any number of axes; 0 = membrane or background.

    Returns
    -------
    Contingency
        Empty where the truth has no cell.

    Raises
    ------
    InputError
        If the shapes differ or a label is negative or no integer.
    """
    if proposal.shape != truth.shape:
        raise InputError(
            f"the proposal has shape {proposal.shape} and the truth {truth.shape}; "
            "they must be the same pixels"
        )
    rows, row_count = _dense(truth)
    columns, column_count = _dense(proposal)
    if row_count * column_count <= max(1 << 22, rows.size):
        table = np.zeros((row_count, column_count), np.int64)
        _count(rows.ravel(), columns.ravel(), table)
        found = np.nonzero(table[1:])
        return _from_pairs(found[0], found[1], table[1:][found])
    # A table of all pairs would be far larger than the image: sort the pairs that occur.
    inside = rows != 0
    pairs = (rows[inside].astype(np.int64) - 1) * column_count + columns[inside].astype(np.int64)
    keys, counts = np.unique(pairs, return_counts=True)
    return _from_pairs(keys // column_count, keys % column_count, counts)


def _from_pairs(
    rows: NDArray[np.int64], columns: NDArray[np.int64], counts: NDArray[np.int64]
) -> Contingency:
    truth_sizes = np.bincount(rows, counts).astype(np.int64)
    proposal_sizes = np.bincount(columns, counts, minlength=1).astype(np.int64)
    return Contingency(
        overlaps=counts[columns != 0],
        truth_sizes=truth_sizes[truth_sizes > 0],
        proposal_sizes=proposal_sizes[1:][proposal_sizes[1:] > 0],
        singletons=int(proposal_sizes[0]),
    )


def _dense(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], int]:
    """Return labels whose largest is no larger than their count, 0 kept, and a bound above it."""
    if labels.dtype.kind == "b" or not labels.dtype.isnative:
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise InputError("labels are integers from 0 on, 0 for membrane")
    if labels.size == 0:
        return labels.astype(np.int64), 1
    top = int(labels.max())
    if top <= labels.size:
        return labels, top + 1
    # Ids such as those near 2**32 of a large volume: number the ones that are here.
    values, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape) + (values[0] != 0)
    return dense, int(dense.max()) + 1


@numba.njit(cache=True)
def _count(rows, columns, table):  # type: ignore[no-untyped-def]
    for i in range(rows.size):
        if rows[i] != 0:
            table[rows[i], columns[i]] += 1
