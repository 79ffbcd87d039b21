"""Charts as SVG text: nothing to install, and they stay sharp in a page or a paper."""

from collections.abc import Callable, Sequence
from html import escape

from axolemma.errors import InputError

__all__ = ["critical_difference_svg"]

_AXIS = 420  # pixels between the best and the worst rank
_LETTER = 7.2  # estimated width of a letter, pixels
_LINE = 22  # height of a label's line, pixels
_INK, _BAR = "#222", "#0072b2"


def critical_difference_svg(
    names: Sequence[str],
    ranks: Sequence[float],
    cd: float,
    *,
    cliques: Sequence[Sequence[int]],
) -> str:
    """Draw average ranks on a line, with bars over methods that cannot be told apart.

    Parameters
    ----------
    names
        Of two methods or more.
    ranks
        Their average ranks, 1 = best, which is drawn on the left.
    cd
        The critical difference, drawn as a scale above the axis.
    cliques
        Groups of methods by their number, each drawn as a bar; see `metrics.ranking.cliques`.

    Returns
    -------
    str
        One SVG element, to write to a file or to put into a page.

    Raises
    ------
    InputError
        If there are fewer than two methods, or not one rank in 1 … methods for each.

    References
    ----------
    Demšar 2006, J. Mach. Learn. Res. 7:1.
    """
    count = len(names)
    if count < 2 or len(ranks) != count or not all(1 <= rank <= count for rank in ranks):
        raise InputError("a chart of ranks needs two methods or more, and their ranks from 1 on")
    labels = [f"{name}  {rank:.2f}" for name, rank in zip(names, ranks, strict=True)]
    margin = 24 + _LETTER * max(map(len, labels))
    width, axis = _AXIS + 2 * margin, 62
    first_label = axis + 26 + 9 * len(cliques)

    def x(rank: float) -> float:
        return margin + _AXIS * (rank - 1) / (count - 1)

    parts = [_line((x(1), axis), (x(count), axis))]
    for rank in range(1, count + 1):
        parts += [
            _line((x(rank), axis - 6), (x(rank), axis)),
            _text(x(rank), axis - 10, str(rank), "middle"),
        ]
    parts += _scale(x, cd, count)
    for row, group in enumerate(cliques):
        y = axis + 12 + 9 * row
        inside = [ranks[method] for method in group]
        ends = (x(min(inside)) - 4, y), (x(max(inside)) + 4, y)
        parts.append(_line(*ends, colour=_BAR, thick=4))
    # Half of the labels on either side, the outermost on top, so that no two leaders cross.
    order = sorted(range(count), key=lambda method: ranks[method])
    half = (count + 1) // 2
    for side, methods in ((-1, order[:half]), (1, order[half:][::-1])):
        edge = margin - 12 if side < 0 else width - margin + 12
        for row, method in enumerate(methods):
            y = first_label + _LINE * row
            corner = (x(ranks[method]), y)
            parts += [
                _line((corner[0], axis), corner),
                _line(corner, (edge, y)),
                _text(edge + 6 * side, y + 4, labels[method], "end" if side < 0 else "start"),
            ]
    height = first_label + _LINE * half
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}" font-family="sans-serif" font-size="13" '
        f'fill="{_INK}" role="img">\n'
        f"<title>Average ranks, 1 = best; bars join what cannot be told apart</title>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _scale(x: Callable[[float], float], cd: float, count: int) -> list[str]:
    """Draw how long the critical difference is, as far as the axis reaches."""
    fits = cd <= count - 1
    left, right = x(1), x(1 + min(cd, count - 1))
    ends = [_line((end, 20), (end, 28)) for end in ((left, right) if fits else (left,))]
    words = f"critical difference {cd:.2f}" + ("" if fits else ", longer than the axis")
    return [_line((left, 24), (right, 24)), *ends, _text(left, 14, words, "start")]


def _line(
    start: tuple[float, float], stop: tuple[float, float], *, colour: str = _INK, thick: float = 1
) -> str:
    (x1, y1), (x2, y2) = start, stop
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{thick:g}"/>'
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
