"""What the fragments of two sections that follow each other have in common.

A membrane that fades where it runs oblique to one section is often plain in the next. So what lies
over one cell in a neighbouring section speaks for one cell, and what lies over two for two. Pixels
are counted, where the sections are shifted and bent, so the counts of blocks add up::

    section z        ┌─ A ─┬─ B ─┐     is there a membrane between A and B?
                     │     ┆     │
    section z + 1    │     P     │     both lie over P alone: rather not
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array

from axolemma.geometry import Box
from axolemma.objects.alignment import LOCAL, REACH, displacement, follow
from axolemma.objects.contacts import Contacts
from axolemma.objects.linking import LARGEST_SHIFT
from axolemma.objects.tables import Tables, grouped, reduced, stacked

__all__ = ["Evidence", "overlap_block", "overlap_halo", "pool_overlaps"]

#: Log-odds that two fragments are one cell, where all that they lie over is the same, more than
#: where nothing is. Twice or half as much does nearly as well (docs/experiments.md).
_WEIGHT = 2.0

#: Rises below and above which two fragments surely are one cell, and two: these tell what a
#: neighbouring section knows. At least so many of either are wanted.
_ONE, _TWO, _WANTED = 0.15, 0.85, 5

#: By how much more alike must be what one cell's fragments lie over than what those of two do.
#: Sections of different tissue reach .33, those that follow each other .59 to .9.
_RELATED, _PLAIN = 0.35, 0.7

#: Pixels of a fragment that must lie over something.
_SEEN = 20


def overlap_halo(*, largest_shift: int = LARGEST_SHIFT) -> int:
    """Return how many pixels a block of overlaps must see around what it counts, in Y and X."""
    need = largest_shift + LOCAL + REACH
    return need + -need % 8


def overlap_block(
    fragments: NDArray[np.integer],
    membrane: NDArray[np.floating],
    *,
    read: Box,
    write: Box,
    shape: tuple[int, int, int],
    means: NDArray[np.float64],
    ways: NDArray[np.int64],
) -> list[Tables]:
    """Count in how many pixels fragments of a block continue as such of the next section.

    Parameters
    ----------
    fragments
        The shape of `read`, from `cut_block`; 0 is none.
    membrane
        Equal shape, the membrane map, in [0, 1].
    read
        What of the volume they show: `write`, one section more, and `overlap_halo` around it, as
        far as the volume goes; it begins at multiples of 4 pixels.
    write
        What of the volume is counted.
    shape
        (Z, Y, X) of the volume.
    means, ways
        For every section of the volume, the mean of the membrane map and what `ways_of` found; of
        the latter the first row counts.

    Returns
    -------
    list of Tables
        For every section of `write`: ``over`` (m, 2) fragments of the section and of the next one,
        ``met`` (m,) pixels.
    """
    part = Box(read.start[1:], read.stop[1:])
    inner = Box(write.start[1:], write.stop[1:]).within(part)
    tables = []
    for z in range(write.start[0], write.stop[0]):
        here = z - read.start[0]
        if z + 1 == shape[0]:
            none = np.zeros((0, 2), fragments.dtype)
            tables.append({"over": none, "met": np.zeros(0, np.int64)})
            continue
        step = displacement(
            membrane[here],
            membrane[here + 1],
            whole=(shape[1], shape[2]),
            part=part,
            means=(float(means[z]), float(means[z + 1])),
            moved=(int(ways[z, 0, 0]), int(ways[z, 0, 1])),
        )
        one = fragments[here][inner.slices].ravel()
        two = follow(fragments[here + 1], step)[inner.slices].ravel()
        # Pairs come in runs along the rows: only the first pixel of each is looked at.
        starts = np.flatnonzero((one[1:] != one[:-1]) | (two[1:] != two[:-1])) + 1
        starts = np.concatenate((np.zeros(min(1, len(one)), np.int64), starts))
        lengths = np.diff(np.append(starts, len(one)))
        pairs = np.stack((one[starts], two[starts]), axis=1)
        both = (pairs > 0).all(axis=1)
        tables.append(pool_overlaps([{"over": pairs[both], "met": lengths[both]}]))
    return tables


def pool_overlaps(tables: list[Tables]) -> Tables:
    """Add up the tables of blocks of one section, in any order, those of all or of some."""
    over, met = stacked(tables, ("over", "met"))
    order, new = grouped(*over.T)
    return {"over": over[order][new], "met": reduced(np.add, met[order], new)}


class Evidence:
    """What a neighbouring section says about the contacts of a section.

    Parameters
    ----------
    over
        (n, k), in how many pixels each part of the section lies over each cell of the other.
    weight
        Log-odds for what lies over the same.
    middle
        Likeness that speaks for neither.
    """

    def __init__(self, over: csr_array, weight: float, middle: float) -> None:
        self._over, self._weight, self._middle = over, weight, middle

    @classmethod
    def of(
        cls,
        parts: NDArray[np.int64],
        cells: NDArray[np.int64],
        met: NDArray[np.int64],
        found: Contacts,
        sizes: NDArray[np.number],
    ) -> "Evidence":
        """Weigh what a neighbouring section says by how well it knows what is plain here.

        Parameters
        ----------
        parts, cells, met
            (m,), parts of the section, cells of the other one, and in how many pixels these meet.
        found, sizes
            Contacts of the parts, and their pixels.
        """
        shape = (len(sizes), int(cells.max(initial=-1)) + 1)
        table = coo_array((met.astype(np.float64), (parts, cells)), shape=shape).tocsr()
        alike = _alike(table, found.pairs)
        known = np.isfinite(alike)
        weights = np.sqrt(sizes[found.pairs].min(axis=1))
        one, two = known & (found.rise < _ONE), known & (found.rise > _TWO)
        if min(one.sum(), two.sum()) < _WANTED:
            return cls(table, 0.0, 0.0)
        same, differ = (np.average(alike[of], weights=weights[of]) for of in (one, two))
        trust = np.clip((same - differ - _RELATED) / (_PLAIN - _RELATED), 0, 1)
        return cls(table, float(_WEIGHT * trust), float(same + differ) / 2)

    def odds(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the log-odds that two parts are one cell, (m,); NaN where nothing is known."""
        return self._weight * (_alike(self._over, pairs) - self._middle)

    def joined(self, into: NDArray[np.int64]) -> "Evidence":
        """Return the same of parts that were joined: part n is in ``into[n]``."""
        count = len(into)
        sums = csr_array(
            (np.ones(count), (into, np.arange(count))), shape=(int(into.max(initial=-1)) + 1, count)
        )
        return Evidence(sums @ self._over, self._weight, self._middle)


def _alike(over: csr_array, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how much of what two parts lie over is the same, 0 to 1; NaN where too little is."""
    seen = np.asarray(over.sum(axis=1)).ravel()
    shares = (diags_array(1 / np.maximum(seen, 1)) @ over).tocsr()
    one, two = (shares[pairs[:, side]] for side in (0, 1))
    alike = np.asarray(one.minimum(two).sum(axis=1)).ravel()
    return np.where((seen[pairs] < _SEEN).any(axis=1), np.nan, alike)
