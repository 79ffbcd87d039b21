"""Which fragments belong to one cell: a graph of what lies between them, parted."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from axolemma.objects.contacts import Contacts, ranks
from axolemma.objects.fragments import BELOW, RIGHT, SEED
from axolemma.objects.solvers import multicut
from axolemma.objects.tables import Tables, places

__all__ = ["Method", "join", "join_fragments"]

Method = Literal["multicut", "mean", "threshold"]

#: Shares are kept away from 0 and 1, whose odds are infinite.
_SURE = 1e-3


def join_fragments(
    tables: Tables,
    width: int,
    *,
    boundary: float = 0.6,
    method: Method = "mean",
    smallest: float = 25.0,
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Find the cells of a section from the tables of all its blocks.

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
    ids = tables["ids"]
    at = places(ids, tables["face_ids"])
    beyond = [
        _beside(tables, width, way, tables["face_kinds"] & kind > 0)
        for kind, way in ((RIGHT, (0, 1)), (BELOW, (1, 0)))
    ]
    faces = np.concatenate(beyond, axis=1)
    if method == "threshold":
        return ids, _united(len(ids), at[faces])
    seed = tables["face_kinds"] & SEED > 0
    near = [_beside(tables, width, way, seed) for way in ((0, 1), (1, -1), (1, 0), (1, 1))]
    same = np.concatenate(near, axis=1)
    whole = _united(len(ids), at[same[:, seed[same[1]]]])
    count = int(whole.max(initial=-1)) + 1
    floors = np.ones(count, tables["lowest"].dtype)
    np.minimum.at(floors, whole, tables["lowest"])
    levels = tables["face_levels"][faces].max(axis=0)
    ends = np.sort(
        np.concatenate((whole[places(ids, tables["pairs"])], whole[at[faces]].T)), axis=1
    )
    apart = ends[:, 0] != ends[:, 1]
    found = ranks(
        ends[apart],
        np.concatenate((tables["levels"], levels))[apart],
        np.concatenate((tables["counts"], np.ones(len(levels), np.int64)))[apart],
        floors,
    )
    sizes = np.bincount(whole, tables["sizes"], count)
    return ids, join(sizes, found, boundary=boundary, method=method, smallest=smallest)[whole]


def join(
    sizes: NDArray[np.number],
    found: Contacts,
    *,
    boundary: float,
    method: Literal["multicut", "mean"] = "mean",
    smallest: float = 0.0,
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

    Returns
    -------
    NDArray[np.int64]
        (n,), the cell of each fragment, from 0 on in the order of their first fragments.
    """
    if method == "multicut":
        odds = _odds(boundary) - _odds(found.rise)
        part = multicut(len(sizes), found.pairs, odds * found.length)
    else:
        part = _agglomerated(found, len(sizes), boundary)
    return _without_small(part, found, sizes, smallest)


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


def _agglomerated(found: Contacts, count: int, boundary: float) -> NDArray[np.int64]:
    """Join the two parts with the least rise between them, as long as it is below a boundary.

    The level between two parts is the mean over the contacts of their fragments, by length; the
    floor of a part is its minimum. So a fragment that is dark throughout is judged on its own as
    long as it is alone, and together with the cell that it was joined to afterwards.
    """
    part = np.arange(count)
    between = found
    while True:
        rise = between.rise
        # All pairs that are nearest to each other join at once. Nothing that they touch comes
        # nearer by that, as a mean is no less than its least term and floors only fall, so it is
        # what joining one by one gives. Among equals the longest contact comes first: by number
        # a row of them would join one in a round.
        order = np.lexsort((-between.length, rise))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        first = np.full(len(between.floors), len(order))
        np.minimum.at(first, between.pairs.ravel(), np.repeat(place, 2))
        joins = (first[between.pairs] == place[:, None]).all(axis=1) & (rise < boundary)
        if not joins.any():
            return _united(count, np.stack((part, np.arange(count))))
        low, high = between.pairs[joins].T
        into = np.arange(len(between.floors))
        into[high] = low
        part = into[part]
        between = _between(into, between)


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
