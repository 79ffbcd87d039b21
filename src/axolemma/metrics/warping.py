"""The warping error: the differences that no moving of membranes can mend.

The truth is bent towards the proposal one pixel at a time, and only by flips that neither join nor
cut, neither make nor delete anything. A membrane drawn thicker, or aside but still touching the
true one, costs nothing; what differs at the end is an error of topology, and each such pixel has a
kind.
"""

from dataclasses import dataclass
from enum import IntEnum

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.metrics.thinning import label_cells

__all__ = ["RADIUS", "Kind", "Warping", "warp", "warping"]

#: How far around a pixel the challenge's script looks for another way between the two sides of a
#: cut. Pieces that meet only farther away count as split.
RADIUS = 20


class Kind(IntEnum):
    """What a pixel that still differs stands for; 0 is a pixel that does not differ."""

    SPLIT = 1
    MERGER = 2
    FALSE_OBJECT = 3
    MISSING_OBJECT = 4
    FALSE_HOLE = 5
    MISSING_HOLE = 6


@dataclass(frozen=True, slots=True)
class Warping:
    """What is left of the differences between one section's truth and its proposal.

    Parameters
    ----------
    error
        Share of the section's pixels in splits and mergers: the challenge's score at one threshold.
    total
        Share of the section's pixels in errors of any kind.
    splits, mergers, false_objects, missing_objects, false_holes, missing_holes
        How many connected groups of pixels of each kind there are. A split leaves as many pixels
        as the false membrane is thick, a merger as many as the gap is wide.
    kinds
        Shape (Y, X), uint8: 0 or the `Kind` of each pixel.
    """

    error: float
    total: float
    splits: int
    mergers: int
    false_objects: int
    missing_objects: int
    false_holes: int
    missing_holes: int
    kinds: NDArray[np.uint8]


def warping(proposal: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float) -> Warping:
    """Compute the challenge's warping error of one section at one threshold.

    A pixel that `warp` could not mend is judged by the cells of the warped truth among its eight
    neighbours. Where these show two cells or more it is a split or a merger; where they show one
    cell and membrane, a false membrane pixel is a split if the cell falls apart within `RADIUS`
    pixels without it. The challenge's score of a stack is the mean of `error` over the sections,
    the lowest over the thresholds 0, 0.1, … 0.9; it counts pixels, not groups.

    Parameters
    ----------
    proposal
        Shape (Y, X), in [0, 1], 1 = interior; a pixel is interior where it is above `threshold`,
        compared in float64.
    truth
        Equal shape, True = interior.
    threshold
        In [0, 1].

    Returns
    -------
    Warping
        Shares in [0, 1] and counts; all 0 for a section without pixels.

    Raises
    ------
    InputError
        If the shapes differ or are not (Y, X), or a value or the threshold lies outside [0, 1].

    References
    ----------
    Jain et al. 2010, Boundary learning by optimization with topological constraints, CVPR; the
    kinds and their counts follow Fiji's Trainable Weka Segmentation and the script of ISBI 2012.

    Examples
    --------
    >>> truth = np.ones((5, 9), bool)
    >>> truth[:, 4] = False
    >>> gap = truth.astype(float)
    >>> gap[2, 4] = 1
    >>> result = warping(gap, truth, 0.5)
    >>> result.mergers, result.error == 1 / 45
    (1, True)
    """
    warped = warp(proposal, truth, threshold)
    places = np.flatnonzero((proposal > np.float64(threshold)) != warped)
    # The reference looks at the whole section where one of its sides is below the radius.
    radius = RADIUS if min(truth.shape) >= RADIUS else max(truth.shape)
    kinds = _classify(label_cells(warped), places, radius)
    groups = [int(count) for count in _count_groups(kinds, warped, places)]
    wrong = np.count_nonzero((kinds == Kind.SPLIT) | (kinds == Kind.MERGER))
    return Warping(
        error=float(wrong / max(kinds.size, 1)),
        total=places.size / max(kinds.size, 1),
        splits=groups[Kind.SPLIT],
        mergers=groups[Kind.MERGER],
        false_objects=groups[Kind.FALSE_OBJECT],
        missing_objects=groups[Kind.MISSING_OBJECT],
        false_holes=groups[Kind.FALSE_HOLE],
        missing_holes=groups[Kind.MISSING_HOLE],
        kinds=kinds,
    )


def warp(
    proposal: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float
) -> NDArray[np.bool_]:
    """Bend the truth of one section towards a proposal without changing its topology.

    Pixels that differ are visited from the proposal's farthest from the threshold to its nearest,
    equal ones in column-major order, and flipped where they are simple: where the flip leaves the
    number of interior pieces (4-connected) and of membrane pieces (8-connected, all that lies
    outside the section being membrane) as it is. That is repeated until a whole round flips
    nothing.

    Parameters
    ----------
    proposal, truth, threshold
        As for `warping`, with its errors.

    Returns
    -------
    NDArray[np.bool_]
        Shape (Y, X), True = interior: the warped truth.
    """
    if truth.ndim != 2 or proposal.shape != truth.shape:
        raise InputError(
            f"the proposal has shape {proposal.shape} and the truth {truth.shape}; "
            "warping takes one section (Y, X) of both"
        )
    if not 0 <= threshold <= 1:
        raise InputError(f"the threshold {threshold:g} lies outside [0, 1]")
    values = proposal.astype(np.float64)
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise InputError(f"a map lies in [0, 1], this one spans {low:g} to {high:g}; rescale it")
    warped = np.pad(truth.astype(np.bool_), 1)
    columns, rows = np.nonzero(((values > threshold) != warped[1:-1, 1:-1]).T)
    # float32, as in the reference: its ties are then ours.
    distance = np.abs(values[rows, columns] - threshold).astype(np.float32)
    order = np.argsort(-distance, kind="stable")
    places = (rows[order] + 1) * warped.shape[1] + columns[order] + 1
    _flip(warped.reshape(-1), places, warped.shape[1], _SIMPLE)
    return np.ascontiguousarray(warped[1:-1, 1:-1])


def _simple_points() -> NDArray[np.bool_]:
    """Tell for each of the 256 neighbourhoods whether its centre may flip.

    Bit k of the index is the neighbour at k eighths of a turn from the right. Each of the four
    nearest neighbours that is interior ends a piece of interior, unless the two that follow it
    continue the piece; the centre is simple where exactly one piece ends (Yokoi et al. 1975,
    Computer Graphics and Image Processing 4:63-73).
    """
    ring = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.bool_)
    ends = ring & ~(np.roll(ring, -1, axis=1) & np.roll(ring, -2, axis=1))
    return np.asarray(ends[:, ::2].sum(axis=1) == 1)


_SIMPLE = _simple_points()


@numba.njit(cache=True)
def _flip(warped, places, stride, simple):  # type: ignore[no-untyped-def]
    # A flip ends a pixel's difference and makes none, so the order is sorted once and thinned out.
    ring = (1, 1 - stride, -stride, -1 - stride, -1, stride - 1, stride, stride + 1)
    left = places.size
    before = -1
    while left != before:
        before = left
        left = 0
        for i in range(before):
            p = places[i]
            code = 0
            for k in range(8):
                code |= warped[p + ring[k]] << k
            if simple[code]:
                warped[p] = not warped[p]
            else:
                places[left] = p
                left += 1


@numba.njit(cache=True)
def _classify(cells, places, radius):  # type: ignore[no-untyped-def]
    height, width = cells.shape
    kinds = np.zeros((height, width), np.uint8)
    seen = np.full((height, width), -1, np.int32)
    queue = np.empty(min(height, 2 * radius + 1) * min(width, 2 * radius + 1), np.int64)
    for i in range(places.size):
        y, x = divmod(places[i], width)
        inside = cells[y, x] != 0
        first, second, distinct = -1, -1, 0
        for v in range(max(y - 1, 0), min(y + 2, height)):
            for u in range(max(x - 1, 0), min(x + 2, width)):
                if (v != y or u != x) and cells[v, u] != first and cells[v, u] != second:
                    first, second = cells[v, u], first
                    distinct += 1
        if distinct < 2 and first <= 0:
            kinds[y, x] = Kind.MISSING_OBJECT if inside else Kind.FALSE_OBJECT
        elif distinct == 1:
            kinds[y, x] = Kind.FALSE_HOLE if inside else Kind.MISSING_HOLE
        elif distinct > 2:
            kinds[y, x] = Kind.SPLIT if inside else Kind.MERGER
        elif not inside:
            kinds[y, x] = Kind.FALSE_HOLE
        elif _falls_apart(cells, y, x, radius, seen, i, queue):
            kinds[y, x] = Kind.SPLIT
        else:
            kinds[y, x] = Kind.MISSING_HOLE
    return kinds


@numba.njit(cache=True)
def _falls_apart(cells, y, x, radius, seen, mark, queue):  # type: ignore[no-untyped-def]
    """Tell whether the interior around a pixel is in pieces, in its window and without it."""
    height, width = cells.shape
    top, bottom = max(y - radius, 0), min(y + radius + 1, height)
    start, stop = max(x - radius, 0), min(x + radius + 1, width)
    missing = 0
    for v in range(max(y - 1, 0), min(y + 2, height)):
        for u in range(max(x - 1, 0), min(x + 2, width)):
            if (v != y or u != x) and cells[v, u] != 0:
                missing += 1
                queue[0] = v * width + u
    seen[y, x] = mark
    seen[divmod(queue[0], width)] = mark
    head, tail = 0, 1
    while head < tail:
        v, u = divmod(queue[head], width)
        head += 1
        if abs(v - y) <= 1 and abs(u - x) <= 1:
            missing -= 1
            if missing == 0:
                return False
        for b, a in ((v, u - 1), (v - 1, u), (v, u + 1), (v + 1, u)):
            if top <= b < bottom and start <= a < stop and cells[b, a] != 0 and seen[b, a] != mark:
                seen[b, a] = mark
                queue[tail] = b * width + a
                tail += 1
    return True


@numba.njit(cache=True)
def _count_groups(kinds, warped, places):  # type: ignore[no-untyped-def]
    """Count each kind's groups, those of interior apart from those of membrane."""
    height, width = kinds.shape
    counts = np.zeros(Kind.MISSING_HOLE + 1, np.int64)
    left = kinds.copy()
    queue = np.empty(places.size, np.int64)
    for place in places:
        y, x = divmod(place, width)
        kind, inside = left[y, x], warped[y, x]
        if kind == 0:
            continue
        counts[kind] += 1
        # The reference joins these two lots across corners, the others along edges only.
        diagonal = kind == Kind.MERGER or (kind == Kind.FALSE_HOLE and inside)
        left[y, x] = 0
        queue[0] = place
        head, tail = 0, 1
        while head < tail:
            y, x = divmod(queue[head], width)
            head += 1
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    joined = left[v, u] == kind and warped[v, u] == inside
                    if joined and (diagonal or v == y or u == x):
                        left[v, u] = 0
                        queue[tail] = v * width + u
                        tail += 1
    return counts
