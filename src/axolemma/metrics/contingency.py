"""One table of overlaps between two segmentations, built once and shared by the scores."""

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = ["Contingency", "contingency"]


@dataclass(frozen=True)
class Contingency:
    """How many pixels every pair of a truth label and a proposal label shares.

    The three arrays are equally long, one entry for each pair that occurs, label 0 included, in no
    order. What many scores ask for, the pixels inside the truth's cells alone, are properties.

    Parameters
    ----------
    truth_ids, proposal_ids
        The labels of the pair; 0 = membrane or background.
    counts
        Pixels n_ij > 0 that have both labels.
    """

    truth_ids: NDArray[np.integer]
    proposal_ids: NDArray[np.integer]
    counts: NDArray[np.int64]

    @cached_property
    def overlaps(self) -> NDArray[np.int64]:
        """Pixels n_ij in truth cell i ≠ 0 and proposal cell j ≠ 0."""
        return np.asarray(self.counts[(self.truth_ids != 0) & (self.proposal_ids != 0)])

    @cached_property
    def truth_sizes(self) -> NDArray[np.int64]:
        """Pixels a_i of truth cell i ≠ 0."""
        inside = self.truth_ids != 0
        return sums(self.truth_ids[inside], self.counts[inside])

    @cached_property
    def proposal_sizes(self) -> NDArray[np.int64]:
        """Pixels b_j of proposal cell j ≠ 0 inside the truth's cells."""
        inside = (self.truth_ids != 0) & (self.proposal_ids != 0)
        return sums(self.proposal_ids[inside], self.counts[inside])

    @cached_property
    def singletons(self) -> int:
        """Pixels inside the truth's cells where the proposal is 0: each a segment of its own."""
        return int(self.counts[(self.truth_ids != 0) & (self.proposal_ids == 0)].sum())

    @cached_property
    def pixels(self) -> int:
        """Pixels inside the truth's cells."""
        return int(self.truth_sizes.sum())


def sums(ids: NDArray[np.integer], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add up `counts` of equal `ids`, in ascending order of the ids."""
    _, position = np.unique(ids, return_inverse=True)
    return np.bincount(position, counts).astype(np.int64)


def squares(counts: NDArray[np.int64]) -> float:
    """Add up squares in float64: those of a teravoxel's cells no longer fit 64-bit integers."""
    return float(np.square(counts, dtype=np.float64).sum())


def contingency(
    proposal: NDArray[np.integer],
    truth: NDArray[np.integer],
    *,
    where: NDArray[np.bool_] | None = None,
) -> Contingency:
    """Count the overlaps of two label arrays.

    Parameters
    ----------
    proposal, truth
        Non-negative labels of equal shape, any number of axes; 0 = membrane or background.
    where
        The pixels to count; all where None.

    Returns
    -------
    Contingency
        Empty where there is no pixel.

    Raises
    ------
    InputError
        If the shapes differ or a label is negative or no integer.
    """
    if proposal.shape != truth.shape or (where is not None and where.shape != truth.shape):
        others = "" if where is None else f" and the pixels to count {where.shape}"
        raise InputError(
            f"the proposal has shape {proposal.shape} and the truth {truth.shape}{others}; "
            "they must be the same pixels"
        )
    rows, row_ids = _narrow(truth)
    columns, column_ids = _narrow(proposal)
    mask = np.ones(1, bool) if where is None else np.ravel(where)
    keys, counts = _count(rows, columns, mask, where is not None)
    i, j = (keys >> 32).astype(np.int64), (keys & 0xFFFFFFFF).astype(np.int64)
    return Contingency(
        i if row_ids is None else row_ids[i], j if column_ids is None else column_ids[j], counts
    )


def _narrow(
    labels: NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.integer] | None]:
    """Return flat labels below 2**32, and what they stand for where they had to be renumbered."""
    if labels.dtype.kind == "b" or not labels.dtype.isnative:
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise InputError("labels are integers from 0 on, 0 for membrane")
    if labels.size and labels.max() >= 1 << 32:
        values, dense = np.unique(labels, return_inverse=True)
        return dense.ravel(), values
    return np.ravel(labels), None


@numba.njit(cache=True)
def _count(rows, columns, mask, masked):  # type: ignore[no-untyped-def]
    # Open addressing; a run of equal pairs along a line is one visit, so the time is that of
    # reading the pixels.
    size = 1 << 12
    keys = np.zeros(size, np.uint64)
    counts = np.zeros(size, np.int64)
    used = 0
    position = 0
    last = np.uint64(0)
    run = 0
    for p in range(rows.size + 1):
        if p < rows.size:
            if masked and not mask[p]:
                continue
            key = (np.uint64(rows[p]) << np.uint64(32)) | np.uint64(columns[p])
            if run > 0 and key == last:
                run += 1
                continue
        else:
            key = last
        if run > 0:
            if 2 * used >= size:
                size *= 4
                keys, counts = _spread(keys, counts, size)
            position = _find(keys, counts, last)
            if counts[position] == 0:
                keys[position] = last
                used += 1
            counts[position] += run
        last = key
        run = 1
    found = np.flatnonzero(counts)
    return keys[found], counts[found]


@numba.njit(cache=True)
def _find(keys, counts, key):  # type: ignore[no-untyped-def]
    """Return where `key` is, or the free place where it belongs."""
    # Fibonacci hashing: the high bits of the product mix both labels.
    top = np.uint64(len(keys) - 1)
    position = (key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & top
    while counts[position] != 0 and keys[position] != key:
        position = (position + np.uint64(1)) & top
    return position


@numba.njit(cache=True)
def _spread(keys, counts, size):  # type: ignore[no-untyped-def]
    new_keys = np.zeros(size, np.uint64)
    new_counts = np.zeros(size, np.int64)
    for p in range(len(keys)):
        if counts[p] != 0:
            position = _find(new_keys, new_counts, keys[p])
            new_keys[position] = keys[p]
            new_counts[position] = counts[p]
    return new_keys, new_counts
