"""Cells from the same membrane maps: ours beside thresholding and what others offer.

    pip install -r bench/requirements-objects.txt      waterz; without it its line stays out
    axolemma compare --data isbi2012 --models resunet --seeds 1 --folds 6 --steps 6000 -o FOLDER
    python bench/objects.py FOLDER                     scores
    python bench/objects.py FOLDER --scale             time and memory of large sections

The comparison trains six networks, each of which has not seen five of the thirty sections; their
maps of those are what all methods get. What comes with a fold's network, the threshold and the
boundary, was chosen on validation sections among those it learned from. Every other method gets
for each fold the parameters, of a grid, that do best on the 25 sections of the other folds, and so
does ours once more, in a line of its own: mean of V_rand and V_info, as validation chooses.

Ours sees the five sections of a fold together, and each alone in a line of its own.

All are scored alike. The cells of every method get a line one pixel wide between two that touch
and are thinned, which brings the thick membranes of thresholding to such lines as well. VOI and
average precision count the pixels that the truth gives to cells: how thick the expert drew the
membranes is no merit of any method.

Writes ``docs/results/objects.json`` and the tables of docs/cells.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.graph import merge_hierarchical, rag_boundary
from skimage.morphology import local_minima, reconstruction
from skimage.segmentation import watershed

from axolemma import datasets
from axolemma.compare.folder import read_object
from axolemma.images import read, replacing
from axolemma.labels import label_borders
from axolemma.metrics import (
    cell_average_precision,
    contingency,
    cremi_voi,
    label_cells,
    v_info,
    v_rand,
)
from axolemma.metrics.section import section_of_labels
from axolemma.objects import BOUNDARIES, fragments, segment_cells

try:
    import waterz
except ImportError:
    waterz = None

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results" / "objects.json"
PAGE = ROOT / "docs" / "cells.md"
SIDES = (1024, 2048, 4096)

#: The rule by which contacts are judged was chosen on so many first folds.
LOOKED_AT = 2

#: Score: its title, and whether more of it is better.
SCORES = {
    "v_rand": ("V_rand ↑", True),
    "v_info": ("V_info ↑", True),
    "voi": ("VOI ↓", False),
    "cell_ap": ("cell AP ↑", True),
}

Choice = dict[str, Any]


@dataclass(frozen=True)
class Fold:
    """Sections that a network has not seen.

    Parameters
    ----------
    first, last
        Their numbers, both included.
    maps, truth
        The network's membrane maps of them, and the expert's membranes.
    threshold, boundary
        What the validation of the network chose.
    """

    first: int
    last: int
    maps: np.ndarray
    truth: np.ndarray
    threshold: float
    boundary: float


def finished_folds(folder: Path) -> list[Fold]:
    """Read the folds of a comparison that are finished."""
    # Late: a process that only measures time and memory needs no torch.
    from axolemma.modelfile import load_model

    truth = datasets.load("isbi2012").truth
    folds = []
    for file in folder.glob("cells/*/result.json"):
        result, info = read_object(file), load_model(file.parent / "run").info
        first, last = result["first"], result["last"]
        maps = read(file.parent / "membrane.tif").array
        drawn = truth[first : last + 1]
        folds.append(Fold(first, last, maps, drawn, result["threshold"], info.boundary))
    return sorted(folds, key=lambda fold: fold.first)


# The methods: membrane maps (Z, Y, X) and parameters in, labels out.


def each(cells: Callable[..., np.ndarray], maps: np.ndarray, **options: Any) -> np.ndarray:
    """Find cells section by section, as all that look at one section only do."""
    return np.stack([cells(section, **options) for section in maps])


def minima(section: np.ndarray, *, depth: float, smoothing: float) -> np.ndarray:
    """Flood the map from its minima that are deeper than `depth`."""
    smooth = ndimage.gaussian_filter(section, smoothing) if smoothing else section
    # Not h_minima: where a basin touches its lowest value in several places it marks each.
    deep = local_minima(reconstruction(smooth + depth, smooth, method="erosion"))
    return watershed(smooth, ndimage.label(deep, np.ones((3, 3)))[0])


def hierarchical(section: np.ndarray, *, boundary: float, own: bool) -> np.ndarray:
    """Merge as scikit-image's gallery does, over our fragments or a watershed of its own."""
    pieces = fragments(section) if own else seeded_watershed(section)
    return merge_hierarchical(
        pieces,
        rag_boundary(pieces, section.astype(np.float64)),
        thresh=boundary,
        rag_copy=False,
        in_place_merge=True,
        merge_func=_join,
        weight_func=_mean_of_both,
    )


def seeded_watershed(section: np.ndarray) -> np.ndarray:
    """Flood the map from the peaks of the distance to it, as scikit-image's examples do."""
    depth = ndimage.distance_transform_edt(section < 0.5)
    smooth = ndimage.gaussian_filter(depth, 2)
    peaks = (ndimage.maximum_filter(smooth, 3) == smooth) & (section < 0.5)
    return watershed(section, ndimage.label(peaks, np.ones((3, 3)))[0])


def _mean_of_both(graph: Any, source: int, target: int, other: int) -> dict[str, float]:
    none = {"weight": 0.0, "count": 0}
    edges = [graph[node].get(other, none) for node in (source, target)]
    count = sum(edge["count"] for edge in edges)
    return {
        "count": count,
        "weight": sum(edge["count"] * edge["weight"] for edge in edges) / count,
    }


def _join(*_: Any) -> None:
    pass


def agglomerated(section: np.ndarray, *, boundary: float, score: str) -> np.ndarray:
    """Agglomerate our fragments with waterz, the affinities from the larger of two pixels."""
    affinities = np.zeros((3, 1, *section.shape), np.float32)
    affinities[1, 0, 1:] = 1 - np.maximum(section[1:], section[:-1])
    affinities[2, 0, :, 1:] = 1 - np.maximum(section[:, 1:], section[:, :-1])
    with silent():
        (found,) = waterz.agglomerate(
            affinities,
            [boundary],
            fragments=fragments(section).astype(np.uint64)[None],
            scoring_function=WATERZ_SCORES[score],
            discretize_queue=0 if score == "mean" else 256,
        )
    return np.array(found[0])


WATERZ_SCORES = {"mean": "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"} | {
    f"{quantile} %": f"OneMinus<HistogramQuantileAffinity<RegionGraphType, {quantile}, "
    "ScoreValue, 256, false>>"
    for quantile in (25, 50, 75)
}


@contextmanager
def silent() -> Iterator[None]:
    """Keep what a library prints from below Python off the screen."""
    sys.stdout.flush()
    shown, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(shown, 1)
        os.close(shown)
        os.close(nowhere)


@dataclass(frozen=True)
class Method:
    """A way to cells, and where its parameters come from.

    Parameters
    ----------
    cells
        A fold's maps and parameters in, labels out.
    grid
        Parameters to choose from on other folds; none where validation has chosen.
    stored
        Fold in, parameters out: what validation chose.
    """

    cells: Callable[..., np.ndarray]
    grid: tuple[Choice, ...] = ()
    stored: Callable[[Fold], Choice] | None = None


def grid(**values: Any) -> tuple[Choice, ...]:
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


_LEVELS = tuple(round(level, 2) for level in np.arange(0.2, 0.95, 0.05).tolist())

METHODS: dict[str, Method] = {
    "Axolemma": Method(segment_cells, stored=lambda fold: {"boundary": fold.boundary}),
    "Axolemma, chosen as the others": Method(segment_cells, grid(boundary=BOUNDARIES)),
    "Axolemma, each section alone": Method(
        partial(segment_cells, neighbours=False), stored=lambda fold: {"boundary": fold.boundary}
    ),
    "Axolemma, `multicut`, chosen as the others": Method(
        partial(segment_cells, method="multicut"), grid(boundary=BOUNDARIES)
    ),
    "threshold": Method(
        partial(segment_cells, method="threshold"),
        stored=lambda fold: {"threshold": fold.threshold},
    ),
    "threshold, chosen as the others": Method(
        partial(segment_cells, method="threshold"), grid(threshold=_LEVELS)
    ),
    "h-minima watershed (scikit-image)": Method(
        partial(each, minima),
        grid(depth=(0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9), smoothing=(0, 1, 2, 3)),
    ),
    "hierarchical (scikit-image)": Method(
        partial(each, partial(hierarchical, own=False)), grid(boundary=_LEVELS[::2])
    ),
    "hierarchical (scikit-image), our fragments": Method(
        partial(each, partial(hierarchical, own=True)), grid(boundary=_LEVELS[::2])
    ),
    "waterz, our fragments": Method(
        partial(each, agglomerated), grid(boundary=_LEVELS[3:], score=tuple(WATERZ_SCORES))
    ),
}


# Scores.


def scored(labels: np.ndarray, true_membrane: np.ndarray) -> dict[str, float]:
    """Score the cells of one section."""
    lines = np.where(label_borders(labels), 0, labels).astype(np.int64)
    truth = label_cells(true_membrane == 0)
    section = section_of_labels(lines, true_membrane != 0, truth)
    inside = contingency(section.thinned, truth, where=truth > 0)
    return {
        "v_rand": v_rand(section.thinned_table).score,
        "v_info": v_info(section.thinned_table).score,
        "voi": cremi_voi(section.thinned_table).total,
        "cell_ap": cell_average_precision(inside).mean,
    }


def measured(method: Method, folds: list[Fold], choice: Choice) -> list[dict[str, float]]:
    """Return a fold's means of scores and of the seconds that a section takes, for each fold."""
    result = []
    for fold in folds:
        started = time.process_time()
        labels = method.cells(fold.maps, **choice)
        seconds = (time.process_time() - started) / len(labels)
        rows = [
            {**scored(section, truth), "seconds": seconds}
            for section, truth in zip(labels, fold.truth, strict=True)
        ]
        result.append({key: float(np.mean([row[key] for row in rows])) for key in rows[0]})
    return result


def compared(method: Method, folds: list[Fold]) -> dict[str, Any]:
    """Score a method on every fold, with parameters that were chosen elsewhere."""
    if method.stored:
        choices = [method.stored(fold) for fold in folds]
        rows = [
            measured(method, [fold], choice)[0] for fold, choice in zip(folds, choices, strict=True)
        ]
    else:
        table = [measured(method, folds, choice) for choice in method.grid]
        value = np.array([[row["v_rand"] + row["v_info"] for row in line] for line in table])
        # Every fold has five sections, so the folds' means weigh alike.
        others = value.sum(axis=1, keepdims=True) - value
        best = others.argmax(axis=0)
        choices = [method.grid[n] for n in best]
        rows = [table[n][fold] for fold, n in enumerate(best)]
    return {"choices": choices, "folds": rows, **summed_up(rows)}


def summed_up(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Return the mean over folds, and the standard deviation of the scores."""
    return {
        "mean": {key: float(np.mean([row[key] for row in rows])) for key in rows[0]},
        "spread": {key: float(np.std([row[key] for row in rows], ddof=1)) for key in SCORES},
    }


def table(methods: dict[str, Any]) -> list[str]:
    """Return the scores as a Markdown table, the best of each bold."""
    best = {
        score: (max if more else min)(row["mean"][score] for row in methods.values())
        for score, (_, more) in SCORES.items()
    }
    lines = [
        "| cells by | " + " | ".join(title for title, _ in SCORES.values()) + " | ms a section |",
        "|---" * (len(SCORES) + 2) + "|",
    ]
    for name, row in methods.items():
        shown = [name]
        for score in SCORES:
            number = f"{row['mean'][score]:.4f} ± {row['spread'][score]:.4f}"
            shown.append(f"**{number}**" if row["mean"][score] == best[score] else number)
        lines.append("| " + " | ".join([*shown, f"{1000 * row['mean']['seconds']:.0f}"]) + " |")
    return lines


def later(methods: dict[str, Any]) -> dict[str, Any]:
    """Sum up the folds that had no part in choosing how contacts are judged."""
    return {name: summed_up(row["folds"][LOOKED_AT:]) for name, row in methods.items()}


def verdict(methods: dict[str, Any]) -> Iterator[str]:
    """Say in which column another method than ours is best, and by how much."""
    mine = methods["Axolemma"]["mean"]
    for score, (title, more) in SCORES.items():
        sign = 1 if more else -1
        ahead = {
            name: sign * (row["mean"][score] - mine[score])
            for name, row in methods.items()
            if not name.startswith("Axolemma")
        }
        name = max(ahead, key=ahead.__getitem__)
        which = "**not** the best, beaten" if ahead[name] > 0 else "the best, ahead of the next"
        yield f"- {title[:-2]}: ours is {which} by {abs(ahead[name]):.4f}, {name}."


def margins(methods: dict[str, Any]) -> Iterator[str]:
    """Say by how much ours is ahead of every other method, fold by fold."""
    yield "| ours less | " + " | ".join(title[:-2] for title, _ in SCORES.values()) + " |"
    yield "|---" * (len(SCORES) + 1) + "|"
    mine = methods["Axolemma"]["folds"]
    for name, row in methods.items():
        if name != "Axolemma":
            ahead = [
                [one[score] - other[score] for one, other in zip(mine, row["folds"], strict=True)]
                for score in SCORES
            ]
            shown = [f"{np.mean(of):+.4f} ± {np.std(of, ddof=1):.4f}" for of in ahead]
            yield "| " + " | ".join([name, *shown]) + " |"


# Large sections.


def tiled(maps: np.ndarray, side: int) -> np.ndarray:
    """Lay out real maps to a section of that side: groups of four mirror images of one map.

    Within a group there is no seam; between two there is one, where membranes end as they do at
    the edge of a section. Maps that are needed more than once are turned each time.
    """
    height, width = maps.shape[1:]
    rows = []
    for y in range(-(-side // (2 * height))):
        row = []
        for x in range(-(-side // (2 * width))):
            turn, number = divmod(y * -(-side // (2 * width)) + x, len(maps))
            one = np.rot90(maps[number], turn)
            half = np.concatenate((one, one[::-1]))
            row.append(np.concatenate((half, half[:, ::-1]), axis=1))
        rows.append(np.concatenate(row, axis=1))
    return np.ascontiguousarray(np.concatenate(rows)[:side, :side])


def measure_side(folder: Path, side: int) -> dict[str, float]:
    """Time one section; for a process of its own."""
    files = sorted(folder.glob("cells/*/membrane.tif"))
    section = tiled(np.concatenate([read(file).array for file in files]), side)[None]
    segment_cells(section[:, :64, :64])  # what is loaded and compiled once
    before = peak()
    started = time.process_time()
    cells = segment_cells(section)
    seconds = time.process_time() - started
    return {
        "side": side,
        "seconds": round(seconds, 3),
        "peak_mib": peak(),
        "before_mib": before,
        "cells": int(cells.max()),
    }


def peak() -> float:
    """Return the most memory that this process held so far, in MiB."""
    # Not getrusage: its maximum is inherited from the process that started this one.
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise OSError("the kernel does not tell the peak of memory")


def scale(folder: Path) -> dict[str, Any]:
    """Time sections of several sizes, each in a process of its own, with one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    rows = []
    for side in SIDES:
        command = [sys.executable, __file__, str(folder), "--side", str(side)]
        found = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **one}
        )
        rows.append(json.loads(found.stdout))
    area, seconds = (np.log([row[key] for row in rows]) for key in ("side", "seconds"))
    return {"sections": rows, "exponent": round(float(np.polyfit(2 * area, seconds, 1)[0]), 2)}


def scale_table(found: dict[str, Any]) -> list[str]:
    lines = ["| section | seconds | peak, MiB | cells |", "|---|---|---|---|"]
    for row in found["sections"]:
        shown = f"| {row['side']}² | {row['seconds']:.2f} | {row['peak_mib']:.0f} "
        lines.append(shown + f"| {row['cells']:,} |")
    return lines


# Where it all goes.


def keep(**parts: Any) -> None:
    found = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    with replacing(RESULTS) as partial_file:
        text = json.dumps(found | parts, indent=1, ensure_ascii=False) + "\n"
        partial_file.write_text(text, encoding="utf-8")


def fill(mark: str, lines: list[str]) -> None:
    """Put a table between its marks on the page."""
    before, _, after = PAGE.read_text("utf-8").split(f"<!-- {mark} -->")
    text = f"<!-- {mark} -->".join((before, "\n\n" + "\n".join(lines) + "\n\n", after))
    with replacing(PAGE) as partial_file:
        partial_file.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of `axolemma compare … --folds 6`")
    parser.add_argument("--scale", action="store_true", help="time and memory instead of scores")
    parser.add_argument("--side", type=int, help="of one section to time, in this process")
    parser.add_argument("--only", nargs="+", choices=METHODS, help="print these, keep nothing")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure_side(options.folder, options.side)))
        return
    if options.scale:
        found = scale(options.folder)
        keep(scale=found)
        fill("scale", scale_table(found))
        print("\n".join(scale_table(found)))
        print(f"time grows with the area to the power of {found['exponent']}")
        return
    folds = finished_folds(options.folder)
    if len(folds) < 2:
        parser.error(f"{options.folder}: fewer than two folds are finished")
    methods = {}
    for name, method in METHODS.items():
        if options.only and name not in options.only:
            continue
        if name.startswith("waterz") and waterz is None:
            print("waterz is not installed: pip install -r bench/requirements-objects.txt")
            continue
        methods[name] = compared(method, folds)
        print(table({name: methods[name]})[-1].replace("**", ""), flush=True)
    if options.only:
        return
    if len(folds) == 6:
        keep(
            command=f"python bench/objects.py {options.folder.name}",
            folds=[{"sections": [f.first, f.last], "boundary": f.boundary} for f in folds],
            methods=methods,
        )
        fill("cells", table(methods))
        fill("verdict", list(verdict(methods)))
        fill("margins", list(margins(methods)))
        fill("later", table(later(methods)))
    print("\n".join(["", *table(methods), "", *verdict(methods)]))


if __name__ == "__main__":
    main()
