"""From the results of cells to the table of methods, the best first."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.compare.cells import AXES, PARTS
from axolemma.compare.comparison import Comparison, Row
from axolemma.metrics import SCORES, interval
from axolemma.metrics.ranking import (
    average_ranks,
    cliques,
    critical_difference,
    friedman,
    paired_tests,
    verdict,
)


def ranked(
    settings: dict[str, Any],
    results: list[dict[str, Any]],
    failed: dict[str, str],
    missing: tuple[str, ...],
) -> Comparison:
    """Rank the methods over the sections that all of them were tested on."""
    per_method: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for result in results:
        per_method.setdefault(tuple(result[part] for part in PARTS), []).append(result)
    tested = [{z for cell in cells for z in cell["sections"]} for cells in per_method.values()]
    sections = tuple(sorted(set.intersection(*tested))) if tested else ()
    empty = Comparison(
        settings, (), sections, (), None, None, (), (), (), failed, missing, tuple(results)
    )
    if not sections:
        return replace(empty, verdict=("No section was tested with every method yet.",))
    tables = {
        method: {name: _by_section(cells, name, sections) for name in SCORES}
        for method, cells in per_method.items()
    }
    order = sorted(tables, key=lambda method: -tables[method]["v_rand"].mean())
    table = np.stack([tables[method]["v_rand"] for method in order], axis=1)
    ranks = average_ranks(table)
    varied = [part for part, axis in zip(PARTS, AXES, strict=False) if len(settings[axis]) > 1]
    rows = tuple(
        _row(
            ", ".join(method[PARTS.index(part)] for part in varied) or method[0],
            per_method[method],
            {name: float(values.mean()) for name, values in tables[method].items()},
            tables[method]["v_rand"],
            float(rank),
            sections,
        )
        for method, rank in zip(order, ranks, strict=True)
    )
    count = len(rows)
    apart = critical_difference(count, len(sections)) if count > 1 else None
    seeds = min(row.seeds for row in rows)
    return replace(
        empty,
        rows=rows,
        pairs=tuple(paired_tests(table)),
        friedman=friedman(table) if count > 2 and len(sections) > 1 else None,
        critical_difference=apart,
        cliques=tuple(cliques(ranks, apart)) if apart is not None else (),
        verdict=tuple(verdict([row.name for row in rows], table, seeds=seeds)),
        notes=tuple(_notes(rows, results, failed, missing)),
    )


def _by_section(
    cells: list[dict[str, Any]], name: str, sections: Sequence[int]
) -> NDArray[np.float64]:
    """Return score `name` of each section, averaged over the seeds that there are."""
    found: dict[int, list[float]] = {}
    for cell in cells:
        # A score may be younger than the cell.
        values = cell["scores"].get(name, [np.nan] * len(cell["sections"]))
        for z, value in zip(cell["sections"], values, strict=True):
            found.setdefault(z, []).append(value)
    return np.array([np.mean(found[z]) for z in sections])


def _row(
    name: str,
    cells: list[dict[str, Any]],
    scores: dict[str, float],
    per_section: NDArray[np.float64],
    rank: float,
    sections: tuple[int, ...],
) -> Row:
    per_seed: dict[int, dict[int, float]] = {}
    for cell in cells:
        values = dict(zip(cell["sections"], cell["scores"]["v_rand"], strict=True))
        per_seed.setdefault(cell["seed"], {}).update(values)
    means = [np.mean([of[z] for z in sections]) for of in per_seed.values() if {*sections} <= {*of}]
    first = cells[0]
    sizes = [len(cell["sections"]) for cell in cells]

    def most(key: str) -> float | None:
        return max((cell[key] for cell in cells if cell[key] is not None), default=None)

    return Row(
        name=name,
        model=first["model"],
        loss=first["loss"],
        preset=first["preset"],
        arguments=first["arguments"],
        scores=scores,
        best={
            best: float(np.average([cell["best"][best] for cell in cells], weights=sizes))
            for best in ("v_rand", "v_info")
        },
        rank=rank,
        interval=interval(per_section),
        over_sections=_deviation(per_section),
        over_seeds=_deviation(means),
        seeds=len(per_seed),
        sections=len(sections),
        training_seconds=float(np.mean([cell["training_seconds"] for cell in cells])),
        steps=float(np.mean([cell["steps"] for cell in cells])),
        prediction_seconds=sum(cell["prediction_seconds"] for cell in cells) / sum(sizes),
        memory_mib=most("memory_mib"),
        device_memory_mib=most("device_memory_mib"),
        parameters=first["parameters"],
        gflop_per_megapixel=first["gflop_per_megapixel"],
    )


def _deviation(values: Sequence[Any] | NDArray[np.float64]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _notes(
    rows: tuple[Row, ...],
    results: list[dict[str, Any]],
    failed: Mapping[str, str],
    missing: Sequence[str],
) -> Iterator[str]:
    """Say what makes the cells less comparable than they should be."""
    if failed or missing:
        yield (
            f"{len(failed)} cells failed and {len(missing)} were not run yet: the ranking is over "
            f"the {rows[0].sections} sections that every method in it was tested on"
        )
    if len({row.seeds for row in rows}) > 1:
        each = ", ".join(f"{row.name} {row.seeds}" for row in rows)
        yield f"the methods do not have equally many seeds yet: {each}"
    for key, what in (
        ("machine", "machines"),
        ("device", "devices"),
        ("precision", "precisions"),
        ("versions", "versions"),
        ("jobs", "numbers of cells at once"),
    ):
        kinds = sorted({json.dumps(cell[key]) for cell in results})
        if len(kinds) > 1:
            yield f"cells ran with different {what}: {'; '.join(kinds).replace(chr(34), '')}"
    if max(cell["jobs"] for cell in results) > 1:
        yield "cells ran side by side and slowed each other down: times are no measure of speed"
