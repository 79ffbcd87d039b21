r"""A large section in overlapping tiles whose blended predictions add up without a seam.

Along each axis the tiles look like this (``.`` margin, ``/`` and ``\`` ramps)::

    tile 0   |‾‾‾‾‾‾‾‾‾‾‾‾‾‾\......|
    tile 1            |....../‾‾‾‾‾‾‾‾\......|
    tile 2                     |....../‾‾‾‾‾‾‾‾‾‾‾|

The margin is what a tile predicts without enough context: it counts nothing. Over the ramp one
tile hands over to the next. The weights of all tiles add up to 1 at every pixel, so nothing has to
be divided afterwards and one section's memory is enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.geometry import Box

__all__ = ["Tile", "tiles"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a section.

    Parameters
    ----------
    box
        Where it lies, (Y, X).
    rows, columns
        How much its prediction counts, float32 in [0, 1], as a product of one weight for every row
        of the box and one for every column.
    """

    box: Box
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]


def tiles(
    shape: tuple[int, int],
    *,
    size: int,
    margin: int,
    ramp: int | None = None,
    multiple: int = 1,
) -> Iterator[Tile]:
    """Yield the tiles of a section in C order.

    Parameters
    ----------
    shape
        Sides (Y, X) of the section in pixels.
    size
        Largest side of a tile; rounded down to `multiple`.
    margin
        Pixels at a tile's inner edges that count nothing.
    ramp
        Pixels beyond them over which one tile hands over to the next; as many where None.
    multiple
        Tiles start at multiples of it, so that a strided network sees every tile in the same
        phase as the whole.

    Raises
    ------
    InputError
        If tiles of this size would consist of margins only.
    """
    axes = [_axis(side, size, margin, margin if ramp is None else ramp, multiple) for side in shape]
    for (y, rows), (x, columns) in product(*axes):
        box = Box((y, x), (y + len(rows), x + len(columns)))
        yield Tile(box, rows.astype(np.float32), columns.astype(np.float32))


def _axis(
    length: int, size: int, margin: int, ramp: int, multiple: int
) -> list[tuple[int, NDArray[np.float64]]]:
    """Return start and weights of every tile along one axis."""
    if length <= size:
        return [(0, np.ones(length))]
    size -= size % multiple
    # Two margins and the ramp between them are shared by neighbours; rounding may take a multiple.
    shared = 2 * margin + ramp + multiple
    if size <= shared:
        raise InputError(
            f"tiles of {size} pixels are too small for a margin of {margin}; "
            f"take at least {shared + multiple}"
        )
    # As few tiles as possible, and then as small as possible, evenly spread.
    count = -(-(length - shared) // (size - shared))
    side = -(-(length + (count - 1) * shared) // count)
    size = min(size, side + -side % multiple)
    last = length - size + -(length - size) % multiple
    starts = [last * i // (count - 1) // multiple * multiple for i in range(count)]
    raw = []
    for start in starts:
        stop = min(start + size, length)
        position = np.arange(start, stop) + 0.5
        rise = (position - start - margin) / max(ramp, 1) if start > 0 else np.ones(stop - start)
        fall = (stop - position - margin) / max(ramp, 1) if stop < length else 1.0
        raw.append(np.clip(np.minimum(rise, fall), 0, 1))
    total = np.zeros(length)
    for start, weights in zip(starts, raw, strict=True):
        total[start : start + len(weights)] += weights
    return [
        (start, weights / total[start : start + len(weights)])
        for start, weights in zip(starts, raw, strict=True)
    ]
