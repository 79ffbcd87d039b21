"""What a comparison found, as values, as a table and as a picture."""

import csv
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from axolemma.charts import critical_difference_svg
from axolemma.compare.cells import Cell
from axolemma.errors import AxolemmaError
from axolemma.images import replacing
from axolemma.metrics import SCORES, Interval
from axolemma.metrics.ranking import Pair

#: What a table spreads over columns of its own, or writes otherwise.
_NESTED = {"arguments", "scores", "best", "interval"}


@dataclass(frozen=True, slots=True)
class Row:
    """One method's results, over the sections that all methods were tested on.

    Parameters
    ----------
    name
        The parts of the method in which the compared ones differ.
    model, loss, preset
        The method.
    arguments
        Of its network, width and depth among them.
    scores
        For every name in `metrics.SCORES` the mean at the threshold that validation chose, over
        the seeds of each section and then over the sections.
    best
        V_rand and V_info at the threshold that is best on each fold's own test sections; this, the
        times and the memory are over all of its cells.
    rank
        Mean over the sections of its rank by V_rand, 1 = best.
    interval
        Bootstrap interval of the mean V_rand over the sections.
    over_sections, over_seeds
        Standard deviation of V_rand over the sections, and of its mean over the seeds; None where
        there is one.
    seeds, sections
        How many.
    training_seconds, steps
        Mean of its trainings.
    prediction_seconds
        Mean per section.
    memory_mib, device_memory_mib
        The most that a cell's process held until it had predicted, in main memory and on a GPU.
    parameters, gflop_per_megapixel
        Of its network.
    """

    name: str
    model: str
    loss: str
    preset: str
    arguments: dict[str, Any]
    scores: dict[str, float]
    best: dict[str, float]
    rank: float
    interval: Interval
    over_sections: float | None
    over_seeds: float | None
    seeds: int
    sections: int
    training_seconds: float
    steps: float
    prediction_seconds: float
    memory_mib: float | None
    device_memory_mib: float | None
    parameters: int
    gflop_per_megapixel: float


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Parameters
    ----------
    settings
        As they stand in ``comparison.json``.
    rows
        The methods by mean thinned V_rand, the best first; those without a result are left out.
    sections
        The sections that all of these were tested on, the blocks of every test.
    pairs
        Every two of the methods; their numbers count `rows`.
    friedman
        Statistic and p of Friedman's test, None for fewer than three methods or two sections.
    critical_difference
        Of average ranks, None for fewer than two methods.
    cliques
        Groups of methods, by their place in `rows`, that ranks cannot tell apart.
    verdict
        What the data can and cannot tell apart, in sentences.
    notes
        What makes the cells less comparable, in sentences.
    failed
        For every cell that failed, by its key, why.
    missing
        Keys of the cells that were not run yet.
    cells
        What ``result.json`` of every finished cell holds.
    """

    settings: dict[str, Any]
    rows: tuple[Row, ...]
    sections: tuple[int, ...]
    pairs: tuple[Pair, ...]
    friedman: tuple[float, float] | None
    critical_difference: float | None
    cliques: tuple[tuple[int, ...], ...]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]
    failed: dict[str, str]
    missing: tuple[str, ...]
    cells: tuple[dict[str, Any], ...]

    def check(self) -> None:
        """Raise `AxolemmaError` where cells failed, with the first reason."""
        if not self.failed:
            return
        key, reason = next(iter(self.failed.items()))
        count = len(self.failed) + len(self.missing) + len(self.cells)
        raise AxolemmaError(
            f"{len(self.failed)} of {count} cells failed, the first of them {key}: {reason}; "
            "repeat the command to try them again, or without them to leave them out"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON; pairs and cliques by the methods' names, cells with keys."""
        found = asdict(self)
        names = [row.name for row in self.rows]
        for pair in found["pairs"]:
            pair |= {"one": names[pair["one"]], "other": names[pair["other"]]}
        found["cliques"] = [[names[method] for method in group] for group in self.cliques]
        for row in found["rows"]:
            # Of a score that is younger than the cells; JSON has no NaN.
            row["scores"] = {k: None if math.isnan(v) else v for k, v in row["scores"].items()}
        for cell in found["cells"]:
            cell["key"] = Cell(**{part: cell[part] for part in Cell.__slots__}).key
        return found

    def write_csv(self, path: str | Path) -> None:
        """Write a table with a row for each method.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        plain = [name for name in Row.__slots__ if name not in _NESTED]
        with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            ends = ("v_rand_low", "v_rand_high", "best_v_rand", "best_v_info")
            table.writerow(["place", *plain, "arguments", *ends, *SCORES])
            for place, row in enumerate(self.rows, start=1):
                values = [getattr(row, name) for name in plain]
                ends_of = (row.interval.low, row.interval.high, *row.best.values())
                scores = ["" if math.isnan(v := row.scores[name]) else v for name in SCORES]
                table.writerow([place, *values, json.dumps(row.arguments), *ends_of, *scores])

    def picture(self) -> str:
        """Draw the average ranks as SVG, with bars over what they cannot tell apart.

        Raises
        ------
        InputError
            If there are fewer than two methods.
        """
        names, ranks = [row.name for row in self.rows], [row.rank for row in self.rows]
        return critical_difference_svg(
            names, ranks, self.critical_difference or 0.0, cliques=self.cliques
        )
