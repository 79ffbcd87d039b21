"""Sums over the blocks of a volume that tell, added up, what each of its sections is like."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from axolemma.engines.cores import cores
from axolemma.errors import InputError
from axolemma.geometry import Box
from axolemma.padding import Frame, padded, plain_cells

__all__ = [
    "CELL",
    "FARTHEST",
    "HALO",
    "LAGS",
    "Contrast",
    "Table",
    "block_statistics",
    "cell_side",
    "contrast",
    "contrast_of",
    "grey_sums",
    "moments",
    "normalise",
    "pool",
    "spikes",
]

#: Small arrays by name, as `block_statistics` makes them and `pool` adds them up.
Table = dict[str, NDArray[Any]]

#: Distances in pixels over which grey values are compared.
LAGS = (1, 2, 8)
#: Voxels beyond a block that are looked at.
HALO = (0, max(LAGS), max(LAGS))
#: Side in pixels of the cells whose mean grey values are a small picture of each section, and the
#: number of them along a side from which on they are larger.
CELL, _MOST_CELLS = 8, 256

#: Pixels that are added up in one go, and such strips from which on threads share them.
_STRIP, _MANY = 2**20, 8
#: Share of a section's pixels from which on those at its lowest or highest grey value may be
#: padding, and what must be left for them to be: else it is a drawing, not tissue.
_PADDED, _TISSUE = 0.02, 0.1

#: Deviations from a section's mean beyond which its extremes are spikes of a detector, and how far
#: from the middle 98 % of its values, measured by these, others are left out of its contrast.
_SPIKES, _BEYOND = 25, 1.0

#: Deviations from the mean beyond which grey values are a detector's spikes, not those of tissue.
FARTHEST = 8.0

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
    array: NDArray[Any],
    *,
    read: Box,
    write: Box,
    shape: tuple[int, ...],
    tissue: NDArray[np.bool_] | None = None,
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
    tissue
        Which voxels of `read` count at all; None for all.

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
        - ``cells`` (d, y, x): sums over cells of `cell_side` pixels of the volume, NaN of those
          that are not all tissue;
        - ``at``, ``shape`` (3,): the first section and the row and the column of the first cell;
          that of the volume.

    Raises
    ------
    InputError
        If `array` or `tissue` is not of `read`, or `read` lacks a part of the halo.
    """
    for given in (array, *([] if tissue is None else [tissue])):
        if given.shape != read.shape or len(shape) != 3:
            raise InputError(f"a block of shape {given.shape} is no array of the box {read.shape}")
    needed = write.grow(HALO).clip(Box.of(shape))
    if any(a < b for a, b in zip(read.stop, needed.stop, strict=True)) or write.clip(read) != write:
        raise InputError(
            f"a block {write.start} to {write.stop} is judged with {HALO[1]} pixels beyond it, and"
            f" only {read.start} to {read.stop} were read; read more"
        )
    side = cell_side(shape[1:])
    # Nothing before the block is looked at, and beyond it only what the volume has.
    ahead = Box(write.start, needed.stop).within(read).slices
    phase = [start % side for start in write.start[1:]]
    counted = [None] * write.shape[0] if tissue is None else tissue[ahead]
    found = [
        _section(section, where, write.shape[1:], phase, side)
        for section, where in zip(array[ahead], counted, strict=True)
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


def grey_sums(section: NDArray[Any], counted: NDArray[np.bool_] | None = None) -> Table:
    """Return the sums of one section that `contrast` needs.

    Parameters
    ----------
    section
        Grey values (Y, X), any real dtype.
    counted
        Which pixels count; all where None.

    Returns
    -------
    dict
        As of `block_statistics`, what is of grey values alone, of one section.
    """
    values, known, lost = _known(section, counted)
    return {name: np.array([value]) for name, value in _grey(values, known, lost).items()}


class Contrast(NamedTuple):
    """By what a section is normalised.

    Parameters
    ----------
    mean, deviation
        Of its grey values, but for those that may be padding.
    padding
        The lowest or the highest of its grey values, or both, where so many pixels have it that a
        frame of it may lie around the tissue, see `padding.padded`.
    frame
        Where that is; None where there is no padding, or it is not known.
    """

    mean: float
    deviation: float
    padding: tuple[float, ...] = ()
    frame: Frame | None = None


def contrast(table: Mapping[str, NDArray[Any]], z: int = 0) -> Contrast:
    """Return mean and standard deviation of a section, by which it is normalised.

    Parameters
    ----------
    table
        From `pool` or `grey_sums`, which does not tell where a frame is.
    z
        Which of its sections.

    Raises
    ------
    InputError
        If a pixel is not finite, all are equal, or there are none.
    """
    row = {name: table[name][z : z + 1] for name in ("count", "total", "squares", "pivot")}
    (mean,), (deviation,) = moments(row)
    if table["not_finite"][z]:
        raise InputError("a section holds values that are not finite (NaN or infinity)")
    if not table["count"][z]:
        raise InputError("a section has no pixel that counts")
    if table["lowest"][z] == table["highest"][z]:
        raise InputError(f"all pixels of a section are {mean:g}; there is nothing to see")
    count, padding = row["count"][0], []
    for end in ("lowest", "highest"):
        value, many = table[end][z], table[f"at_{end}"][z]
        if many > _PADDED * count:
            padding.append(float(value))
            off = type(row["total"][0].item())(value - row["pivot"][0])
            row["count"] = row["count"] - many
            row["total"] = row["total"] - many * off
            row["squares"] = row["squares"] - many * off**2
    if padding and row["count"][0] > _TISSUE * count:
        (inner,), (spread,) = moments(row)
        if spread > 0:
            frame = _frame(table, z, padding) if "cells" in table else None
            return Contrast(float(inner), float(spread), tuple(padding), frame)
    return Contrast(float(mean), float(deviation))


def contrast_of(section: NDArray[Any]) -> Contrast:
    """Return the contrast of a section (Y, X), any real dtype, and where its frame is.

    Spikes, a few values that are far off all others, do not count.

    Raises
    ------
    InputError
        As `contrast`.
    """
    sums = grey_sums(section)
    found = contrast(sums)
    if spikes(sums, found):
        low, high = _usual(section, found.padding)
        if low < high:
            usual = (section >= low) & (section <= high) | np.isin(section, found.padding)
            found = contrast(grey_sums(section, usual))
    if not found.padding:
        return found
    side = cell_side(section.shape)
    cells = (plain_cells(section, value, side) for value in found.padding)
    return found._replace(frame=Frame.of(cells, side, section.shape))


def normalise(section: NDArray[Any], of: Contrast | None = None) -> NDArray[np.float32]:
    """Shift and scale the grey values of one section to mean 0 and standard deviation 1.

    Every section on its own, since contrast changes from one section to the next. A frame around
    the tissue, where that contrast tells of one, does not count and becomes 0, grey. What is
    farther off than `FARTHEST` deviations, as no tissue is, comes nearer.

    Parameters
    ----------
    section
        (Y, X), any real dtype, finite.
    of
        What to go by: that of the whole, where this is a part.

    Raises
    ------
    InputError
        If all its pixels are equal or one is not finite.
    """
    by = contrast_of(section) if of is None else of
    found = np.asarray((section - np.float64(by.mean)) / by.deviation, np.float32)
    np.clip(found, -FARTHEST, FARTHEST, out=found)
    outside = padded(section, by.padding)
    if outside is not None:
        found[outside] = 0
    return found


def spikes(table: Mapping[str, NDArray[Any]], of: Contrast, z: int = 0) -> list[float]:
    """Return which extremes of a section are so far off that they are no tissue's, nor padding.

    Parameters
    ----------
    table
        From `pool` or `grey_sums`.
    of
        The contrast of the section by it.
    z
        Which of its sections.
    """
    ends = (float(table[end][z]) for end in ("lowest", "highest"))
    far = _SPIKES * of.deviation
    return [value for value in ends if abs(value - of.mean) > far and value not in of.padding]


def _usual(section: NDArray[Any], padding: tuple[float, ...]) -> tuple[float, float]:
    """Return between which values nearly all of a section lie, with something to spare."""
    y, x = (max(1, side // 512) for side in section.shape)
    sample = section[::y, ::x].astype(np.float64)
    sample = sample[~np.isin(sample, padding)]
    if not sample.size:
        return 0.0, 0.0
    low, high = np.percentile(sample, (1, 99)).tolist()
    spare = _BEYOND * (high - low)
    return low - spare, high + spare


def _frame(table: Mapping[str, NDArray[Any]], z: int, padding: Iterable[float]) -> Frame:
    """Return the frame of a section by the sums over its cells.

    Which are so many times the lowest or the highest value only where there is no other.
    """
    shape = table["shape"][1:].tolist()
    side = cell_side(shape)
    rows, columns = (np.minimum(side, n - np.arange(0, n, side)) for n in shape)
    means = table["cells"][z] / np.outer(rows, columns)
    return Frame.of([np.isclose(means, value, rtol=1e-6, atol=0) for value in padding], side, shape)


def _known(
    section: NDArray[Any], counted: NDArray[np.bool_] | None
) -> tuple[NDArray[Any], NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Return grey values to be summed up, which of them count, and which would if they were finite.

    None where all count, or are finite.
    """
    values = section if _whole(section.dtype) else section.astype(np.float64)
    finite = np.isfinite(values) if section.dtype.kind == "f" else None
    if finite is None or finite.all():
        return values, counted, None
    lost = ~finite if counted is None else counted & ~finite
    return values, finite if counted is None else counted & finite, lost


def _whole(dtype: np.dtype[Any]) -> bool:
    """Tell whether sums of such numbers are whole numbers that 64 bits hold."""
    return dtype.kind in "biu" and dtype.itemsize <= 2


def _grey(
    values: NDArray[Any], known: NDArray[np.bool_] | None, lost: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """Return the sums of grey values (Y, X)."""
    some = values.ravel() if known is None else values[known]
    exact = _whole(some.dtype)
    if some.size:
        sums = _of_whole(some) if exact else _of_real(some)
    else:
        sums = dict.fromkeys(("pivot", "total", "squares"), 0 if exact else 0.0)
        sums |= {"lowest": np.inf, "at_lowest": 0, "highest": -np.inf, "at_highest": 0}
    lost_many = 0 if lost is None else np.count_nonzero(lost)
    return {"count": some.size, "not_finite": lost_many, **sums}


def _of_whole(values: NDArray[Any]) -> dict[str, float]:
    """Return exact sums and the ends of whole numbers (N,), from how often each is there."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    bits = native.view(f"u{native.itemsize}")
    tally = sum(_by_strip(_tally, bits), np.zeros(256**native.itemsize, np.int64))
    there = np.flatnonzero(tally)
    many, found = tally[there], there.astype(bits.dtype).view(native.dtype).astype(np.int64)
    low, high = found.argmin(), found.argmax()
    pivot = _PIVOT.get(native.dtype.name, 0)
    off = found - pivot
    return {
        "pivot": pivot,
        "total": int(many @ off),
        "squares": int(many @ off**2),
        "lowest": float(found[low]),
        "at_lowest": int(many[low]),
        "highest": float(found[high]),
        "at_highest": int(many[high]),
    }


def _tally(strip: NDArray[Any]) -> NDArray[np.int64]:
    """Count how often each number of 8 or 16 bits, from 0 on, is in a strip (N,)."""
    if strip.itemsize == 2:
        return np.bincount(strip, minlength=256**2)
    # Two at once take hardly longer than one.
    odd = strip[strip.size // 2 * 2 :]
    pairs = np.bincount(strip[: strip.size - odd.size].view(np.uint16), minlength=256**2)
    pairs = pairs.reshape(256, 256)
    return np.asarray(pairs.sum(0) + pairs.sum(1) + np.bincount(odd, minlength=256))


def _of_real(values: NDArray[Any]) -> dict[str, float]:
    """Return sums, in float64, and the ends of numbers (N,)."""
    pivot = float(values.mean())

    def sums(strip: NDArray[Any]) -> tuple[float, float, float, float]:
        off = strip.astype(np.float64) - pivot
        return float(off.sum()), float((off**2).sum()), float(strip.min()), float(strip.max())

    totals, squares, lows, highs = zip(*_by_strip(sums, values), strict=True)
    lowest, highest = min(lows), max(highs)

    def ends(strip: NDArray[Any]) -> tuple[int, int]:
        return int(np.count_nonzero(strip == lowest)), int(np.count_nonzero(strip == highest))

    at_lowest, at_highest = zip(*_by_strip(ends, values), strict=True)
    return {
        "pivot": pivot,
        "total": sum(totals),
        "squares": sum(squares),
        "lowest": lowest,
        "at_lowest": sum(at_lowest),
        "highest": highest,
        "at_highest": sum(at_highest),
    }


def _by_strip(work: Callable[[NDArray[Any]], Any], values: NDArray[Any]) -> Iterator[Any]:
    """Do some work on values (N,), strip by strip, side by side where there are many."""
    strips = [values[first : first + _STRIP] for first in range(0, values.size, _STRIP)]
    if len(strips) < _MANY:
        yield from map(work, strips)
        return
    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(work, strips)


def _section(
    section: NDArray[Any],
    counted: NDArray[np.bool_] | None,
    core: tuple[int, ...],
    phase: list[int],
    side: int,
) -> dict[str, Any]:
    """Return the sums of the first `core` rows and columns of a section."""
    values, known, lost = _known(section, counted)
    here = np.s_[: core[0], : core[1]]
    row = _grey(values[here], *(None if part is None else part[here] for part in (known, lost)))
    if known is not None:
        values = np.where(known, values, np.asarray(row["pivot"], values.dtype))
    row |= _differences(values, known, core, row["pivot"])
    edges = [
        np.r_[0, np.arange(side - shift, length, side)]
        for shift, length in zip(phase, core, strict=True)
    ]

    def by_cell(part: NDArray[Any], kind: Any) -> NDArray[Any]:
        across = np.add.reduceat(part[here], edges[1], axis=1, dtype=kind)
        return np.asarray(np.add.reduceat(across, edges[0], axis=0))

    # Sums of small integers are whole numbers below 2²⁴ in all but the largest cells.
    cells = by_cell(values, np.int64 if _whole(values.dtype) else np.float64).astype(np.float32)
    if counted is not None:
        cells[by_cell(~counted, np.int64) > 0] = np.nan
    return row | {"cells": cells}


def _differences(
    values: NDArray[Any], known: NDArray[np.bool_] | None, core: tuple[int, ...], pivot: float
) -> dict[str, Any]:
    """Return sums of squared differences, strip by strip."""
    height, width = core
    pairs, steps, bends = np.zeros(len(LAGS), np.int64), np.zeros(len(LAGS)), 0.0
    tall = max(1, _STRIP // width)
    for first in range(0, height, tall):
        rows = min(tall, height - first)
        strip = values[first : first + rows + max(LAGS)].astype(np.float64) - pivot
        there = None if known is None else known[first : first + rows + max(LAGS)]
        for number, lag in enumerate(LAGS):
            for axis in (0, 1):
                step = _step(strip, rows, width, lag, axis)
                if there is not None:
                    near, far = _ends_of(there, rows, width, lag, axis)
                    step = step[near & far]
                pairs[number] += step.size
                steps[number] += float((step**2).sum())
        bent = np.diff(np.diff(strip[: rows + 2, : width + 2], 2, axis=0), 2, axis=1)
        if there is not None:
            bent = bent[_surrounded(there[: rows + 2, : width + 2])]
        bends += float((bent**2).sum())
    return {"pairs": pairs, "steps": steps, "bends": bends}


def _surrounded(there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which pixels, but for the outermost ones, are there with all eight around them."""
    column = there[:-2] & there[1:-1] & there[2:]
    return np.asarray(column[:, :-2] & column[:, 1:-1] & column[:, 2:])


def _ends_of(
    strip: NDArray[Any], rows: int, width: int, lag: int, axis: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixels of the core and those `lag` farther, where both are there."""
    far = strip[lag : lag + rows, :width] if axis == 0 else strip[:rows, lag : lag + width]
    return strip[: far.shape[0], : far.shape[1]], far


def _step(strip: NDArray[Any], rows: int, width: int, lag: int, axis: int) -> NDArray[Any]:
    near, far = _ends_of(strip, rows, width, lag, axis)
    return np.asarray(far - near)


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
