"""From cells in sections to neurons in a stack: overlaps, local shifts, and one multicut.

A volume goes this way block by block: `ways_of` for every section, `link_block` on
every block, `pool_links` for every section and `join_cells` once. `link_cells` is that with the
stack as one block.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.geometry import Box
from axolemma.objects.linking import (
    GAP,
    GROWTH,
    LARGEST_SHIFT,
    link_block,
    pool_links,
    ways_of,
)
from axolemma.objects.solvers import multicut
from axolemma.objects.tables import Tables, looked_up, places

__all__ = ["FEATURES", "LOG_ODDS", "Links", "join_cells", "link_cells", "links"]

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
    largest_shift: int = LARGEST_SHIFT,
    growth: float = GROWTH,
    gap: float = GAP,
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
    growth, gap
        Pixels by which cells grow into the membrane before they are laid over each other, and
        half the width of a membrane beyond which cells of a section are no neighbours.

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
    numbered = _numbered(cells)
    found = _tables(numbered, membrane, largest_shift, growth=growth, gap=gap)
    ids, neurons = join_cells(found, caution=caution)
    return looked_up(numbered, ids, neurons.astype(np.uint32))


def join_cells(
    sections: Iterable[Tables], *, caution: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the neurons of a volume from the tables of all its sections.

    Parameters
    ----------
    sections
        From `pool_links`, every section once, in order.
    caution
        See `link_cells`.

    Returns
    -------
    ids, neurons
        (n,): all cells, sorted, and the neuron of each, from 1 on in the order in which a scan of
        the volume meets them.
    """
    ids, first = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    edges, costs = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for table in sections:
        ids.append(table["ids"])
        first.append(table["first"])
        for distance, pairs in enumerate(_section_links(table)):
            constant, *weights = LOG_ODDS[distance]
            odds = np.clip(constant + pairs.features @ weights - caution, -_CERTAIN, _CERTAIN)
            edges.append(pairs.cells)
            costs.append(odds * (_OVER_ONE if distance else 1.0))
        edges.append(table["beside"])
        costs.append(-_APART * table["beside_level"] / (255 * table["beside_count"]))
    # The nodes of the graph are the cells in the order in which a scan meets them.
    known = np.concatenate(ids)[np.argsort(np.concatenate(first))]
    by_name = np.argsort(known)
    ends = by_name[places(known[by_name], np.concatenate(edges))]
    parts = multicut(len(known), ends, np.concatenate(costs))
    return known[by_name], parts[by_name] + 1


def links(
    cells: NDArray[np.int64],
    membrane: NDArray[np.floating] | None = None,
    *,
    largest_shift: int = LARGEST_SHIFT,
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
    tables = _tables(cells, membrane, largest_shift)
    near, far = zip(*(_section_links(table) for table in tables), strict=True)
    return _joined(near), _joined(far)


def _tables(
    cells: NDArray[np.int64],
    membrane: NDArray[np.floating] | None,
    largest_shift: int,
    **options: float,
) -> list[Tables]:
    """Return the tables of all sections of a stack, which is one block."""
    shown = (cells == 0).astype(np.float32) if membrane is None else membrane
    ways, means = ways_of(
        lambda box: shown[:, *box.slices],
        (cells.shape[1], cells.shape[2]),
        sections=len(cells),
        largest=largest_shift,
    )
    whole = Box.of(cells.shape)
    tables = link_block(
        cells,
        membrane,
        read=whole,
        write=whole,
        shape=(cells.shape[0], cells.shape[1], cells.shape[2]),
        means=means,
        ways=ways,
        **options,
    )
    return [pool_links([table]) for table in tables]


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


def _numbered(cells: NDArray[np.integer]) -> NDArray[np.int64]:
    """Give the cells of all sections numbers from 1 on, none twice."""
    numbered = np.zeros(cells.shape, np.int64)
    count = 0
    for z, section in enumerate(cells):
        names, which = np.unique(section, return_inverse=True)
        number = np.where(names == 0, 0, np.arange(len(names)) + int(0 not in names) + count)
        numbered[z] = number[which.reshape(section.shape)]
        count = max(count, int(number.max(initial=0)))
    return numbered


def _section_links(table: Tables) -> tuple[Links, Links]:
    """Return the pairs of a section's cells with those of the next two sections."""
    two_steps, direct = _links(table, "steps"), _links(table, "direct")
    return _links(table, "next"), max(two_steps, direct, key=_agreement)


def _links(table: Tables, way: str) -> Links:
    """Return all cells of two sections that meet, and their features."""
    pairs, met = table[f"{way}_pairs"], table[f"{way}_met"]
    one, two = (
        table[f"{way}_{side}_sums"][places(table[f"{way}_{side}"], pairs[:, n])]
        for n, side in enumerate(("one", "two"))
    )
    small, large = np.minimum(one[:, 0], two[:, 0]), np.maximum(one[:, 0], two[:, 0])
    iou = met / (small + large - met)
    away = np.linalg.norm(one[:, 1:] / one[:, :1] - two[:, 1:] / two[:, :1], axis=1)
    radii = (small**0.5 + large**0.5) / np.pi**0.5
    features = (
        met / small,
        iou,
        np.maximum(_rivals(pairs[:, 0], iou), _rivals(pairs[:, 1], iou)),
        np.minimum(away / np.maximum(radii, 1), 3),
    )
    return Links(pairs, np.stack(features, axis=1))


def _rivals(cells: NDArray[np.int64], iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each pair, the largest IoU among the other pairs of its cell, 0 if none."""
    names, cells = np.unique(cells, return_inverse=True)
    best, second = np.zeros(len(names)), np.zeros(len(names))
    order = np.lexsort((-iou, cells))
    place = np.arange(len(cells)) - np.searchsorted(cells[order], cells[order])
    first, next_ = order[place == 0], order[place == 1]
    best[cells[first]], second[cells[next_]] = iou[first], iou[next_]
    rival = best[cells]
    rival[first] = second[cells[first]]
    return rival


def _agreement(pairs: Links) -> float:
    return float(pairs.features[:, 1].sum())


def _joined(found: Iterable[Links]) -> Links:
    found = list(found)
    return Links(
        np.concatenate([np.zeros((0, 2), np.int64), *(pairs.cells for pairs in found)]),
        np.concatenate([np.zeros((0, len(FEATURES))), *(pairs.features for pairs in found)]),
    )
