"""Methods under one protocol: train and score each on the same folds, then rank them.

A method is a network, a loss and an augmentation; a cell is one method with one seed on one fold.
A comparison is a folder::

    comparison.json          settings, the folds' sections and the hash of the data
    cells/MODEL-LOSS-PRESET-seed0-test25-29/
        run/                 the training, see `runs`; a killed one goes on
        membrane.tif         what it predicts for the fold's test sections
        log.txt              what the cell's process printed
        failed.json          why it failed, where it did; the next call tries it again
        result.json          written last: a cell that has it never runs again

Every cell runs in a process of its own, started anew also where they run one after the other, so
that time and memory are its own and a crash ends that cell alone. It gets the pixels it may learn
from and, apart from them, those it is tested on; threshold and weights come from validation
sections among the former.
"""

import csv
import hashlib
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma import datasets
from axolemma._version import __version__
from axolemma.charts import critical_difference_svg
from axolemma.datasets import Pairs
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.evaluation import evaluate_stacks
from axolemma.images import Stack, replacing, write_tiff
from axolemma.metrics import SCORES, Interval, interval
from axolemma.metrics.ranking import (
    Pair,
    average_ranks,
    cliques,
    critical_difference,
    friedman,
    paired_tests,
    verdict,
)
from axolemma.settings import CompareSettings, TrainSettings, check

__all__ = [
    "Cell",
    "CellProgress",
    "Comparison",
    "Row",
    "compare",
    "held_out",
    "load",
    "run_comparison",
]

#: Settings that a later call may extend.
AXES = ("models", "losses", "presets", "seeds")

#: The parts of a method, as cells call them.
_PARTS = ("model", "loss", "preset")

#: Where the data lies and how it was read; the hash says what it is.
_MAY_CHANGE = ("data", "truth_is")

#: Settings of a training that the comparison sets.
_TAKEN = {"data", "truth_is", "slices", "validate", "budget", "steps", "device"}
_TAKEN |= {"model", "width", "depth", "loss", "preset", "seed"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One training and its test.

    Parameters
    ----------
    model, loss, preset, seed
        What is trained.
    first, last
        The fold: sections of the data, both included, that it is tested on.
    """

    model: str
    loss: str
    preset: str
    seed: int
    first: int
    last: int

    @property
    def key(self) -> str:
        """Name of the cell's folder."""
        method = f"{self.model}-{self.loss}-{self.preset}"
        return f"{method}-seed{self.seed}-test{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class CellProgress:
    """What a comparison tells while it runs.

    Parameters
    ----------
    cell
        The one that has something to tell.
    what
        Such as ``"step 120, loss 0.4312"``, ``"finished"`` or why it failed.
    done
        Share of its training that is done, in [0, 1].
    finished, count
        Cells that are finished or failed, and all of them.
    """

    cell: Cell
    what: str
    done: float
    finished: int
    count: int


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
        for key, reason in self.failed.items():
            count = len(self.failed) + len(self.missing) + len(self.cells)
            raise AxolemmaError(
                f"{len(self.failed)} of {count} cells failed, the first of them {key}: {reason}; "
                "repeat the command to try them again, or without them to leave them out"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON; pairs and cliques by the methods' names."""
        found = asdict(self)
        names = [row.name for row in self.rows]
        for pair in found["pairs"]:
            pair |= {"one": names[pair["one"]], "other": names[pair["other"]]}
        found["cliques"] = [[names[method] for method in group] for group in self.cliques]
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
                scores = [row.scores[name] for name in SCORES]
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


_NESTED = {"arguments", "scores", "best", "interval"}


def compare(
    data: str | Path | Pairs,
    *,
    out: str | Path,
    jobs: int = 1,
    devices: Sequence[str] = ("auto",),
    report: Callable[[CellProgress], None] = lambda _: None,
    **settings: Any,
) -> Comparison:
    """Train and score methods under one protocol and rank them.

    Parameters
    ----------
    data
        ``"isbi2012"``, ``"phantom"``, a folder of pairs, or loaded `Pairs`.
    out, jobs, devices, report
        See `run_comparison`.
    **settings
        See `CompareSettings`: ``models=["resunet", "unet"], seeds=3, budget="4m"``.

    Returns
    -------
    Comparison
        The ranking, and which cells failed.

    Raises
    ------
    InputError
        If data or settings cannot be used, or the folder holds another comparison.
    """
    name = str(data) if isinstance(data, str | Path) else data.name
    chosen = check(CompareSettings, {"data": name, **settings})
    if not isinstance(data, Pairs):
        data = datasets.load(data, truth_is=chosen.truth_is)
    return run_comparison(data, chosen, out, jobs=jobs, devices=devices, report=report)


def held_out(folds: Literal["seed"] | int, count: int) -> list[range]:
    """Return the test sections of every fold.

    Parameters
    ----------
    folds
        See `CompareSettings`.
    count
        Sections that there are.

    Raises
    ------
    InputError
        If there are too few sections.

    Examples
    --------
    >>> held_out("seed", 30)
    [range(25, 30)]
    """
    blocks = (
        [range(count - max(1, count // 6), count)]
        if folds == "seed"
        else datasets.folds(count, folds)
    )
    most = max(map(len, blocks))
    if count - most < 2:
        raise InputError(
            f"testing on {most} of {count} sections leaves fewer than the two that learning and "
            "validation need; give more sections or more folds"
        )
    return blocks


def run_comparison(
    data: Pairs,
    settings: CompareSettings,
    out: str | Path,
    *,
    jobs: int = 1,
    devices: Sequence[str] = ("auto",),
    report: Callable[[CellProgress], None] = lambda _: None,
) -> Comparison:
    """Run what is missing of a comparison, and rank.

    Repeated with the same settings it goes on: finished cells stay as they are, a training that
    was killed is resumed, a cell that failed is tried again. More models, losses, presets or seeds
    extend it.

    For a fold in the middle, the sections before and behind it are put together for training. They
    are then neighbours that were none, which only a network with `context` would see; so that is
    refused where there are such folds.

    Parameters
    ----------
    data
        Annotated sections.
    settings
        See `CompareSettings`.
    out
        The comparison's folder; made where it does not exist.
    jobs
        Cells that run at once, each with its share of the processor's threads. Then they slow each
        other down: with a budget in minutes and as many jobs they all do so alike.
    devices
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; the jobs take them in turn.
    report
        Called about once a second for every running cell, never twice at once.

    Returns
    -------
    Comparison
        From `load`. That cells failed is for the caller to notice, see `Comparison.check`.

    Raises
    ------
    SettingsError
        If the settings are wrong or differ from those of the comparison that is there.
    InputError
        If the folder holds something else or cannot be made.
    """
    blocks = held_out(settings.folds, len(data))
    _check(settings, blocks, jobs, devices)
    out = Path(out)
    asked = settings.model_dump(mode="json") | {
        "sections": len(data),
        "data_sha256": _sha256(data),
    }
    _open(out, asked)
    cells = _cells(asked)
    board = _Board(report, len(cells))
    todo = [cell for cell in cells if not (_folder(out, cell) / "result.json").is_file()]
    for cell in cells:
        if cell not in todo:
            board.tell(cell, "finished already", 1.0, ended=True)
    idle: SimpleQueue[str] = SimpleQueue()
    for job in range(jobs):
        idle.put(devices[job % len(devices)])

    def run(cell: Cell) -> None:
        device, folder = idle.get(), _folder(out, cell)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            failed = _in_process(_task(data, settings, cell, folder, device, jobs), board)
        finally:
            idle.put(device)
        if not board.stopped:
            _record(folder, failed)
            board.tell(cell, f"failed: {failed}" if failed else "finished", 1.0, ended=True)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, cell) for cell in todo]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            board.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return load(out)


def load(out: str | Path) -> Comparison:
    """Read a comparison from its folder and rank what is finished; the data is not needed.

    Raises
    ------
    InputError
        If there is no comparison in the folder, or a file of it cannot be read.
    """
    out = Path(out)
    settings = _settings(out)
    results, failed, missing = [], {}, []
    for cell in _cells(settings):
        folder = _folder(out, cell)
        if (folder / "result.json").is_file():
            results.append(_read(folder / "result.json"))
        elif (folder / "failed.json").is_file():
            failed[cell.key] = str(_read(folder / "failed.json")["error"])
        else:
            missing.append(cell.key)
    return _ranked(settings, results, failed, tuple(missing))


# The ranking


def _ranked(
    settings: dict[str, Any],
    results: list[dict[str, Any]],
    failed: dict[str, str],
    missing: tuple[str, ...],
) -> Comparison:
    per_method: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for result in results:
        per_method.setdefault(tuple(result[part] for part in _PARTS), []).append(result)
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
    varied = [part for part, axis in zip(_PARTS, AXES, strict=False) if len(settings[axis]) > 1]
    rows = tuple(
        _row(
            ", ".join(method[_PARTS.index(part)] for part in varied) or method[0],
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
        for z, value in zip(cell["sections"], cell["scores"][name], strict=True):
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


# The folder


def _cells(settings: Mapping[str, Any]) -> list[Cell]:
    """Return all cells, so ordered that an early stop leaves methods that can be compared."""
    return [
        Cell(model, loss, preset, seed, block.start, block.stop - 1)
        for seed, block, model, loss, preset in product(
            settings["seeds"],
            held_out(settings["folds"], settings["sections"]),
            settings["models"],
            settings["losses"],
            settings["presets"],
        )
    ]


def _folder(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.key


def _check(
    settings: CompareSettings, blocks: Sequence[range], jobs: int, devices: Sequence[str]
) -> None:
    """Refuse what no cell could work with, before hours are spent."""
    if jobs < 1 or not devices:
        raise SettingsError(f"a comparison needs 1 job and 1 device or more, not {jobs} jobs")
    for model in settings.sizes:
        if model not in settings.models:
            raise SettingsError(f"sizes: '{model}' is not among the models; name it there too")
    for key in settings.training:
        if key in _TAKEN:
            raise SettingsError(
                f"training: '{key}' is for the comparison to set; see its own settings"
            )
    shared = check(TrainSettings, {"data": settings.data, **settings.training})
    if shared.context and len(blocks) > 2:
        raise SettingsError(
            "training: with neighbouring sections (context) a fold in the middle would make "
            "neighbours of sections that are none; take folds 'seed' or 2"
        )


def _open(out: Path, asked: dict[str, Any]) -> None:
    """Make the folder or extend what is there; refuse another comparison."""
    file = out / "comparison.json"
    try:
        if file.is_file():
            _check_same(out, asked, _settings(out))
        elif out.is_dir() and any(not f.name.startswith(".") for f in out.iterdir()):
            raise InputError(
                f"{out}: this folder holds other files; choose a new one for the comparison"
            )
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{out}: the comparison's folder cannot be made, {reason}") from error
    with replacing(file) as partial:
        text = json.dumps({"axolemma": __version__, "settings": asked}, indent=2)
        partial.write_text(text, encoding="utf-8")


def _check_same(out: Path, asked: dict[str, Any], there: dict[str, Any]) -> None:
    """Refuse settings other than those of the comparison there, but for more on an axis."""
    results = [_read(file) for file in out.glob("cells/*/result.json")]
    # What never finished may be named otherwise now, or left out: it may have been misspelt.
    finished = {
        axis: {result[part] for result in results}
        for axis, part in zip(AXES, (*_PARTS, "seed"), strict=True)
    }
    for key in sorted((asked.keys() | there.keys()) - {*_MAY_CHANGE}):
        mine, other = asked.get(key), there.get(key)
        if key in AXES:
            gone = [str(v) for v in other or () if v not in (mine or ()) and v in finished[key]]
            if gone:
                raise SettingsError(
                    f"{out}: the comparison there has {key} {', '.join(gone)} too; name them as "
                    "well, or choose another folder"
                )
            continue
        if key == "sizes":
            mine, other = (
                {name: size for name, size in (of or {}).items() if name in finished["models"]}
                for of in (mine, other)
            )
        if mine != other:
            raise SettingsError(
                f"{out}: the comparison there has {key} = {other!r}, this one {mine!r}; repeat its "
                "settings to go on, or choose another folder"
            )


def _settings(out: Path) -> dict[str, Any]:
    """Return what ``comparison.json`` says was asked for."""
    found = _read(out / "comparison.json").get("settings")
    if isinstance(found, dict) and {*AXES, "folds", "sections"} <= found.keys():
        return found
    raise InputError(f"{out / 'comparison.json'}: this is no comparison's settings file")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        reason = "it holds no object"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except ValueError as error:
        reason = str(error)
    raise InputError(f"{path}: this file of a comparison cannot be read, {reason}")


def _sha256(data: Pairs) -> str:
    digest = hashlib.sha256(f"{data.images.shape} {data.images.dtype}".encode())
    for array in (data.images, data.truth):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


# Cells in processes


@dataclass(frozen=True, slots=True)
class _Task:
    """All that a cell's process is given: `learn` and `test` have no section in common."""

    cell: Cell
    folder: Path
    learn: Pairs
    numbers: tuple[int, ...]  # of the sections to learn from, in the data
    test: Pairs
    settings: dict[str, Any]
    average: Literal["none", "flips", "dihedral"]
    jobs: int


def _task(
    data: Pairs, settings: CompareSettings, cell: Cell, folder: Path, device: str, jobs: int
) -> _Task:
    numbers = [z for z in range(len(data)) if not cell.first <= z <= cell.last]
    # The model file numbers the sections it learned from 0; its data's name says what is left out.
    whole = cell.last == len(data) - 1
    name = data.name if whole else f"{data.name} without sections {cell.first}-{cell.last}"
    learn = replace(data, name=name, images=data.images[numbers], truth=data.truth[numbers])
    method = {part: getattr(cell, part) for part in (*_PARTS, "seed")}
    budget = None if settings.budget is None else f"{60 * settings.budget:.3f}s"
    length = {"budget": budget, "steps": settings.steps}
    size = {str(side): value for side, value in settings.sizes.get(cell.model, {}).items()}
    chosen = {**settings.training, **size, **method, **length, "data": name, "device": device}
    test = data.slices(range(cell.first, cell.last + 1))
    return _Task(cell, folder, learn, tuple(numbers), test, chosen, settings.average, jobs)


class _Board:
    """What several threads share: the report and the processes that run."""

    def __init__(self, report: Callable[[CellProgress], None], count: int) -> None:
        self._report, self._count, self._ended = report, count, 0
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.stopped = False

    def tell(self, cell: Cell, what: str, done: float, *, ended: bool = False) -> None:
        """Pass on what a cell says."""
        with self._lock:
            self._ended += ended
            if not self.stopped:
                self._report(CellProgress(cell, what, done, self._ended, self._count))

    def admit(self, process: "subprocess.Popen[bytes]") -> None:
        """Note a process that must end when all is stopped."""
        with self._lock:
            self._processes.append(process)
            if self.stopped:
                process.kill()

    def stop(self) -> None:
        """End all processes, those too that were just starting."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.kill()


def _in_process(task: _Task, board: _Board) -> str | None:
    """Run a cell in a fresh process and return why it failed, None where it did not.

    Not with multiprocessing, which runs the caller's script again in every process: a script
    without a guard, or one that is read from standard input, does not survive that.
    """
    log_file, failed = task.folder / "log.txt", None
    command = [sys.executable, "-P", "-c", "from axolemma import compare; compare._main()"]
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    with (
        log_file.open("ab") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"PYTHONPATH": paths},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        board.admit(process)
        try:
            with suppress(BrokenPipeError):  # how it ended so early is explained below
                process.stdin.write(pickle.dumps(task))
                process.stdin.flush()
            # Standard input stays open: where it closes, this process is gone and so is the cell.
            for line in process.stdout:
                if not line.startswith(b"{"):
                    continue  # what Python or a package prints before the cell gets hold of it
                said = json.loads(line)
                if "failed" in said:
                    failed = str(said["failed"])
                else:
                    board.tell(task.cell, said["what"], said["done"])
            code = process.wait()
        finally:
            process.kill()
            with suppress(OSError):
                process.stdin.close()
    if failed is None and code < 0:
        return f"its process was ended by signal {-code}, perhaps for want of memory"
    if failed is None and code > 0:
        return f"its process ended with code {code}; {log_file} may say why"
    return failed


def _record(folder: Path, failed: str | None) -> None:
    """Leave word of a failure, or remove that of an earlier one."""
    if failed is None:
        (folder / "failed.json").unlink(missing_ok=True)
        return
    with replacing(folder / "failed.json") as partial:
        partial.write_text(json.dumps({"error": failed}, indent=1), encoding="utf-8")


# What follows runs in a cell's own process, which alone needs torch.


def _main() -> None:
    """Run the cell that stands on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it and ends the others
    task = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)  # what anything prints goes to the log

        def tell(**message: object) -> None:
            channel.write(json.dumps(message) + "\n")
            channel.flush()

        if failed := _attempt(task, lambda what, done: tell(what=what, done=done)):
            tell(failed=failed)


def _attempt(task: _Task, tell: Callable[[str, float], None]) -> str | None:
    """Run a cell, write its result and return why that failed, None where it did not."""
    try:
        result = _run(task, tell)
        with replacing(task.folder / "result.json") as partial:
            partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    except AxolemmaError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def _end_with_parent() -> None:
    # Read below Python's own buffer, whose lock a thread must not hold when the process ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _run(task: _Task, tell: Callable[[str, float], None]) -> dict[str, Any]:
    """Train, predict and score one cell."""
    import torch

    from axolemma import models
    from axolemma.predict import choose_device
    from axolemma.segmentation import segment
    from axolemma.training import fit, split

    torch.set_num_threads(max(1, torch.get_num_threads() // task.jobs))
    cell, test = task.cell, task.test
    settings = check(TrainSettings, task.settings)
    run = task.folder / "run"
    resumed = run.exists()
    model = fit(
        task.learn,
        settings,
        run,
        report=lambda p: tell(f"step {p.step}, loss {p.loss:.4f}", p.done),
    )
    tell("predicting and scoring", 1.0)
    started = time.monotonic()
    found = segment(
        test.images,
        model=model,
        average=task.average,
        objects="none",
        precision=settings.precision,
        device=settings.device,
    )
    prediction_seconds = time.monotonic() - started
    memory = _peak_memory()
    device = choose_device(settings.device)
    on_gpu = device.type == "cuda"
    about = {"threshold": found.threshold, "sections": [cell.first, cell.last]}
    write_tiff(
        task.folder / "membrane.tif",
        found.membrane,
        voxel_size=test.voxel_size,
        holds="membrane map",
        info=about,
    )
    scored = evaluate_stacks(
        Stack(found.membrane, (0, 1), test.voxel_size, cell.key, holds="membrane map"),
        Stack(test.truth, (0, 1), test.voxel_size, test.name),
        threshold=found.threshold,
    )
    training = model.info.training
    validated = split(settings, len(task.learn))[1]
    return {
        **asdict(cell),
        "sections": list(range(cell.first, cell.last + 1)),
        "learned_from": list(task.numbers),
        "validated_on": [task.numbers[z] for z in validated],
        "threshold": found.threshold,
        "average": task.average,
        "scores": {name: scored.suite.values[name].tolist() for name in SCORES},
        "best": {name: scored.scores.best(name).score for name in ("v_rand", "v_info")},
        "steps": training["steps"],
        "training_seconds": round(60 * training["minutes"], 1),
        "prediction_seconds": round(prediction_seconds, 3),
        "resumed": resumed,
        "memory_mib": memory,
        "device_memory_mib": torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
        "parameters": models.parameters(model.network),
        "gflop_per_megapixel": models.gflop_per_megapixel(cell.model, **model.info.arguments),
        "arguments": model.info.arguments,
        "machine": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "device": str(device),
        "jobs": task.jobs,
        "threads": torch.get_num_threads(),
        "precision": training["precision"],
        "versions": {
            "axolemma": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "weights_sha256": training["weights_sha256"],
    }


def _peak_memory() -> float | None:
    """Return the most memory that this process held so far, in MiB; None where nobody knows."""
    # On Linux not getrusage: its maximum is inherited from the process that started this one.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 1024), 1)
