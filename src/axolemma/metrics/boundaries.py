"""How well the contours of a membrane lie where the expert drew them."""

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.errors import InputError

__all__ = ["BoundaryF", "boundary_f", "check_masks", "harmonic_mean"]


@dataclass(frozen=True, slots=True)
class BoundaryF:
    """The boundary F-score of a section and its two halves, all in [0, 1], 1 = perfect.

    Parameters
    ----------
    score
        The harmonic mean of the halves.
    precision
        Share of the proposal's contour that has the truth's contour nearby.
    recall
        Share of the truth's contour that has the proposal's contour nearby.
    """

    score: float
    precision: float
    recall: float


def boundary_f(
    proposal: NDArray[np.bool_], truth: NDArray[np.bool_], *, tolerance: float = 2.0
) -> BoundaryF:
    """Compare the contours of two membrane masks, forgiving small shifts.

    The contour of a mask is its membrane pixels with at least one of their four neighbours in the
    interior; what lies beyond the section is neither. A contour pixel is right where the other
    mask has a contour pixel whose centre is `tolerance` or less away. Unlike V_rand and V_info
    this score sees how thick a membrane is, and one missing pixel costs no more than any other.

    Parameters
    ----------
    proposal, truth
        Shape (Y, X), True = membrane.
    tolerance
        Euclidean distance in pixels, 0 or above.

    Returns
    -------
    BoundaryF
        Where one mask has no contour, nothing of it is wrong, its half is 1, but the other half
        and the score are 0. Where neither has one, both masks are uniform: all three are 1 when
        the masks are equal and 0 when one is all membrane and the other all interior.

    Raises
    ------
    InputError
        If the masks are not boolean, not sections or not of equal shape, or the tolerance is
        negative or not finite.

    References
    ----------
    Csurka et al. 2013, BMVC (a boundary score per image); Perazzi et al. 2016, CVPR (the contour
    F-measure with a tolerance).

    Examples
    --------
    >>> truth = np.zeros((5, 9), bool)
    >>> truth[:, 4] = True
    >>> boundary_f(np.roll(truth, 2, axis=1), truth).score
    1.0
    >>> boundary_f(np.roll(truth, 3, axis=1), truth).score
    0.0
    """
    check_masks(proposal, truth)
    if not (isfinite(tolerance) and tolerance >= 0):
        raise InputError(f"the tolerance is a distance in pixels, 0 or above, not {tolerance}")
    mine, theirs = _contour(proposal), _contour(truth)
    if not mine.any() and not theirs.any():
        same = float(proposal.flat[0] == truth.flat[0])
        return BoundaryF(same, same, same)
    precision = _share_near(mine, theirs, tolerance)
    recall = _share_near(theirs, mine, tolerance)
    return BoundaryF(harmonic_mean(precision, recall), precision, recall)


def check_masks(*masks: NDArray[np.bool_]) -> None:
    """Raise an `InputError` unless all are boolean sections (Y, X) of one shape, not empty."""
    for mask in masks:
        if mask.dtype != np.bool_:
            raise InputError(
                f"a membrane mask is boolean, True = membrane, not {mask.dtype}; "
                "cut the map at a threshold first"
            )
        if mask.ndim != 2 or not mask.size:
            raise InputError(
                f"a membrane mask is one section (Y, X) with pixels in it, not {mask.shape}"
            )
        if mask.shape != masks[0].shape:
            raise InputError(
                f"the masks have shapes {masks[0].shape} and {mask.shape}; "
                "they must be the same pixels"
            )


def harmonic_mean(a: float, b: float) -> float:
    """Return the harmonic mean of two numbers from 0 on, 0 where either is 0."""
    return 2 * a * b / (a + b) if a + b else 0.0


def _contour(membrane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    interior = np.pad(~membrane, 1)
    beside = interior[1:-1, :-2] | interior[1:-1, 2:] | interior[:-2, 1:-1] | interior[2:, 1:-1]
    return membrane & beside


def _share_near(points: NDArray[np.bool_], others: NDArray[np.bool_], tolerance: float) -> float:
    if not points.any():
        return 1.0
    if not others.any():
        return 0.0
    distance = np.asarray(ndimage.distance_transform_edt(~others))
    return float(np.mean(distance[points] <= tolerance))
