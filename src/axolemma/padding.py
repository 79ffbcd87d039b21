"""What is no tissue: the frame of one value that stitching and aligning leave around sections."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.geometry import Box

__all__ = ["Frame", "padded", "plain_cells"]

#: Pixels of one value in a row, at the edge of a section, that no tissue has.
_RUN = 32

_EDGES: tuple[Any, ...] = (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])


@dataclass(frozen=True, slots=True)
class Frame:
    """Where padding is in a section, in cells of some pixels that are nothing else.

    A part of a section alone does not tell the frame from a hole in the tissue which goes on
    beyond the part.

    Parameters
    ----------
    side
        Of a cell in pixels.
    shape
        Of the section, (Y, X) in pixels.
    bits
        Of each cell, row by row, whether it is padding.
    """

    side: int
    shape: tuple[int, int]
    bits: bytes

    @classmethod
    def of(cls, cells: Iterable[NDArray[np.bool_]], side: int, shape: Sequence[int]) -> "Frame":
        """Take, of each value that padding may have, the cells that have no other."""
        height, width = shape
        outside = np.zeros((-(-height // side), -(-width // side)), bool)
        for there in cells:
            found = _joined(there, True, _EDGES, max(1, _RUN // side))
            if found is not None:
                outside |= found
        return cls(side, (height, width), np.packbits(outside).tobytes())

    def within(self, box: Box) -> NDArray[np.bool_]:
        """Tell of each pixel of a box, (Y, X), whether it is in such a cell."""
        rows, columns = (-(-length // self.side) for length in self.shape)
        bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=rows * columns)
        cells = bits.reshape(rows, columns).astype(bool)
        y, x = (np.arange(a, b) // self.side for a, b in zip(box.start, box.stop, strict=True))
        return cells[y[:, None], x]


def padded(
    section: NDArray[Any],
    values: Iterable[float],
    *,
    frame: Frame | None = None,
    box: Box | None = None,
) -> NDArray[np.bool_] | None:
    """Tell which pixels are padding: of one value, and in one piece with a row of it at an edge.

    Parameters
    ----------
    section
        Grey values (Y, X) of a section or of a part of it.
    values
        Which padding may have, such as the `padding` of a `quality.Contrast`.
    frame, box
        That of the section, and of it the box (Y, X) that is looked at: then only the section's own
        edges count, and what is in one piece with the frame. Without them those of the part do.

    Returns
    -------
    NDArray[np.bool_] or None
        Of the shape of the section, True where there is padding; None where there is none.
    """
    edges, seeds = _EDGES, None
    if frame is not None and box is not None:
        (top, left), (bottom, right) = box.start, box.stop
        own = top == 0, bottom == frame.shape[0], left == 0, right == frame.shape[1]
        edges = tuple(edge for edge, is_own in zip(_EDGES, own, strict=True) if is_own)
        seeds = frame.within(box)
    outside = None
    for value in values:
        found = _joined(section, value, edges, _RUN, seeds)
        if found is not None:
            outside = found if outside is None else outside | found
    return outside


def plain_cells(section: NDArray[Any], value: float, side: int) -> NDArray[np.bool_]:
    """Tell which cells of so many pixels along a side have one value alone, (y, x)."""
    rows, columns = (np.arange(0, length, side) for length in section.shape)
    along = np.logical_and.reduceat(section == value, columns, axis=1)
    return np.asarray(np.logical_and.reduceat(along, rows, axis=0))


def _joined(
    section: NDArray[Any],
    value: float,
    edges: Sequence[Any],
    run: int,
    seeds: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_] | None:
    """Tell which pixels of a value are in one piece with a run of it at an edge, or a seed."""
    lines = [section[edge] == value for edge in edges]
    runs = [ndimage.binary_opening(line, np.ones(min(run, line.size))) for line in lines]
    # Most sections have no frame: their edges alone are looked at.
    if not any(along.any() for along in runs) and (seeds is None or not seeds.any()):
        return None
    there = section == value
    pieces, _ = ndimage.label(there)
    begun = [pieces[edge][along] for edge, along in zip(edges, runs, strict=True)]
    if seeds is not None:
        begun.append(pieces[seeds & there])
    numbers = np.unique(np.concatenate(begun))
    return np.isin(pieces, numbers) if numbers.size else None
