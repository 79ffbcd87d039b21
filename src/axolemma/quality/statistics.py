"""Sums over the blocks of a volume that tell, added up, what each of its sections is like."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.geometry import Box

__all__ = ["CELL", "HALO", "LAGS", "Table", "block_statistics", "cell_side", "moments", "pool"]

#: Small arrays by name, as `block_statistics` makes them and `pool` adds them up.
Table = dict[str, NDArray[Any]]

#: Distances in pixels over which grey values are compared.
LAGS = (1, 2, 8)
#: Voxels beyond a block that are looked at.
HALO = (0, max(LAGS), max(LAGS))
#: Side in pixels of the cells whose mean grey values are a small picture of each section, and the
#: number of them along a side from which on they are larger.
CELL, _MOST_CELLS = 8, 256

#: Pixels whose squares are added up in one go: up to here sums of 16-bit values are exact.
_STRIP = 2**20
#: What is subtracted before squares are summed, so that 64 bits hold 8 · 10⁹ pixels of a section.
_PIVOT = {"uint16": 2**15}
_ADDED = ("count", "total", "squares", "not_finite", "pairs", "steps", "bends")


def cell_side(shape: Sequence[int]) -> int:
    """Return the side in pixels of the cells of sections of `shape` (Y, X)."""
    side = CELL
    while max(shape) > side * _MOST_CELLS:
        side *= 2
    return side


def block_statistics(
    array: NDArray[Any], *, read: Box, write: Box, shape: tuple[int, ...]
) -> Table:
    """Return the sums that a block contributes to what is known of its sections.

    Parameters
    ----------
    array
        Grey values (Z, Y, X) of the box `read`, any real dtype; NaN and infinity are counted and
        else left out.
    read
        What `array` is of: `write` and, where the volume goes on, `HALO` voxels beyond it.
    write
        The block itself. The blocks of a volume cover it once.
    shape
        Of the volume.

    Returns
    -------
    dict
        For each of the d sections of the block:

        - ``count``, ``total``, ``squares`` (d,): finite pixels, their sum and their sum of squares
          after subtraction of ``pivot``; exact integers for up to 16 bits;
        - ``not_finite`` (d,): the other pixels;
        - ``lowest``, ``at_lowest``, ``highest``, ``at_highest`` (d,): the extremes, and at how many
          pixels they are;
        - ``pairs``, ``steps`` (d, 3): pairs of pixels `LAGS` apart along y or x, and the sum of
          their squared differences;
        - ``bends`` (d,): the sum of squared second differences along y and x, of noise mainly;
        - ``cells`` (d, y, x): sums over cells of `cell_side` pixels of the volume;
        - ``at``, ``shape`` (3,): the first section and the row and the column of the first cell;
          that of the volume.

    Raises
    ------
    InputError
        If `array` is not of `read`, or `read` lacks a part of the halo.
    """
    if array.shape != read.shape or len(shape) != 3:
        raise InputError(f"a block of shape {array.shape} is no array of the box {read.shape}")
    needed = write.grow(HALO).clip(Box.of(shape))
    if any(a < b for a, b in zip(read.stop, needed.stop, strict=True)) or write.clip(read) != write:
        raise InputError(
            f"a block {write.start} to {write.stop} is judged with {HALO[1]} pixels beyond it, and"
            f" only {read.start} to {read.stop} were read; read more"
        )
    side = cell_side(shape[1:])
    # Nothing before the block is looked at, and beyond it only what the volume has.
    ahead = Box(write.start, needed.stop)
    found = [
        _section(section, write.shape[1:], [start % side for start in write.start[1:]], side)
        for section in array[ahead.within(read).slices]
    ]
    table = {name: np.array([row[name] for row in found]) for name in found[0]}
    table["at"] = np.array([write.start[0], *(start // side for start in write.start[1:])])
    return table | {"shape": np.array(shape)}


def pool(tables: Iterable[Mapping[str, NDArray[Any]]]) -> Table:
    """Add up the tables of blocks; the result is one too, of the whole volume.

    Parameters
    ----------
    tables
        From `block_statistics`, or from here.

    Returns
    -------
    dict
        As `block_statistics` of the whole volume in one block: bit for bit for integers of up to
        16 bits. Sums of others differ by rounding between blocks of other shapes, not between
        other orders of the blocks.

    Raises
    ------
    InputError
        If there are none, or they are of volumes of different shapes.
    """
    given = sorted(tables, key=lambda table: (*table["at"].tolist(), *table["cells"].shape))
    if not given:
        raise InputError("there are no tables of blocks to add up")
    depth, *section = given[0]["shape"].tolist()
    if any(table["shape"].tolist() != [depth, *section] for table in given):
        raise InputError("tables of volumes of different shapes cannot be added up")
    side = cell_side(section)
    cells = [-(-length // side) for length in section]
    whole = {
        name: np.zeros((depth, *rows.shape[1:]), rows.dtype)
        for name, rows in given[0].items()
        if name not in ("at", "shape")
    }
    whole["cells"] = np.zeros((depth, *cells), np.float32)
    whole["lowest"][:], whole["highest"][:] = np.inf, -np.inf
    for table in given:
        first, row, column = table["at"].tolist()
        part = slice(first, first + len(table["count"]))
        _rebase(whole, table, part)
        _extremes(whole, table, part)
        height, width = table["cells"].shape[1:]
        whole["cells"][part, row : row + height, column : column + width] += table["cells"]
    return whole | {"at": np.zeros(3, np.int64), "shape": given[0]["shape"]}


def moments(pooled: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of every section, as a section's own pixels give them.

    Parameters
    ----------
    pooled
        From `pool`.

    Returns
    -------
    tuple
        Shape (Z,) each; NaN where no pixel is finite.
    """
    mean, deviation = np.full((2, len(pooled["count"])), np.nan)
    names = ("count", "total", "squares", "pivot")
    for z, (count, total, squares, pivot) in enumerate(
        zip(*(pooled[name].tolist() for name in names), strict=True)
    ):
        if count:
            # Python's integers are exact, and so is the difference that would cancel in floats.
            mean[z] = pivot + total / count
            spread = (count * squares - total * total) / (count * count)
            deviation[z] = math.sqrt(max(spread, 0.0))
    return mean, deviation


def _section(
    section: NDArray[Any], core: tuple[int, ...], phase: list[int], side: int
) -> dict[str, Any]:
    """Return the sums of the first `core` rows and columns of a section."""
    exact = section.dtype.kind in "biu" and section.dtype.itemsize <= 2
    values = section if exact else section.astype(np.float64)
    finite = np.isfinite(values) if section.dtype.kind == "f" else None
    if finite is not None and finite.all():
        finite = None
    inner = values[: core[0], : core[1]]
    counted = inner.ravel() if finite is None else inner[finite[: core[0], : core[1]]]
    pivot: float = _PIVOT.get(section.dtype.name, 0)
    if not exact and counted.size:
        pivot = float(counted.mean())
    if finite is not None:
        values = np.where(finite, values, pivot)
    row: dict[str, Any] = {"count": counted.size, "not_finite": inner.size - counted.size}
    row |= {"pivot": pivot, **_ends(counted)}
    row |= _sums(values, finite, core, pivot, whole=exact)
    edges = [
        np.r_[0, np.arange(side - shift, length, side)]
        for shift, length in zip(phase, core, strict=True)
    ]
    kind = np.int64 if exact else np.float64
    across = np.add.reduceat(values[: core[0], : core[1]], edges[1], axis=1, dtype=kind)
    # Sums of small integers are whole numbers below 2²⁴ in all but the largest cells.
    return row | {"cells": np.add.reduceat(across, edges[0], axis=0).astype(np.float32)}


def _sums(
    values: NDArray[Any],
    finite: NDArray[np.bool_] | None,
    core: tuple[int, ...],
    pivot: float,
    *,
    whole: bool,
) -> dict[str, Any]:
    """Return sums of values, squares and squared differences, strip by strip."""
    height, width = core
    kind: Callable[[Any], float] = int if whole else float
    total, squares = kind(0), kind(0)
    pairs, steps, bends = np.zeros(len(LAGS), np.int64), np.zeros(len(LAGS)), 0.0
    tall = max(1, _STRIP // width)
    for first in range(0, height, tall):
        rows = min(tall, height - first)
        strip = values[first : first + rows + max(LAGS)].astype(np.float64) - pivot
        known = None if finite is None else finite[first : first + rows + max(LAGS)]
        core_strip = strip[:rows, :width]
        total += kind(core_strip.sum())
        squares += kind((core_strip**2).sum())
        for number, lag in enumerate(LAGS):
            for axis in (0, 1):
                step = _step(strip, rows, width, lag, axis)
                if known is None:
                    pairs[number] += step.size
                else:
                    near, far = _ends_of(known, rows, width, lag, axis)
                    step = step[near & far]
                    pairs[number] += step.size
                steps[number] += float((step**2).sum())
        bent = np.diff(np.diff(strip[: rows + 2, : width + 2], 2, axis=0), 2, axis=1)
        bends += float((bent**2).sum())
    return {"total": total, "squares": squares, "pairs": pairs, "steps": steps, "bends": bends}


def _ends_of(
    strip: NDArray[Any], rows: int, width: int, lag: int, axis: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixels of the core and those `lag` farther, where both are there."""
    far = strip[lag : lag + rows, :width] if axis == 0 else strip[:rows, lag : lag + width]
    return strip[: far.shape[0], : far.shape[1]], far


def _step(strip: NDArray[Any], rows: int, width: int, lag: int, axis: int) -> NDArray[Any]:
    near, far = _ends_of(strip, rows, width, lag, axis)
    return np.asarray(far - near)


def _ends(values: NDArray[Any]) -> dict[str, Any]:
    """Return the lowest and the highest value, and how often they are there."""
    if not values.size:
        return {"lowest": np.inf, "at_lowest": 0, "highest": -np.inf, "at_highest": 0}
    lowest, highest = values.min(), values.max()
    return {
        "lowest": float(lowest),
        "at_lowest": np.count_nonzero(values == lowest),
        "highest": float(highest),
        "at_highest": np.count_nonzero(values == highest),
    }


def _rebase(whole: Table, table: Mapping[str, NDArray[Any]], part: slice) -> None:
    """Add up sums, those about another pivot after a change to the first one."""
    first = whole["count"][part] == 0
    whole["pivot"][part] = np.where(first, table["pivot"], whole["pivot"][part])
    off = table["pivot"] - whole["pivot"][part]
    added = {name: table[name] for name in _ADDED}
    if off.any():
        count, total = table["count"], table["total"]
        added["total"] = total + count * off
        added["squares"] = table["squares"] + 2 * off * total + count * off**2
    for name, rows in added.items():
        whole[name][part] += rows


def _extremes(whole: Table, table: Mapping[str, NDArray[Any]], part: slice) -> None:
    for name, better in (("lowest", np.less), ("highest", np.greater)):
        best, many = whole[name][part], whole[f"at_{name}"][part]
        wins, equal = better(table[name], best), table[name] == best
        many += np.where(equal, table[f"at_{name}"], 0)
        many[wins], best[wins] = table[f"at_{name}"][wins], table[name][wins]
