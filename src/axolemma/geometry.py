"""Boxes of pixels: a small frozen value algebra on integers.

A `Box` is half-open, ``start <= p < stop`` in every axis, and may have any number of axes. It
holds positions, never data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from axolemma.errors import InputError

__all__ = ["Box", "grid"]


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of pixels.

    Parameters
    ----------
    start, stop
        First pixel inside and first pixel outside, one integer per axis; ``start <= stop``.

    Raises
    ------
    InputError
        If the lengths differ or a stop lies before its start.

    Examples
    --------
    >>> Box((0, 4), (2, 10)).shape
    (2, 6)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise InputError(f"a box needs as many starts as stops, got {self.start}, {self.stop}")
        if any(a > b for a, b in zip(self.start, self.stop, strict=True)):
            raise InputError(f"a box may not stop before it starts: {self.start} to {self.stop}")

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "Box":
        """Return the box of a whole array of `shape`."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Side lengths in pixels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The index that cuts this box out of an array."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grow(self, halo: tuple[int, ...]) -> "Box":
        """Return the box with `halo` pixels more on both sides of each axis."""
        return Box(
            tuple(a - h for a, h in zip(self.start, halo, strict=True)),
            tuple(b + h for b, h in zip(self.stop, halo, strict=True)),
        )

    def clip(self, other: "Box") -> "Box":
        """Return the part of this box that lies inside `other`; empty where they do not meet."""
        start = tuple(
            min(max(a, lo), hi)
            for a, lo, hi in zip(self.start, other.start, other.stop, strict=True)
        )
        stop = tuple(
            max(min(b, hi), a) for b, hi, a in zip(self.stop, other.stop, start, strict=True)
        )
        return Box(start, stop)

    def moved(self, by: tuple[int, ...]) -> "Box":
        """Return this box, `by` pixels farther along each axis."""
        return Box(
            tuple(a + step for a, step in zip(self.start, by, strict=True)),
            tuple(b + step for b, step in zip(self.stop, by, strict=True)),
        )

    def within(self, other: "Box") -> "Box":
        """Return this box in the coordinates whose origin is the start of `other`."""
        return self.moved(tuple(-start for start in other.start))


def grid(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[Box]:
    """Yield the blocks that cover an array once, in C order; the last ones may be smaller.

    Parameters
    ----------
    shape
        Shape of the whole array.
    block
        Shape of one block, every side at least 1.

    Raises
    ------
    InputError
        If a side of `block` is below 1.
    """
    if any(side < 1 for side in block):
        raise InputError(f"a block needs sides of at least 1 pixel, got {block}")
    starts = [range(0, size, side) for size, side in zip(shape, block, strict=True)]
    whole = Box.of(shape)
    for start in product(*starts):
        yield Box(start, tuple(a + s for a, s in zip(start, block, strict=True))).clip(whole)
