"""A comparison of several methods as a document."""

import base64
import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from axolemma import datasets
from axolemma.errors import InputError
from axolemma.images import Stack
from axolemma.metrics import SCORES
from axolemma.report.markup import Html, joined, tag
from axolemma.report.methods import Method, data_name, described, methods_of, provenance, spread
from axolemma.report.overlays import overlay_documents
from axolemma.report.page import Document, Part
from axolemma.report.parts import (
    count,
    facts,
    figure,
    listed,
    number,
    paragraph,
    row,
    table,
    tiles,
)

__all__ = ["comparison_document"]


#: Columns of tables of their own: what a method is, and what it costs.
_METHOD = ("model", "loss", "preset", "arguments")
_COSTS = (
    "parameters",
    "gflop_per_megapixel",
    "training_seconds",
    "steps",
    "prediction_seconds",
    "memory_mib",
    "device_memory_mib",
)
_TITLES = {
    "v_rand": "V_rand",
    "v_info": "V_info",
    "interval": "95 % interval",
    "over_sections": "± sections",
    "over_seeds": "± seeds",
    "rank": "mean rank",
    "gflop_per_megapixel": "GFLOP/Mpx",
    "training_seconds": "training, s",
    "prediction_seconds": "s per section",
    "memory_mib": "memory, MiB",
    "device_memory_mib": "GPU memory, MiB",
}
#: Of numbers that are no scores.
_FORMATS = {
    "over_sections": ".4f",
    "over_seeds": ".4f",
    "rank": ".2f",
    "gflop_per_megapixel": ",.1f",
    "training_seconds": ",.0f",
    "steps": ",.0f",
    "prediction_seconds": ".2f",
    "memory_mib": ",.0f",
    "device_memory_mib": ",.0f",
}


def comparison_document(
    told: Mapping[str, Any],
    *,
    folder: Path | None = None,
    truth: Stack | None = None,
    image: Stack | None = None,
    slices: str | None = None,
    title: str | None = None,
    prefix: str = "",
) -> Document:
    """Tell what a comparison found.

    Parameters
    ----------
    told
        Its `as_dict`: ``rows``, a list of mappings with ``name``, ``v_rand``, ``v_info``, or these
        two among ``scores``, and any other columns. Where they are there, ``verdict`` and
        ``notes``, lists of sentences; ``svg``, one picture, a list of them or a mapping of
        captions to them; ``pairs``, ``friedman``, ``failed``, ``missing``, ``settings`` and
        ``cells``, from which the spread over sections and seeds and the versions are told.
    folder
        Of the comparison: how its trainings went is read from there.
    truth, image, slices
        With a folder and a truth every method is shown against it, see
        `overlays.overlay_documents`. Without them the page shows no picture of the data.
    title
        Of the page.
    prefix
        Of the names in the page; another one for each document of a page.

    Raises
    ------
    InputError
        If there are no rows, or truth or image do not fit the predictions.
    """
    rows = told.get("rows")
    if not isinstance(rows, list | tuple) or not rows or not all(map(_is_row, rows)):
        raise InputError("this is no comparison: it has no list of rows, one for each method")
    ranked = sorted((_lifted(found) for found in rows), key=_rank)
    methods = methods_of(told, ranked)
    pictures = list(_pictures(told.get("svg")))
    keys = list(dict.fromkeys(key for found in ranked for key in found if key != "name"))
    shown = [key for key in keys if key not in (*_METHOD, *_COSTS, "scores")]
    shown.sort(key=_first)
    caption = "The methods, the highest V_rand first"
    for key in ("seeds", "sections"):
        many = ranked[0].get(key)
        if isinstance(many, int) and all(found.get(key) == many for found in ranked):
            shown.remove(key)
            caption += f", {count(many, key[:-1])}"
    ranking = _table(ranked, shown, f"{caption}.")
    parts = [
        Part("What was done", described(told, methods)),
        Part("Verdict", joined(_tiles(ranked, told), listed(_sentences(told.get("verdict"))))),
        Part("Ranking", joined(ranking, *pictures)),
        Part("Section by section", spread(methods, _tested(told))),
        Part("Every two of them", _pairs(told)),
        Part("Learning curves", _curves(methods, folder)),
        Part("What they cost", _optional(ranked, keys, _COSTS, "Means over their trainings.")),
        Part("Every score", _all_scores(ranked)),
        Part("What they are", _optional(ranked, keys, _METHOD, "The methods.")),
        Part("Notes and gaps", _gaps(told)),
        Part("Settings", _settings(told)),
        Part("Versions, machine and hashes", provenance(told, methods)),
    ]
    overlays: tuple[Document, ...] = ()
    if folder is not None and truth is not None:
        found = overlay_documents(methods, folder, truth, image=image, slices=slices, prefix=prefix)
        overlays = tuple(found)
    elif folder is not None:
        parts.append(Part("Where they are wrong", _how_to_see(told, folder)))
    return Document(
        "Comparison",
        title or _named(ranked, told),
        _lead(ranked, told),
        tuple(part for part in parts if part.body),
        overlays,
    )


def _named(ranked: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> str:
    settings = told.get("settings")
    if not isinstance(settings, Mapping) or "data" not in settings:
        return "Comparison"
    return f"{count(len(ranked), 'method')} on {data_name(settings)}"


def _tested(told: Mapping[str, Any]) -> list[int]:
    sections = told.get("sections")
    return list(sections) if isinstance(sections, list | tuple) else []


def _tiles(ranked: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> Html:
    """Return what to remember of a comparison, as large numbers."""
    best, found = ranked[0], []
    name = str(best.get("name", "the first"))
    if isinstance(score := best.get("v_rand"), float):
        ends = best.get("interval")
        sure = ""
        if isinstance(ends, tuple) and _is_interval(ends):
            sure = f"; 95 % interval {ends[0]:.3f} … {ends[1]:.3f}"
        found.append(("Highest V_rand", f"{score:.3f}", f"{name}{sure}"))
    if isinstance(score := best.get("v_info"), float):
        found.append(("V_info of the same", f"{score:.3f}", "mean over the sections"))
    first_two = [one.get("name") for one in ranked[:2]]
    for pair in told.get("pairs") or ():
        if _is_row(pair) and [pair.get("one"), pair.get("other")] == first_two:
            apart = pair.get("difference") or {}
            mean, low, high = (_signed(apart.get(end), 3) for end in ("mean", "low", "high"))
            note = f"{pair['other']}; 95 % interval {low} … {high}"
            found.append(("V_rand ahead of the next", mean, note))
    cells = told.get("cells")
    if isinstance(cells, list | tuple) and cells:
        lacking = len(told.get("failed") or ()) + len(told.get("missing") or ())
        note = f"{lacking} more failed or not run yet" if lacking else "all of them finished"
        found.append(("Trainings", f"{len(cells):,}", note))
    return tiles(*found) if found else Html("")


def _signed(value: Any, decimals: int) -> str:
    """Write a difference with its sign, – where there is none."""
    if not isinstance(value, float | int):
        return "–"
    return f"{value:+.{decimals}f}".replace("-", "−")


def _curves(methods: Sequence[Method], folder: Path | None) -> Html:
    if folder is None:
        return Html("")
    from axolemma.report.curves import comparison_curves  # waits for torch, the rest need not

    return comparison_curves(methods, folder)


def _how_to_see(told: Mapping[str, Any], folder: Path) -> Html:
    settings = told.get("settings")
    data = data_name(settings) if isinstance(settings, Mapping) else ""
    # Only a data set with a name is both truth and image.
    named = data if data in datasets.NAMES else "TRUTH --image IMAGES"
    return paragraph(
        "This page holds no picture of the data; ",
        tag("code", f"axolemma report {folder.name} --truth {named}"),
        " shows every method over the sections that it was tested on, with its errors.",
    )


def _lead(ranked: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> str:
    sections = told.get("sections")
    where = "the same sections"
    if isinstance(sections, list | tuple) and sections:
        where = f"the same {count(len(sections), 'section')}"
    lead = (
        f"{count(len(ranked), 'method')} {'was' if len(ranked) == 1 else 'were'} scored on {where}."
    )
    best = ranked[0]
    if isinstance(score := best.get("v_rand"), float | int):
        lead += f" {best.get('name', 'The first')} has the highest V_rand, {score:.3f}."
    return lead


def _is_row(found: Any) -> bool:
    return isinstance(found, Mapping)


def _lifted(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its main scores and the best ones as columns."""
    lifted: dict[str, Any] = {}
    scores = found.get("scores")
    if isinstance(scores, Mapping):
        lifted |= {name: scores[name] for name in ("v_rand", "v_info") if name in scores}
    for key, value in found.items():
        if key == "interval" and isinstance(value, Mapping):
            lifted[key] = (value.get("low"), value.get("high"))
        elif key == "best" and isinstance(value, Mapping):
            lifted |= {f"best_{name}": score for name, score in value.items()}
        else:
            lifted[key] = value
    return lifted


def _first(key: str) -> int:
    order = ("v_rand", "interval", "over_sections", "over_seeds", "rank", "v_info")
    return order.index(key) if key in order else len(order)


def _rank(found: Mapping[str, Any]) -> float:
    score = found.get("v_rand")
    return -float(score) if isinstance(score, int | float) else float("inf")


def _sentences(told: Any) -> list[str]:
    return [told] if isinstance(told, str) else [str(one) for one in told or ()]


def _optional(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], wanted: Sequence[str], caption: str
) -> Html:
    """Return a table of the wanted columns that there are."""
    there = [key for key in wanted if key in keys]
    return _table(rows, there, caption) if there else Html("")


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], caption: str) -> Html:
    if any(key in SCORES for key in keys):
        caption += " ↑ more is better, ↓ less is better."
    columns = [
        f">{_title(key)}" if all(_is_number(found.get(key)) for found in rows) else _title(key)
        for key in keys
    ]
    body = (
        row(str(n), joined(found.get("name", "")), *(_column(key, found.get(key)) for key in keys))
        for n, found in enumerate(rows, start=1)
    )
    return table(("place", "method", *columns), body, caption=caption)


def _title(key: str) -> str:
    words = _TITLES.get(key) or re.sub(r"\bv (rand|info)", r"V_\1", key.replace("_", " "))
    return f"{words} {SCORES[key].arrow}" if key in SCORES else words


def _is_number(value: Any) -> bool:
    plain = isinstance(value, float | int) and not isinstance(value, bool)
    return value is None or plain or _is_interval(value)


def _is_interval(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(end, float) for end in value)
    )


def _value(value: Any) -> Any:
    """Write a cell; floats are left to the row."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return value
    if _is_interval(value):
        return f"{number(value[0])} … {number(value[1])}"
    if isinstance(value, Mapping):
        return joined(", ".join(f"{key} {_value(one)}" for key, one in value.items()))
    if isinstance(value, list | tuple):
        return joined(", ".join(str(_value(one)) for one in value))
    return joined(str(value))


def _column(key: str, value: Any) -> Any:
    if key in _FORMATS and isinstance(value, float):
        return format(value, _FORMATS[key])
    return _value(value)


def _pairs(told: Mapping[str, Any]) -> Html:
    pairs = told.get("pairs")
    if not isinstance(pairs, list | tuple) or not pairs or not all(map(_is_row, pairs)):
        return Html("")
    rows = []
    for pair in pairs:
        sure = pair.get("difference") or {}
        ends = [sure.get(end) for end in ("mean", "low", "high")]
        mean, low, high = (_signed(end, 4) for end in ends)
        tests = (_probability(p) for p in (pair.get("p"), pair.get("p_holm")))
        other = joined(pair.get("other", ""))
        rows.append(row(pair.get("one", ""), other, mean, f"{low} … {high}", *tests))
    caption = (
        "How much higher V_rand of the first is, with a bootstrap interval over the sections, and "
        "Wilcoxon's signed-rank test, the last column after Holm's correction."
    )
    columns = ("one", "other", ">difference", ">95 % interval", ">p", ">p, corrected")
    body = table(columns, rows, caption=caption)
    friedman = told.get("friedman")
    if isinstance(friedman, list | tuple) and len(friedman) == 2:
        words = (
            f"Friedman's test over all of them: statistic {friedman[0]:.3g}, p = {friedman[1]:.2g}."
        )
        return joined(body, paragraph(words))
    return body


def _probability(p: Any) -> str:
    if not isinstance(p, float):
        return "–"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _all_scores(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Return every score of every method, the best of each in bold."""
    scored = [found for found in rows if isinstance(found.get("scores"), Mapping)]
    if not scored:
        return Html("")
    body = []
    for name, score in SCORES.items():
        values = [found["scores"].get(name) for found in scored]
        there = [value for value in values if isinstance(value, float | int)]
        if not there:
            continue
        pick: Callable[[list[float]], float] = max if score.better == "high" else min
        best = pick(there)
        cells = [_scored(value, best=value == best and len(there) > 1) for value in values]
        words = f"{score.title.strip().format(tolerance=2)} {score.arrow}"
        body.append(tag("tr", tag("th", words, scope="row"), *cells))
    names = [f">{found.get('name', '')}" for found in scored]
    caption = "Mean over the sections; the best in bold. ↑ more is better, ↓ less is better."
    return table(("score", *names), body, caption=caption)


def _scored(value: Any, *, best: bool) -> Html:
    if not isinstance(value, float | int):
        return tag("td", "–", class_="number")
    words = number(float(value))
    return tag("td", tag("strong", words) if best else words, class_="number")


def _gaps(told: Mapping[str, Any]) -> Html:
    failed = told.get("failed")
    lines = _sentences(told.get("notes"))
    if isinstance(failed, Mapping):
        lines += [f"{key} failed: {reason}" for key, reason in failed.items()]
    lines += [f"{key} was not run yet" for key in _sentences(told.get("missing"))]
    return listed(lines)


def _settings(told: Mapping[str, Any]) -> Html:
    settings = told.get("settings")
    if not isinstance(settings, Mapping):
        return Html("")
    return facts(settings, caption="How it was compared.")


def _pictures(told: Any) -> Iterator[Html]:
    pairs: list[tuple[str, Any]]
    if isinstance(told, Mapping):
        pairs = [(str(caption), picture) for caption, picture in told.items()]
    else:
        pairs = [("", picture) for picture in _sentences(told)]
    for caption, picture in pairs:
        # As an image an SVG can neither run a script nor ask for another file.
        source = base64.b64encode(str(picture).encode()).decode()
        named = re.search(r"<title>([^<]*)</title>", str(picture))
        words = caption or (html.unescape(named[1]) if named else "The comparison as a picture")
        image = tag("img", src=f"data:image/svg+xml;base64,{source}", alt=words)
        yield tag("div", figure(image, words.rstrip(".") + "."), class_="wide")
