"""HTML and SVG out of Python values: whatever is inserted is escaped, every tag is closed."""

import html
import unicodedata

__all__ = ["Html", "joined", "plain", "tag"]

_VOID = frozenset({"br", "col", "img", "input", "meta"})


class Html(str):
    """Text that is HTML already. Any other text is escaped where it is inserted."""

    __slots__ = ()


def plain(value: object) -> Html:
    """Return a value as HTML: escaped, unless it is `Html` already."""
    if isinstance(value, Html):
        return value
    # Control characters are no part of HTML, and some would end an attribute's line.
    kept = (c for c in str(value) if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return Html(html.escape("".join(kept)))


def joined(*values: object) -> Html:
    """Return several values as HTML, one after the other."""
    return Html("".join(map(plain, values)))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element.

    Parameters
    ----------
    name
        Such as ``"p"``.
    *content
        What stands in it; escaped, unless it is `Html`.
    **attributes
        ``class_`` is written ``class`` and ``aria_label`` ``aria-label``. True writes the name
        alone; None and False leave it out.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{plain(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{joined(*content)}</{name}>")
