"""Variation of information and adapted Rand error, in the two conventions that are in use.

The conventions differ in what label 0 means, and give different numbers for the same labels:

===================== ======================== ========================
pixels that are 0 in  CREMI                    scikit-image
===================== ======================== ========================
the truth             not counted              VOI: a segment, ARE: not counted
the proposal          VOI: a segment,          a segment
                      ARE: each on its own,
                      all but weightless
===================== ======================== ========================
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axolemma.metrics.contingency import Contingency, squares, sums

__all__ = [
    "AdaptedRand",
    "VariationOfInformation",
    "cremi_rand",
    "cremi_score",
    "cremi_voi",
    "skimage_rand",
    "skimage_voi",
]


@dataclass(frozen=True, slots=True)
class VariationOfInformation:
    """Two conditional entropies in bits, 0 = perfect.

    Parameters
    ----------
    split
        H(proposal | truth): grows where true cells are cut in pieces.
    merge
        H(truth | proposal): grows where true cells are joined.
    """

    split: float
    merge: float

    @property
    def total(self) -> float:
        """The variation of information, the sum of both."""
        return self.split + self.merge


@dataclass(frozen=True, slots=True)
class AdaptedRand:
    """One minus the F-score of pixel pairs, in [0, 1], 0 = perfect.

    Parameters
    ----------
    error
        One minus the harmonic mean of the halves.
    split
        Share of the truth's pairs that the proposal keeps together; falls with splits.
    merge
        Share of the proposal's pairs that belong together; falls with mergers. What
        `skimage.metrics.adapted_rand_error` calls precision is `split`, and recall is `merge`.
    """

    error: float
    split: float
    merge: float


def cremi_voi(table: Contingency) -> VariationOfInformation:
    """Compute the variation of information of the CREMI challenge.

    Parameters
    ----------
    table
        See `contingency`. Pixels of truth 0 are not counted; proposal 0 is a segment.

    Returns
    -------
    VariationOfInformation
        In bits; 0 where nothing is counted.

    References
    ----------
    Meilă 2007, J. Multivariate Analysis 98:873; CREMI challenge (cremi.org), metrics.
    """
    return _entropies(table, table.truth_ids != 0)


def skimage_voi(table: Contingency) -> VariationOfInformation:
    """Compute what `skimage.metrics.variation_of_information` does by default.

    Parameters
    ----------
    table
        See `contingency`. Every pixel counts, 0 is a segment on both sides.

    Returns
    -------
    VariationOfInformation
        In bits, in scikit-image's order: splits, then mergers.
    """
    return _entropies(table, np.ones(len(table.counts), bool))


def cremi_rand(table: Contingency) -> AdaptedRand:
    """Compute the adapted Rand error of the CREMI and SNEMI3D challenges.

    Parameters
    ----------
    table
        See `contingency`. Pixels of truth 0 are not counted. The proposal's n₀ zeros inside the
        truth's cells weigh n₀ / n together, n all pixels, beside counts that are squared: unlike
        in V_rand they hardly count, as in the challenge's script.

    Returns
    -------
    AdaptedRand
        The error is 0 where the truth has no cell.
    """
    weight = table.singletons / max(1, int(table.counts.sum()))
    together = squares(table.overlaps) + weight
    truth, proposal = squares(table.truth_sizes), squares(table.proposal_sizes) + weight
    return _adapted_rand(together, truth, proposal)


def skimage_rand(table: Contingency) -> AdaptedRand:
    """Compute what `skimage.metrics.adapted_rand_error` does by default.

    Parameters
    ----------
    table
        See `contingency`. Pixels of truth 0 are not counted; proposal 0 is one segment, so a
        membrane that is thick everywhere looks like one large false merger. A pixel makes no
        pair with itself.

    Returns
    -------
    AdaptedRand
        scikit-image gives NaN where no two pixels belong together; here that is 0 for none on
        either side, 1 for none on one.
    """
    inside = table.truth_ids != 0
    counts = table.counts[inside]
    proposal = sums(table.proposal_ids[inside], counts)
    n = table.pixels
    return _adapted_rand(squares(counts) - n, squares(table.truth_sizes) - n, squares(proposal) - n)


def cremi_score(table: Contingency) -> float:
    """Compute √(ARE · (VOI split + VOI merge)), the number that ranks CREMI; 0 = perfect."""
    return math.sqrt(cremi_rand(table).error * cremi_voi(table).total)


def _adapted_rand(together: float, truth: float, proposal: float) -> AdaptedRand:
    if truth + proposal == 0:
        return AdaptedRand(0.0, 1.0, 1.0)
    return AdaptedRand(
        1 - 2 * together / (truth + proposal),
        together / truth if truth else 1.0,
        together / proposal if proposal else 1.0,
    )


def _entropies(table: Contingency, counted: NDArray[np.bool_]) -> VariationOfInformation:
    shared = table.counts[counted].astype(np.float64)
    total = max(1.0, shared.sum())

    def conditional(ids: NDArray[np.integer]) -> float:
        _, position = np.unique(ids, return_inverse=True)
        sizes = np.bincount(position, shared)[position]
        return float((shared * np.log2(sizes / shared)).sum() / total)

    return VariationOfInformation(
        split=conditional(table.truth_ids[counted]), merge=conditional(table.proposal_ids[counted])
    )
