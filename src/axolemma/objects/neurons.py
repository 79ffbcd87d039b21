"""From cells in sections to neurons in a stack: overlaps, local shifts, and one multicut."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import expand_labels

from axolemma.errors import InputError
from axolemma.objects.alignment import Displacement, displacement, follow
from axolemma.objects.solvers import multicut

__all__ = ["FEATURES", "LOG_ODDS", "Links", "link_cells", "links"]

#: What is known of two cells in two sections; see `links`.
FEATURES = ("containment", "overlap", "rival", "distance")
#: Log-odds that two cells are one neuron: a constant and a weight for each of `FEATURES`, for
#: neighbouring sections and for those with one between. `bench/link_model.py` fitted them.
LOG_ODDS = (
    (-2.92, 4.02, 6.68, -5.90, 1.78),
    (-1.86, 3.10, 6.09, -7.05, 1.38),
)
_CERTAIN = 6.0  # no link counts for more log-odds than this, either way
_OVER_ONE = 0.15  # what a link over a section counts for beside one to the next section
_APART = 0.2  # log-odds that neighbours in a section are two neurons: weak, for branches run on
_GROWTH = 4  # px by which cells grow into the membrane, so that thin ones still meet
_GAP = 10  # px, half the width of a membrane beyond which cells are no neighbours


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of cells that could be one neuron, in two sections.

    Parameters
    ----------
    cells
        Shape (m, 2), their numbers.
    features
        Shape (m, 4), one column for each of `FEATURES`.
    """

    cells: NDArray[np.int64]
    features: NDArray[np.float64]


def link_cells(
    cells: NDArray[np.integer],
    *,
    membrane: NDArray[np.floating] | None = None,
    caution: float = 0.0,
    largest_shift: int = 40,
) -> NDArray[np.uint32]:
    """Link the cells of all sections to neurons.

    Every section is laid over the next one and the one after that, shifted as a whole and locally
    so that the membranes agree best. Cells that then meet get the log-odds of being one neuron
    from how much of them overlaps, how alike they are and who else competes; neighbours in a
    section are two neurons unless more speaks for one. The partition of all cells that has the
    most of these odds on its side, a multicut, is the neurons. So one may branch, and no single
    section that is blank, lost or shifted has to cut it.

    Parameters
    ----------
    cells
        (Z, Y, X), 0 = membrane, any other number is a cell of its section; the same number in two
        sections means nothing.
    membrane
        (Z, Y, X), the membrane map, in [0, 1]. Where it is given, sections are aligned by it, and
        neighbours in a section are held apart only as far as it shows a membrane between them.
    caution
        Log-odds that are taken from every link: above 0 splits more, below 0 merges more.
    largest_shift
        Pixels by which two sections may lie beside each other, along either axis.

    Returns
    -------
    NDArray[np.uint32]
        (Z, Y, X), 0 where `cells` is; neurons from 1 on, in the order in which a scan meets them.
        A renumbering of the cells changes nothing.

    Raises
    ------
    InputError
        If `cells` is no stack of labels, the membrane map has another shape or values outside
        [0, 1], or a parameter is out of range.

    References
    ----------
    Kaynig et al. 2015, Med. Image Anal. 22:77 (cells of sections, linked by overlaps); Beier et
    al. 2017, Nat. Methods 14:101 (multicut).

    Examples
    --------
    >>> cells = np.zeros((3, 8, 8), int)
    >>> cells[:, 1:4, 1:7] = [[[5]], [[2]], [[9]]]
    >>> cells[:, 5:7, 1:7] = [[[3]], [[7]], [[1]]]
    >>> link_cells(cells)[:, 2:6:3, 3].tolist()
    [[1, 2], [1, 2], [1, 2]]
    """
    _check(cells, membrane, caution, largest_shift)
    numbered, count = _numbered(cells)
    if count == 0:
        return np.zeros(cells.shape, np.uint32)
    edges, costs = [], []
    for distance, pairs in enumerate(links(numbered, membrane, largest_shift=largest_shift)):
        constant, *weights = LOG_ODDS[distance]
        odds = np.clip(constant + pairs.features @ weights - caution, -_CERTAIN, _CERTAIN)
        edges.append(pairs.cells)
        costs.append(odds * (_OVER_ONE if distance else 1.0))
    for z, section in enumerate(numbered):
        beside, apart = _neighbours(section, None if membrane is None else membrane[z])
        edges.append(beside)
        costs.append(-_APART * apart)
    # Cells count from 1, the nodes of a graph from 0.
    parts = multicut(count, np.concatenate(edges) - 1, np.concatenate(costs))
    return np.concatenate(([0], parts + 1)).astype(np.uint32)[numbered]


def links(
    cells: NDArray[np.int64],
    membrane: NDArray[np.floating] | None = None,
    *,
    largest_shift: int = 40,
) -> tuple[Links, Links]:
    """Find the pairs of cells that could be one neuron, and what speaks for it.

    Parameters
    ----------
    cells
        (Z, Y, X), 0 = membrane, no number in two sections.
    membrane, largest_shift
        See `link_cells`.

    Returns
    -------
    tuple of Links
        For neighbouring sections, and for those with one between. The cells are grown by 4 px
        into the membrane and laid over each other. The features: the overlap as a part of the
        smaller cell, and as a part of both together (IoU); the largest IoU that either cell has
        with a third one; and the distance of their centres, 1 = two discs of one size side by
        side, at most 3.
    """
    shown = (cells == 0).astype(np.float32) if membrane is None else membrane
    grown = [expand_labels(section, _GROWTH) for section in cells]
    near, far = [], []
    steps: list[Displacement] = []
    for z in range(len(cells) - 1):
        steps.append(displacement(shown[z], shown[z + 1], largest=largest_shift))
        near.append(_pairs(grown[z], grown[z + 1], steps[z]))
        if z > 0:
            # Two short steps find the way better than a long one, unless what lies between is no
            # help, being blank or in another place.
            ways = (
                steps[z - 1].then(steps[z]),
                displacement(shown[z - 1], shown[z + 1], largest=largest_shift),
            )
            found = [_pairs(grown[z - 1], grown[z + 1], way) for way in ways]
            far.append(max(found, key=_agreement))
    return _joined(near), _joined(far)


def _check(
    cells: NDArray[np.integer],
    membrane: NDArray[np.floating] | None,
    caution: float,
    largest_shift: int,
) -> None:
    if cells.ndim != 3 or cells.dtype.kind not in "iu":
        raise InputError(
            f"cells are integers of the axes ZYX, not {cells.dtype} {cells.shape}; "
            "give the labels of a stack"
        )
    if cells.size and cells.min() < 0:
        raise InputError(f"a cell has the number {cells.min()}; number them from 1, 0 = membrane")
    if membrane is not None:
        if membrane.shape != cells.shape:
            raise InputError(
                f"the membrane map has shape {membrane.shape} and the cells {cells.shape}; "
                "they must be the same voxels"
            )
        if membrane.size and not (membrane.min() >= 0 and membrane.max() <= 1):
            raise InputError("the membrane map leaves 0 to 1; give 1 = membrane, 0 = interior")
    if not np.isfinite(caution):
        raise InputError(f"caution is a finite number of log-odds, not {caution}; 0 is usual")
    if largest_shift < 0:
        raise InputError(f"the largest shift is at least 0 pixels, not {largest_shift}")


def _numbered(cells: NDArray[np.integer]) -> tuple[NDArray[np.int64], int]:
    """Give the cells of all sections numbers from 1 on, in the order in which a scan meets them."""
    numbered = np.zeros(cells.shape, np.int64)
    count = 0
    for z, section in enumerate(cells):
        names, first, which = np.unique(section, return_index=True, return_inverse=True)
        order = np.argsort(np.where(names == 0, -1, first))
        number = np.empty(len(names), np.int64)
        number[order] = np.arange(len(names)) + int(0 not in names)
        numbered[z] = np.where(section == 0, 0, number[which.reshape(section.shape)] + count)
        count += int(number.max(initial=0))
    return numbered, count


def _pairs(one: NDArray[np.int64], two: NDArray[np.int64], step: Displacement) -> Links:
    """Return all cells of two sections that meet, and their features."""
    # What one section shows and the other does not must not count as a difference.
    one, two = np.where(step.inside(), one, 0), follow(two, step)
    count = int(max(one.max(initial=0), two.max(initial=0))) + 1
    pairs, met = _overlaps(one, two, count)
    a, b = pairs.T
    sizes, others = (np.bincount(section.ravel(), minlength=count) for section in (one, two))
    small, large = np.minimum(sizes[a], others[b]), np.maximum(sizes[a], others[b])
    iou = met / (small + large - met)
    away = np.linalg.norm(_centres(one, count)[a] - _centres(two, count)[b], axis=1)
    radii = (small**0.5 + large**0.5) / np.pi**0.5
    features = (
        met / small,
        iou,
        np.maximum(_rivals(a, iou, count), _rivals(b, iou, count)),
        np.minimum(away / np.maximum(radii, 1), 3),
    )
    return Links(pairs, np.stack(features, axis=1))


def _rivals(cells: NDArray[np.int64], iou: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return, for each pair, the largest IoU among the other pairs of its cell, 0 if none."""
    best, second = np.zeros(count), np.zeros(count)
    order = np.lexsort((-iou, cells))
    place = np.arange(len(cells)) - np.searchsorted(cells[order], cells[order])
    first, next_ = order[place == 0], order[place == 1]
    best[cells[first]], second[cells[next_]] = iou[first], iou[next_]
    rival = best[cells]
    rival[first] = second[cells[first]]
    return rival


def _overlaps(
    one: NDArray[np.int64], two: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs (m, 2) of labels that share pixels, in order, and how many."""
    both = (one > 0) & (two > 0)
    keys, pixels = np.unique(one[both] * count + two[both], return_counts=True)
    return np.stack((keys // count, keys % count), axis=1), pixels


def _centres(section: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return the mean row and column of every label, NaN for those that are not there."""
    flat = section.ravel()
    row, column = np.indices(section.shape)
    with np.errstate(invalid="ignore"):
        sums = [np.bincount(flat, place.ravel(), count) for place in (row, column)]
        return np.stack(sums, axis=1) / np.bincount(flat, minlength=count)[:, None]


def _agreement(pairs: Links) -> float:
    return float(pairs.features[:, 1].sum())


def _joined(found: list[Links]) -> Links:
    return Links(
        np.concatenate([pairs.cells for pairs in found] or [np.zeros((0, 2), np.int64)]),
        np.concatenate([pairs.features for pairs in found] or [np.zeros((0, len(FEATURES)))]),
    )


def _neighbours(
    section: NDArray[np.int64], membrane: NDArray[np.floating] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs of cells with only membrane between, and how much of one, up to 1."""
    grown = expand_labels(section, _GAP)
    shown = np.ones(section.shape) if membrane is None else membrane
    pairs, strengths = [], []
    for here, beyond in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        a, b = grown[here], grown[beyond]
        border = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.stack((a[border], b[border]), axis=1))
        strengths.append(np.maximum(shown[here], shown[beyond])[border])
    found, which = np.unique(np.sort(np.concatenate(pairs)), axis=0, return_inverse=True)
    strength = np.bincount(which.ravel(), np.concatenate(strengths), len(found))
    return found, strength / np.bincount(which.ravel(), minlength=len(found))
