"""What two sections have in common: counts of a block, which add up over blocks.

A block sees its sections, the two behind them, and more than it counts around it::

    section z      ┌──────────────┐      cells of the write box, grown by a few pixels,
                   │  ┌────────┐  │
                   │  │ write  │  │
                   │  └───┼────┘  │
    section z + 1  └──────┼───────┘      and what they continue as, where the sections
    section z + 2         ▼              are shifted and bent: counted pixel by pixel
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import expand_labels

from axolemma.geometry import Box
from axolemma.objects.alignment import (
    LOCAL,
    REACH,
    Displacement,
    displacement,
    follow,
    shift,
    shrinkage,
)
from axolemma.objects.tables import Tables, grouped, reduced, stacked

__all__ = [
    "GAP",
    "GROWTH",
    "LARGEST_SHIFT",
    "WAYS",
    "link_block",
    "link_halo",
    "pool_links",
    "ways_of",
]

#: Pixels of 4 nm: by how much cells grow into the membrane, so that thin ones still meet; and half
#: the width of a membrane beyond which cells are no neighbours.
GROWTH, GAP = 4.0, 10.0

#: Pixels by which two sections may lie beside each other, along either axis.
LARGEST_SHIFT = 40

#: From a section to the next one, and to the one after that: in two steps, or directly. Two short
#: steps find the way better, unless what lies between is blank or in another place.
WAYS = ("next", "steps", "direct")

_LEVELS = 255  # that a membrane map is told apart in, so that sums do not depend on their order


def link_halo(*, largest_shift: int = LARGEST_SHIFT, gap: float = GAP) -> int:
    """Return how many pixels a block of links must see around what it counts, in Y and X."""
    # Two steps, each as far as it may lead, to where a displacement is that of the whole.
    need = 2 * (largest_shift + LOCAL) + REACH + int(np.ceil(gap))
    return need + -need % 8


def ways_of(
    read: Callable[[Box], NDArray[np.floating]],
    shape: tuple[int, int],
    *,
    sections: int,
    behind: int = 2,
    largest: int = LARGEST_SHIFT,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find how far sections lie beside those behind them, each as a whole.

    Parameters
    ----------
    read
        Gives any part (Y, X) of the sections, (Z, Y, X), and of those behind the last one as far
        as there are any: what they are aligned by, in [0, 1]. It is asked for strips.
    shape
        Sides (Y, X) of a section.
    sections
        How many of them are compared, from the first on.
    behind
        With how many of the next ones each is, 1 or 2.
    largest
        See `alignment.shift`.

    Returns
    -------
    ways, means
        (sections, 2, 2), rows and columns by which the next and the one after it lie beside each,
        0 for those that are not there; and (sections,) the mean of each.
    """
    small = _thumbnails(read, shape)
    ways = np.zeros((sections, 2, 2), np.int64)
    for z in range(sections):
        for n, other in enumerate(small[z + 1 : z + 1 + behind]):
            ways[z, n] = shift(small[z], other, largest=largest, shrunk=shrinkage(shape))
    return ways, small[:sections].mean(axis=(1, 2), dtype=np.float64)


def _thumbnails(
    read: Callable[[Box], NDArray[np.floating]], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Return sections small, at most `alignment.ALIGNED` pixels a side, reading them in strips."""
    many = shrinkage(shape)
    height, width = (side // many for side in shape)
    rows = max(1, 512 // many)
    strips = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = read(Box((top * many, 0), (bottom * many, width * many)))
        blocks = strip.reshape(-1, bottom - top, many, width, many)
        strips.append(blocks.mean(axis=(2, 4), dtype=np.float64).astype(np.float32))
    return np.concatenate(strips, axis=1)


def link_block(
    cells: NDArray[np.integer],
    membrane: NDArray[np.floating] | None,
    *,
    read: Box,
    write: Box,
    shape: tuple[int, int, int],
    means: NDArray[np.float64],
    ways: NDArray[np.int64],
    growth: float = GROWTH,
    gap: float = GAP,
) -> list[Tables]:
    """Count what the cells of a block have in common with those of the next two sections.

    Parameters
    ----------
    cells
        The shape of `read`; 0 = membrane, no number in two sections.
    membrane
        Equal shape, the membrane map, in [0, 1]; None where it is not known.
    read
        What of the volume they show: `write`, two sections more, and `link_halo` around it, as far
        as the volume goes; it begins at multiples of 4 pixels.
    write
        What of the volume is counted.
    shape
        (Z, Y, X) of the volume.
    means
        For every section of the volume, the mean of what it is aligned by: the membrane map, or
        where there is none the share of 0 among `cells`.
    ways
        (Z, 2, 2), what `ways_of` found for every section of the volume.
    growth, gap
        In pixels, see `GROWTH` and `GAP`.

    Returns
    -------
    list of Tables
        For every section of `write`: ``ids``, ``first`` (cells, and the place in the volume of
        their first pixel), ``beside``, ``beside_level``, ``beside_count`` (pairs with only
        membrane between, what it adds up to, and over how many pixels), and for each of `WAYS`
        ``W_one``, ``W_one_sums``, ``W_two``, ``W_two_sums`` (cells of the section and of the other
        one where they may meet: pixels, and the sums of rows and columns), ``W_pairs``, ``W_met``
        (pairs that do, and in how many pixels).
    """
    shown = (cells == 0).astype(np.float32) if membrane is None else membrane
    grown = [expand_labels(section, growth) for section in cells]
    part = Box(read.start[1:], read.stop[1:])
    inner = Box(write.start[1:], write.stop[1:]).within(part)
    sides = (shape[1], shape[2])

    def step(z: int, distance: int) -> Displacement:
        a, b = z - read.start[0], z + distance - read.start[0]
        return displacement(
            shown[a],
            shown[b],
            whole=sides,
            part=part,
            means=(float(means[z]), float(means[z + distance])),
            moved=(int(ways[z, distance - 1, 0]), int(ways[z, distance - 1, 1])),
        )

    steps: dict[int, Displacement] = {}
    tables = []
    for z in range(write.start[0], write.stop[0]):
        here = z - read.start[0]
        table = _inventory(cells[here][inner.slices], write, z, shape)
        table |= _beside(cells[here], None if membrane is None else membrane[here], inner, gap)
        ways_there: dict[str, tuple[int, Displacement]] = {}
        for later in (z, z + 1):
            if later + 1 < shape[0] and later not in steps:
                steps[later] = step(later, 1)
        if z + 1 < shape[0]:
            ways_there["next"] = 1, steps[z]
        if z + 2 < shape[0]:
            ways_there["steps"] = 2, steps[z].then(steps[z + 1])
            ways_there["direct"] = 2, step(z, 2)
        for name in WAYS:
            if name in ways_there:
                distance, way = ways_there[name]
                # What one section shows and the other does not must not count as a difference.
                one = np.where(way.inside(), grown[here], 0)
                two = follow(grown[here + distance], way)
            else:
                one = two = np.zeros_like(grown[here])
            table |= _common(name, one[inner.slices], two[inner.slices], write)
        steps.pop(z, None)
        tables.append(table)
    return tables


def pool_links(tables: list[Tables]) -> Tables:
    """Add up the tables of blocks of one section, in any order, those of all or of some."""
    ids, first = stacked(tables, ("ids", "first"))
    order, new = grouped(ids)
    found = {"ids": ids[order][new], "first": reduced(np.minimum, first[order], new)}
    rows: list[tuple[str, tuple[str, ...]]] = [("beside", ("beside_level", "beside_count"))]
    for way in WAYS:
        rows += [
            (f"{way}_one", (f"{way}_one_sums",)),
            (f"{way}_two", (f"{way}_two_sums",)),
            (f"{way}_pairs", (f"{way}_met",)),
        ]
    for key, names in rows:
        keys, *values = stacked(tables, (key, *names))
        order, new = grouped(*(keys.T if keys.ndim > 1 else keys[None]))
        found[key] = keys[order][new]
        for name, value in zip(names, values, strict=True):
            found[name] = reduced(np.add, value[order], new)
    return found


def _inventory(
    cells: NDArray[np.integer], write: Box, z: int, shape: tuple[int, int, int]
) -> Tables:
    ids, place = np.unique(cells, return_index=True)
    ids, place = ids[ids != 0], place[ids != 0]
    y, x = np.divmod(place.astype(np.int64), cells.shape[1])
    first = (z * shape[1] + y + write.start[1]) * shape[2] + x + write.start[2]
    return {"ids": ids.astype(np.int64), "first": first}


def _beside(
    cells: NDArray[np.integer], membrane: NDArray[np.floating] | None, inner: Box, gap: float
) -> Tables:
    """Count the pairs of pixels, of which the first lies in `inner`, of two cells that are near."""
    seen = inner.grow((int(np.ceil(gap)) + 1,) * 2).clip(Box.of(cells.shape))
    grown = expand_labels(cells[seen.slices], gap)
    level = np.full(grown.shape, _LEVELS, np.int64)
    if membrane is not None:
        level = np.rint(_LEVELS * membrane[seen.slices]).astype(np.int64)
    core = inner.within(seen).slices
    pairs, levels = [], []
    for axis in (0, 1):
        stop = [s.stop + (n == axis) for n, s in enumerate(core)]
        box = tuple(slice(s.start, b) for s, b in zip(core, stop, strict=True))
        before = tuple(slice(None, -1) if n == axis else slice(None) for n in (0, 1))
        after = tuple(slice(1, None) if n == axis else slice(None) for n in (0, 1))
        a, b = grown[box][before], grown[box][after]
        border = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.sort(np.stack((a[border], b[border]), axis=1).astype(np.int64)))
        levels.append(np.maximum(level[box][before], level[box][after])[border])
    both, total = np.concatenate(pairs), np.concatenate(levels)
    order, new = grouped(*both.T)
    return {
        "beside": both[order][new],
        "beside_level": reduced(np.add, total[order], new),
        "beside_count": np.diff(np.append(new, len(order))),
    }


def _common(name: str, one: NDArray[np.integer], two: NDArray[np.integer], write: Box) -> Tables:
    """Count what two sections have in common, on the pixels of the first one."""
    found: Tables = {}
    compact = []
    for side, section in (("one", one), ("two", two)):
        ids, which = np.unique(section, return_inverse=True)
        which = which.reshape(section.shape)
        sums = [np.bincount(which.ravel(), minlength=len(ids))]
        # Of whole numbers below 2⁵³, so without rounding.
        for place in np.ogrid[write.slices[1:]]:
            weights = np.broadcast_to(place, section.shape).ravel()
            sums.append(np.bincount(which.ravel(), weights, len(ids)).astype(np.int64))
        kept = ids != 0
        found[f"{name}_{side}"] = ids[kept].astype(np.int64)
        found[f"{name}_{side}_sums"] = np.stack(sums, axis=1)[kept]
        compact.append((ids, which))
    (ids, first), (others, second) = compact
    both = (one > 0) & (two > 0)
    keys, met = np.unique(
        first[both].astype(np.int64) * len(others) + second[both], return_counts=True
    )
    a, b = np.divmod(keys, max(1, len(others)))
    found[f"{name}_pairs"] = np.stack((ids[a], others[b]), axis=1).astype(np.int64)
    found[f"{name}_met"] = met
    return found
