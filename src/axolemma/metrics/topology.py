"""Scores of a membrane's topology: centre lines, and counts of its pieces and holes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from axolemma.geometry import grid
from axolemma.metrics.boundaries import check_masks, harmonic_mean

__all__ = [
    "BettiErrors",
    "BettiMatching",
    "ClDice",
    "betti_errors",
    "betti_matching",
    "betti_numbers",
    "centre_lines",
    "cl_dice",
]

_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, slots=True)
class ClDice:
    """The centre-line Dice of a section and its two halves, all in [0, 1], 1 = perfect.

    Parameters
    ----------
    score
        The harmonic mean of the halves.
    precision
        Share of the proposal's centre lines that lies inside the truth's membrane.
    sensitivity
        Share of the truth's centre lines that lies inside the proposal's membrane.
    """

    score: float
    precision: float
    sensitivity: float


@dataclass(frozen=True, slots=True)
class BettiErrors:
    """Differences of the Betti numbers, 0 = as many as in the truth; see `betti_errors`."""

    betti_0: float
    betti_1: float


@dataclass(frozen=True, slots=True)
class BettiMatching:
    """Pieces and holes of both masks without a partner, 0 = all matched; see `betti_matching`."""

    betti_0: int
    betti_1: int


def centre_lines(membrane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin a membrane to lines one pixel wide.

    Parameters
    ----------
    membrane
        Shape (Y, X), True = membrane.

    Returns
    -------
    NDArray[np.bool_]
        Shape (Y, X), a part of `membrane`; `skimage.morphology.skeletonize` in the plane.

    Raises
    ------
    InputError
        If `membrane` is not boolean or not a section.

    References
    ----------
    Zhang and Suen 1984, Commun. ACM 27:236.
    """
    check_masks(membrane)
    return np.asarray(skeletonize(membrane, method="zhang"), np.bool_)


def cl_dice(
    proposal: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    proposal_lines: NDArray[np.bool_] | None = None,
    truth_lines: NDArray[np.bool_] | None = None,
) -> ClDice:
    """Compare two membrane masks by where the centre line of each runs.

    A gap costs the length of line that is missing, and thickness costs nothing as long as the
    lines stay inside the other mask. A proposal that is too thick therefore loses little.

    Parameters
    ----------
    proposal, truth
        Shape (Y, X), True = membrane.
    proposal_lines, truth_lines
        `centre_lines` of the two masks where they are at hand; computed otherwise.

    Returns
    -------
    ClDice
        Lines of length 0 are inside anything, so a half is 1 where its mask has none. All three
        are 1 where neither mask has membrane; the score is 0 where one of them has and the other
        has not.

    Raises
    ------
    InputError
        If the arrays are not boolean, not sections or not of equal shape.

    References
    ----------
    Shit et al. 2021, CVPR.
    """
    check_masks(proposal, truth)
    mine = centre_lines(proposal) if proposal_lines is None else proposal_lines
    theirs = centre_lines(truth) if truth_lines is None else truth_lines
    check_masks(proposal, mine, theirs)
    precision, sensitivity = _share_inside(mine, truth), _share_inside(theirs, proposal)
    return ClDice(harmonic_mean(precision, sensitivity), precision, sensitivity)


def betti_numbers(membrane: NDArray[np.bool_]) -> tuple[int, int]:
    """Count the pieces of a membrane and the holes in it.

    The membrane is 8-connected and the interior 4-connected, as the challenge labels its cells.
    A hole is a piece of interior that does not reach the section's border: cells cut by the
    border are none. Pieces minus holes is the Euler number of the 8-connected membrane.

    Parameters
    ----------
    membrane
        Shape (Y, X), True = membrane.

    Returns
    -------
    tuple[int, int]
        Betti-0 and Betti-1.

    Raises
    ------
    InputError
        If `membrane` is not boolean or not a section.

    Examples
    --------
    >>> ring = np.ones((3, 3), bool)
    >>> ring[1, 1] = False
    >>> betti_numbers(ring)
    (1, 1)
    """
    check_masks(membrane)
    return int(_pieces(membrane).max()), int(_holes(membrane).max()) - 1


def betti_errors(
    proposal: NDArray[np.bool_], truth: NDArray[np.bool_], *, patch: int | None = None
) -> BettiErrors:
    """Compare how many pieces and holes two membrane masks have, not where they have them.

    The number depends on two conventions, so name both beside it. Connectivity: here 8 for the
    membrane and 4 for the interior. Patch: a whole section has one difference, in which a missing
    hole here makes up for one too many there; small patches forgive less of that, but a cell that
    a patch cuts is no hole in it. Values for different patches cannot be compared.

    Parameters
    ----------
    proposal, truth
        Shape (Y, X), True = membrane.
    patch
        Side in pixels of square patches that cover the section without overlap, the last ones
        smaller; None compares the section as a whole. (Hu et al. draw patches at random.)

    Returns
    -------
    BettiErrors
        The absolute differences of Betti-0 and of Betti-1; with `patch` their means over the
        patches, each counting the same.

    Raises
    ------
    InputError
        If the masks are not boolean, not sections or not of equal shape, or `patch` is below 1.

    References
    ----------
    Hu et al. 2019, NeurIPS, "Topology-preserving deep image segmentation".
    """
    check_masks(proposal, truth)
    side = max(truth.shape) if patch is None else patch
    differences = [
        np.subtract(betti_numbers(proposal[box.slices]), betti_numbers(truth[box.slices]))
        for box in grid(truth.shape, (side, side))
    ]
    return BettiErrors(*np.abs(differences).mean(axis=0).tolist())


def betti_matching(proposal: NDArray[np.bool_], truth: NDArray[np.bool_]) -> BettiMatching:
    """Count the pieces and holes of two membrane masks that have no partner in the other.

    Unlike `betti_errors` this asks whether the same features are there, not whether there are as
    many. Both masks P and G lie in their union C, which carries each feature of P and each of G
    to one of C or to nothing; two that go to the same feature of C are partners.

    Pieces: a piece of P lies in exactly one piece of C. Several of P can share it, of which only
    one stays independent in C. So each piece of C that holds pieces of both masks makes one pair.

    Holes: the interior of C is a part of that of P, so each hole of C lies in exactly one piece
    of P's interior, a hole or the outside. (The outside of C never lies in a hole of P.) A loop
    around a hole of P becomes in C the sum of the loops around the holes of C inside it, which is
    nothing if G fills the hole. Which of several stands for it, the definition leaves open for
    binary masks: it is the hole that lives longest when the holes of C are filled one by one.
    Here the smallest is filled first, so the largest stands for it, of equal ones the first in
    scan order. Two holes of P never share a hole of C, so a hole of C makes at most one pair.

    Parameters
    ----------
    proposal, truth
        Shape (Y, X), True = membrane; connectivity as in `betti_numbers`.

    Returns
    -------
    BettiMatching
        Features of both masks minus twice the pairs, 0 or above, never less than `betti_errors`
        on the whole section, and the same when the masks change places.

    Raises
    ------
    InputError
        If the masks are not boolean, not sections or not of equal shape.

    Notes
    -----
    This compares the two masks as they are. It is not the matching of grey-value barcodes that
    the paper trains with, and it can differ from its software on binary images. There the growth
    goes on until the whole section is filled, so one piece of P and one of G always match,
    wherever they lie, and ties follow the order of the pixels.

    References
    ----------
    Stucki et al. 2023, ICML, "Topologically faithful image segmentation via induced matching of
    persistence barcodes".
    """
    check_masks(proposal, truth)
    masks, union = (proposal, truth), proposal | truth
    pieces = _pieces(union)
    shared = set.intersection(*(set(np.unique(pieces[mask]).tolist()) for mask in masks))
    own_pieces = sum(int(_pieces(mask).max()) for mask in masks)

    interiors = [_holes(mask) for mask in masks]
    holes = _holes(union)
    chosen = set.intersection(*(_representatives(interior, holes) for interior in interiors))
    own_holes = sum(int(interior.max()) - 1 for interior in interiors)
    return BettiMatching(own_pieces - 2 * len(shared), own_holes - 2 * len(chosen))


def _pieces(membrane: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the 8-connected pieces of membrane, numbered from 1 on."""
    labels = np.empty(membrane.shape, np.int32)
    ndimage.label(membrane, _EIGHT, output=labels)
    return labels


def _holes(membrane: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the 4-connected pieces of interior: the outside is 1, the holes from 2 on.

    A frame of interior, one pixel wide, joins all that reaches the border.
    """
    interior = np.pad(~membrane, 1, constant_values=True)
    labels = np.empty(interior.shape, np.int32)
    ndimage.label(interior, output=labels)
    return labels


def _representatives(interior: NDArray[np.int32], holes: NDArray[np.int32]) -> set[int]:
    """Return for each hole of a mask that holds holes of the union the number of its largest."""
    owner = np.zeros(int(holes.max()) + 1, np.int64)
    owner[holes] = interior
    sizes = np.bincount(holes.ravel(), minlength=2)[2:]
    # The last writer wins: the largest, of equal ones the lowest number.
    by_size = 2 + np.lexsort((-np.arange(sizes.size), sizes))
    chosen = np.zeros(int(interior.max()) + 1, np.int64)
    chosen[owner[by_size]] = by_size
    return set(chosen[2:].tolist()) - {0}


def _share_inside(lines: NDArray[np.bool_], membrane: NDArray[np.bool_]) -> float:
    return float(membrane[lines].mean()) if lines.any() else 1.0
