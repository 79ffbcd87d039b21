"""A comparison of several methods as a document."""

import base64
import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from axolemma.errors import InputError
from axolemma.metrics import SCORES
from axolemma.report.markup import Html, joined, tag
from axolemma.report.page import Document, Part
from axolemma.report.parts import count, facts, figure, listed, number, paragraph, row, table

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


def comparison_document(told: Mapping[str, Any], *, title: str = "Comparison") -> Document:
    """Tell what a comparison found.

    Parameters
    ----------
    told
        Its `as_dict`: ``rows``, a list of mappings with ``name``, ``v_rand``, ``v_info``, or these
        two among ``scores``, and any other columns. Where they are there, ``verdict`` and
        ``notes``, lists of sentences; ``svg``, one picture, a list of them or a mapping of
        captions to them; ``pairs``, ``friedman``, ``failed``, ``missing`` and ``settings``.
    title
        Of the page.

    Raises
    ------
    InputError
        If there are no rows.
    """
    rows = told.get("rows")
    if not isinstance(rows, list | tuple) or not rows or not all(map(_is_row, rows)):
        raise InputError("this is no comparison: it has no list of rows, one for each method")
    ranked = sorted((_lifted(found) for found in rows), key=_rank)
    pictures = list(_pictures(told.get("svg")))
    keys = list(dict.fromkeys(key for found in ranked for key in found if key != "name"))
    shown = [key for key in keys if key not in (*_METHOD, *_COSTS, "scores")]
    shown.sort(key=_first)
    ranking = _table(ranked, shown, "The methods, the highest V_rand first.")
    parts = [
        Part("Verdict", listed(_sentences(told.get("verdict")))),
        Part("Ranking", joined(ranking, *pictures)),
        Part("Every two of them", _pairs(told)),
        Part("What they cost", _optional(ranked, keys, _COSTS, "Means over their trainings.")),
        Part("Every score", _all_scores(ranked)),
        Part("What they are", _optional(ranked, keys, _METHOD, "The methods.")),
        Part("Notes and gaps", _gaps(told)),
        Part("Settings", _settings(told)),
    ]
    return Document(
        "Comparison", title, _lead(ranked, told), tuple(part for part in parts if part.body)
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
    if key == "rank" and isinstance(value, float):
        return f"{value:.2f}"
    return _value(value)


def _pairs(told: Mapping[str, Any]) -> Html:
    pairs = told.get("pairs")
    if not isinstance(pairs, list | tuple) or not pairs or not all(map(_is_row, pairs)):
        return Html("")
    rows = []
    for pair in pairs:
        sure = pair.get("difference") or {}
        ends = [sure.get(end) for end in ("mean", "low", "high")]
        mean, low, high = (
            f"{end:+.4f}".replace("-", "−") if isinstance(end, float) else "–" for end in ends
        )
        tests = (
            f"{p:.4f}" if isinstance(p, float) else "–" for p in (pair.get("p"), pair.get("p_holm"))
        )
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
            f"Friedman's test over all of them: statistic {friedman[0]:.3g}, p = {friedman[1]:.3g}."
        )
        return joined(body, paragraph(words))
    return body


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
