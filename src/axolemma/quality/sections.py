"""The sections of a stack in memory, judged, and the judgement as a file."""

import csv
import math
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.geometry import Box, grid
from axolemma.images import Volume, replacing
from axolemma.quality.judgement import SectionReport, judge, usable
from axolemma.quality.shifts import section_shifts
from axolemma.quality.statistics import HALO, Table, block_statistics, pool

__all__ = ["as_dict", "check_stack", "check_volume", "write_csv"]

VoxelSize = tuple[float, float, float]

_SIDE = 2048  # px, the side of what is looked at at once


def check_stack(stack: NDArray[Any], *, first: int = 0) -> list[SectionReport]:
    """Say what is wrong with each section of a stack.

    Parameters
    ----------
    stack
        Grey values (Z, Y, X), any real dtype; constant sections, NaN and infinity are findings.
    first
        Number of the first section, in what is told.

    Returns
    -------
    list of SectionReport
        One for each section.

    Raises
    ------
    InputError
        If the array is no stack of real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.random.default_rng(0).normal(size=(5, 32, 32))
    >>> stack[2] = 0
    >>> [report.kinds for report in check_stack(stack)][1:4]
    [(), ('missing',), ()]
    """
    if stack.ndim != 3 or not stack.size or stack.dtype.kind not in "buif":
        raise InputError(
            f"a stack is an array of real numbers (Z, Y, X), not {stack.dtype} {stack.shape}"
        )
    whole = Box.of(stack.shape)
    pooled = pool([block_statistics(stack, read=whole, write=whole, shape=stack.shape)])
    shifts = section_shifts(lambda box: stack[box.slices], stack.shape, usable(pooled))
    return judge(pooled, shifts, first=first)


def check_volume(
    volume: Volume, *, advance: Callable[[int], None] = lambda _: None
) -> list[SectionReport]:
    """Say what is wrong with each section of a volume that need not fit into memory.

    Parameters
    ----------
    volume
        From `images.open_volume`.
    advance
        Called with the number of voxels that were looked at.

    Returns
    -------
    list of SectionReport
        One for each section; those of `check_stack`.
    """
    whole = Box.of(volume.shape)
    # Whole blocks of the file, some of them at once within a section.
    block = (
        volume.block[0],
        *(side * max(1, _SIDE // side) for side in volume.block[1:]),
    )
    pooled: Table | None = None
    for _, slab in groupby(grid(volume.shape, block), key=lambda box: box.start[0]):
        tables = [] if pooled is None else [pooled]
        for write in slab:
            read = write.grow(HALO).clip(whole)
            tables.append(
                block_statistics(volume.read(read), read=read, write=write, shape=volume.shape)
            )
            advance(math.prod(write.shape))
        pooled = pool(tables)
    if pooled is None:
        raise InputError(f"{volume.source}: the volume is empty, its shape is {volume.shape}")
    return judge(pooled, section_shifts(volume.read, volume.shape, usable(pooled)))


def as_dict(report: SectionReport, voxel_size: VoxelSize | None = None) -> dict[str, Any]:
    """Return a report as what JSON can hold; None for what is not known.

    Parameters
    ----------
    report
        Of one section.
    voxel_size
        (Z, Y, X) in nm; gives the shift in nm besides.
    """
    shift = report.shift
    told: dict[str, Any] = {"section": report.section}
    for name in ("mean", "deviation", "sharpness", "noise"):
        value = getattr(report, name)
        told[name] = float(f"{value:.6g}") if math.isfinite(value) else None
    told["not_finite"] = report.not_finite
    told["shift_px"] = None if shift is None else [shift.rows, shift.columns]
    if voxel_size is not None:
        told["shift_nm"] = (
            None
            if shift is None
            else [round(shift.rows * voxel_size[1], 3), round(shift.columns * voxel_size[2], 3)]
        )
    told["likeness"] = None if shift is None else round(shift.likeness, 4)
    told["findings"] = [
        {"kind": finding.kind, "says": finding.says, "treatment": finding.treatment}
        for finding in report.findings
    ]
    return told


def write_csv(
    path: str | Path, reports: Sequence[SectionReport], voxel_size: VoxelSize | None = None
) -> None:
    """Write a line for each section, with findings or without.

    Parameters
    ----------
    path
        The file; an existing one is replaced, at the end and in one go.
    reports
        From `check_stack` or `judge`.
    voxel_size
        (Z, Y, X) in nm; adds columns of shifts in nm.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    lines = [_line(as_dict(report, voxel_size)) for report in reports]
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _line(told: dict[str, Any]) -> dict[str, Any]:
    """Return a report with one value a column."""
    findings = told.pop("findings")
    line: dict[str, Any] = {}
    for name, value in told.items():
        if name.startswith("shift"):
            what, unit = name.split("_")
            line |= dict(
                zip((f"{what}_y_{unit}", f"{what}_x_{unit}"), value or ("", ""), strict=True)
            )
        else:
            line[name] = "" if value is None else value
    for column, key in (("kinds", "kind"), ("findings", "says"), ("treatment", "treatment")):
        line[column] = "; ".join(dict.fromkeys(finding[key] for finding in findings))
    return line
