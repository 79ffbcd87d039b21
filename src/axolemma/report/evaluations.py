"""An evaluation as a document: how good, at which threshold, and where it is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.evaluation import Evaluation, Located
from axolemma.metrics import (
    STACK_SCORES,
    ErrorKind,
    Interval,
    Reliability,
    Score,
    error_map,
    grouped,
)
from axolemma.pictures import ERROR_COLOURS, grey
from axolemma.report import figures
from axolemma.report.charts import Series, line_chart
from axolemma.report.explained import EXPLAINED
from axolemma.report.markup import Html, joined, tag
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

__all__ = ["evaluation_document", "places_document"]

#: Sections that have a figure for their low V_rand; places that have a crop; lines of the list.
_FIGURES, _CROPS, _LINES = 24, 12, 60

_WHAT = {"merge": "gap joins cells", "split": "false membrane cuts a cell"}

_KEY = (
    (ErrorKind.MERGE, "gap that joins cells"),
    (ErrorKind.SPLIT, "false membrane that cuts a cell"),
    (ErrorKind.MISSING, "missing membrane, costs next to nothing"),
    (ErrorKind.FALSE, "false membrane, costs next to nothing"),
)


def evaluation_document(
    found: Evaluation,
    *,
    images: NDArray[Any] | None = None,
    run: Path | None = None,
    title: str = "Membranes against the truth",
    prefix: str = "",
) -> Document:
    """Tell what an evaluation found.

    Parameters
    ----------
    found
        From `evaluation.evaluate_stacks`.
    images
        The sections (Z, Y, X) that were scored, see `evaluation.matching`; the proposal's own map
        is shown in their place where None.
    run
        The folder of the segmentation that was scored, or of the run of its model: what its
        record says is repeated.
    title
        Of the page.
    prefix
        Of the names in the page; another one for each evaluation of a page.

    Raises
    ------
    InputError
        If the images have another shape than the scored sections.
    """
    viewers, crops = _pictures(found, images, prefix, _FIGURES, _CROPS)
    parts = [
        Part("Result", _result(found)),
        Part("Section by section", _by_section(found)),
        *_reliable(found),
        Part("Where it is wrong", _where(found, viewers, images is not None)),
        Part("What costs most", _costs(found, crops, prefix)),
        Part("Every score", _all_scores(found)),
        Part("How it was read and scored", _how(found, run)),
    ]
    return Document("Evaluation", title, _lead(found), tuple(parts))


def places_document(
    found: Evaluation,
    *,
    images: NDArray[Any] | None,
    kind: str,
    title: str,
    lead: str,
    prefix: str,
    figures: int,
    crops: int,
) -> Document:
    """Show where a proposal is wrong, without its scores.

    Parameters
    ----------
    found, images, prefix
        See `evaluation_document`.
    kind, title, lead
        Of the document.
    figures
        How many sections to show, those of the lowest V_rand; so are those of the crops.
    crops
        How many of the costliest places to show.

    Raises
    ------
    InputError
        If the images have another shape than the scored sections.
    """
    viewers, cut_out = _pictures(found, images, prefix, figures, crops)
    parts = (
        Part("What costs most", _costs(found, cut_out, prefix)),
        Part("Where it is wrong", _where(found, viewers, images is not None)),
    )
    return Document(kind, title, lead, parts)


def _lead(found: Evaluation) -> str:
    suite, (height, width) = found.suite, found.pair.truth.shape[-2:]
    sure = suite.interval("v_rand")
    numbers = _span(suite.sections)
    return (
        f"{count(len(suite.sections), 'section')} ({numbers}) of {height:,} × {width:,} pixels "
        f"were compared with an expert's truth. {_cut(found)}, V_rand is {sure.mean:.3f}"
        + (f" (95 % interval {sure.low:.3f} to {sure.high:.3f})" if sure.low < sure.high else "")
        + f" and V_info {suite.mean('v_info'):.3f}."
    )


def _cut(found: Evaluation) -> str:
    at = found.suite.threshold
    if at is None:
        return "Taken as labels"
    if found.threshold is None:
        return f"At threshold {at:.2g}, the best on these very sections"
    return f"At threshold {at:.2g}, which was chosen elsewhere"


def _span(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return f"number {numbers[0]}"
    return f"numbers {numbers[0]} to {numbers[-1]}"


def _result(found: Evaluation) -> Html:
    suite = found.suite
    splits, mergers = suite.mean("warping_splits"), suite.mean("warping_mergers")
    sure = {name: suite.interval(name) for name in ("v_rand", "v_info", "cell_f1")}
    body = [
        tiles(
            ("V_rand, thinned", f"{sure['v_rand'].mean:.3f}", _interval(sure["v_rand"])),
            ("V_info, thinned", f"{sure['v_info'].mean:.3f}", _interval(sure["v_info"])),
            ("Cells found, F1", f"{sure['cell_f1'].mean:.3f}", _interval(sure["cell_f1"])),
            (
                "Errors per section",
                f"{splits + mergers:,.1f}",
                f"{splits:,.1f} false cuts and {mergers:,.1f} gaps after warping",
            ),
        )
    ]
    if found.cells is not None:
        at = found.cells.thresholds[0]
        text = (
            "The cells that the segmentation made of the same map, which have no threshold, score "
            f"V_rand {found.cells.v_rand(at):.3f} and V_info {found.cells.v_info(at):.3f}."
        )
        body.append(paragraph(text))
    if note := sure["v_rand"].note:
        body.append(paragraph(f"About the intervals: {note[:1].lower()}{note[1:]}", soft=True))
    if suite.threshold is not None and found.threshold is None:
        body.append(
            paragraph(
                tag("strong", "The threshold was chosen on the sections that are scored. "),
                "These numbers are what the challenge reports, and too good for a held-out "
                "result; name a threshold that other sections chose to get one.",
            )
        )
    if costly := found.mistakes[:3]:
        gain = sum(located.gain for located in costly)
        places = "place alone costs" if len(costly) == 1 else f"{len(costly)} places alone cost"
        body.append(
            paragraph(f"The costliest {places} {gain:.3f} of V_rand; they are shown below.")
        )
    return joined(*body)


def _interval(sure: Interval) -> str:
    if sure.low == sure.high:
        return "one section, no interval" if sure.sections == 1 else "the same in all sections"
    return f"95 % interval {sure.low:.3f} … {sure.high:.3f}"


def _by_section(found: Evaluation) -> Html:
    scores, suite = found.scores, found.suite
    at = scores.best_threshold() if found.threshold is None else found.threshold
    names = ("v_rand", "v_info", "v_rand_unthinned", "v_info_unthinned")
    values = {name: scores.sections_at(at, name) for name in names}
    charts = []
    if len(suite.sections) > 1:
        numbers = list(suite.sections)
        lines = [
            Series(words, numbers, values[name][:, 0].tolist(), "dotted")
            for name, words in (("v_rand", "V_rand"), ("v_info", "V_info"))
        ]
        chart = line_chart(
            lines,
            title="By section",
            x="section",
            y="score",
            x_ticks=numbers[:: -(-len(numbers) // 10)],
        )
        charts.append(figure(chart, "V_rand and V_info of every section at that threshold."))
    if suite.threshold is not None:
        lines = [
            Series(words, list(scores.thresholds), scores.curve(name).tolist(), "dotted")
            for name, words in (("v_rand", "V_rand"), ("v_info", "V_info"))
        ]
        chart = line_chart(
            lines,
            title="By threshold",
            x="threshold",
            y="mean score",
            x_range=(0, 1),
            y_range=(0, 1),
            marks={at: f"{'chosen' if found.threshold is not None else 'best here'} {at:.2g}"},
        )
        caption = (
            "Mean over the sections. A pixel is cell interior where 1 − membrane exceeds the "
            "threshold; a broad plateau means that the result hardly depends on it."
        )
        charts.append(figure(chart, caption))
    columns = (
        "section",
        *(f">{c}" for c in ("V_rand", "split", "merge", "V_info", "split", "merge")),
    )
    rows = []
    for z, section in enumerate(suite.sections):
        rows.append(row(str(section), *_line(values, z)))
    if len(rows) > 1:
        means = {name: array.mean(axis=0, keepdims=True) for name, array in values.items()}
        rows.append(row("mean", *_line(means, 0), class_="strong"))
    caption = (
        "Scores by the challenge's definition. The split half falls where a cell is cut, the "
        "merge half where cells are joined; the last two columns are without border thinning."
    )
    body = table((*columns, ">V_rand*", ">V_info*"), rows, caption=caption)
    return joined(tag("div", *charts, class_="pair") if charts else "", body)


def _reliable(found: Evaluation) -> list[Part]:
    """Return the part on what the map's values mean; none for labels, which have no values."""
    told, calibrated = found.suite.reliability, found.calibrated
    if told is None:
        return []
    curves = [("the map", told), ("calibrated", calibrated)]
    lines = [Series(name, *_points(of), "dotted") for name, of in curves if of is not None]
    chart = line_chart(
        [*lines, Series("as it should be", (0, 1), (0, 1))],
        title="Reliability",
        x="mean membrane probability of a bin",
        y="share of its pixels that are membrane",
        x_range=(0, 1),
        y_range=(0, 1),
    )
    shares = line_chart(
        [
            Series(name, _points(of)[0], [n / of.pixels.sum() for n in of.pixels if n], "dotted")
            for name, of in curves
            if of is not None
        ],
        title="Pixels",
        x="mean membrane probability of a bin",
        y="share of all pixels",
        x_range=(0, 1),
        y_range=(0, 1),
    )
    words = (
        f"The values of the map fall into {len(told.pixels)} bins. On average over the pixels of "
        f"all sections they are {told.expected_error:.3f} off the share of membrane in their bin, "
        f"the expected calibration error; in the worst bin {told.largest_error:.3f}."
    )
    if calibrated is not None:
        words += (
            " Calibrated by the two numbers that the model's validation chose, they are "
            f"{calibrated.expected_error:.3f} off."
        )
    words += " Thresholds are chosen for the cells that they part, so they need not be at one half."
    charts = tag(
        "div",
        figure(chart, "Above the straight line there is more membrane than the map says."),
        figure(shares, "How many pixels each point stands for."),
        class_="pair",
    )
    return [Part("What the map's values mean", joined(paragraph(words), charts))]


def _points(told: Reliability) -> tuple[list[float], list[float]]:
    predicted, found = told.curve()
    return predicted.tolist(), found.tolist()


def _line(values: dict[str, NDArray[np.float64]], z: int) -> list[float]:
    return [
        *values["v_rand"][z].tolist(),
        *values["v_info"][z].tolist(),
        float(values["v_rand_unthinned"][z, 0]),
        float(values["v_info_unthinned"][z, 0]),
    ]


def _pictures(
    found: Evaluation, images: NDArray[Any] | None, prefix: str, most: int, places: int
) -> tuple[list[Html], dict[int, str]]:
    """Return the sections' viewers, and the crops by the place of their error in the list."""
    shape = (len(found.pair), *found.pair.truth.shape[-2:])
    if images is not None and images.shape != shape:
        raise InputError(
            f"the images have shape {images.shape} and the scored sections {shape}; "
            "give the same sections"
        )
    suite = found.suite
    at = 0.5 if suite.threshold is None else suite.threshold
    ranked = np.argsort(suite.values["v_rand"], kind="stable")
    worst = {suite.sections[z] for z in ranked[:most].tolist()}
    worst |= {wrong.section for wrong in found.mistakes[:places]}  # its crops point to its figure
    viewers: list[Html] = []
    crops: dict[int, str] = {}
    for z, (section_number, cut) in enumerate(zip(suite.sections, found.pair.each(), strict=True)):
        wanted = [
            n for n, wrong in enumerate(found.mistakes[:places]) if wrong.section == section_number
        ]
        if section_number not in worst:
            continue
        section = cut.at(at)
        mine = [wrong for wrong in found.mistakes if wrong.section == section_number]
        kinds = error_map(section, [one.mistake for one in mine], tolerance=suite.tolerance)
        base = _map(cut.interior) if images is None else grey(images[z])
        for n in wanted:
            place = found.mistakes[n].mistake.position
            crops[n] = figures.crop(base, section.true_membrane, kinds, place)
        made = figures.layers(base, section, kinds)
        caption = (
            f"Section {section_number}. V_rand {suite.values['v_rand'][z]:.3f}, V_info "
            f"{suite.values['v_info'][z]:.3f}, {count(len(mine), 'costly error')}."
        )
        viewers.append(
            _viewer(
                made,
                f"{prefix}section-{section_number}",
                f"section {section_number}",
                caption,
                "Map" if images is None else "Image",
            )
        )
    return viewers, crops


def _map(interior: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(255 * interior, np.uint8)


def _viewer(made: figures.Layers, name: str, what: str, caption: str, first: str) -> Html:
    panels = (
        (first, made.image, f"The {first.lower()} of {what}", 100),
        ("Truth", made.truth, f"The cells of the truth, {what}, each in a colour", 45),
        ("Proposal", made.proposal, f"The cells of the proposal, {what}, each in a colour", 45),
        ("Errors", made.errors, f"What is wrong in {what}, over the truth's membranes", 100),
    )
    if made.reduced > 1:
        caption += f" Shown at 1/{made.reduced} of its size."
    controls = tag(
        "div",
        tag(
            "div",
            *(tag("button", words, type="button", aria_pressed="false") for words, *_ in panels),
            class_="buttons",
            role="group",
            aria_label=f"What to show of {what}",
        ),
        tag("label", "strength", tag("input", type="range", min="0", max="100", value="100")),
        class_="controls",
        hidden=True,
    )
    layers = (
        tag(
            "div",
            tag("img", src=source, alt=words),
            tag("p", title),
            class_="layer",
            data_strength=strength,
        )
        for title, source, words, strength in panels
    )
    shown = tag("div", *layers, class_="layers")
    return tag("figure", controls, shown, tag("figcaption", caption), class_="viewer", id=name)


def _where(found: Evaluation, viewers: list[Html], with_images: bool) -> Html:
    left_out = len(found.suite.sections) - len(viewers)
    below = "the image" if with_images else "the proposal's map"
    return joined(
        paragraph(
            "A segment of the proposal has the colour of the true cell it covers: two cells in one "
            "colour have run together, one cell in two colours has been cut. ",
            tag(
                "span",
                f"Choose what lies over {below}, and how strongly; within a figure the keys 1 to 4 "
                "do the same.",
                class_="how",
            ),
        ),
        paragraph(
            f"{len(viewers)} of {len(found.suite.sections)} sections are shown: those with the "
            "lowest V_rand and with the costliest errors."
        )
        if left_out
        else "",
        _key(),
        tag("div", *viewers, class_="pair viewers"),
    )


def _key(*, outlined: bool = False) -> Html:
    items = [
        tag("li", tag("i", style=f"background:rgb{ERROR_COLOURS[kind]}"), words)
        for kind, words in _KEY
    ]
    if outlined:
        line = f"background:rgb{figures.OUTLINE}"
        items.append(tag("li", tag("i", class_="line", style=line), "the truth's membrane"))
    return tag("ul", *items, class_="key")


def _costs(found: Evaluation, crops: dict[int, str], prefix: str) -> Html:
    if not found.mistakes:
        return paragraph("No gap and no false membrane alone costs any V_rand.")
    cards = []
    for n, source in sorted(crops.items()):
        one = found.mistakes[n]
        y, x = one.position
        words = _WHAT[one.mistake.kind]
        alt = f"Place {n + 1}: {words}, section {one.section}, row {y}, column {x}"
        text = tag(
            "p",
            tag("strong", f"−{one.gain:.4f}"),
            tag("br"),
            words,
            tag("br"),
            tag("a", f"section {one.section}", href=f"#{prefix}section-{one.section}"),
            f", y {y}, x {x}",
        )
        cards.append(tag("li", tag("img", src=source, alt=alt), text))
    rows = [_place(n, one) for n, one in enumerate(found.mistakes[:_LINES], start=1)]
    columns = (">rank", ">cost", ">section", "error", ">row", ">column", ">pixels")
    more = f", the first {_LINES}" if len(found.mistakes) > _LINES else ""
    listing = table(columns, rows, caption=f"Every place that costs V_rand{more}.")
    total = len(found.mistakes)
    return joined(
        paragraph(
            f"{count(total, 'place')} cost{'s' if total == 1 else ''} V_rand, the costliest first. "
            "The cost is exact: the place "
            "alone is mended, and what the mean V_rand of all sections then gains is its cost."
        ),
        _key(outlined=True),
        tag("ol", *cards, class_="places"),
        tag("details", tag("summary", "The whole list"), listing),
    )


def _place(rank: int, one: Located) -> Html:
    y, x = one.position
    what = joined(_WHAT[one.mistake.kind])
    cells = (f"{one.gain:.5f}", str(one.section), what, str(y), str(x), len(one.mistake.pixels))
    return row(str(rank), *cells)


def _all_scores(found: Evaluation) -> Html:
    suite = found.suite
    rows = []
    for name, group, score in grouped():
        if group:
            heading = tag("th", group, colspan="4", scope="rowgroup")
            rows.append(tag("tr", heading, class_="group"))
        sure = suite.interval(name)
        values = suite.values[name]
        counted = score.span == "0 …" and bool((values == values.round()).all())
        mean, low, high = (
            f"{value:,.1f}" if counted else number(value)
            for value in (sure.mean, sure.low, sure.high)
        )
        rows.append(
            _score_row(suite.title(name), score, EXPLAINED.get(name, ""), mean, f"{low} … {high}")
        )
    if suite.stack:
        heading = tag("th", "In 3D", colspan="4", scope="rowgroup")
        rows.append(tag("tr", heading, class_="group"))
        for name, value in suite.stack.items():
            score = STACK_SCORES[name]
            words = EXPLAINED.get(name, "")
            rows.append(_score_row(suite.title(name), score, words, number(value), "–"))
    caption = "Every score, mean over the sections. ↑ more is better, ↓ less is better."
    columns = ("score", ">mean", ">95 % interval", ">range")
    best: Html | str = ""
    if suite.threshold is not None:
        best = tag(
            "p",
            f"The table holds at threshold {suite.threshold:.2g}. Best over all thresholds, as the "
            f"challenge reports it, having looked at the truth: {found.best()}.",
        )
    return joined(best, table(columns, rows, caption=caption, class_="scores"))


def _score_row(title: str, score: Score, words: str, mean: str, ends: str) -> Html:
    half = title.startswith(" ")
    name = tag(
        "th",
        f"{title.strip()} {score.arrow}",
        tag("span", words, class_="soft"),
        scope="row",
    )
    return tag(
        "tr",
        name,
        tag("td", mean, class_="number"),
        tag("td", ends, class_="number"),
        tag("td", score.span, class_="number"),
        class_="half" if half else None,
    )


def _how(found: Evaluation, run: Path | None) -> Html:
    suite, (height, width) = found.suite, found.pair.truth.shape[-2:]
    where = found.pair.where
    told: dict[str, Any] = {
        "proposal": found.read_as,
        "truth": "labels, 0 = membrane" if found.pair.labelled else "black and white",
        "sections": ", ".join(map(str, suite.sections)),
        "pixels of a section": f"{height:,} × {width:,}",
        "threshold": _cut(found),
        "boundary tolerance": f"{suite.tolerance:g} pixels",
    }
    if where is not None:
        told["pixels not counted"] = f"{1 - where.mean():.1%}"
    tables = [facts(told, caption="How the scores were made.")]
    if run is not None:
        caption = "What the record of the segmentation or the run says."
        tables.append(facts(_record(run), caption=caption))
    notes = joined(tag("h3", "Assumed and converted"), listed(found.notes)) if found.notes else ""
    return joined(tag("div", *tables, class_="pair"), notes)


def _record(run: Path) -> dict[str, Any]:
    """Return what a folder says about itself: ``run.json``, or a run's ``settings.json``."""
    for name in ("run.json", "settings.json"):
        if (run / name).is_file():
            try:
                told = json.loads((run / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputError(f"{run / name}: the record cannot be read ({error})") from error
            if isinstance(told, dict):
                # Of what is found in the sections the notes have a sentence; it has many numbers.
                told.pop("findings", None)
                return told
    raise InputError(
        f"{run}: this folder holds neither run.json nor settings.json; name that of a segmentation "
        "or a run"
    )
