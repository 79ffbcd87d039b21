"""V_rand and V_info, the foreground-restricted scores that rank the ISBI 2012 challenge."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axolemma.metrics.contingency import Contingency, squares

__all__ = ["PairCounts", "SplitMerge", "pair_counts", "v_info", "v_rand"]


@dataclass(frozen=True, slots=True)
class SplitMerge:
    """An F-score and its two halves, all in [0, 1], 1 = perfect.

    Parameters
    ----------
    score
        The harmonic mean of the halves.
    split
        Falls where one true cell is cut in pieces.
    merge
        Falls where several true cells are joined.
    """

    score: float
    split: float
    merge: float


@dataclass(frozen=True, slots=True)
class PairCounts:
    r"""Ordered pairs of pixels inside the truth's cells, a pixel with itself included.

    Counts of several sections add up with ``+``: the challenge's Rand error pools them.

    Parameters
    ----------
    together
        Pairs in one segment by both: :math:`\sum n_{ij}^2 + n_0`.
    truth
        Pairs in one segment of the truth: :math:`\sum a_i^2`.
    proposal
        Pairs in one segment of the proposal: :math:`\sum b_j^2 + n_0`.
    """

    together: float
    truth: float
    proposal: float

    def __add__(self, other: "PairCounts") -> "PairCounts":
        return PairCounts(
            self.together + other.together,
            self.truth + other.truth,
            self.proposal + other.proposal,
        )

    @property
    def f_score(self) -> SplitMerge:
        """Share of the pairs of truth, of proposal, and their harmonic mean; 1 without pairs."""
        if self.truth == 0:
            return SplitMerge(1.0, 1.0, 1.0)
        return SplitMerge(
            2 * self.together / (self.truth + self.proposal),
            self.together / self.truth,
            self.together / self.proposal,
        )


def pair_counts(table: Contingency) -> PairCounts:
    """Count the pairs of pixels; the proposal's zeros are segments of one pixel each."""
    alone = table.singletons
    return PairCounts(
        together=squares(table.overlaps) + alone,
        truth=squares(table.truth_sizes),
        proposal=squares(table.proposal_sizes) + alone,
    )


def v_rand(table: Contingency) -> SplitMerge:
    r"""Compute the foreground-restricted Rand F-score.

    With :math:`n_{ij}` the overlaps, :math:`a_i`, :math:`b_j` the sizes and :math:`n_0` the
    singletons,

    .. math:: V = \frac{2\,(\sum n_{ij}^2 + n_0)}{\sum a_i^2 + \sum b_j^2 + n_0}

    Parameters
    ----------
    table
        Overlaps of proposal and truth, see `contingency`.

    Returns
    -------
    SplitMerge
        1 where the truth has no cell at all: nothing could be wrong.

    References
    ----------
    Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142, equation 3.
    """
    return pair_counts(table).f_score


def v_info(table: Contingency) -> SplitMerge:
    r"""Compute the foreground-restricted information-theoretic F-score.

    .. math:: V = \frac{2\,I(S;T)}{H(S)+H(T)}

    with the split half I/H(S) and the merge half I/H(T), S the proposal and T the truth.

    Parameters
    ----------
    table
        Overlaps of proposal and truth, see `contingency`.

    Returns
    -------
    SplitMerge
        The score is 0 where either side is one single segment, even when the two are equal. The
        halves are then 0 / 1 by convention of the reference implementation: split 0 and merge 1
        for a proposal of one segment, split 1 and merge 0 for a truth of one segment only. All
        are 1 where the truth has no cell at all.

    References
    ----------
    Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142, equation 5.
    """
    n = table.pixels
    if n == 0:
        return SplitMerge(1.0, 1.0, 1.0)
    single = table.singletons * _plogp(np.array([1.0]), n)
    joint = _plogp(table.overlaps, n) + single
    truth = _plogp(table.truth_sizes, n)
    proposal = _plogp(table.proposal_sizes, n) + single
    if proposal == 0:
        return SplitMerge(0.0, 0.0, 1.0)
    if truth == 0:
        return SplitMerge(0.0, 1.0, 0.0)
    shared = joint - truth - proposal
    return SplitMerge(2 * shared / -(truth + proposal), shared / -proposal, shared / -truth)


def _plogp(counts: NDArray[np.number], n: int) -> float:
    p = counts / n
    return float((p * np.log(p)).sum())
