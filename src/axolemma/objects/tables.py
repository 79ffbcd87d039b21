"""Tables: what blocks count, as plain arrays by name, and how the counts of several add up."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tables", "grouped", "looked_up", "places", "reduced", "stacked", "subset"]

#: Arrays by name, of which those of one table have one row for each of its entries.
Tables = dict[str, NDArray[Any]]


def stacked(tables: Iterable[Tables], names: Sequence[str]) -> list[NDArray[Any]]:
    """Return the columns `names` of several tables, the rows of one after those of another."""
    rows = list(tables)
    return [np.concatenate([table[name] for table in rows]) for name in names]


def grouped(*keys: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sort rows by their keys, the first of which counts most.

    Parameters
    ----------
    keys
        Shape (m,) each, at least one.

    Returns
    -------
    order, first
        The rows in order, and where in this order each new combination of keys begins.
    """
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), bool)
    new[:1] = True
    for key in keys:
        there = key[order]
        new[1:] |= there[1:] != there[:-1]
    return order, np.flatnonzero(new)


def reduced(what: np.ufunc, rows: NDArray[Any], first: NDArray[np.intp]) -> NDArray[Any]:
    """Reduce the rows of each group to one: all from where it begins to where the next one does.

    Parameters
    ----------
    what
        ``np.add`` or ``np.minimum``, for instance.
    rows
        In the order of `grouped`.
    first
        From `grouped`.
    """
    return np.asarray(what.reduceat(rows, first, axis=0)) if len(first) else rows[:0]


def places(known: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """Return where in `known`, which is sorted, the values stand; -1 for those that do not."""
    if not len(known):
        return np.full(values.shape, -1, np.int64)
    place = np.searchsorted(known, values).clip(max=len(known) - 1)
    return np.where(known[place] == values, place, -1)


def looked_up(
    labels: NDArray[np.integer], known: NDArray[np.integer], values: NDArray[Any]
) -> NDArray[Any]:
    """Replace labels by what belongs to each, and those that are not known by 0.

    Parameters
    ----------
    labels
        Any shape.
    known
        (n,), sorted, of the dtype of `labels`.
    values
        (n,), what belongs to each.

    Returns
    -------
    NDArray
        The shape of `labels`, the dtype of `values`.
    """
    flat = labels.ravel()
    # Labels come in runs: only the first of each is looked up.
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))[: len(flat)]
    place = places(known, flat[starts])
    found = np.zeros(len(starts), values.dtype)
    found[place >= 0] = values[place[place >= 0]]
    lengths = np.diff(np.append(starts, len(flat)))
    return np.repeat(found, lengths).reshape(labels.shape)


def subset(
    known: NDArray[np.uint64], values: NDArray[Any], labels: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[Any]]:
    """Return the part of a mapping that `labels` needs: what to send to a block, not the whole."""
    place = places(known, np.unique(labels))
    place = place[place >= 0]
    return known[place], values[place]
