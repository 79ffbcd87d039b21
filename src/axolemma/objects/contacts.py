"""What lies between two fragments of a section that touch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.objects.tables import grouped

__all__ = ["Contacts", "borders", "contacts", "lowest", "ranked", "ranks"]

#: One in so many pixels of a contact may be a gap. Of what the lowest tenth to half of a contact
#: say, and of its mean, this told cells apart best (docs/experiments.md).
_GAP = 5

#: Two labels (m,), the lower one first, and the level of the map at each place where they touch.
Borders = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Contacts:
    """Every pair of labels that touch in a section, sorted.

    Parameters
    ----------
    pairs
        (m, 2), the lower label first.
    length
        (m,), how many pairs of neighbouring pixels lie on either side.
    level
        (m,), in [0, 1]: the membrane map along the contact, but for its lowest fifth.
    floors
        (n,), in [0, 1]: for every label from 0 on, the minimum of the map in it; 1 for numbers
        that are none.
    """

    pairs: NDArray[np.int64]
    length: NDArray[np.int64]
    level: NDArray[np.float64]
    floors: NDArray[np.float64]

    @property
    def rise(self) -> NDArray[np.float64]:
        """How far the level stands above what the map falls to in both labels, (m,)."""
        return np.asarray(np.maximum(self.level - self.floors[self.pairs].max(axis=1), 0))


def contacts(labels: NDArray[np.integer], membrane: NDArray[np.floating]) -> Contacts:
    """Find which labels of a section touch, and how much membrane is between them.

    Parameters
    ----------
    labels
        (Y, X), any integers from 0 on, best few; 0 is a label like others.
    membrane
        Equal shape, in [0, 1], 1 = membrane. Between two neighbouring pixels the larger value
        counts.

    Returns
    -------
    Contacts
        Of labels whose pixels are 4-connected neighbours.

    Notes
    -----
    The rise of a contact is the value that a fifth of its pairs of pixels stay below, less the
    larger of the two labels' minima. So a gap in a dark line is overlooked, and a fragment that
    lies in a blurred membrane, where nothing is low, does not stand apart from its neighbours.
    The mean would count the gap, and miss that a whole contact is faint.
    """
    pairs, levels, counts = ranked(borders(labels, membrane), np.zeros(0, bool))
    return ranks(pairs, levels, counts, lowest(labels, membrane))


def borders(labels: NDArray[np.integer], membrane: NDArray[np.floating]) -> Borders:
    """Return all pairs of neighbouring pixels of different labels: labels, and the map between."""
    found: list[Borders] = []
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        meet = labels[before] != labels[after]
        one, other = labels[before][meet], labels[after][meet]
        between = np.maximum(membrane[before][meet], membrane[after][meet])
        found.append((np.minimum(one, other), np.maximum(one, other), between))
    low, high, between = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return low, high, between


def ranked(
    found: Borders, goes_on: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    """Sum borders up: the one level of a contact that counts, or all of one that goes on.

    Parameters
    ----------
    found
        From `borders`.
    goes_on
        For each label, whether it may touch others elsewhere too; what lies between two such
        labels is not all here. Empty: none does.

    Returns
    -------
    pairs, levels, counts
        (m, 2), (m,), (m,): pairs of labels, a level between them, and how many pixels it stands
        for: all of a contact that is whole, so that its rank is found again whatever is added; of
        one that is not, those that have this level.
    """
    low, high, between = found
    if not len(low):
        none = np.empty(0, np.int64)
        return np.empty((0, 2), np.int64), between, none
    # One number for both labels sorts faster than two.
    base = int(high.max()) + 1
    keys = low.astype(np.int64) * base + high
    order, first = grouped(keys, between)
    keys, between = keys[order], between[order]
    start = first[np.concatenate(([True], keys[first[1:]] != keys[first[:-1]]))]
    length = np.diff(np.append(start, len(keys)))
    pairs = np.stack(np.divmod(keys[start], base), axis=1)
    open_ = np.zeros(len(pairs), bool)
    if goes_on.any():
        open_ = goes_on[pairs].all(axis=1)
    if not open_.any():
        return pairs, between[start + length // _GAP], length
    # Rows of whole contacts and levels of the others, in the order of pairs, then of levels.
    part = np.repeat(open_, length)[first]
    at = np.concatenate((start[~open_] + length[~open_] // _GAP, first[part]))
    counts = np.concatenate((length[~open_], np.diff(np.append(first, len(keys)))[part]))
    order = np.argsort(at)
    at = at[order]
    return np.stack(np.divmod(keys[at], base), axis=1), between[at], counts[order]


def ranks(
    pairs: NDArray[np.integer],
    levels: NDArray[Any],
    counts: NDArray[np.integer],
    floors: NDArray[np.floating],
) -> Contacts:
    """Return contacts from the levels along them, see `ranked`, and the minima of the labels.

    Parameters
    ----------
    pairs, levels, counts
        In any order; rows of one pair add up.
    floors
        For every label, the minimum of the map in it.
    """
    low, high = (pairs[:, side].astype(np.int64) for side in (0, 1))
    order, _ = grouped(low, high, levels)
    low, high, levels, counts = low[order], high[order], levels[order], counts[order]
    new = np.ones(len(order), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    start = np.flatnonzero(new)
    until = np.cumsum(counts)
    before = until[start] - counts[start]
    length = np.diff(np.append(before, until[-1:])).astype(np.int64)
    at = np.searchsorted(until, before + length // _GAP, side="right")
    pairs = np.stack((low[start], high[start]), axis=1)
    return Contacts(pairs, length, levels[at].astype(np.float64), floors.astype(np.float64))


def lowest(labels: NDArray[np.integer], membrane: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the minimum of the map in every label; 1 for numbers that are none."""
    found = np.ones(int(labels.max(initial=0)) + 1, membrane.dtype)
    np.minimum.at(found, labels.ravel().astype(np.intp), membrane.ravel())
    return found
