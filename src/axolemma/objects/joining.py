"""Which fragments belong to one cell: a graph of what lies between them, parted.

Every section is parted on its own first. Then each is parted once more, with what its two
neighbours, as they came out of the first round, say about it: see `overlaps`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from axolemma.objects.contacts import Contacts, ranks
from axolemma.objects.fragments import BELOW, RIGHT, SEED
from axolemma.objects.overlaps import Evidence
from axolemma.objects.solvers import multicut
from axolemma.objects.tables import Tables, places

__all__ = ["BOUNDARY", "MULTICUT_BOUNDARY", "Method", "join", "join_fragments", "join_stack"]

Method = Literal["multicut", "mean", "threshold"]

#: The usual rise that parts two cells.
BOUNDARY = 0.6

#: That of a multicut, which judges every contact once, by all of it (docs/experiments.md).
MULTICUT_BOUNDARY = 0.4

#: Shares are kept away from 0 and 1, whose odds are infinite.
_SURE = 1e-3


@dataclass(frozen=True, slots=True)
class _Graph:
    """Fragments of a section: names, the node of each, and the nodes' pixels and contacts."""

    ids: NDArray[np.uint64]
    nodes: NDArray[np.int64]
    sizes: NDArray[np.number]
    found: Contacts

    def cells(self, **options: Any) -> NDArray[np.int64]:
        """Return the cell of each fragment, see `join`."""
        return join(self.sizes, self.found, **options)[self.nodes]


@dataclass(frozen=True, slots=True)
class _Section:
    """A section after the first round: the cell of each fragment, and what is in the next one."""

    graph: _Graph
    alone: NDArray[np.int64]
    over: Tables

    def told(self, other: "_Section", over: Tables, *, column: int) -> Evidence:
        """Return what another section says about this one, whose fragments are in that column."""
        mine, others = over["over"][:, column], over["over"][:, 1 - column]
        nodes = self.graph.nodes[places(self.graph.ids, mine)]
        cells = other.alone[places(other.graph.ids, others)]
        return Evidence.of(nodes, cells, over["met"], self.graph.found, self.graph.sizes)


def join_fragments(
    tables: Tables,
    width: int,
    *,
    boundary: float = BOUNDARY,
    method: Method = "mean",
    smallest: float = 25.0,
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Find the cells of a section on its own from the tables of all its blocks.

    Parameters
    ----------
    tables
        From `pool_fragments`.
    width
        Pixels in a row of the section.
    boundary, method, smallest
        See `segment_cells`.

    Returns
    -------
    ids, cells
        (n,): all fragments, sorted, and the cell of each, from 0 on in the order of their first
        fragments. Those of the sections of a volume follow each other in the order of sections.

    Notes
    -----
    What lies between two blocks is not in the table of either: it is made here from the pixels on
    both sides of their face. So a fragment whose seed is too far for one of the blocks, where it
    got another name, is a cell all the same, as nothing rises between its parts. Parts of a seed
    that is larger than a block are one fragment even before.
    """
    if method == "threshold":
        at = places(tables["ids"], tables["face_ids"])
        return tables["ids"], _united(len(tables["ids"]), at[_faces(tables, width)])
    graph = _graph(tables, width)
    return graph.ids, graph.cells(boundary=boundary, method=method, smallest=smallest)


def join_stack(
    sections: Iterable[tuple[Tables, Tables]],
    width: int,
    *,
    boundary: float = BOUNDARY,
    method: Literal["multicut", "mean"] = "mean",
    smallest: float = 25.0,
    beyond: tuple[bool, bool] = (False, False),
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Find the cells of sections of a volume, each with what its neighbours say about it.

    What a neighbour says, it says as it was joined on its own. So a section depends on the one
    before and the one after it and on no other, and some sections with one more on both sides
    give what all together give.

    Parameters
    ----------
    sections
        In order, from `pool_fragments` and from `pool_overlaps`. Three of them are held at once.
        The overlaps of the last one, as there is none behind it, are not looked at.
    width, boundary, method, smallest
        As in `join_fragments`.
    beyond
        Whether the first, and the last, are not wanted themselves but have a say only.

    Yields
    ------
    ids, cells
        As `join_fragments` returns them, of one section after the other, those that are wanted.
    """
    options: dict[str, Any] = {"boundary": boundary, "method": method, "smallest": smallest}
    window: list[_Section] = []
    for place, (tables, over) in enumerate(sections):
        graph = _graph(tables, width)
        window.append(_Section(graph, graph.cells(**options), over))
        if place > beyond[0]:
            yield _again(window, len(window) - 2, options)
        window = window[-2:]
    if window and not beyond[1]:
        yield _again(window, len(window) - 1, options)


def _again(
    window: Sequence[_Section], place: int, options: dict[str, Any]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Join the fragments of a section once more, with what those before and after it say."""
    here, beside = window[place], []
    if place > 0:
        beside.append(here.told(window[place - 1], window[place - 1].over, column=1))
    if place + 1 < len(window):
        beside.append(here.told(window[place + 1], here.over, column=0))
    return here.graph.ids, here.graph.cells(beside=beside, **options)


def _graph(tables: Tables, width: int) -> _Graph:
    ids = tables["ids"]
    faces, at = _faces(tables, width), places(ids, tables["face_ids"])
    seed = tables["face_kinds"] & SEED > 0
    near = [_beside(tables, width, way, seed) for way in ((0, 1), (1, -1), (1, 0), (1, 1))]
    same = np.concatenate(near, axis=1)
    nodes = _united(len(ids), at[same[:, seed[same[1]]]])
    count = int(nodes.max(initial=-1)) + 1
    floors = np.ones(count, tables["lowest"].dtype)
    np.minimum.at(floors, nodes, tables["lowest"])
    levels = tables["face_levels"][faces].max(axis=0)
    ends = np.sort(
        np.concatenate((nodes[places(ids, tables["pairs"])], nodes[at[faces]].T)), axis=1
    )
    apart = ends[:, 0] != ends[:, 1]
    found = ranks(
        ends[apart],
        np.concatenate((tables["levels"], levels))[apart],
        np.concatenate((tables["counts"], np.ones(len(levels), np.int64)))[apart],
        floors,
    )
    return _Graph(ids, nodes, np.bincount(nodes, tables["sizes"], count), found)


def join(
    sizes: NDArray[np.number],
    found: Contacts,
    *,
    boundary: float,
    method: Literal["multicut", "mean"] = "mean",
    smallest: float = 0.0,
    beside: Sequence[Evidence] = (),
) -> NDArray[np.int64]:
    """Part a graph of fragments into cells.

    Parameters
    ----------
    sizes
        (n,), the pixels of each fragment.
    found
        Contacts of fragments, which are called by their place in `sizes`.
    boundary, method, smallest
        See `segment_cells`.
    beside
        What neighbouring sections say about the contacts.

    Returns
    -------
    NDArray[np.int64]
        (n,), the cell of each fragment, from 0 on in the order of their first fragments.
    """
    if method == "multicut":
        odds = _odds(boundary) - _against(found, beside)
        part = multicut(len(sizes), found.pairs, odds * found.length)
    else:
        part = _agglomerated(found, len(sizes), boundary, beside)
    return _without_small(part, found, sizes, smallest)


def _faces(tables: Tables, width: int) -> NDArray[np.int64]:
    """Return rows of face pixels, and those of the ones beside them in another block."""
    beyond = [
        _beside(tables, width, way, tables["face_kinds"] & kind > 0)
        for kind, way in ((RIGHT, (0, 1)), (BELOW, (1, 0)))
    ]
    return np.concatenate(beyond, axis=1)


def _beside(
    tables: Tables, width: int, way: tuple[int, int], of: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return rows of face pixels, and those of the ones so many rows and columns further on."""
    column = tables["faces"] % width + way[1]
    here = np.flatnonzero(of & (column >= 0) & (column < width))
    there = places(tables["faces"], tables["faces"][here] + way[0] * width + way[1])
    return np.stack((here, there))[:, there >= 0]


def _united(count: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which nodes of a graph hang together, from 0 on in the order of their first nodes."""
    graph = coo_array((np.ones(links.shape[1]), tuple(links)), shape=(count, count))
    parts = connected_components(graph, directed=False)[1]
    _, first, which = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which]


def _odds(share: NDArray[np.float64] | float) -> NDArray[np.float64]:
    sure = np.clip(share, _SURE, 1 - _SURE)
    return np.asarray(np.log(sure / (1 - sure)))


def _against(found: Contacts, beside: Sequence[Evidence]) -> NDArray[np.float64]:
    """Return the log-odds that two parts are two cells: by the rise, less what others say."""
    odds = _odds(found.rise)
    if not beside:
        return odds
    said = np.stack([other.odds(found.pairs) for other in beside])
    known = np.isfinite(said)
    total = np.where(known, said, 0).sum(axis=0)
    return np.asarray(odds - total / np.maximum(known.sum(axis=0), 1))


def _agglomerated(
    found: Contacts, count: int, boundary: float, beside: Sequence[Evidence]
) -> NDArray[np.int64]:
    """Join the two parts with the least rise between them, as long as it is below a boundary.

    The level between two parts is the mean over the contacts of their fragments, by length; the
    floor of a part is its minimum. So a fragment that is dark throughout is judged on its own as
    long as it is alone, and together with the cell that it was joined to afterwards. What other
    sections say counts like a lower or a higher rise, and is taken anew after every round too.
    """
    part = np.arange(count)
    between = found
    while True:
        against, rise = _against(between, beside), between.rise
        # All pairs that are nearest to each other join at once. Nothing that they touch comes
        # nearer by that, as a mean is no less than its least term and floors only fall, so it is
        # what joining one by one gives, but for what other sections say. Among equals the longest
        # contact comes first: by number a row of them would join one in a round.
        order = np.lexsort((-between.length, rise, against))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        first = np.full(len(between.floors), len(order))
        np.minimum.at(first, between.pairs.ravel(), np.repeat(place, 2))
        near = against < _odds(boundary) if beside else rise < boundary
        joins = (first[between.pairs] == place[:, None]).all(axis=1) & near
        if not joins.any():
            return _united(count, np.stack((part, np.arange(count))))
        low, high = between.pairs[joins].T
        into = np.arange(len(between.floors))
        into[high] = low
        part = into[part]
        between = _between(into, between)
        beside = [other.joined(into) for other in beside]


def _without_small(
    part: NDArray[np.int64], found: Contacts, sizes: NDArray[np.number], smallest: float
) -> NDArray[np.int64]:
    """Join every cell below a size to the neighbour with the least membrane between."""
    while True:
        small = (size := np.bincount(part, sizes)) < smallest
        between = _between(part, found)
        ends = np.concatenate((between.pairs, between.pairs[:, ::-1]))
        ends, rise = ends[small[ends[:, 0]]], np.tile(between.rise, 2)[small[ends[:, 0]]]
        if not len(ends):
            return part
        ends = ends[np.lexsort((rise, ends[:, 0]))]
        links = ends[np.unique(ends[:, 0], return_index=True)[1]]
        part = _united(len(size), links.T)[part]


def _between(part: NDArray[np.int64], found: Contacts) -> Contacts:
    """Return the contacts of cells that consist of fragments, from those of the fragments."""
    ends = np.sort(part[found.pairs], axis=1)
    apart = ends[:, 0] != ends[:, 1]
    floors = np.ones(int(part.max(initial=-1)) + 1)
    np.minimum.at(floors, part, found.floors)
    base = max(len(floors), 1)
    keys, which = np.unique(ends[apart] @ [base, 1], return_inverse=True)
    length = np.bincount(which, found.length[apart], len(keys))
    total = np.bincount(which, (found.level * found.length)[apart], len(keys))
    pairs = np.stack(np.divmod(keys, base), axis=1)
    return Contacts(pairs, length.astype(np.int64), total / length, floors)
