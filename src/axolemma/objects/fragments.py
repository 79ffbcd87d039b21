"""Fragments: pieces of a section of which none should hold two cells, cut block by block.

::

    read box                        what the block is given to see
    ┌─────────────────────────┐
    │  the map is not all     │     `margin` px: depths and seeds are wrong here, nothing is flooded
    │   ┌─────────────────┐   │
    │   │  flooded        │   │     what floods the write box must begin within
    │   │   ┌─────────┐   │   │
    │   │   │ write   │   │   │     labels and tables are of this alone
    │   │   └─────────┘   │   │
    │   └─────────────────┘   │
    └─────────────────────────┘

The sides of the section itself have no margin. A fragment is named after the first pixel of its
seed, so that all blocks that see the seed give it the same name without talking to each other.
Where a seed is too far, the name differs, and joining makes one of both: between parts of a cell
on two sides of a face nothing rises.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.errors import InputError
from axolemma.geometry import Box
from axolemma.objects.contacts import borders, lowest, ranked
from axolemma.objects.flooding import flood, strips
from axolemma.objects.solvers import distances
from axolemma.objects.tables import Tables, grouped, reduced, stacked

__all__ = [
    "BELOW",
    "DEPTH",
    "RIGHT",
    "SEED",
    "cut_block",
    "cut_section",
    "fragment_halo",
    "fragments",
    "pool_fragments",
]

#: Share of the membrane map in the landscape that is flooded; the rest is the distance to it, which
#: leads the border of two fragments across the narrowest place of an open neck.
_MAP = 0.8

#: Distance to the membrane, in pixels of 4 nm, at which a pixel is as deep as any. It bounds what
#: a pixel of the map can change, and does as well as none (docs/experiments.md).
DEPTH = 16.0

#: Side in pixels of a square that is no membrane where it is 1 all over, for none is so thick.
_THICK = 31

#: A fragment is expected to end within so many depths of its seed.
_REACH = 12

#: What is known of a pixel on a face of a block: its neighbour to the right or below is another
#: block's, it belongs to a seed.
RIGHT, BELOW, SEED = 1, 2, 4


def fragments(
    membrane: NDArray[np.floating],
    *,
    threshold: float = 0.5,
    smoothing: float = 2.0,
    depth: float = DEPTH,
) -> NDArray[np.int32]:
    """Cut a section into pieces of which none should hold two cells: a seeded watershed.

    Parameters
    ----------
    membrane
        (Y, X), in [0, 1].
    threshold
        Seeds lie where ``1 - membrane`` is above.
    smoothing
        Of the distances to the membrane, in pixels, before their maxima become seeds.
    depth
        Distance to the membrane, in pixels, beyond which a pixel counts as no deeper.

    Returns
    -------
    NDArray[np.int32]
        (Y, X), from 1 on in the order of their seeds and everywhere, the membrane included, but 0
        where a square of 31 pixels is 1 all over; 0 everywhere where there is no interior.
    """
    interior = 1.0 - membrane > threshold
    return _flooded(membrane, *_seeds(interior, smoothing, depth), depth)


def fragment_halo(*, smoothing: float = 2.0, depth: float = DEPTH) -> int:
    """Return how many pixels a block of fragments must see around what it writes, in Y and X."""
    return _margin(smoothing, depth) + int(np.ceil(_REACH * depth))


def cut_block(
    membrane: NDArray[np.floating],
    *,
    read: Box | None = None,
    write: Box | None = None,
    shape: tuple[int, int, int] | None = None,
    method: Literal["multicut", "mean", "threshold"] = "mean",
    threshold: float = 0.5,
    smoothing: float = 2.0,
    depth: float = DEPTH,
    tissue: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.uint64], list[Tables]]:
    """Cut the sections of a block into fragments, and tell what lies between them.

    Parameters
    ----------
    membrane
        The shape of `read`, in [0, 1], 1 = membrane.
    read
        What of the volume `membrane` shows; all of it where it is not given.
    write
        What of the volume to label, within `read`, of the same sections. `read` is larger by
        `fragment_halo` or ends with the section.
    shape
        (Z, Y, X) of the volume.
    method
        What will join them. Pieces of ``threshold`` are those of the interior and need no halo.
    threshold, smoothing, depth
        See `fragments`.
    tissue
        Where there may be any, the shape of `write`; everywhere if None.

    Returns
    -------
    labels
        uint64, the shape of `write`: 1 + the place in the volume, in C order, of the first pixel
        of the fragment's seed that the block sees; 0 where there is no interior in reach, and with
        ``threshold`` on membrane.
    tables
        For every section of the block, see `cut_section`.

    Raises
    ------
    InputError
        If the boxes do not fit, or the halo is smaller than what surely is wrong in it.
    """
    shape = shape or (membrane.shape[0], membrane.shape[1], membrane.shape[2])
    read = read or Box.of(shape)
    write = write or read
    if (
        read.shape != membrane.shape
        or write.clip(read) != write
        or read.clip(Box.of(shape)) != read
    ):
        raise InputError(
            f"a block of {write} seen as {read} in a volume of {shape} does not fit a map of shape "
            f"{membrane.shape}; the first lies in the second, which the map shows"
        )
    labels = np.zeros(write.shape, np.uint64)
    tables = []
    for n, z in enumerate(range(write.start[0], write.stop[0])):
        found, table = cut_section(
            membrane[z - read.start[0]],
            z=z,
            read=Box(read.start[1:], read.stop[1:]),
            write=Box(write.start[1:], write.stop[1:]),
            shape=shape[1:],
            method=method,
            threshold=threshold,
            smoothing=smoothing,
            depth=depth,
            tissue=None if tissue is None else tissue[n],
        )
        labels[n] = np.concatenate((np.zeros(1, np.uint64), table["ids"]))[found]
        tables.append(table)
    return labels, tables


def cut_section(
    membrane: NDArray[np.floating],
    *,
    z: int,
    read: Box,
    write: Box,
    shape: tuple[int, int],
    method: Literal["multicut", "mean", "threshold"],
    threshold: float,
    smoothing: float,
    depth: float,
    tissue: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int32], Tables]:
    """Cut one section of a block into fragments: `cut_block` of a single section.

    Parameters
    ----------
    membrane, read, write, shape, tissue
        As in `cut_block`, of axes (Y, X).
    z
        Number of the section in the volume.

    Returns
    -------
    labels
        (Y, X) of `write`, from 1 on.
    tables
        ``ids``, ``sizes``, ``lowest``: of every label its name in the volume, in ascending order,
        its pixels and the minimum of the map in the write box. ``pairs`` (m, 2), ``levels``,
        ``counts``: what lies between two fragments
        within the write box, see `contacts.ranked`. ``faces``, ``face_ids``, ``face_levels``,
        ``face_kinds``: for every pixel of the write box that has a neighbour in another block,
        its place in the section, its fragment, its map and what is known of it.
    """
    if method == "threshold":
        inner = write.within(read)
        membrane, zone = membrane[inner.slices], write
        seeds = _labelled(1.0 - membrane.astype(np.float64) > threshold)
        found = seeds
    else:
        zone = _zone(read, write, shape, _margin(smoothing, depth))
        interior = 1.0 - membrane > threshold
        inner = zone.within(read)
        seeds, deep = _seeds(interior, smoothing, depth, inner.slices, _ends(zone, shape))
        membrane = membrane[inner.slices]
        found = _flooded(membrane, seeds, deep, depth)
    names = _names(seeds, zone, z, shape)
    inner = write.within(zone)
    membrane, seeds, found = membrane[inner.slices], seeds[inner.slices], found[inner.slices]
    if tissue is not None:
        found, seeds = np.where(tissue, found, 0), np.where(tissue, seeds, 0)
    labels, names = _compact(found, names)
    return labels, _tables(labels, names, membrane, seeds, write, shape)


def pool_fragments(tables: list[Tables]) -> Tables:
    """Add up the tables of blocks of one section, in any order, those of all or of some.

    Parameters
    ----------
    tables
        At least one, of blocks of which no two write the same pixel.

    Returns
    -------
    Tables
        As those given; of fragments that several have, the pixels of all.
    """
    if len(tables) == 1:
        return tables[0]
    ids, sizes, low = stacked(tables, ("ids", "sizes", "lowest"))
    order, first = grouped(ids)
    pairs, levels, counts = stacked(tables, ("pairs", "levels", "counts"))
    by_pair, new = grouped(pairs[:, 0], pairs[:, 1], levels)
    faces = stacked(tables, ("faces", "face_ids", "face_levels", "face_kinds"))
    by_place = np.argsort(faces[0])
    return {
        "ids": ids[order][first],
        "sizes": reduced(np.add, sizes[order], first),
        "lowest": reduced(np.minimum, low[order], first),
        "pairs": pairs[by_pair][new],
        "levels": levels[by_pair][new],
        "counts": reduced(np.add, counts[by_pair], new),
        "faces": faces[0][by_place],
        "face_ids": faces[1][by_place],
        "face_levels": faces[2][by_place],
        "face_kinds": faces[3][by_place],
    }


def _margin(smoothing: float, depth: float) -> int:
    """Return how far what is not seen changes depths, smoothed ones, and their maxima."""
    return int(np.ceil(depth)) + int(4 * smoothing + 0.5) + 1


def _zone(read: Box, write: Box, shape: tuple[int, int], margin: int) -> Box:
    """Return the part of the read box of which all is known that the fragments depend on."""
    start = tuple(a + margin if a > 0 else 0 for a in read.start)
    stop = tuple(b - margin if b < end else b for b, end in zip(read.stop, shape, strict=True))
    if any(a > b for a, b in zip(start, write.start, strict=True)) or any(
        a < b for a, b in zip(stop, write.stop, strict=True)
    ):
        raise InputError(
            f"fragments of {write} cannot be cut from {read}: around them at least {margin} px of "
            "the section must be seen, or all that there is"
        )
    return Box(start, stop)


def _ends(box: Box, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the outermost pixels of a box beyond which the section goes on."""
    ends = np.zeros(box.shape, bool)
    ends[:1] |= box.start[0] > 0
    ends[-1:] |= box.stop[0] < shape[0]
    ends[:, :1] |= box.start[1] > 0
    ends[:, -1:] |= box.stop[1] < shape[1]
    return ends


def _seeds(
    interior: NDArray[np.bool_],
    smoothing: float,
    depth: float,
    zone: tuple[slice, ...] = (slice(None), slice(None)),
    ends: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the seeds and the depths in a part of what is seen."""
    deep: NDArray[np.float32] = np.minimum(distances(interior), np.float32(depth))
    smooth = ndimage.gaussian_filter(deep, smoothing) if smoothing > 0 else deep
    peaks = (ndimage.maximum_filter(smooth, 3) == smooth) & interior
    seeds = _labelled(peaks[zone])
    if ends is not None and ends.any():
        # What leads on to a seed beyond has one here as well: at its deepest place. Else it would
        # be flooded from other cells, across a membrane.
        pieces = _labelled(interior[zone])
        lacking = np.setdiff1d(pieces[ends], np.append(pieces[seeds > 0], 0))
        if len(lacking):
            deepest = np.array(ndimage.maximum_position(smooth[zone], pieces, lacking))
            seeds[tuple(deepest.T)] = int(seeds.max()) + 1 + np.arange(len(lacking))
    return seeds, deep[zone]


def _labelled(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return labels


def _flooded(
    membrane: NDArray[np.floating],
    seeds: NDArray[np.int32],
    deep: NDArray[np.float32],
    depth: float,
) -> NDArray[np.int32]:
    landscape = np.empty(membrane.shape, np.float32)
    for strip in strips(membrane.shape):
        # In float32 whatever the map's dtype, so that the same map floods the same way.
        high = 1 - deep[strip] / np.float32(depth)
        landscape[strip] = _MAP * membrane[strip].astype(np.float32) + (1 - _MAP) * high
    found = flood(landscape.clip(0, 1, out=landscape), seeds)
    if (nothing := _nothing(membrane)) is not None:
        found[nothing] = 0
    return found


def _nothing(membrane: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Tell where squares are membrane without any doubt: no tissue, but what was masked."""
    sure = membrane >= 1
    every = sure[:: _THICK // 4, :: _THICK // 4]
    # Of a square that is large enough three points in a row and three rows of them are seen.
    for _ in range(2):
        every = (every[:-2] & every[1:-1] & every[2:]).T
    if not every.any():
        return None
    inner = ndimage.minimum_filter(sure, _THICK, mode="constant", cval=False)
    return np.asarray(ndimage.maximum_filter(inner, _THICK, mode="constant", cval=False))


def _names(
    seeds: NDArray[np.int32], zone: Box, z: int, shape: tuple[int, int]
) -> NDArray[np.uint64]:
    """Return the place in the volume of the first pixel of every seed, counted from 1."""
    row, column = np.nonzero(seeds)
    # The last one that is written is the first in scan order.
    first = np.zeros((int(seeds.max(initial=0)), 2), np.int64)
    first[seeds[row, column][::-1] - 1] = np.stack((row[::-1], column[::-1]), axis=1)
    y, x = first[:, 0] + zone.start[0], first[:, 1] + zone.start[1]
    return (1 + (z * shape[0] + y) * shape[1] + x).astype(np.uint64)


def _compact(
    labels: NDArray[np.int32], names: NDArray[np.uint64]
) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """Leave out the labels that do not show, and number the others in the order of names."""
    shown = np.zeros(len(names) + 1, bool)
    shown[labels] = True
    order = np.argsort(names)
    order = order[shown[1:][order]]
    number = np.zeros(len(shown), np.int32)
    number[1 + order] = np.arange(1, len(order) + 1, dtype=np.int32)
    return number[labels], names[order]


def _tables(
    labels: NDArray[np.int32],
    names: NDArray[np.uint64],
    membrane: NDArray[np.floating],
    seeds: NDArray[np.int32],
    write: Box,
    shape: tuple[int, int],
) -> Tables:
    kinds = np.zeros(labels.shape, np.uint8)
    face = np.zeros(labels.shape, bool)
    face[:1] |= write.start[0] > 0
    face[:, :1] |= write.start[1] > 0
    if write.stop[0] < shape[0]:
        face[-1:] = True
        kinds[-1:] |= BELOW
    if write.stop[1] < shape[1]:
        face[:, -1:] = True
        kinds[:, -1:] |= RIGHT
    kinds[seeds > 0] |= SEED
    face &= labels > 0
    goes_on = np.zeros(len(names) + 1, bool)
    goes_on[labels[face]] = True
    low, high, between = borders(labels, membrane)
    both = low > 0
    pairs, levels, counts = ranked((low[both], high[both], between[both]), goes_on)
    row, column = np.nonzero(face)
    return {
        "ids": names,
        "sizes": np.bincount(labels.ravel(), minlength=len(names) + 1)[1:],
        "lowest": lowest(labels, membrane)[1:],
        "pairs": np.concatenate((np.zeros(1, np.uint64), names))[pairs],
        "levels": levels,
        "counts": counts,
        "faces": (row + write.start[0]) * shape[1] + column + write.start[1],
        "face_ids": names[labels[face] - 1],
        "face_levels": membrane[face],
        "face_kinds": kinds[face],
    }
