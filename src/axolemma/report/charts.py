"""Line charts as SVG text: axes, ticks, legend, marks. Pure functions."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.report.markup import Html, joined, tag

__all__ = ["COLOURS", "Series", "line_chart", "ticks"]

#: Of the series in their order, distinct for every kind of colour vision (after Okabe and Ito).
COLOURS = ("#0b5fa5", "#c8500a", "#00795a", "#a3467f", "#6b5b00", "#4b5563")
#: So are their lines, for prints without colour.
_DASHES = (None, "7 3", "2 3", "9 3 2 3")

_WIDTH, _WIDE, _HEIGHT = 480.0, 1000.0, 300.0
_LEFT, _RIGHT, _BOTTOM = 52.0, 14.0, 44.0
#: Styles of what stands behind the series that follows it.
_UNNAMED = ("pale", "specks")

#: Of a line of the legend, which may have several.
_LINE = 20.0

#: A line of more points than this shows the means of so many groups.
_MOST = 400


@dataclass(frozen=True, slots=True)
class Series:
    """Points (x, y) that belong together; those that are not finite are left out.

    Parameters
    ----------
    name
        In the legend.
    x, y
        Equally many numbers.
    style
        A line, a line with a dot on every point, dots alone; or a pale line or pale specks that are
        not in the legend, in the colour of the series that follows them.
    shift
        How far to the right it is drawn of where it belongs, so that the dots of several series at
        one place stand side by side; in units of which a chart is 480 wide, a wide one 1000.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: Literal["line", "dotted", "dots", "pale", "specks"] = "line"
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class _Frame:
    """From values to places: `left` to `right` as far as `end`, `low` to `high` up from `foot`."""

    left: float
    right: float
    low: float
    high: float
    top: float
    foot: float
    end: float

    def across(self, x: float) -> float:
        return _LEFT + (x - self.left) / (self.right - self.left) * (self.end - _LEFT)

    def up(self, y: float) -> float:
        return self.foot - (y - self.low) / (self.high - self.low) * (self.foot - self.top)


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return round numbers within [low, high], about `count` steps of 1, 2, 2.5 or 5.

    Examples
    --------
    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / count
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((1, 2, 2.5, 5, 10), key=lambda s: abs(math.log(s * power / rough))) * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x: str,
    y: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    marks: Mapping[float, str] | None = None,
    x_ticks: Sequence[float] | None = None,
    wide: bool = False,
) -> Html:
    """Draw lines over one pair of axes.

    Parameters
    ----------
    series
        At least one with a finite point.
    title, x, y
        Of the chart and of its axes.
    x_range, y_range
        What the axes span; a little more than the points where None.
    marks
        Values of x where an upright line stands, with its words.
    x_ticks
        Where the ticks of x stand; at round numbers where None.
    wide
        For the whole width of a page rather than for half of it.

    Returns
    -------
    Html
        An ``<svg>`` element for any width, with a description for screen readers.

    Raises
    ------
    InputError
        If no point is finite, or a series has not as many x as y.
    """
    points = [_finite(one) for one in series]
    every = np.concatenate([np.empty((0, 2)), *points])
    if not len(every):
        raise InputError(f"the chart '{title}' has no finite point to draw")
    named = [one for one in series if one.style not in _UNNAMED]
    width = _WIDE if wide else _WIDTH
    legend, lower = _legend(named, width) if len(named) > 1 else (Html(""), 0.0)
    longer = max(0.0, lower - _LINE)  # what further lines of the legend take, the chart gets
    frame = _Frame(
        *(x_range or _span(every[:, 0], room=0.0)),
        *(y_range or _span(every[:, 1], room=0.06)),
        top=(58.0 + lower if lower else 52.0) + (14.0 if marks else 0.0),
        foot=_HEIGHT + longer - _BOTTOM,
        end=width - _RIGHT,
    )
    behind: list[Html] = []
    before: list[Html] = []
    for one, found in zip(series, points, strict=True):
        layer = behind if one.style in _UNNAMED else before
        layer.append(_drawn(one, found, len(before), frame))
    return tag(
        "svg",
        tag("title", title),
        tag("desc", _description(named, x)),
        _text(title, 0, 14, class_="chart-title"),
        legend,
        _text(y, 0, frame.top - (28 if marks else 14), class_="chart-note"),
        *_axes(frame, x, x_ticks),
        *(_mark(frame, value, words) for value, words in (marks or {}).items()),
        *behind,
        *before,
        viewBox=f"0 0 {width:g} {_HEIGHT + longer:g}",
        role="img",
        class_="chart",
        style="min-width:700px" if wide else None,
    )


def _finite(series: Series) -> NDArray[np.float64]:
    """Return the points to draw, (n, 2)."""
    if len(series.x) != len(series.y):
        raise InputError(f"series '{series.name}' has {len(series.x)} x and {len(series.y)} y")
    points = np.array([series.x, series.y], np.float64).T
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) <= _MOST or series.style in ("dots", "dotted", "specks"):
        return points
    return np.array([group.mean(axis=0) for group in np.array_split(points, _MOST)])


def _span(values: NDArray[np.float64], *, room: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low - (abs(low) / 10 or 1.0), high + (abs(high) / 10 or 1.0)
    return low - room * (high - low), high + room * (high - low)


def _axes(frame: _Frame, x: str, x_ticks: Sequence[float] | None) -> Iterator[Html]:
    foot, end = frame.foot, frame.end
    levels = ticks(frame.low, frame.high)
    for value, words in zip(levels, _numbers(levels), strict=True):
        at = f"{frame.up(value):.1f}"
        yield tag("line", x1=_LEFT, x2=end, y1=at, y2=at, class_="chart-grid")
        yield _text(words, _LEFT - 7, frame.up(value) + 4, text_anchor="end", class_="chart-tick")
    yield tag("line", x1=_LEFT, x2=end, y1=foot, y2=foot, class_="chart-base")
    places = ticks(frame.left, frame.right, count=6) if x_ticks is None else list(x_ticks)
    for value, words in zip(places, _numbers(places), strict=True):
        at = f"{frame.across(value):.1f}"
        yield tag("line", x1=at, x2=at, y1=foot, y2=foot + 4, class_="chart-base")
        yield _text(
            words, frame.across(value), foot + 18, text_anchor="middle", class_="chart-tick"
        )
    yield _text(x, end, foot + _BOTTOM - 6, text_anchor="end", class_="chart-note")


def _mark(frame: _Frame, value: float, words: str) -> Html:
    at = frame.across(value)
    near_the_end = at > 0.7 * (frame.end + _RIGHT)
    return joined(
        tag(
            "line",
            x1=f"{at:.1f}",
            x2=f"{at:.1f}",
            y1=frame.top - 16,
            y2=frame.foot,
            class_="chart-mark",
        ),
        _text(
            words,
            at + (-5 if near_the_end else 5),
            frame.top - 8,
            text_anchor="end" if near_the_end else "start",
            class_="chart-note chart-halo",
        ),
    )


def _drawn(series: Series, points: NDArray[np.float64], number: int, frame: _Frame) -> Html:
    colour = COLOURS[number % len(COLOURS)]
    places = [
        (f"{frame.across(a) + series.shift:.1f}", f"{frame.up(b):.1f}") for a, b in points.tolist()
    ]
    parts = []
    if series.style not in ("dots", "specks") and places:
        pale = series.style == "pale"
        parts.append(
            tag(
                "polyline",
                points=" ".join(",".join(place) for place in places),
                fill="none",
                stroke=colour,
                stroke_width=1 if pale else 2,
                stroke_opacity=0.3 if pale else None,
                stroke_dasharray=None if pale else _DASHES[number % len(_DASHES)],
                stroke_linejoin="round",
            )
        )
    if series.style in ("dots", "dotted", "specks"):
        shape = {"fill": "#fff" if number % 2 else colour, "stroke": colour, "stroke_width": 2}
        shape |= {"r": 3.5}
        if series.style == "specks":
            shape = {"fill": colour, "fill_opacity": 0.4, "r": 3}
        for (cx, cy), (a, b) in zip(places, points.tolist(), strict=True):
            words = tag("title", f"{series.name}, {a:g}: {b:.4g}")
            parts.append(tag("circle", words, cx=cx, cy=cy, **shape))
    return tag("g", *parts)


def _legend(series: Sequence[Series], width: float) -> tuple[Html, float]:
    """Return the legend, in lines of `width`, and how high it is."""
    parts, at, line = [], 0.0, 0.0
    for number, one in enumerate(series):
        ends = at + 36 + 7.5 * len(one.name)
        if at and ends > width:
            at, line = 0.0, line + _LINE
            ends = 36 + 7.5 * len(one.name)
        sample = np.array([(0.0, 0.0), (1.0, 0.0)] if one.style != "dots" else [(0.5, 0.0)])
        frame = _Frame(0, 1, 0, 1, top=-1, foot=0, end=_LEFT + 24)
        drawn = _drawn(Series(one.name, [], [], one.style), sample, number, frame)
        move = f"translate({at + 2 - _LEFT:.0f} {35 + line:.0f})"
        parts.append(tag("g", drawn, transform=move))
        parts.append(_text(one.name, at + 36, 39 + line, class_="chart-name"))
        at = ends + 22
    return joined(*parts), line + _LINE


def _text(words: str, x: float, y: float, **attributes: object) -> Html:
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def _numbers(values: Sequence[float]) -> list[str]:
    """Write ticks with as many decimals as the finest of them needs."""
    largest = max((abs(value) for value in values), default=0.0)
    if 0 < largest < 1e-4:
        return [f"{value:.3g}" for value in values]
    for decimals in range(8):
        if all(abs(round(value, decimals) - value) < 1e-9 for value in values):
            break
    return [f"{value:,.{decimals}f}" for value in values]


def _description(series: Sequence[Series], x: str) -> str:
    parts = []
    for one in series:
        points = _finite(one)
        if len(points):
            (_, first), (_, last) = points[0].tolist(), points[-1].tolist()
            low, high = float(points[:, 1].min()), float(points[:, 1].max())
            parts.append(
                f"{one.name} over {x}: from {first:.4g} to {last:.4g}, "
                f"lowest {low:.4g}, highest {high:.4g}."
            )
    return " ".join(parts)
