"""The page around the parts: one HTML file that asks nothing of the network."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path

from axolemma._version import __version__
from axolemma.errors import InputError
from axolemma.images import replacing
from axolemma.report.markup import Html, joined, tag

__all__ = ["Document", "Part", "page", "write_page"]


@dataclass(frozen=True, slots=True)
class Part:
    """A section of a page: its heading and what stands below."""

    title: str
    body: Html


@dataclass(frozen=True, slots=True)
class Document:
    """What there is to say of one run, evaluation or comparison.

    Parameters
    ----------
    kind
        The line above the title.
    title
        What it is about.
    lead
        One or two plain sentences.
    parts
        In the order of the list of contents.
    within
        Documents that belong to it and stand below it, each with a heading of its own.
    """

    kind: str
    title: str
    lead: str
    parts: tuple[Part, ...]
    within: tuple["Document", ...] = ()


def page(*documents: Document, title: str | None = None) -> str:
    """Return a whole HTML page.

    Parameters
    ----------
    *documents
        At least one. Several stand one below the other.
    title
        Of a page of several; its documents' titles where None.

    Raises
    ------
    InputError
        If there is no document.
    """
    if not documents:
        raise InputError("a report needs something to show")
    alone = len(documents) == 1
    first = documents[0]
    heading = first.title if alone else title or ", ".join(one.title for one in documents)
    head = [
        tag("p", first.kind if alone else "Axolemma report", class_="kind"),
        tag("h1", heading),
        tag("p", first.lead, class_="lead") if alone else "",
    ]
    contents, bodies = [], []
    for n, document in enumerate(documents, start=1):
        sections = []
        for m, part in enumerate(document.parts, start=1):
            name = f"part-{n}-{m}"
            sections.append(_section(name, part))
            words = part.title if alone else f"{document.title}: {part.title.lower()}"
            contents.append(_entry(words, name))
        bodies.append(joined(*sections) if alone else _article(document, sections))
        for m, inner in enumerate(document.within, start=1):
            name = f"within-{n}-{m}"
            sections = [_section(f"{name}-{k}", part) for k, part in enumerate(inner.parts, 1)]
            contents.append(_entry(f"{inner.kind}: {inner.title}", name))
            bodies.append(_article(inner, sections, name))
    return "<!doctype html>\n" + tag(
        "html",
        _head(heading),
        tag(
            "body",
            tag("header", *head, tag("nav", tag("ol", *contents), aria_label="Contents")),
            tag("main", *bodies),
            tag("footer", tag("p", _colophon(), class_="soft")),
            tag("script", Html(_asset("page.js"))),
        ),
        lang="en",
    )


def write_page(path: str | Path, text: str) -> None:
    """Write a page, whole or not at all.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _section(name: str, part: Part) -> Html:
    heading = tag("h2", part.title, id=f"{name}-title")
    return tag("section", heading, part.body, id=name, aria_labelledby=f"{name}-title")


def _entry(words: str, name: str) -> Html:
    return tag("li", tag("a", words, href=f"#{name}"))


def _article(document: Document, sections: Sequence[Html], name: str | None = None) -> Html:
    head = (tag("p", document.kind, class_="kind"), tag("h1", document.title))
    lead = tag("p", document.lead, class_="lead")
    return tag("article", tag("header", *head, lead), *sections, id=name)


def _head(title: str) -> Html:
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The browser itself holds the page to its promise: no request, and no script but this one.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    policy += f"script-src 'sha256-{digest}'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"Axolemma {__version__}"),
        tag("title", title),
        tag("style", Html(style)),
    )


def _colophon() -> str:
    return (
        f"Made on {date.today():%d %B %Y} with Axolemma {__version__}. The page is complete in "
        "itself: it can be mailed, archived and opened without a network."
    )


def _asset(name: str) -> str:
    return resources.files("axolemma.report").joinpath(name).read_text(encoding="utf-8").strip()
