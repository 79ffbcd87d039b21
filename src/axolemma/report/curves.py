"""How trainings went, from what they reported: of one run, or of a comparison's methods."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from axolemma.report.charts import Series, line_chart
from axolemma.report.markup import Html, joined, tag
from axolemma.report.methods import Method
from axolemma.report.parts import figure, paragraph
from axolemma.training import schedule

__all__ = ["comparison_curves", "learning_rates", "rate_figure", "read_reports", "smooth"]

_SCHEDULES = {
    "cosine": "Warm-up, then a cosine to zero over the budget.",
    "step": "By epochs of 300 steps, as the earlier project did it.",
}

#: A training's curve, or a method's mean, is drawn through so many points.
_POINTS = 101

#: The reports of a training, and its settings.
Training = tuple[list[dict[str, float]], dict[str, Any]]

_CHARTS = (
    (
        "loss",
        "Training loss",
        "mean since last report",
        "Loss on augmented crops, many reports smoothed.",
    ),
    (
        "v_rand",
        "V_rand, validation",
        "score",
        "Of the weights to be kept, on the held-out sections.",
    ),
    (
        "accuracy",
        "Pixel accuracy, validation",
        "share",
        "On the same sections; it hardly sees a gap.",
    ),
)


def read_reports(file: Path) -> list[dict[str, float]]:
    """Return the lines of a ``metrics.jsonl``, none where there is no such file.

    A kill may have left half a line at the end.
    """
    found = []
    for line in file.read_text("utf-8", "replace").splitlines() if file.is_file() else []:
        try:
            values = json.loads(line)
            values["step"] + values["done"]
        except (ValueError, KeyError, TypeError):
            break
        found.append(values)
    return found


def smooth(values: Sequence[float]) -> list[float]:
    """Return the means over a window of a twentieth of all values, narrower at the ends."""
    half = max(1, len(values) // 40)
    windows = (values[max(0, n - half) : n + half + 1] for n in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def learning_rates(
    settings: Mapping[str, Any], places: Iterable[tuple[float, float]]
) -> list[float]:
    """Return a run's learning rate where so much of the budget was spent and so many steps done."""
    highest, kind = settings.get("learning_rate"), str(settings.get("schedule", "cosine"))
    if not isinstance(highest, float):
        return []
    return [highest * schedule(done, int(step), kind) for done, step in places]


def rate_figure(
    series: Sequence[Series],
    settings: Mapping[str, Any],
    *,
    x: str,
    reach: tuple[float, float],
    alike: bool = False,
) -> Html:
    """Draw learning rates, and say how they come about, and whether they are one for all."""
    highest = float(settings["learning_rate"])
    chart = line_chart(
        series, title="Learning rate", x=x, y="rate", x_range=reach, y_range=(0, 1.06 * highest)
    )
    words = _SCHEDULES.get(str(settings.get("schedule", "cosine")), "")
    return figure(chart, f"{words} The same for every method." if alike else words)


def comparison_curves(methods: Sequence[Method], folder: Path) -> Html:
    """Draw how the methods of a comparison learned, nothing where no training left its reports.

    Parameters
    ----------
    methods
        With the keys of their finished cells.
    folder
        Of the comparison.
    """
    trainings = {method.name: list(_trainings(method, folder)) for method in methods}
    steps = {name: [lines[-1]["step"] for lines, _ in of] for name, of in trainings.items() if of}
    if not steps:
        return Html("")
    ends = {end for of in steps.values() for end in of}
    in_steps = len(ends) == 1
    x, reach = ("step", max(ends)) if in_steps else ("share of the budget, %", 100.0)

    def place(line: Mapping[str, float]) -> float:
        return line["step"] if in_steps else 100 * line["done"]

    charts = []
    for key, title, y, caption in _CHARTS:
        series: list[Series] = []
        for name, of in trainings.items():
            series += _with_mean(name, [_points(lines, key, place) for lines, _ in of])
        if any(one.x for one in series):
            chart = line_chart(series, title=title, x=x, y=y, x_range=(0, reach))
            charts.append(figure(chart, caption))
    rates = [_rate(name, of, place) for name, of in trainings.items()]
    if drawn := [one for one in rates if one.x]:
        alike = all(np.allclose(one.y, drawn[0].y, rtol=1e-3) for one in drawn)
        settings = next(of[0][1] for of in trainings.values() if of and "learning_rate" in of[0][1])
        shown = drawn[:1] if alike else rates
        chart = rate_figure(shown, settings, x=x, reach=(0, reach), alike=alike and len(drawn) > 1)
        charts.append(chart)
    told = paragraph(_told(steps, in_steps))
    return joined(told, tag("div", *charts, class_="pair"))


def _trainings(method: Method, folder: Path) -> Iterator[Training]:
    for cell in method.cells:
        run = folder / "cells" / str(cell.get("key")) / "run"
        if lines := read_reports(run / "metrics.jsonl"):
            try:
                told = json.loads((run / "settings.json").read_text(encoding="utf-8"))["settings"]
            except (OSError, ValueError, KeyError):
                told = {}
            yield lines, dict(told)


def _points(
    lines: Sequence[Mapping[str, float]], key: str, place: Callable[[Mapping[str, float]], float]
) -> tuple[list[float], list[float]]:
    """Return where and how high the curve of a training is."""
    there = [line for line in lines if key in line]
    values = [line[key] for line in there]
    many = key == "loss" and len(values) >= 20
    return [place(line) for line in there], smooth(values) if many else values


def _with_mean(name: str, curves: Sequence[tuple[list[float], list[float]]]) -> list[Series]:
    """Return a method's curves, pale, and their mean as far as all of them reach.

    A method without any has an empty one, so that the others keep their colours.
    """
    curves = [curve for curve in curves if curve[0]]
    if len(curves) < 2:
        return [Series(name, *curve) for curve in curves or [([], [])]]
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.linspace(first, last, _POINTS) if first < last else np.empty(0)
    mean = np.mean([np.interp(grid, x, y) for x, y in curves], axis=0)
    pale = [Series(name, x, y, "pale") for x, y in curves]
    return [*pale, Series(name, grid.tolist(), mean.tolist())]


def _rate(
    name: str, trainings: Sequence[Training], place: Callable[[Mapping[str, float]], float]
) -> Series:
    """Return the learning rate of the first training over all its budget."""
    if not trainings:
        return Series(name, [], [])
    lines, settings = trainings[0]
    done = np.linspace(0, 1, 2 * _POINTS - 1)
    known = np.array([(0.0, 0.0), *((line["done"], line["step"]) for line in lines)])
    steps = np.interp(done, known[:, 0], known[:, 1])
    places = list(zip(done.tolist(), steps.tolist(), strict=True))
    across = [place({"done": share, "step": step}) for share, step in places]
    rates = learning_rates(settings, places)
    return Series(name, across if rates else [], rates)


def _told(steps: Mapping[str, Sequence[float]], in_steps: bool) -> str:
    words = "A line for each method"
    if max(map(len, steps.values())) > 1:
        words += (
            ": the mean over its trainings, one for each seed and fold, which stand pale behind"
        )
    if in_steps:
        return f"{words}. Every training made {max(map(max, steps.values())):,.0f} steps."
    many = "; ".join(f"{name}, {sum(of) / len(of):,.0f}" for name, of in steps.items())
    return (
        f"{words}. They run over the share of the budget that was spent, since in the same time "
        f"the methods make different numbers of steps. In the mean these are: {many}."
    )
