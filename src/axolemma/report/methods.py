"""What the cells of a comparison tell: how they were made, how far they spread, what they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axolemma.report.charts import Series, line_chart
from axolemma.report.markup import Html, joined, tag
from axolemma.report.parts import AVERAGES, count, facts, figure, listed, row, table

__all__ = ["Method", "data_name", "described", "methods_of", "provenance", "sections", "spread"]

_PARTS = ("model", "loss", "preset")

#: More trainings than this are listed only where somebody asks for it.
_LISTED = 24


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a comparison, and what ``result.json`` of its finished cells holds."""

    name: str
    cells: tuple[Mapping[str, Any], ...]


def methods_of(told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Method]:
    """Return the methods of `rows`, in their order, that have cells."""
    cells = told.get("cells")
    cells = [cell for cell in cells or () if isinstance(cell, Mapping)]
    found = []
    for one in rows:
        mine = [cell for cell in cells if all(cell.get(p) == one.get(p) for p in _PARTS)]
        if mine:
            found.append(Method(str(one.get("name", "")), tuple(mine)))
    return found


def data_name(settings: Mapping[str, Any]) -> str:
    """Return how to call the data of a training or a comparison."""
    data = str(settings.get("data", "the data"))
    return Path(data).name or data


def sections(numbers: Iterable[int]) -> str:
    """Write ``[0, 1, 2, 7]`` as ``sections 0 to 2 and 7``."""
    spans: list[list[int]] = []
    for z in sorted(numbers):
        if spans and z == spans[-1][1] + 1:
            spans[-1][1] = z
        else:
            spans.append([z, z])
    words = _and(f"{a}" if a == b else f"{a} to {b}" for a, b in spans)
    return f"section{'s' if len(spans) > 1 or ' to ' in words else ''} {words}"


def described(told: Mapping[str, Any], methods: Sequence[Method]) -> Html:
    """Say in plain words what was compared, nothing where settings or cells are not told."""
    settings = told.get("settings")
    if not isinstance(settings, Mapping) or not methods:
        return Html("")
    cells = [cell for method in methods for cell in method.cells]
    lines = (_networks(settings), _length(settings, cells), _held_out(cells))
    return listed([*lines, _chosen(cells)])


def _networks(settings: Mapping[str, Any]) -> str:
    training = settings.get("training") or {}
    arguments = settings.get("arguments") or {}
    names = []
    for name in settings.get("models") or ():
        own = {**(training.get("arguments") or {}), **arguments.get(name, {})}
        names.append(f"{name} ({', '.join(map(_option, own, own.values()))})" if own else str(name))
    told = f"{count(len(names), 'network')} learned membranes from {data_name(settings)}: "
    told += f"{_and(names)}. Arguments that are not named are the usual ones."
    shared = []
    for key, what in (("losses", "loss"), ("presets", "augmentation")):
        values = [str(value) for value in settings.get(key) or ()]
        if len(values) > 1:
            told += f" Each was trained with every {what}: {_and(values)}."
        elif values:
            shared.append(f"the {what} {values[0]}")
    shared += [_option(key, value) for key, value in training.items() if key != "arguments"]
    return told + (f" All had {_and(shared)}." if shared else "")


def _option(name: str, value: Any) -> str:
    """Write a setting: ``width 16``, ``narrow head``, ``no narrow head``."""
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {value}"


def _length(settings: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> str:
    budget, steps = settings.get("budget"), settings.get("steps")
    length = "was as long as trainings usually are"
    if isinstance(budget, int | float):
        minutes = f"{budget:g} minutes" if budget >= 2 else f"{60 * budget:g} seconds"
        length = f"took {minutes}, validation included"
    elif isinstance(steps, int):
        length = f"took {count(steps, 'step')}"
    seeds = sorted({cell["seed"] for cell in cells if "seed" in cell})
    drawn = f"one seed, {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds, {_and(seeds)}"
    return f"Every training {length}. Each method was trained anew with {drawn}."


def _held_out(cells: Sequence[Mapping[str, Any]]) -> str:
    folds = {
        tuple(cell["sections"]): (cell["learned_from"], cell["validated_on"])
        for cell in cells
        if {"sections", "learned_from", "validated_on"} <= cell.keys()
    }
    if not folds:
        return ""
    if len(folds) == 1:
        ((tested, (learned, validated)),) = folds.items()
        return (
            f"They learned from {sections({*learned} - {*validated})}; "
            f"{sections(validated)} {_were(validated)} held out to choose from, and "
            f"{sections(tested)} {_were(tested)} tested."
        )
    blocks = _and(sections(tested).split(" ", 1)[1] for tested in sorted(folds))
    sizes = sorted({len(validated) for _, validated in folds.values()})
    return (
        f"{len(folds)} blocks of sections were tested, {blocks}, each with networks that had "
        f"learned from the other sections; of those, {' or '.join(map(str, sizes))} were held out "
        "to choose from."
    )


def _chosen(cells: Sequence[Mapping[str, Any]]) -> str:
    told = (
        "The held-out sections chose weights and threshold of every training, the tested ones "
        "chose nothing."
    )
    if found := sorted(cell["threshold"] for cell in cells if "threshold" in cell):
        low, high = (f"{value:.2g}" for value in (found[0], found[-1]))
        told += f" The threshold was {low}" + (f" to {high}." if low != high else ".")
    over = {AVERAGES.get(str(cell.get("average")), "") for cell in cells} - {""}
    if over:
        told += f" Predictions were averaged over {_and(sorted(over))}."
    return told + (
        " A section's score is the mean over its seeds, a method's the mean over the sections."
    )


def spread(methods: Sequence[Method], tested: Sequence[int]) -> Html:
    """Draw V_rand of every section, nothing where no cell tells it.

    Parameters
    ----------
    methods
        In the order of their colours.
    tested
        The sections to show.
    """
    tested = sorted(tested)
    room = 900 / max(1, tested[-1] - tested[0] + 1) if tested else 0.0
    gap = min(14.0, 0.7 * room / len(methods)) if methods else 0.0
    series = []
    many = False
    for n, method in enumerate(methods):
        seeds: dict[int, list[float]] = {z: [] for z in tested}
        for cell in method.cells:
            scores = (cell.get("scores") or {}).get("v_rand") or ()
            for z, value in zip(cell.get("sections") or (), scores, strict=False):
                if z in seeds:
                    seeds[z].append(float(value))
        there = [z for z in tested if seeds[z]]
        shift = gap * (n - (len(methods) - 1) / 2)
        single = [(z, value) for z in there for value in seeds[z] if len(seeds[z]) > 1]
        if single:
            many = True
            z_of, values = (list(values) for values in zip(*single, strict=True))
            series.append(Series(method.name, z_of, values, "specks", shift))
        means = [sum(seeds[z]) / len(seeds[z]) for z in there]
        series.append(Series(method.name, there, means, "dotted", shift))
    if not any(one.x for one in series):
        return Html("")
    chart = line_chart(
        series,
        title="V_rand of every section",
        x="section",
        y="V_rand, thinned",
        x_range=(tested[0] - 0.5, tested[-1] + 0.5),
        x_ticks=tested[:: -(-len(tested) // 30)],
        wide=True,
    )
    caption = "The mean over the seeds, and pale the single ones. " if many else "A dot a section. "
    caption += (
        "Where all methods fall, the section is hard; where one falls alone, it has failed there. "
        "Dots stand beside each other only to be seen."
    )
    scrolled = tag("div", chart, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return figure(scrolled, caption)


def provenance(told: Mapping[str, Any], methods: Sequence[Method]) -> Html:
    """Return the tables of versions, machines and hashes, nothing where no cell tells them."""
    cells = [cell for method in methods for cell in method.cells]
    if not cells:
        return Html("")
    settings = told.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    versions = dict.fromkeys(name for cell in cells for name in cell.get("versions") or ())
    common: dict[str, Any] = {
        "data": settings.get("data"),
        "data, sha256": settings.get("data_sha256"),
    }
    for name in versions:
        common[f"version of {name}"] = _all_of(
            (cell.get("versions") or {}).get(name) for cell in cells
        )
    for key in ("machine", "device", "threads", "precision"):
        common[key] = _all_of(cell.get(key) for cell in cells)
    rows = [
        _cell_row(method.name, cell)
        for method in methods
        for cell in sorted(method.cells, key=lambda cell: (cell.get("first"), cell.get("seed")))
    ]
    columns = (
        "method",
        *(f">{name}" for name in ("seed", "validated on", "tested on", "steps", "threshold")),
        *(">V_rand", ">V_info", "weights, sha256"),
    )
    caption = "Every training; scores are means over its tested sections, at its own threshold."
    each = table(columns, rows, caption=caption)
    if len(rows) > _LISTED:
        each = tag("details", tag("summary", f"All {len(rows)} trainings"), each)
    return joined(facts(common, caption="What the trainings have in common."), each)


def _cell_row(name: str, cell: Mapping[str, Any]) -> Html:
    scores = cell.get("scores") or {}
    steps, threshold = cell.get("steps"), cell.get("threshold")
    means = (
        sum(values) / len(values) if (values := scores.get(key)) else "–"
        for key in ("v_rand", "v_info")
    )
    return row(
        name,
        str(cell.get("seed", "–")),
        *(_numbers(cell.get(key) or ()) for key in ("validated_on", "sections")),
        "–" if steps is None else f"{steps:,.0f}",
        "–" if threshold is None else f"{threshold:.2g}",
        *means,
        tag("code", str(cell.get("weights_sha256") or "–")[:12]),
    )


def _numbers(numbers: Iterable[int]) -> str:
    """Write ``[22, 23, 24]`` as ``22–24``."""
    return sections(numbers).split(" ", 1)[1].replace(" to ", "–") or "–"


def _all_of(values: Iterable[Any]) -> str:
    """Write all values that there are, each once and how often where they differ."""
    found: dict[str, int] = {}
    for value in values:
        words = "unknown" if value is None else str(value)
        found[words] = found.get(words, 0) + 1
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{words} ({count(many, 'training')})" for words, many in found.items())


def _and(words: Iterable[object]) -> str:
    *most, last = [*map(str, words)] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _were(numbers: Sequence[int]) -> str:
    return "was" if len(numbers) == 1 else "were"
