"""What lies between two fragments of a section that touch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contacts", "contacts"]


@dataclass(frozen=True, slots=True)
class Contacts:
    """Every pair of labels that touch in a section, sorted.

    Parameters
    ----------
    pairs
        (m, 2), the lower label first.
    length
        (m,), how many pairs of neighbouring pixels lie on either side.
    membrane
        (m,), mean of the membrane map along the contact, in [0, 1].
    """

    pairs: NDArray[np.int64]
    length: NDArray[np.int64]
    membrane: NDArray[np.float64]


def contacts(labels: NDArray[np.integer], membrane: NDArray[np.floating]) -> Contacts:
    """Find which labels of a section touch, and how much membrane is between them.

    Parameters
    ----------
    labels
        (Y, X), any integers from 0 on; 0 is a label like others.
    membrane
        Equal shape, 1 = membrane. Between two neighbouring pixels the larger value counts.

    Returns
    -------
    Contacts
        Of labels whose pixels are 4-connected neighbours.
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
    keys, which = np.unique(low.astype(np.int64) * base + high, return_inverse=True)
    length = np.bincount(which.ravel())
    mean = np.bincount(which.ravel(), between.astype(np.float64)) / length
    return Contacts(np.stack((keys // base, keys % base), axis=1), length, mean)
