"""From a membrane map to cells: fragments, what is between them, and which belong together.

::

    membrane map      fragments         contacts          cells
    ▒█▒▒▒█▒▒▒▒        ▒█▒▒▒█▒▒▒▒        ▒█▒▒▒█▒▒▒▒        1█222█3333
    ▒█▒▒▒░▒▒▒▒   →    ▒█▒▒▒│▒▒▒▒   →    ▒█▒▒▒ .9 ▒   →    1█222█3333
    ▒█▒▒▒█▒▒░▒        ▒█▒▒▒█▒▒│▒        ▒█▒▒▒█ .1▒        1█222█3333

Thresholding joins two cells through a gap one pixel wide. Here a contact is judged as a whole: a
gap in an otherwise dark line parts two cells all the same, and a faint line in a cell does not.
What is doubtful in one section is often plain in the next, so neighbouring sections have a say.

A volume goes the same way block by block: `cut_block` and `overlap_block` on every block, then
`pool_fragments` and `pool_overlaps` for each section of the tables of its blocks, `join_stack` and
`number_cells` once, then `paint_cells` on every block. `segment_cells` is that with each section
as one block.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.geometry import Box
from axolemma.labels import label_borders
from axolemma.objects.contacts import Contacts
from axolemma.objects.fragments import DEPTH, cut_section, pool_fragments
from axolemma.objects.joining import BOUNDARY, Method, join, join_fragments, join_stack
from axolemma.objects.linking import ways_of
from axolemma.objects.overlaps import overlap_block
from axolemma.objects.tables import Tables, looked_up

__all__ = ["BOUNDARIES", "merge", "number_cells", "paint_cells", "segment_cells"]

#: Boundaries to choose from on validation sections.
BOUNDARIES = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85)


def segment_cells(
    membrane: NDArray[np.floating],
    *,
    boundary: float = BOUNDARY,
    method: Method = "mean",
    threshold: float = 0.5,
    smoothing: float = 2.0,
    depth: float = DEPTH,
    smallest: float = 25.0,
    filled: bool = False,
    neighbours: bool = True,
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
        ``mean`` joins the two cells with the least rise between them, again and again, and takes
        what then lies between cells anew; ``multicut`` weighs all contacts of fragments at once,
        each by its length; ``threshold`` takes the pieces of interior as they are.
    threshold
        A pixel is cell interior where ``1 - membrane > threshold``: what ``threshold`` labels, and
        where the others have the seeds of their fragments.
    smoothing
        Standard deviation in pixels by which distances are smoothed before their maxima become
        seeds of fragments.
    depth
        Distance to the membrane, in pixels, beyond which the inside of a cell is all alike.
    smallest
        Cells of fewer pixels join the neighbour with the least membrane between; 0 keeps all.
    filled
        Let cells touch; else the outermost pixels of one of them, a line one pixel wide, are 0.
    neighbours
        Let the sections before and after one have a say in what belongs together. Sections that
        do not show the same tissue have none, see `overlaps`.

    Returns
    -------
    NDArray[np.uint32]
        Equal shape; 0 = membrane, cells from 1 on, no number in two sections. A section without
        interior has none.

    Raises
    ------
    InputError
        If the map has another number of axes, leaves [0, 1] or is not finite, `boundary` is not
        between 0 and 1, or there is no such method.

    References
    ----------
    Watershed fragments and multicut: Beier et al. 2017, Nat. Methods 14:101. Agglomeration by what
    lies between two cells: Funke et al. 2019, IEEE TPAMI 41:1669.
    """
    if membrane.ndim != 3:
        raise InputError(f"a membrane map has axes (Z, Y, X), this one shape {membrane.shape}")
    if membrane.size and not (membrane.min() >= 0 and membrane.max() <= 1):
        raise InputError("a membrane map lies in [0, 1] and is finite; rescale it")
    if not 0 < boundary < 1:
        raise InputError(f"a boundary lies between 0 and 1, not at {boundary:g}")
    if method not in (known := get_args(Method)):
        raise InputError(f"a method is one of {', '.join(known)}, not '{method}'")
    labels = np.zeros(membrane.shape, np.uint32)
    height, width = membrane.shape[1:]
    whole = Box.of((height, width))

    def cut(z: int) -> Tables:
        """Put the fragments of a section where its cells are to be; return what is between them."""
        labels[z], table = cut_section(
            membrane[z],
            z=z,
            read=whole,
            write=whole,
            shape=(height, width),
            method=method,
            threshold=threshold,
            smoothing=smoothing,
            depth=depth,
        )
        return pool_fragments([table])

    how: dict[str, Any] = {"boundary": boundary, "smallest": smallest}
    tables = (cut(z) for z in range(len(membrane)))
    found: Iterable[tuple[NDArray[np.uint64], NDArray[np.int64]]]
    if method == "threshold" or not neighbours or len(membrane) < 2:
        found = (join_fragments(table, width, method=method, **how) for table in tables)
    else:
        found = join_stack(_with_overlaps(tables, labels, membrane), width, method=method, **how)
    last = 0
    for z, (_, cells) in enumerate(found):
        numbers = np.concatenate(([0], cells + 1 + last)).astype(np.uint32)
        labels[z] = _painted(numbers[labels[z]], filled)
        last += int(cells.max(initial=-1)) + 1
    return labels


def _with_overlaps(
    tables: Iterable[Tables], pieces: NDArray[np.uint32], membrane: NDArray[np.floating]
) -> Iterator[tuple[Tables, Tables]]:
    """Yield what is known of each section, and what its fragments are in the next one.

    A section of `pieces` is there once its table is, and is not looked at when that of the next
    but one is asked for.
    """
    shape = (membrane.shape[0], membrane.shape[1], membrane.shape[2])
    ways, means = ways_of(
        lambda box: membrane[:, *box.slices], shape[1:], sections=shape[0], behind=1
    )
    for z, known in enumerate(pairwise(chain(tables, [None]))):
        both = [table for table in known if table is not None]
        read = Box((z, 0, 0), (z + len(both), *shape[1:]))
        (over,) = overlap_block(
            pieces[read.start[0] : read.stop[0]],
            membrane[read.start[0] : read.stop[0]],
            read=read,
            write=Box((z, 0, 0), (z + 1, *shape[1:])),
            shape=shape,
            means=means,
            ways=ways,
        )
        # Pieces are numbered in the order of their names.
        names = [of["ids"][over["over"][:, n] - 1] for n, of in enumerate(both)]
        yield both[0], {"over": np.stack((names[0], names[-1]), axis=1), "met": over["met"]}


def number_cells(
    sections: Iterable[tuple[NDArray[np.uint64], NDArray[np.int64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.unsignedinteger[Any]]]:
    """Give the cells of a volume their numbers.

    Parameters
    ----------
    sections
        What `join_fragments` found in each, in the order of sections.

    Returns
    -------
    ids, numbers
        All fragments, sorted, and the number of each one's cell, from 1 on, as `segment_cells`
        numbers them: uint32, or uint64 where that is too small.
    """
    ids, numbers, last = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for names, cells in sections:
        ids.append(names)
        numbers.append(cells + 1 + last)
        last += int(cells.max(initial=-1)) + 1
    dtype = np.uint32 if last < 2**32 else np.uint64
    return np.concatenate(ids), np.concatenate(numbers).astype(dtype)


def paint_cells(
    fragments: NDArray[np.uint64],
    ids: NDArray[np.uint64],
    numbers: NDArray[np.unsignedinteger[Any]],
    *,
    shape: tuple[int, ...] | None = None,
    filled: bool = False,
) -> NDArray[np.unsignedinteger[Any]]:
    """Turn the fragments of a block into cells.

    Parameters
    ----------
    fragments
        (Z, Y, X), what `cut_block` labelled. For cells with lines between them it holds the next
        pixel of each row, and the next row, beyond what is written, unless the section ends there.
    ids, numbers
        From `number_cells`, or that part of it which `fragments` needs, see `tables.subset`.
    shape
        Of what is written, from the first pixel on; all where it is not given.
    filled
        Let cells touch. Pieces of ``threshold`` never do.

    Returns
    -------
    NDArray
        Of the dtype of `numbers` and of that shape: cells, and 0.
    """
    painted = _painted(looked_up(fragments, ids, numbers), filled)
    return painted if shape is None else painted[tuple(slice(side) for side in shape)]


def merge(
    pieces: NDArray[np.integer],
    found: Contacts,
    *,
    boundary: float,
    method: Literal["multicut", "mean"] = "mean",
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
        return np.zeros(pieces.shape, np.uint32)
    # Fragments are numbered from 1 on, the nodes of a graph from 0.
    found = Contacts(found.pairs - 1, found.length, found.level, found.floors[1:])
    sizes = np.bincount(pieces.ravel())[1:]
    cells = join(sizes, found, boundary=boundary, method=method, smallest=smallest)
    return np.asarray(np.concatenate(([0], cells + 1)).astype(np.uint32)[pieces])


def _painted(cells: NDArray[Any], filled: bool) -> NDArray[Any]:
    """Part cells that touch by lines, unless they are to be filled."""
    if not filled:
        cells[label_borders(cells)] = 0
    return cells
