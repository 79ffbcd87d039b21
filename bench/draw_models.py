"""Draw the four networks and count what they cost, for docs/models.md.

    python bench/draw_models.py            writes the pictures and the tables of the page
    python bench/draw_models.py --check    only says which of them are out of date

Channels, sides and costs are read off the networks at their default size: each is laid out on
torch's meta device and shown a section of 512 × 512.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from html import escape
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from axolemma import models

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "models.md"
PICTURES = ROOT / "docs" / "images"
SIDE = 512  # of the section that the pictures show, pixels

INK, SOFT, LINE, GREY = "#1a1f26", "#5a6472", "#d5dbe2", "#7d8896"
BLUE, PALE_BLUE = "#0b5fa5", "#b9d3ea"  # contracting
GREEN, PALE_GREEN = "#00795a", "#b3d9cd"  # expanding
ORANGE, PURPLE = "#c8500a", "#a3467f"  # heads; what is special
CORNERS = ((11, 95, 165), (230, 159, 0), (0, 121, 90), (204, 121, 167))  # of a patch of pixels
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
WIDTH = 1080

Point = tuple[float, float]


# What the networks say of themselves.


class Shape(NamedTuple):
    """Of one feature map."""

    channels: int
    side: int


class Layout(NamedTuple):
    """A network and the shapes that went through each of its modules, call by call."""

    network: nn.Module
    inputs: dict[str, list[Shape]]
    outputs: dict[str, list[Shape]]

    def convolutions(self, block: str) -> list[Shape]:
        """Return what each 3×3 convolution of a block makes."""
        inside = self.network.get_submodule(block).named_modules(prefix=block)
        return [
            self.outputs[name][0]
            for name, part in inside
            if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)
        ]

    def dropout(self, block: str) -> float:
        """Return the share of values that a block drops."""
        parts = self.network.get_submodule(block).modules()
        return max((part.p for part in parts if isinstance(part, nn.Dropout)), default=0.0)


@cache
def layout(name: str) -> Layout:
    with torch.device("meta"):
        network = models.build(name).eval()
        section = torch.empty(1, 1, SIDE, SIDE)
    inputs: dict[str, list[Shape]] = {}
    outputs: dict[str, list[Shape]] = {}

    def note(where: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[torch.Tensor, ...], made: object) -> None:
            inputs.setdefault(where, []).append(shape(given[0]))
            if isinstance(made, torch.Tensor):
                outputs.setdefault(where, []).append(shape(made))

        return hook

    for where, part in network.named_modules():
        part.register_forward_hook(note(where))
    with torch.no_grad():
        network(section)
    return Layout(network, inputs, outputs)


def shape(x: torch.Tensor) -> Shape:
    return Shape(x.shape[1], x.shape[-1])


def cost(name: str, **arguments: int | bool) -> tuple[int, float]:
    """Return parameters and GFLOP per megapixel."""
    return _cost(name, **models.all_arguments(name, **arguments))


@cache
def _cost(name: str, **arguments: int | bool) -> tuple[int, float]:
    with torch.device("meta"):
        network = models.build(name, **arguments)
    return models.parameters(network), models.gflop_per_megapixel(name, **arguments)


# Pieces of a picture.


class Slab(NamedTuple):
    """A feature map, as wide as its channels and as high as its side suggest, by its middle."""

    x: float
    y: float
    w: float
    h: float

    def at(self, right: float, down: float) -> Point:
        """Return a point of it, from the middle (0, 0) to the corners (±1, ±1)."""
        return self.x + right * self.w / 2, self.y + down * self.h / 2


LEFT, RIGHT, TOP, BOTTOM = (-1, 0), (1, 0), (0, -1), (0, 1)


def slab(what: Shape, y: float, *, x: float | None = None, left: float = 0) -> Slab:
    """Make the slab of a map at a height, around `x` or from `left` on."""
    w = max(4.0, 2 * math.sqrt(what.channels))
    return Slab(left + w / 2 if x is None else x, y, w, high(what.side))


def high(side: int) -> float:
    return 112 * (side / SIDE) ** (1 / 3)


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def drawn(slab: Slab, fill: str) -> str:
    return box(*slab.at(-1, -1), slab.w, slab.h, fill=fill, radius=min(3, slab.w / 2))


def box(
    x: float,
    y: float,
    w: float,
    h: float,
    *,
    fill: str,
    stroke: str | None = None,
    radius: float = 3,
) -> str:
    edge = f' stroke="{stroke}"' if stroke else ""
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" '
        f'rx="{number(radius)}" fill="{fill}"{edge}/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "middle",
    size: float = 13,
    colour: str = INK,
    bold: bool = False,
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" font-size="{size:g}" '
        f'fill="{colour}"{weight}>{escape(words)}</text>'
    )


def channels(x: float, y: float, count: object, anchor: str = "middle") -> str:
    return text(x, y, str(count), anchor=anchor, bold=True)


def note(x: float, y: float, words: str, anchor: str = "start") -> str:
    return text(x, y, words, anchor=anchor, size=12, colour=SOFT)


def line(
    *points: Point,
    colour: str = GREY,
    thick: float = 1.8,
    dash: str | None = None,
    head: float = 0,
) -> str:
    """Draw a line through points; with a `head` of that length it ends as an arrow."""
    *before, (x1, y1), (x2, y2) = points
    tip = ""
    if head:
        length = math.dist((x1, y1), (x2, y2))
        dx, dy = head * (x2 - x1) / length, head * (y2 - y1) / length
        sides = [(x2 - dx - dy / 2, y2 - dy + dx / 2), (x2 - dx + dy / 2, y2 - dy - dx / 2)]
        tip = f'<path d="M{joined((x2, y2), *sides)}Z" fill="{colour}"/>'
        x2, y2 = x2 - 0.8 * dx, y2 - 0.8 * dy
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="M{joined(*before, (x1, y1), (x2, y2))}" fill="none" stroke="{colour}" '
        f'stroke-width="{thick:g}" stroke-linejoin="round"{dashes}/>{tip}'
    )


def joined(*points: Point) -> str:
    return "L".join(map(place, points))


def place(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"


def arrow(*points: Point, colour: str = GREY, head: float = 7, thick: float = 1.8) -> str:
    return line(*points, colour=colour, head=head, thick=thick)


def arc(start: Point, stop: Point, height: float, *, colour: str = GREY) -> str:
    """Draw an arrow that leaves and arrives from straight above."""
    (x1, y), (x2, _) = start, stop
    peak = y - height / 0.75
    bend = f"M{place(start)}C{place((x1, peak))} {place((x2, peak))} {place((x2, y - 5))}"
    tip = joined(stop, (x2 - 3, y - 6), (x2 + 3, y - 6))
    return (
        f'<path d="{bend}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        f'<path d="M{tip}Z" fill="{colour}"/>'
    )


def residual(start: Point, stop: Point, colour: str) -> str:
    """Draw an arrow with a shortcut over it."""
    (x1, y), (x2, _) = start, stop
    bow = f"M{place((x1 + 3, y))}C{place((x1 + 6, y - 15))} {place((x2 - 12, y - 15))} "
    return arrow(start, stop, colour=colour, head=6) + (
        f'<path d="{bow}{place((x2 - 8, y))}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
    )


def plus(x: float, y: float) -> str:
    return (
        f'<circle cx="{number(x)}" cy="{number(y)}" r="9" fill="#fff" stroke="{INK}" '
        'stroke-width="1.6"/>'
        + line((x - 5, y), (x + 5, y), colour=INK, thick=1.6)
        + line((x, y - 5), (x, y + 5), colour=INK, thick=1.6)
    )


#: Membranes of a made-up piece of tissue, on a square of side 64.
MEMBRANES = (
    "M0 18C10 20 16 16 22 10C25 7 24 3 25 0M22 10C30 14 38 12 44 18C50 22 58 20 64 16"
    "M44 18C42 28 46 32 40 38C34 44 24 40 18 44C12 48 6 46 0 48M18 44C16 34 8 28 0 30"
    "M40 38C46 42 52 40 64 44M40 38C42 50 36 54 38 64M18 44C22 52 18 58 20 64M44 18C46 10 44 6 48 0"
)


def picture(x: float, y: float, *, membrane: bool) -> str:
    """Draw a section, or the membranes found in it, around a point."""
    back, ink, thick = ("#fff", INK, 2.6) if membrane else ("#c9cfd6", "#4b5563", 2.2)
    dots = ((9, 8), (34, 6), (56, 8), (12, 24), (32, 26), (55, 31), (8, 39), (29, 53), (52, 54))
    inside = "".join(
        f'<circle cx="{cx}" cy="{cy}" r="{1.5 + n % 3 * 0.7:g}" fill="#8b95a1"/>'
        for n, (cx, cy) in enumerate(dots)
    )
    return (
        f'<g transform="translate({number(x - 32)} {number(y - 32)})">'
        f'<rect width="64" height="64" rx="5" fill="{back}"/>{"" if membrane else inside}'
        f'<path d="{MEMBRANES}" fill="none" stroke="{ink}" stroke-width="{thick}"/>'
        f'<rect width="64" height="64" rx="5" fill="none" stroke="{GREY}"/></g>'
    )


def sign(kind: str, colour: str, x: float, y: float) -> str:
    """Draw a sign of a legend, 32 wide, around the height y."""
    match kind:
        case "down":
            return arrow((x + 16, y - 9), (x + 16, y + 9), colour=colour)
        case "up":
            return arrow((x + 16, y + 9), (x + 16, y - 9), colour=colour)
        case "right":
            return arrow((x, y), (x + 32, y), colour=colour)
        case "plus":
            return plus(x + 16, y)
        case "residual":
            return residual((x, y), (x + 32, y), colour)
        case "arc":
            return arc((x + 2, y + 7), (x + 30, y + 7), 13, colour=colour)
        case "dashes":
            return line((x, y), (x + 32, y), colour=colour, dash="6 5", thick=1.4)
    return box(x + 9, y - 8, 14, 16, fill=colour)


def legend(x: float, y: float, *entries: tuple[str, str, str]) -> str:
    """List what the signs mean: (kind, colour, words), 24 pixels each."""
    return "".join(
        sign(kind, colour, x, y + 24 * n)
        + text(x + 42, y + 24 * n + 4.5, words, anchor="start", colour=SOFT)
        for n, (kind, colour, words) in enumerate(entries)
    )


def sheet(name: str, title: str, source: str, words: str, height: float, parts: list[str]) -> str:
    """Put a picture on a white sheet, with its title and what the network costs."""
    count, gflop = cost(name)
    height = math.ceil(height)
    numbers = f"{count / 1e6:.1f} M parameters · {gflop:,.0f} GFLOP per megapixel"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="{FONT}" role="img">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(words)}</desc>\n"
        + box(0.5, 0.5, WIDTH - 1, height - 1, fill="#fff", stroke=LINE, radius=12)
        + "\n"
        + text(32, 44, title, anchor="start", size=24, bold=True)
        + text(WIDTH - 32, 36, source, anchor="end", colour=SOFT)
        + text(WIDTH - 32, 55, numbers, anchor="end", colour=SOFT)
        + "\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def rows(sides: Iterable[int], top: float, gap: float) -> list[float]:
    """Return the middle of a row for each side."""
    middles = []
    for side in sides:
        middles.append(top + high(side) / 2)
        top += high(side) + gap
    return middles


def squared(side: int) -> str:
    return f"{side} × {side}"


def ends(y: float, left: float, right: float) -> list[str]:
    """Draw the section on the left and its membranes on the right."""
    return [
        picture(left, y, membrane=False),
        text(left, y + 50, "section", colour=SOFT),
        picture(right, y, membrane=True),
        text(right, y + 50, "membranes", colour=SOFT),
    ]


# The networks.


def draw_unet() -> str:
    it = layout("unet")
    depth, gap = len(it.network.encoder), 16
    ys = rows((it.outputs[f"encoder.{level}"][0].side for level in range(depth)), 88, 46)
    parts: list[str] = []

    def convolved(last: Slab, block: str, colour: str) -> Slab:
        first = last.at(1, 0)[0] + gap
        for made in it.convolutions(block):
            after = slab(made, last.y, left=last.at(1, 0)[0] + gap)
            parts.append(arrow(last.at(*RIGHT), after.at(*LEFT), colour=colour, head=6, thick=1.6))
            parts.append(drawn(after, colour))
            last = after
        right, top = last.at(1, -1)
        parts.append(channels((first + right) / 2, top - 7, made.channels))
        return last

    last, skips = Slab(68, ys[0], 64, 64), []
    for level, y in enumerate(ys):
        block = f"encoder.{level}"
        if level:
            pooled = slab(it.inputs[block][0], y, x=last.x)
            parts.append(arrow(last.at(*BOTTOM), pooled.at(*TOP), colour=BLUE))
            parts.append(drawn(pooled, PALE_BLUE))
            last = pooled
        last = convolved(last, block, BLUE)
        if drop := it.dropout(block):
            left, bottom = last.at(-1, 1)
            parts.append(note(left - 4, bottom + 18, f"dropout {drop:g}", "end"))
        parts.append(note(last.at(1, 0)[0] + 8, y - 7, squared(it.outputs[block][0].side)))
        skips.append(last)
    for level in reversed(range(depth - 1)):
        y, up, both = ys[level], it.outputs[f"up.{level}"][0], it.inputs[f"decoder.{level}"][0]
        copied = Shape(both.channels - up.channels, up.side)
        enlarged = slab(up, y, x=last.x)
        copy = slab(copied, y)
        copy = copy._replace(x=enlarged.at(-1, 0)[0] - copy.w / 2)
        middle, top = enlarged.at(-1, -1)
        parts += [
            arrow(last.at(*TOP), enlarged.at(*BOTTOM), colour=GREEN),
            arrow(skips[level].at(*RIGHT), copy.at(*LEFT)),
            drawn(copy, PALE_BLUE),
            drawn(enlarged, PALE_GREEN),
            text(middle, top - 7, f"{copied.channels} + {up.channels}", size=12, bold=True),
        ]
        last = convolved(enlarged, f"decoder.{level}", GREEN)
    right = last.at(1, 0)[0]
    parts += [
        *ends(ys[0], 68, right + 24 + 32),
        arrow(last.at(*RIGHT), (right + 23, ys[0]), colour=ORANGE),
        legend(
            770,
            ys[3] - 6,
            ("right", BLUE, "3 × 3 convolution, batch norm, ReLU"),
            ("down", BLUE, "2 × 2 max pooling"),
            ("up", GREEN, "2 × 2 transposed convolution"),
            ("right", GREY, "copied beside the enlarged map"),
            ("right", ORANGE, "1 × 1 convolution"),
        ),
    ]
    words = (
        f"A contracting path of {depth} levels, an expanding path beside it; each level of the "
        "first is copied to the second. Numbers above the maps are channels."
    )
    title = "U-Net", "after Ronneberger, Fischer, Brox 2015"
    return sheet("unet", *title, words, skips[-1].at(*BOTTOM)[1] + 40, parts)


def draw_resunet() -> str:
    it = layout("resunet")
    depth, side, gap = len(it.network.encoder), it.network.unshuffle, 56
    ys = rows((it.outputs[f"encoder.{level}"][0].side for level in range(depth)), 96, 48)
    parts, skips = ends(ys[0], 68, 1012), []
    given, head = it.inputs["stem"][0], it.outputs["head"][0]
    apart = slab(given, ys[0], left=100 + gap)
    last = slab(it.outputs["stem"][0], ys[0], left=apart.at(1, 0)[0] + 40)
    parts += [
        arrow((101, ys[0]), apart.at(*LEFT), colour=PURPLE),
        drawn(apart, PURPLE),
        channels(apart.x, apart.at(*TOP)[1] - 7, given.channels),
        arrow(apart.at(*RIGHT), last.at(*LEFT), colour=BLUE),
    ]
    for level, y in enumerate(ys):
        if level:
            down = slab(it.outputs[f"down.{level - 1}"][0], y, x=last.x)
            parts.append(arrow(last.at(*BOTTOM), down.at(*TOP), colour=BLUE))
            last = down
        made = it.outputs[f"encoder.{level}"][0]
        after = slab(made, y, left=last.at(1, 0)[0] + gap)
        right, top = after.at(1, -1)
        parts += [
            drawn(last, PALE_BLUE),
            residual(last.at(*RIGHT), after.at(*LEFT), BLUE),
            drawn(after, BLUE),
            channels((last.at(-1, 0)[0] + right) / 2, top - 7, made.channels),
            note(right + 8, y - 7, squared(made.side)),
        ]
        last = after
        skips.append(after)
    for level in reversed(range(depth - 1)):
        y, made = ys[level], it.outputs[f"decoder.{level}"][0]
        after = slab(made, y, left=last.x + 9 + gap)
        right, top = after.at(1, -1)
        parts += [
            arrow(last.at(*TOP), (last.x, y + 10), colour=GREEN),
            arrow(skips[level].at(*RIGHT), (last.x - 10, y)),
            plus(last.x, y),
            residual((last.x + 9, y), after.at(*LEFT), GREEN),
            drawn(after, GREEN),
            channels(right + 6, top + 11, made.channels, "start"),
        ]
        last = after
    apart = slab(head, ys[0], left=last.at(1, 0)[0] + 44)
    parts += [
        arrow(last.at(*RIGHT), apart.at(*LEFT), colour=ORANGE),
        drawn(apart, PURPLE),
        channels(apart.x, apart.at(*TOP)[1] - 7, head.channels),
        arrow(apart.at(*RIGHT), (979, ys[0]), colour=PURPLE),
        *unshuffled(36, ys[1] - 16, side),
        legend(
            764,
            ys[1] + 16,
            ("right", PURPLE, "pixels to channels, and back"),
            ("right", BLUE, "3 × 3 convolution"),
            ("residual", BLUE, "residual block: two 3 × 3 convolutions"),
            ("down", BLUE, "2 × 2 convolution, stride 2"),
            ("up", GREEN, "2 × 2 transposed convolution"),
            ("plus", INK, "added to the enlarged map"),
            ("right", ORANGE, "1 × 1 convolution"),
        ),
    ]
    words = (
        f"Every {side} × {side} pixels become channels; {depth} levels of residual blocks with "
        "additive skips; channels become pixels again. Numbers beside the maps are channels."
    )
    title = "Residual U-Net", "skips after FusionNet (Quan et al. 2021)"
    return sheet("resunet", *title, words, skips[-1].at(*BOTTOM)[1] + 40, parts)


def blended(down: float, right: float) -> str:
    """Mix the colour of a place in a patch of pixels from those of its corners."""
    shares = (1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right
    mixed = (
        sum(s * c for s, c in zip(shares, band, strict=True)) for band in zip(*CORNERS, strict=True)
    )
    return "#" + "".join(f"{round(value):02x}" for value in mixed)


def unshuffled(x: float, y: float, factor: int) -> list[str]:
    """Show how pixels become channels, on twice as many pixels along a side."""
    pixel = 64 / (2 * factor)
    apart = 2 * pixel + 32 / factor  # from one channel to the next
    parts = [arrow((x + 74, y + 32), (x + 104, y + 32), colour=PURPLE)]
    for row, column in product(range(2 * factor), range(2 * factor)):
        down, right = row % factor, column % factor
        colour = blended(down / (factor - 1), right / (factor - 1))
        together = x + pixel * column, y + pixel * row
        channel = (
            x + 114 + apart * right + pixel * (column // factor),
            y - 8 + apart * down + pixel * (row // factor),
        )
        for left, top in (together, channel):
            parts.append(box(left, top, pixel - 1, pixel - 1, fill=colour, radius=1))
    words = f"{factor} × {factor} pixels become {factor**2} channels:", "nothing is lost"
    parts += [
        text(x, y + 94 + 18 * n, part, anchor="start", colour=SOFT) for n, part in enumerate(words)
    ]
    return parts


def draw_unetplusplus() -> str:
    name, step, pitch, top, bar, out = "unetplusplus", 99, 122, 226, 118, 1026
    it = layout(name)
    depth = len(it.network.head) + 1
    nodes = {}
    for level in range(depth):
        for column in range(depth - level):
            one = slab(it.outputs[f"node.{level}_{column}"][0], top + pitch * level)
            x = 140 + step * (level + 2 * column)
            nodes[level, column] = Slab(x, one.y, max(26, 2 * one.w), 0.76 * one.h)
    parts = []
    for k in range(1, depth - 1):  # beside the diagonal of the nodes that head k needs
        x, low, above = 140 + step * (2 * k + 1), k + 0.68, 0.45
        end = x - step * low, top + pitch * low
        count, gflop = cost(name, depth=k + 1, deep_supervision=False)
        words = f"{count / 1e6:.1f} M, {gflop:,.0f} GFLOP"
        cut = (x + step * above, top - pitch * above), end
        parts += [
            line(*cut, colour=ORANGE, dash="6 5", thick=1.4),
            text(end[0] - 8, end[1] - 10, f"L{k}", anchor="end", colour=ORANGE, bold=True),
            text(end[0] - 8, end[1] + 6, words, anchor="end", size=12, colour=ORANGE),
        ]
    for (level, column), node in nodes.items():
        if column:
            below = nodes[level + 1, column - 1]
            parts.append(arrow(below.at(1, -1), node.at(-0.2, 1), colour=GREEN))
            parts.append(arrow(nodes[level, column - 1].at(*RIGHT), node.at(*LEFT)))
        elif level:
            parts.append(arrow(nodes[level - 1, 0].at(0.2, 1), node.at(-1, -1), colour=BLUE))
        for far in range(column - 1):
            rise = 14 * (column - far) - 12
            parts.append(arc(nodes[level, far].at(0.6, -1), node.at(-0.6, -1), rise))
    for (level, column), node in nodes.items():
        parts.append(drawn(node, GREEN if column else BLUE))
        words = f"{level},{column}"
        parts.append(text(node.x, node.y + 4, words, size=12, colour="#fff", bold=True))
    for level in range(depth):
        node, made = nodes[level, 0], it.outputs[f"node.{level}_0"][0]
        x, y = (node.at(-1, 0)[0] - 14, node.y - 2) if level else (node.x - 6, top - 67)
        parts.append(note(x, y, squared(made.side), "end"))
        parts.append(note(x, y + 17, f"{made.channels} channels", "end"))
    parts.append(arrow((101, top), nodes[0, 0].at(*LEFT), colour=BLUE))
    parts.append(line((nodes[0, 1].x, bar), (out, bar), colour=ORANGE))
    for column in map(int, it.network.head):
        foot = nodes[0, column].at(*TOP)
        parts += [
            line(foot, (foot[0], bar), colour="#fff", thick=6),
            line(foot, (foot[0], bar), colour=ORANGE),
            box(foot[0] - 26, bar - 13, 52, 26, fill=ORANGE, radius=6),
            text(foot[0], bar + 4.5, f"head {column}", size=12, colour="#fff", bold=True),
        ]
    parts += [
        arrow((out, bar), (out, top - 34), colour=ORANGE),
        box(out - 26, bar - 13, 52, 26, fill="#fff", stroke=ORANGE, radius=6),
        text(out, bar + 4.5, "mean", size=12, colour=ORANGE, bold=True),
        *ends(top, 68, out),
        legend(
            752,
            top + 2.6 * pitch,
            ("slab", BLUE, "two 3 × 3 convolutions"),
            ("slab", GREEN, "the same, on everything that arrives"),
            ("down", BLUE, "2 × 2 max pooling"),
            ("up", GREEN, "2 × 2 transposed convolution"),
            ("arc", GREY, "copied"),
            ("right", ORANGE, "1 × 1 convolution of each head"),
            ("dashes", ORANGE, "cut here to prune to L1, L2, L3"),
        ),
    ]
    words = (
        "A triangle of nodes; each sees all nodes to its left on its level and the node below "
        f"them. {depth - 1} heads on the finest level; what lies left of a dashed line is a "
        "network of its own."
    )
    title = "U-Net++", "after Zhou, Siddiquee, Tajbakhsh, Liang 2018"
    return sheet(name, *title, words, top + pitch * (depth - 1) + 60, parts)


def draw_cenet() -> str:
    left, right = 110, 916
    it = layout("cenet")
    stages = [name for name in it.outputs if re.fullmatch(r"encoder\.layer\d", name)]
    down = [it.outputs[name][0] for name in ("encoder.conv1", *stages)]
    ys = rows((SIDE, *(made.side for made in down[:-1])), 88, 29)
    floor = ys[-1] + high(down[-2].side) / 2 + 142  # the last row, which shows the context
    blocks = [f"{len(it.network.get_submodule(name))} residual blocks" for name in stages]
    about = ("7 × 7 convolution, stride 2", "max pooling, " + blocks[0], *blocks[1:])
    parts = [
        picture(left, ys[0], membrane=False),
        text(left + 44, ys[0] - 3, "section", anchor="start", colour=SOFT),
        note(left + 44, ys[0] + 15, squared(SIDE)),
    ]
    above, skips = (left, ys[0] + 33), []
    for made, y, words in zip(down, (*ys[1:], floor), about, strict=True):
        now = slab(made, y, x=left)
        side = now.at(1, 0)[0] + 8
        spots = ((96, y + 36), (96, y + 53)) if y == floor else ((side, y - 7), (side, y + 17))
        anchor = "middle" if y == floor else "start"
        parts += [
            arrow(above, now.at(*TOP), colour=BLUE),
            drawn(now, BLUE),
            channels(now.at(-1, 0)[0] - 8, y + 4.5, made.channels, "end"),
            note(*spots[0], squared(made.side), anchor),
            note(*spots[1], words, anchor),
        ]
        above = now.at(*BOTTOM)
        skips.append(now)
    mixed = it.outputs["pooling"][0]
    last = slab(mixed, floor, x=right)
    parts += [
        arrow(skips.pop().at(*RIGHT), (160, floor)),
        *atrous(it, 160, floor, 440),
        arrow((600, floor), (624, floor)),
        *pooling(it, 624, floor, 246),
        arrow((870, floor), last.at(*LEFT)),
        drawn(last, PURPLE),
        channels(last.at(1, 0)[0] + 8, floor + 4.5, mixed.channels, "start"),
    ]
    for n, y in enumerate(reversed(ys[1:])):
        made = it.outputs[f"decoder.{n}"][0]
        now = slab(made, y, x=right)
        parts += [
            arrow(last.at(*TOP), now.at(*BOTTOM), colour=GREEN),
            drawn(now, GREEN),
            channels(now.at(1, 0)[0] + 8, y + 4.5, made.channels, "start"),
        ]
        if n < len(stages) - 1:
            edge = now.at(-1, 0)[0]
            parts += [arrow(skips.pop().at(*RIGHT), (edge - 9, y)), plus(edge, y)]
        last = now
    enlarged = slab(it.outputs["head.0"][0], ys[0], x=right)
    same = slab(it.outputs["head.2"][0], ys[0], x=right + 36)
    out = same.at(1, 0)[0] + 24 + 32
    parts += [
        arrow(last.at(*TOP), enlarged.at(*BOTTOM), colour=GREEN),
        note(right - 10, enlarged.at(0, 1)[1] + 19, "4 × 4 transposed convolution", "end"),
        drawn(enlarged, GREEN),
        arrow(enlarged.at(*RIGHT), same.at(*LEFT), colour=ORANGE, head=6),
        drawn(same, GREEN),
        channels(right + 18, same.at(*TOP)[1] - 7, it.outputs["head.0"][0].channels),
        arrow(same.at(*RIGHT), (out - 33, ys[0]), colour=ORANGE, head=6),
        picture(out, ys[0], membrane=True),
        text(out, ys[0] + 50, "membranes", colour=SOFT),
        legend(
            390,
            ys[0] - 16,
            ("down", BLUE, "to half the side, as in ResNet-34"),
            ("up", GREEN, "1 × 1, 3 × 3 transposed, 1 × 1 convolution"),
            ("plus", INK, "added to the enlarged map"),
            ("right", ORANGE, "3 × 3 convolution"),
        ),
    ]
    words = (
        "The encoder of a ResNet-34, a context extractor at its coarsest map (four cascades of "
        "dilated convolutions, then pooling with windows of four sizes), a decoder with additive "
        "skips. Numbers beside the maps are channels."
    )
    return sheet("cenet", "CE-Net", "after Gu et al. 2019", words, floor + 142, parts)


STEPS = (-68, -34, 0, 34, 68)  # of the five paths through a panel


def panel(x: float, y: float, w: float, title: str, caption: str) -> list[str]:
    """Draw the frame of a part that is shown from inside, and where its five paths part."""
    fork = x + 18
    return [
        box(x, y - 112, w, 208, fill="#fcf8fb", stroke=PURPLE, radius=8),
        text(x + 14, y - 90, title, anchor="start", colour=PURPLE, bold=True),
        note(x + w / 2, y + 116, caption, "middle"),
        line((x, y), (fork, y), thick=1.4),
        line((fork, y + STEPS[0]), (fork, y + STEPS[-1]), thick=1.4),
        note(fork + 14, y + STEPS[-1] - 6, "unchanged"),
    ]


def boxed(x: float, y: float, w: float, words: str, fill: str) -> str:
    """Draw an arrow of 14 and a step in a box of width w."""
    return (
        arrow((x, y), (x + 14, y), head=5, thick=1.4)
        + box(x + 14, y - 12, w, 24, fill=fill, radius=4)
        + text(x + 14 + w / 2, y + 4, words, size=12)
    )


def atrous(it: Layout, x: float, y: float, w: float) -> list[str]:
    """Draw the four cascades and the identity, added up."""
    cascades = (("by1",), ("by3", "mix"), ("by1", "by3", "mix"), ("by1", "by3", "by5", "mix"), ())
    tints = {"by1": "#f3dcea", "by3": "#e3b8d3", "by5": "#d08fb8", "mix": "#e4e8ed"}
    caption = "3 × 3 convolutions, a ReLU last; equal boxes share weights"
    parts = panel(x, y, w, "Dense atrous convolution", caption)
    stop = x + w - 26
    for cascade, step in zip(cascades, STEPS, strict=True):
        at, level, seen = x + 18, y + step, 1
        for key in cascade:
            layer = it.network.get_submodule(f"atrous.{key}")
            (dilation, _), (side, _) = layer.dilation, layer.kernel_size
            seen += dilation * (side - 1)
            words, size = (f"dilation {dilation}", 76) if side > 1 else (squared(side), 46)
            parts.append(boxed(at, level, size, words, tints[key]))
            at += 14 + size
        turn = [(stop, level), (stop, y + math.copysign(10, step))] if step else [(stop - 10, y)]
        parts.append(arrow((at, level), *turn, head=6, thick=1.4))
        parts.append(note(stop - 12, level - 6, squared(seen), "end"))
    parts.append(note(stop - 12, y + STEPS[0] - 24, "sees", "end"))
    parts += [plus(stop, y), line((stop + 9, y), (x + w, y), thick=1.4)]
    return parts


def pooling(it: Layout, x: float, y: float, w: float) -> list[str]:
    """Draw the four sizes of pooling windows and the identity, side by side."""
    parts = panel(x, y, w, "Multi-kernel pooling", "1 × 1 convolution to one map each, enlarged")
    fork, stop = x + 18, x + w - 26
    kernels, maps = it.network.pooling.kernels, it.inputs["pooling.squeeze"]
    for kernel, made, step in zip(kernels, maps, STEPS[:-1], strict=True):
        parts += [
            boxed(fork, y + step, 78, f"max {squared(kernel)}", "#f3dcea"),
            arrow((fork + 92, y + step), (fork + 106, y + step), head=5, thick=1.4),
            grid(fork + 106, y + step - 12, made.side),
        ]
    maps = [*maps, it.inputs["pooling"][0]]
    for made, step, start in zip(maps, STEPS, (130, 130, 130, 130, 0), strict=True):
        parts.append(arrow((fork + start, y + step), (stop - 6, y + step), head=6, thick=1.4))
        parts.append(note(fork + 136, y + step - 6, squared(made.side)))
    parts.append(box(stop - 5, y - 82, 10, 164, fill=PURPLE))
    parts.append(line((stop + 5, y), (x + w, y), thick=1.4))
    return parts


def grid(x: float, y: float, cells: int) -> str:
    """Draw a map of so many cells on a square of side 24."""
    lines = "".join(
        f"M{place((x + 24 * n / cells, y))}v24M{place((x, y + 24 * n / cells))}h24"
        for n in range(1, cells)
    )
    return (
        box(x, y, 24, 24, fill="#fff", stroke=PURPLE, radius=1)
        + f'<path d="{lines}" stroke="{PURPLE}" stroke-width="0.8"/>'
    )


DRAWN: dict[str, Callable[[], str]] = {
    "resunet": draw_resunet,
    "unet": draw_unet,
    "unetplusplus": draw_unetplusplus,
    "cenet": draw_cenet,
}


# The tables of the page.

#: Smaller networks for a processor: (name, width, depth).
SIZES = (
    ("resunet", 8, 5),
    ("resunet", 16, 4),
    ("resunet", 16, 5),
    ("resunet", 32, 5),
    ("unet", 16, 4),
    ("unet", 16, 5),
    ("unet", 32, 5),
    ("unetplusplus", 16, 5),
    ("cenet", 32, None),
)


def table(titles: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    head, *lines = ("| " + " | ".join(cells) + " |" for cells in (titles, *body))
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *lines])


def counted(name: str, **arguments: int | bool) -> tuple[str, str]:
    count, gflop = cost(name, **arguments)
    return f"{count:,}", f"{gflop:,.0f}"


def tables() -> dict[str, str]:
    """Return the tables of docs/models.md by the name of their place."""
    what = ("parameters", "GFLOP per megapixel")
    sizes = []
    for name, width, depth in SIZES:
        chosen = {"width": width} | ({"depth": depth} if depth else {})
        sizes.append((f"`{name}`", str(width), str(depth or "-"), *counted(name, **chosen)))
    cuts = [
        (f"L{k}", f"{k + 1}", *counted("unetplusplus", depth=k + 1, deep_supervision=False))
        for k in range(1, len(layout("unetplusplus").network.head) + 1)
    ]
    return {
        "costs": table(
            ("network", *what, "sides are padded to multiples of"),
            ((f"`{name}`", *counted(name), str(layout(name).network.stride)) for name in DRAWN),
        ),
        "cuts": table(("pruned to", "levels", *what), cuts),
        "sizes": table(("network", "`--width`", "`--depth`", *what), sizes),
    }


def files() -> dict[Path, str]:
    """Return what the pictures and the page should hold."""
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables().items():
        before, mark, after = page.partition(f"<!-- {name} -->\n")
        _, end, after = after.partition(f"<!-- /{name} -->\n")
        if not end:
            raise SystemExit(f"{PAGE} has no place for the table '{name}'")
        page = f"{before}{mark}\n{lines}\n\n{end}{after}"
    pictures = {PICTURES / f"model-{name}.svg": draw() for name, draw in DRAWN.items()}
    return {PAGE: page, **pictures}


def stale() -> list[Path]:
    """Return the files that differ from what the networks say now."""
    return [
        path
        for path, words in files().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != words
    ]


def main() -> None:
    if "--check" in sys.argv[1:]:
        if old := [str(path.relative_to(ROOT)) for path in stale()]:
            raise SystemExit(f"out of date: {', '.join(old)}; run python bench/draw_models.py")
        return
    for path, words in files().items():
        path.write_text(words, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
