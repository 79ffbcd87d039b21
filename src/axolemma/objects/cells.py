"""From a membrane map to cells: fragments, what is between them, and which belong together.

::

    membrane map      fragments         contacts          cells
    ▒█▒▒▒█▒▒▒▒        ▒█▒▒▒█▒▒▒▒        ▒█▒▒▒█▒▒▒▒        1█222█3333
    ▒█▒▒▒░▒▒▒▒   →    ▒█▒▒▒│▒▒▒▒   →    ▒█▒▒▒ .9 ▒   →    1█222█3333
    ▒█▒▒▒█▒▒░▒        ▒█▒▒▒█▒▒│▒        ▒█▒▒▒█ .1▒        1█222█3333

Thresholding joins two cells through a gap one pixel wide. Here a contact is judged as a whole: a
gap in an otherwise dark line parts two cells all the same, and a faint line in a cell does not.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from axolemma.errors import InputError
from axolemma.labels import label_borders
from axolemma.objects.contacts import Contacts, contacts
from axolemma.objects.solvers import average_linkage, distances, flood, multicut
from axolemma.objects.threshold import threshold_cells

__all__ = ["BOUNDARIES", "Method", "fragments", "merge", "segment_cells"]

Method = Literal["multicut", "mean", "threshold"]

#: Boundaries to choose from on validation sections.
BOUNDARIES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)

#: Share of the membrane map in the landscape that is flooded; the rest is the distance to it, which
#: leads the border of two fragments across the narrowest place of an open neck.
_MAP = 0.8

#: Shares are kept away from 0 and 1, whose odds are infinite.
_SURE = 1e-3


def segment_cells(
    membrane: NDArray[np.floating],
    *,
    boundary: float = 0.4,
    method: Method = "multicut",
    threshold: float = 0.5,
    smoothing: float = 2.0,
    smallest: float = 25.0,
    filled: bool = False,
) -> NDArray[np.uint32]:
    """Label the cells of every section.

    Parameters
    ----------
    membrane
        (Z, Y, X), in [0, 1], 1 = membrane.
    boundary
        How far the membrane map must rise between two cells, see `contacts`, to part them rather
        than to join them; between 0 and 1. Lower values find more cells.
    method
        ``multicut`` weighs all contacts of a section at once, each by its length; ``mean`` joins
        the two cells with the least membrane between them, again and again; ``threshold`` takes
        the pieces of interior as they are.
    threshold
        A pixel is cell interior where ``1 - membrane > threshold``: what ``threshold`` labels, and
        where the others have the seeds of their fragments.
    smoothing
        Standard deviation in pixels by which distances are smoothed before their maxima become
        seeds of fragments.
    smallest
        Cells of fewer pixels join the neighbour with the least membrane between; 0 keeps all.
    filled
        Let cells touch; else the outermost pixels of one of them, a line one pixel wide, are 0.

    Returns
    -------
    NDArray[np.uint32]
        Equal shape; 0 = membrane, cells from 1 on, no number in two sections. A section without
        interior has none.

    Raises
    ------
    InputError
        If the map has another number of axes, leaves [0, 1] or is not finite, or `boundary` is not
        between 0 and 1.

    References
    ----------
    Watershed fragments and multicut: Beier et al. 2017, Nat. Methods 14:101. Mean agglomeration:
    Bailoni et al. 2022, GASP, CVPR, 11645.
    """
    if membrane.ndim != 3:
        raise InputError(f"a membrane map has axes (Z, Y, X), this one shape {membrane.shape}")
    if membrane.size and not (membrane.min() >= 0 and membrane.max() <= 1):
        raise InputError("a membrane map lies in [0, 1] and is finite; rescale it")
    if not 0 < boundary < 1:
        raise InputError(f"a boundary lies between 0 and 1, not at {boundary:g}")
    if method == "threshold":
        return threshold_cells(membrane, threshold)
    labels = np.zeros(membrane.shape, np.uint32)
    last = 0
    for z, section in enumerate(membrane):
        pieces = fragments(section, threshold=threshold, smoothing=smoothing)
        cells = merge(
            pieces,
            contacts(pieces, section),
            boundary=boundary,
            method=method,
            smallest=smallest,
        )
        if not filled:
            cells = np.where(label_borders(cells), 0, cells)
        labels[z] = np.where(cells > 0, cells + last, 0)
        last = max(last, int(labels[z].max()))
    return labels


def fragments(
    membrane: NDArray[np.floating], *, threshold: float = 0.5, smoothing: float = 2.0
) -> NDArray[np.uint32]:
    """Cut a section into pieces of which none should hold two cells: a seeded watershed.

    Parameters
    ----------
    membrane
        (Y, X), in [0, 1].
    threshold
        Seeds lie where ``1 - membrane`` is above.
    smoothing
        Of the distances to the membrane, in pixels, before their maxima become seeds.

    Returns
    -------
    NDArray[np.uint32]
        (Y, X), from 1 on and everywhere, the membrane included; 0 everywhere where there is no
        interior.
    """
    interior = 1.0 - membrane > threshold
    if not interior.any():
        return np.zeros(membrane.shape, np.uint32)
    depth = distances(interior)
    smooth = ndimage.gaussian_filter(depth, smoothing) if smoothing > 0 else depth
    peaks = (ndimage.maximum_filter(smooth, 3) == smooth) & interior
    seeds, _ = ndimage.label(peaks, np.ones((3, 3)))
    return flood(_MAP * membrane + (1 - _MAP) * (1 - depth / depth.max()), seeds)


def merge(
    pieces: NDArray[np.uint32],
    found: Contacts,
    *,
    boundary: float,
    method: Literal["multicut", "mean"] = "multicut",
    smallest: float = 0.0,
) -> NDArray[np.uint32]:
    """Join the fragments of a section that belong to one cell.

    Parameters
    ----------
    pieces
        From `fragments`.
    found
        Their contacts.
    boundary, method, smallest
        See `segment_cells`.

    Returns
    -------
    NDArray[np.uint32]
        (Y, X), cells from 1 on; 0 where `pieces` is.
    """
    if not pieces.any():
        return pieces
    odds = _odds(boundary) - _odds(found.rise)
    count = int(pieces.max()) + 1
    if method == "multicut":
        part = multicut(count, found.pairs, odds * found.length)
    else:
        part = average_linkage(count, found.pairs, odds, found.length)
    part = _without_small(part, found, np.bincount(pieces.ravel(), minlength=count), smallest)
    # Fragments are numbered from 1 on: node 0 of the graph stands alone and is no cell.
    cell = np.unique(part[1:], return_inverse=True)[1].astype(np.uint32) + 1
    return np.asarray(np.concatenate((np.zeros(1, np.uint32), cell))[pieces])


def _odds(share: NDArray[np.float64] | float) -> NDArray[np.float64]:
    sure = np.clip(share, _SURE, 1 - _SURE)
    return np.asarray(np.log(sure / (1 - sure)))


def _without_small(
    part: NDArray[np.int64], found: Contacts, sizes: NDArray[np.int64], smallest: float
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
        graph = coo_array((np.ones(len(links)), tuple(links.T)), shape=(len(size), len(size)))
        part = connected_components(graph, directed=False)[1].astype(np.int64)[part]


def _between(part: NDArray[np.int64], found: Contacts) -> Contacts:
    """Return the contacts of cells that consist of fragments, from those of the fragments."""
    ends = np.sort(part[found.pairs], axis=1)
    apart = ends[:, 0] != ends[:, 1]
    pairs, which = np.unique(ends[apart], axis=0, return_inverse=True)
    length = np.bincount(which.ravel(), found.length[apart], len(pairs))
    total = np.bincount(which.ravel(), (found.rise * found.length)[apart], len(pairs))
    return Contacts(pairs, length.astype(np.int64), total / length)
