"""Scores that look at one pixel at a time: counts at a threshold, and the whole curve.

They say nothing about which cells are separated: a membrane drawn one pixel too thick costs much
here, a gap that joins two cells next to nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = [
    "PixelCounts",
    "average_precision",
    "checked_map",
    "counted",
    "mean_squared_error",
    "pixel_counts",
    "pixel_error",
    "precision_recall",
]


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """How many pixels of a binary proposal are right and wrong; add counts to pool sections.

    Every score lies in [0, 1]. Where its denominator is 0 it is 1 if there was nothing to propose
    and nothing was proposed, else 0; so precision is 0 where the class was drawn but never
    proposed, and every score of no pixels at all is 1.

    Parameters
    ----------
    true_positive, false_positive
        Pixels proposed as the positive class that the truth has in it, or not.
    false_negative, true_negative
        Pixels not proposed that the truth has in the class, or not.

    Examples
    --------
    >>> (PixelCounts(3, 1, 0, 4) + PixelCounts(0, 0, 1, 7)).f1
    0.75
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def accuracy(self) -> float:
        """The share of pixels that are right; high wherever one class is rare."""
        right = self.true_positive + self.true_negative
        return _share(right, self.false_positive + self.false_negative)

    @property
    def precision(self) -> float:
        """The share of proposed pixels that are right."""
        return _share(self.true_positive, self.false_positive, self.false_negative)

    @property
    def recall(self) -> float:
        """The share of drawn pixels that were proposed."""
        return _share(self.true_positive, self.false_negative, self.false_positive)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall: the same number as the Dice coefficient."""
        return _share(2 * self.true_positive, self.false_positive + self.false_negative)

    @property
    def iou(self) -> float:
        """Intersection over union, or Jaccard index: ``f1 / (2 - f1)``."""
        return _share(self.true_positive, self.false_positive + self.false_negative)


def pixel_counts(
    proposal: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    where: NDArray[np.bool_] | None = None,
) -> PixelCounts:
    """Count the pixels of a binary proposal that are right and wrong.

    Parameters
    ----------
    proposal, truth
        Bool, equal shapes, any number of axes; True = the positive class, whichever it is.
    where
        Bool, equal shape; the pixels to count, all by default.

    Returns
    -------
    PixelCounts
        Sums to the number of counted pixels.

    Raises
    ------
    InputError
        If the shapes differ or an array is not bool.
    """
    _check_mask("proposal", proposal)
    proposed, drawn = counted(proposal, truth, where)
    both = int(np.count_nonzero(proposed & drawn))
    only_proposed = int(np.count_nonzero(proposed)) - both
    only_drawn = int(np.count_nonzero(drawn)) - both
    neither = proposed.size - both - only_proposed - only_drawn
    return PixelCounts(both, only_proposed, only_drawn, neither)


def pixel_error(counts: PixelCounts) -> float:
    """Compute the challenge's pixel error at one threshold: 1 - F of the cell interior.

    Parameters
    ----------
    counts
        Counts with the **interior** as the positive class, at one threshold. For the challenge's
        stack score pool the counts over the sections, call this at each of its thresholds (an
        interior pixel is one above) and take the minimum.

    Returns
    -------
    float
        In [0, 1], 0 = perfect; 0 as well where there is no interior on either side.

    Notes
    -----
    The reference implementation (Fiji's Trainable Weka Segmentation, ``PixelError``) has two more
    numbers of this name: without a threshold `mean_squared_error`, and with one the share of wrong
    pixels, which is ``1 - counts.accuracy``.

    References
    ----------
    Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142.
    """
    return 1 - counts.f1


def mean_squared_error(
    proposal_map: NDArray[Any],
    truth: NDArray[np.bool_],
    *,
    where: NDArray[np.bool_] | None = None,
) -> float:
    """Compute the mean squared difference of a map and the truth, the Brier score.

    The challenge's pages name it as the other form of the pixel error. No threshold is involved.

    Parameters
    ----------
    proposal_map
        Float or bool in [0, 1], 1 = interior; any number of axes.
    truth
        Bool, equal shape; True = interior. With both turned to membrane the number is the same.
    where
        Bool, equal shape; the pixels to count, all by default.

    Returns
    -------
    float
        In [0, 1], 0 = perfect; 0 where no pixel is counted. For a stack the mean of its sections,
        as in the reference implementation, provided each counts as many pixels.

    Raises
    ------
    InputError
        If the shapes differ, the truth is not bool or the map not in [0, 1].
    """
    values, drawn = counted(checked_map(proposal_map), truth, where)
    return float(np.square(values.astype(np.float64) - drawn).mean()) if values.size else 0.0


def precision_recall(
    map_: NDArray[Any],
    truth: NDArray[np.bool_],
    *,
    where: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.floating]]:
    """Compute precision and recall of the membrane at every threshold that makes a difference.

    Parameters
    ----------
    map_
        Float or bool in [0, 1], 1 = membrane; any number of axes.
    truth
        Bool, equal shape; True = membrane.
    where
        Bool, equal shape; the pixels to count, all by default.

    Returns
    -------
    precision, recall, thresholds
        Equally long, one entry for each distinct value of the map, the highest threshold first, so
        recall never falls. A pixel is proposed where the map is **at or above** the threshold.
        Recall is 0 throughout where the truth has no membrane. Nothing is added for the empty
        proposal above the highest threshold, unlike in scikit-learn.

    Raises
    ------
    InputError
        If the shapes differ, the truth is not bool or the map not in [0, 1].
    """
    values, drawn = counted(checked_map(map_), truth, where)
    ordered = np.sort(values)
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: ordered.size])[::-1]
    thresholds = ordered[first]
    # Two sorts of values and a search are several times faster than one argsort.
    membrane = np.sort(values[drawn])
    found = membrane.size - np.searchsorted(membrane, thresholds)
    return found / (ordered.size - first), found / max(membrane.size, 1), thresholds


def average_precision(
    map_: NDArray[Any],
    truth: NDArray[np.bool_],
    *,
    where: NDArray[np.bool_] | None = None,
) -> float:
    r"""Compute the area under the precision-recall curve of the membrane.

    .. math:: AP = \sum_n (R_n - R_{n-1})\,P_n

    over falling thresholds, :math:`R_0 = 0`, without interpolation, as scikit-learn's
    ``average_precision_score``. Equal values of the map share one threshold, so the order of pixels
    does not matter. Only the order of the values counts, not their calibration.

    Parameters
    ----------
    map_, truth, where
        As in `precision_recall`, which also raises the errors.

    Returns
    -------
    float
        In [0, 1], 1 = some threshold is perfect; the membrane's share of the pixels for a map of
        one single value. 0 where the truth has no membrane, 1 where no pixel is counted.
    """
    precision, recall, _ = precision_recall(map_, truth, where=where)
    return float(np.sum(np.diff(recall, prepend=0) * precision)) if precision.size else 1.0


def _share(part: int, rest: int, elsewhere: int = 0) -> float:
    whole = part + rest
    return part / whole if whole else float(elsewhere == 0)


def counted(
    proposal: NDArray[Any], truth: NDArray[np.bool_], where: NDArray[np.bool_] | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the counted pixels of both as flat arrays, once it is clear that they fit."""
    for name, mask in (("truth", truth), ("where mask", where)):
        if mask is None:
            continue
        _check_mask(name, mask)
        if mask.shape != proposal.shape:
            raise InputError(
                f"the proposal has shape {proposal.shape} and the {name} {mask.shape}; "
                "they must be the same pixels"
            )
    if where is None:
        return proposal.ravel(), truth.ravel()
    return proposal[where], truth[where]


def _check_mask(name: str, mask: NDArray[Any]) -> None:
    if mask.dtype != np.bool_:
        raise InputError(f"the {name} must be bool, not {mask.dtype}; compare it with a threshold")


def checked_map(map_: NDArray[Any]) -> NDArray[np.floating]:
    """Return a map as floats, once it is clear that it lies in [0, 1]."""
    if map_.dtype.kind not in "bf":
        raise InputError(f"a map is float in [0, 1] or bool, not {map_.dtype}; rescale it")
    values = map_.astype(np.float32) if map_.dtype.kind == "b" else map_
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise InputError(f"a map lies in [0, 1], this one spans {low:g} to {high:g}; rescale it")
    return values
