"""What lies between two fragments of a section that touch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contacts", "contacts"]

#: One in so many pixels of a contact may be a gap. Of what the lowest tenth to half of a contact
#: say, and of its mean, this told cells apart best (docs/experiments.md).
_GAP = 5


@dataclass(frozen=True, slots=True)
class Contacts:
    """Every pair of labels that touch in a section, sorted.

    Parameters
    ----------
    pairs
        (m, 2), the lower label first.
    length
        (m,), how many pairs of neighbouring pixels lie on either side.
    rise
        (m,), in [0, 1]: how far the membrane map along the contact, but for its lowest fifth,
        stands above what it falls to in both labels.
    """

    pairs: NDArray[np.int64]
    length: NDArray[np.int64]
    rise: NDArray[np.float64]


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
    found: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    for axis in (0, 1):
        before, after = (
            np.s_[:-1] if axis == 0 else np.s_[:, :-1],
            np.s_[1:] if axis == 0 else np.s_[:, 1:],
        )
        meet = labels[before] != labels[after]
        one, other = labels[before][meet], labels[after][meet]
        between = np.maximum(membrane[before][meet], membrane[after][meet])
        found.append((np.minimum(one, other), np.maximum(one, other), between))
    low, high, between = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(low):
        return Contacts(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0))
    base = int(high.max()) + 1
    keys = low.astype(np.int64) * base + high
    order = np.lexsort((between, keys))
    keys, between = keys[order], between[order]
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    length = np.diff(np.append(first, len(keys)))
    pairs = np.stack((keys[first] // base, keys[first] % base), axis=1)
    floor = _lowest(labels, membrane)[pairs].max(axis=1)
    rise = between[first + length // _GAP].astype(np.float64) - floor
    return Contacts(pairs, length, np.maximum(rise, 0))


def _lowest(labels: NDArray[np.integer], membrane: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the minimum of the map in every label; 1 for numbers that are none."""
    lowest = np.ones(int(labels.max()) + 1, membrane.dtype)
    np.minimum.at(lowest, labels.ravel().astype(np.intp), membrane.ravel())
    return lowest
