"""Scores and findings as tables on a terminal."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from axolemma.evaluation import Evaluation, compare
from axolemma.metrics import STACK_SCORES, Interval, Reliability, grouped

if TYPE_CHECKING:
    from axolemma.compare import Comparison
    from axolemma.quality import SectionReport

__all__ = ["comparison", "quality", "ranking", "scores"]

#: Errors that are listed on the terminal; the file holds all.
SHOWN = 8


def scores(found: Evaluation) -> Iterator[RenderableType]:
    """Yield what there is to say of one evaluation: sections, thresholds, all scores, errors."""
    yield Text(f"read as {found.read_as}")
    yield _sections(found)
    yield Text("* without border thinning")
    if found.suite.threshold is not None:
        yield Text(f"best over all thresholds, as the challenge reports it: {found.best()}")
    if found.cells is not None:
        at = found.cells.thresholds[0]
        yield Text(
            f"the cells of this segmentation, which have no threshold: "
            f"V_rand {found.cells.v_rand(at):.4f}, V_info {found.cells.v_info(at):.4f}"
        )
    yield _all_scores(found)
    if found.suite.reliability is not None:
        yield Text(_calibration(found.suite.reliability, found.calibrated))
    if note := found.suite.interval("v_rand").note:
        yield Text(f"about the intervals: {note}")
    if found.suite.stack:
        yield _in_3d(found)
    if found.mistakes:
        yield _mistakes(found)


def comparison(one: Evaluation, other: Evaluation) -> Iterator[RenderableType]:
    """Yield the scores of two evaluations side by side, with the difference's interval."""
    paired, differences = compare(one, other)
    how = "paired by section" if paired else "not paired: they hold different sections"
    table = _plain_table(
        f"this against the other, bootstrap {how}",
        *("", "this", "other", "difference", "95 % interval"),
        left=("",),
    )
    for name, group, score in grouped():
        if group:
            table.add_row(group, style="bold")
        sure = differences[name]
        table.add_row(
            f"  {one.suite.title(name)} {score.arrow}",
            _number(one.suite.mean(name)),
            _number(other.suite.mean(name)),
            f"{sure.mean:+.4f}",
            f"{sure.low:+.4f} … {sure.high:+.4f}",
        )
    yield table
    if note := differences["v_rand"].note:
        yield Text(f"about the intervals: {note}")


def ranking(found: "Comparison") -> Iterator[RenderableType]:
    """Yield a comparison's ranking, its pairs, what they mean, and what is missing."""
    if found.rows:
        yield _ranked(found)
        yield _errors(found)
        yield _costs(found)
    if found.pairs:
        yield _pairs(found)
    yield from map(Text, found.verdict)
    for note in found.notes:
        yield Text(f"note: {note}")
    for key, reason in found.failed.items():
        yield Text(f"failed: {key}: {reason}")


def quality(
    reports: "Sequence[SectionReport]", voxel_size: tuple[float, float, float] | None = None
) -> Iterator[RenderableType]:
    """Yield what is wrong with the sections of a stack, those with findings alone."""
    wrong = [report for report in reports if report.findings]
    if wrong:
        table = _plain_table("", "section", "what", "seen", "what to do")
        for column in table.columns[1:]:
            column.justify = "left"
            column.overflow = "fold"
        for report in wrong:
            for number, finding in enumerate(report.findings):
                seen = finding.says
                if finding.kind == "shifted" and voxel_size is not None and report.shift:
                    rows, columns = report.shift.rows, report.shift.columns
                    seen += f", {math.hypot(rows * voxel_size[1], columns * voxel_size[2]):.0f} nm"
                name = "" if number else str(report.section)
                table.add_row(name, Text(finding.kind), Text(seen), Text(finding.treatment))
        yield table
    count = "1 section" if len(reports) == 1 else f"{len(reports)} sections"
    yield Text(f"{count}, {len(wrong) or 'none'} with findings")


def _ranked(found: "Comparison") -> Table:
    where = f"mean over {len(found.sections)} test sections, threshold chosen by validation"
    table = _plain_table(
        where, "method", "V_rand", "95 % interval", "± sections", "± seeds", "rank", "V_info"
    )
    for place, row in enumerate(found.rows, start=1):
        table.add_row(
            f"{place}. {row.name}",
            _number(row.scores["v_rand"]),
            _ends(row.interval),
            _or_dash(row.over_sections),
            _or_dash(row.over_seeds),
            f"{row.rank:.2f}",
            _number(row.scores["v_info"]),
        )
    return table


def _errors(found: "Comparison") -> Table:
    table = _plain_table(
        "errors there, and the best that any threshold gives on these very sections",
        *("method", "Rand error", "pixel error", "warping error", "best V_rand", "best V_info"),
    )
    for row in found.rows:
        errors = [row.scores[name] for name in ("rand_error", "pixel_error")]
        warping = f"{row.scores['warping_error']:.6f}"
        table.add_row(row.name, *map(_number, errors), warping, *map(_number, row.best.values()))
    return table


def _costs(found: "Comparison") -> Table:
    table = _plain_table(
        "what it costs: a training, the prediction of a section, memory at its peak",
        *("method", "parameters", "GFLOP/Mpx", "training s", "steps", "s/section", "MiB"),
    )
    for row in found.rows:
        table.add_row(
            row.name,
            f"{row.parameters:,}",
            f"{row.gflop_per_megapixel:,.0f}",
            f"{row.training_seconds:,.0f}",
            f"{row.steps:,.0f}",
            f"{row.prediction_seconds:.2f}",
            "–" if row.memory_mib is None else f"{row.memory_mib:,.0f}",
        )
    return table


def _pairs(found: "Comparison") -> Table:
    table = _plain_table(
        "V_rand of one against the other, Wilcoxon's test, Holm's correction",
        *("one", "other", "difference", "95 % interval", "p", "p, corrected"),
    )
    for pair in found.pairs:
        sure = pair.difference
        table.add_row(
            found.rows[pair.one].name,
            found.rows[pair.other].name,
            f"{sure.mean:+.4f}",
            f"{sure.low:+.4f} … {sure.high:+.4f}",
            *(f"{p:.4f}" if p >= 1e-4 else "< 0.0001" for p in (pair.p, pair.p_holm)),
        )
    return table


def _plain_table(
    title: str, *columns: str, left: tuple[str, ...] = ("", "error", "method", "one", "other")
) -> Table:
    table = Table(title=title, box=None)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    return table


def _or_dash(value: float | None) -> str:
    return "–" if value is None else _number(value)


def _sections(found: Evaluation) -> Table:
    scores, cut = found.scores, found.threshold
    chosen = scores.best_threshold() if cut is None else cut
    if found.suite.threshold is None:
        title = "labels"
    else:
        where = "chosen elsewhere" if cut is not None else "the best on these very sections"
        title = f"interior where 1 - membrane > {chosen:.2g}, {where}"
    table = Table(title=title, box=None)
    table.add_column("section")
    for name in ("V_rand", "split", "merge", "V_info", "split", "merge", "V_rand*", "V_info*"):
        table.add_column(name, justify="right")

    def cells(rows: list[list[float]]) -> list[str]:
        return [f"{v:.4f}" for v in (*rows[0], *rows[1], rows[2][0], rows[3][0])]

    names = ("v_rand", "v_info", "v_rand_unthinned", "v_info_unthinned")
    per_name = [scores.sections_at(chosen, name).tolist() for name in names]
    for number, rows in zip(scores.sections, zip(*per_name, strict=True), strict=True):
        table.add_row(str(number), *cells(list(rows)))
    means = [scores.sections_at(chosen, name).mean(axis=0).tolist() for name in names]
    table.add_row("mean", *cells(means), style="bold")
    return table


def _all_scores(found: Evaluation) -> Table:
    table = _plain_table(
        "every score there, mean over the sections", "", "mean", "95 % interval", "range"
    )
    for name, group, score in grouped():
        if group:
            table.add_row(group, style="bold")
        sure = found.suite.interval(name)
        title = f"  {found.suite.title(name)} {score.arrow}"
        table.add_row(title, _number(sure.mean), _ends(sure), score.span)
    return table


def _calibration(told: Reliability, calibrated: Reliability | None) -> str:
    words = (
        f"of all pixels: calibration error {told.expected_error:.4f} expected, "
        f"{told.largest_error:.4f} in the worst of {len(told.pixels)} bins"
    )
    if calibrated is not None:
        words += f"; calibrated as the model's validation chose, {calibrated.expected_error:.4f}"
    return words


def _in_3d(found: Evaluation) -> Table:
    table = _plain_table("in 3D", "", "score", "range")
    for name, value in found.suite.stack.items():
        score = STACK_SCORES[name]
        table.add_row(f"  {score.title} {score.arrow}", _number(value), score.span)
    return table


def _mistakes(found: Evaluation) -> Table:
    count = len(found.mistakes)
    more = f", the first {SHOWN} of {count}" if count > SHOWN else ""
    table = _plain_table(
        f"what costs most V_rand{more}", "cost", "section", "error", "at y, x", "pixels"
    )
    for located in found.mistakes[:SHOWN]:
        wrong = located.mistake
        what = "gap joins cells" if wrong.kind == "merge" else "false membrane cuts a cell"
        y, x = located.position
        row = (f"{located.gain:.5f}", str(located.section), what, f"{y}, {x}")
        table.add_row(*row, str(len(wrong.pixels)))
    return table


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def _ends(sure: Interval) -> str:
    return f"{_number(sure.low)} … {_number(sure.high)}"
