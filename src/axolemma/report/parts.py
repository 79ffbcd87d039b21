"""What the parts of a page are made of: tables, tiles of numbers, lists of facts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from axolemma.report.markup import Html, joined, tag

__all__ = [
    "AVERAGES",
    "count",
    "facts",
    "figure",
    "flat",
    "listed",
    "number",
    "paragraph",
    "row",
    "table",
    "tiles",
]

#: Over what predictions are averaged, in words.
AVERAGES = {
    "none": "one pose",
    "half-turn": "2 poses, a half turn apart",
    "flips": "4 flips",
    "dihedral": "8 flips and turns",
}


def number(value: float) -> str:
    """Write a score with four decimals, a small one with six, a large number with one."""
    if 0 < abs(value) < 0.001:
        return f"{value:.6f}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def count(many: int, what: str) -> str:
    """Write ``1 section`` or ``3 sections``."""
    return f"{many:,} {what}" + ("" if many == 1 else "s")


def paragraph(*content: object, soft: bool = False) -> Html:
    """Return a paragraph, small and grey where `soft`."""
    return tag("p", *content, class_="soft" if soft else None)


def listed(sentences: Iterable[object]) -> Html:
    """Return a bulleted list, nothing where there is nothing to list."""
    items = [tag("li", one) for one in sentences]
    return tag("ul", *items) if items else Html("")


def tiles(*found: tuple[str, str, str]) -> Html:
    """Return large numbers side by side: a name, its value and a note for each."""
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", name),
                tag("dd", value, class_="value"),
                tag("dd", note, class_="soft"),
            )
            for name, value, note in found
        ),
        class_="tiles",
    )


def figure(picture: Html, caption: str = "") -> Html:
    """Return a picture with its caption."""
    return tag("figure", picture, tag("figcaption", caption) if caption else "")


def row(*cells: object, class_: str | None = None) -> Html:
    """Return a row of a table: its name, then its cells; numbers and – stand at the right.

    Parameters
    ----------
    *cells
        Text; floats are written as scores.
    class_
        ``"strong"`` for the last row of a sum or a mean.
    """
    return tag("tr", *map(_cell, range(len(cells)), cells), class_=class_)


def table(
    columns: Sequence[str], rows: Iterable[Html], *, caption: str, class_: str | None = None
) -> Html:
    """Return a table that scrolls where the screen is narrow.

    Parameters
    ----------
    columns
        Headings; one that begins with ``>`` stands at the right, over numbers.
    rows
        From `row`.
    caption
        What the table shows.
    class_
        ``"scores"`` for names with a line of explanation: on narrow screens the numbers then
        stand below each other.
    """
    head = tag(
        "tr",
        *(
            tag(
                "th",
                column.removeprefix(">"),
                scope="col",
                class_="number" if column.startswith(">") else None,
            )
            for column in columns
        ),
    )
    # One can scroll it with the keyboard only when it takes the focus.
    return tag(
        "div",
        tag(
            "table", tag("caption", caption), tag("thead", head), tag("tbody", *rows), class_=class_
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def facts(values: Mapping[str, Any], *, caption: str) -> Html:
    """Return names and values in two columns; nested mappings are flattened."""
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", written))
        for name, written in flat(values)
    ]
    body = tag("table", tag("caption", caption), tag("tbody", *rows), class_="facts")
    return tag("div", body, class_="scroll", tabindex="0", role="region", aria_label=caption)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Html]]:
    """Yield every value of nested mappings, with its names joined, as it is to be written."""
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}, ")
        else:
            yield name, _written(value)


def _written(value: Any) -> Html:
    if value is None or value in ("", [], {}, ()):
        return joined("–")
    if isinstance(value, bool):
        return joined("yes" if value else "no")
    if isinstance(value, float):
        return joined(f"{value:g}")
    if isinstance(value, list | tuple):
        return joined(", ".join(str(_written(one)) if one is None else f"{one}" for one in value))
    words = str(value)
    hexadecimal = len(words) >= 40 and set(words) <= set("0123456789abcdef")
    return tag("code", words) if hexadecimal else joined(words)


def _cell(place: int, value: object) -> Html:
    if isinstance(value, float):
        return tag("td", number(value), class_="number")
    if place == 0:
        return tag("th", value, scope="row")
    numeric = not isinstance(value, Html) and str(value)[:1] in "0123456789-−+.–<"
    return tag("td", value, class_="number" if numeric else None)
