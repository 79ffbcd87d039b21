"""Where V_rand is lost: gaps and false membranes, and what mending each of them would gain."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.errors import InputError
from axolemma.metrics.contingency import Contingency, sums
from axolemma.metrics.membranes import PairCounts, pair_counts, v_rand
from axolemma.metrics.section import Section
from axolemma.metrics.thinning import label_cells, thin

__all__ = ["ErrorKind", "Mistake", "error_map", "find_mistakes", "mend"]

#: A segment and a cell belong to an error when they share this much of the smaller of them; less
#: is a boundary drawn a little beside the true one.
_LEAST_SHARE = 0.1

#: Segments of one cell that are looked at in pairs.
_MOST_PARTS = 16


@dataclass(frozen=True)
class Mistake:
    """A gap or a false membrane in one section.

    Parameters
    ----------
    kind
        ``"merge"``: a gap joins cells; ``"split"``: a false membrane cuts a cell.
    gain
        What V_rand of the section, thinned, gains when this alone is mended, exactly.
    position
        (Y, X): the pixel of the gap or the false membrane that is nearest to its middle.
    pixels
        (n, 2), rows Y, X: the pixels to turn, into membrane for a merge, into interior for a split.
    cells
        The true cells involved, by their numbers in scan order.
    """

    kind: Literal["merge", "split"]
    gain: float
    position: tuple[int, int]
    pixels: NDArray[np.int64]
    cells: tuple[int, ...]


class ErrorKind(IntEnum):
    """What a pixel of an `error_map` shows."""

    NONE = 0
    SPLIT = 1
    MERGE = 2
    MISSING = 3
    FALSE = 4


def mend(membrane: NDArray[np.bool_], mistake: Mistake) -> NDArray[np.bool_]:
    """Return the proposal's membrane (Y, X) with one mistake mended."""
    mended = membrane.copy()
    mended[tuple(mistake.pixels.T)] = mistake.kind == "merge"
    return mended


def find_mistakes(section: Section, *, count: int = 20) -> list[Mistake]:
    """List what costs most V_rand in a section.

    A merge is mended by drawing the true border between a cell and the others that its segment
    has run into; a split by erasing the false membrane between two segments of a cell, or a hole
    in it where erasing all of it would open a gap. Each is tried on the section as it is, thinned
    and scored again: its gain is what V_rand then has gained, and gains of errors that share no
    segment add up nearly.

    Parameters
    ----------
    section
        Proposal and truth.
    count
        Try this many, those that promise most by the sizes of their segments.

    Returns
    -------
    list of Mistake
        Those that gain anything, the costliest first.

    Raises
    ------
    InputError
        If `count` is negative.
    """
    if count < 0:
        raise InputError(f"the number of errors to list cannot be {count}")
    before = _score(section.membrane, section)
    candidates = sorted(_candidates(section), key=lambda found: -found.promise)[:count]
    if not candidates:
        return []
    plan = _Plan.of(section)
    mistakes: list[Mistake] = []
    for candidate in candidates:
        ways = plan.gaps(candidate) if candidate.kind == "merge" else plan.walls(candidate)
        tried = []
        for pixels in ways:
            if not len(pixels):
                continue
            middle = pixels[np.square(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()]
            position = (int(middle[0]), int(middle[1]))
            found = Mistake(candidate.kind, 0.0, position, pixels, candidate.cells)
            gain = _score(mend(section.membrane, found), section) - before
            tried.append(replace(found, gain=gain))
            if gain >= 0.9 * candidate.promise:
                break
        best = max(tried, key=lambda found: found.gain, default=None)
        if best is not None and best.gain > 0:
            mistakes.append(best)
    listed: list[Mistake] = []
    for found in sorted(mistakes, key=lambda found: -found.gain):
        # A gap shows from both its sides, a wall from each pair of its segments.
        if not any(_same(found, other) for other in listed):
            listed.append(found)
    return listed


def error_map(
    section: Section, mistakes: list[Mistake], *, tolerance: float = 2.0
) -> NDArray[np.uint8]:
    """Show where membranes are wrong.

    Parameters
    ----------
    section
        Proposal and truth.
    mistakes
        Their pixels are marked as splits and merges.
    tolerance
        A membrane that is no farther than this from the other's, in pixels, is right.

    Returns
    -------
    NDArray[np.uint8]
        (Y, X), values of `ErrorKind`: `MISSING` and `FALSE` are membranes that are missing or
        false and part of none of these mistakes.
    """
    membrane, drawn = section.membrane, section.true_membrane
    found = np.zeros(drawn.shape, np.uint8)
    found[drawn & _farther(membrane, tolerance)] = ErrorKind.MISSING
    found[membrane & _farther(drawn, tolerance)] = ErrorKind.FALSE
    if section.where is not None:
        found[~section.where] = ErrorKind.NONE
    for kind, name, plain in (
        (ErrorKind.SPLIT, "split", ErrorKind.FALSE),
        (ErrorKind.MERGE, "merge", ErrorKind.MISSING),
    ):
        costly = np.zeros(drawn.shape, bool)
        for mistake in mistakes:
            if mistake.kind == name:
                costly[tuple(mistake.pixels.T)] = True
        # All that is wrong there, not only the line that mends it.
        pieces, count = ndimage.label((found == plain) | costly, np.ones((3, 3)))
        touched = np.zeros(count + 1, bool)
        touched[pieces[costly]] = True
        found[touched[pieces]] = kind
    return found


@dataclass(frozen=True)
class _Candidate:
    """A cell in a segment with others (merge), or a cell in two segments (split)."""

    kind: Literal["merge", "split"]
    promise: float
    cells: tuple[int, ...]
    segments: tuple[int, ...]


def _candidates(section: Section) -> Iterator[_Candidate]:
    table = section.thinned_table
    inside = np.flatnonzero((table.truth_ids != 0) & (table.proposal_ids != 0))
    cells, segments = table.truth_ids[inside], table.proposal_ids[inside]
    shared = table.counts[inside]
    sizes = dict(zip(np.unique(segments).tolist(), sums(segments, shared).tolist(), strict=True))
    areas = _areas(table)
    whole = pair_counts(table)
    held: dict[int, dict[int, int]] = {}
    holders: dict[int, dict[int, int]] = {}
    for cell, segment, pixels in zip(
        cells.tolist(), segments.tolist(), shared.tolist(), strict=True
    ):
        if pixels >= _LEAST_SHARE * min(areas[cell], sizes[segment]):
            held.setdefault(segment, {})[cell] = pixels
            holders.setdefault(cell, {})[segment] = pixels
    for segment, parts in held.items():
        if len(parts) < 2:
            continue
        for cell, pixels in parts.items():
            rest = sizes[segment] - pixels
            promise = _promise(whole, together=0, proposal=-2.0 * pixels * rest)
            others = tuple(other for other in parts if other != cell)
            yield _Candidate("merge", promise, (cell, *others), (segment,))
    for cell, parts in holders.items():
        # A cell full of specks has thousands of pairs; the large ones promise most.
        found = sorted(parts, key=lambda segment: -parts[segment])[:_MOST_PARTS]
        for n, one in enumerate(found):
            for other in found[n + 1 :]:
                promise = _promise(
                    whole,
                    together=2.0 * parts[one] * parts[other],
                    proposal=2.0 * sizes[one] * sizes[other],
                )
                yield _Candidate("split", promise, (cell,), (one, other))


def _areas(table: Contingency) -> dict[int, int]:
    inside = table.truth_ids != 0
    ids = np.unique(table.truth_ids[inside])
    return dict(zip(ids.tolist(), table.truth_sizes.tolist(), strict=True))


def _promise(counts: PairCounts, *, together: float, proposal: float) -> float:
    changed = PairCounts(counts.together + together, counts.truth, counts.proposal + proposal)
    return changed.f_score.score - counts.f_score.score


@dataclass(frozen=True)
class _Plan:
    """What mending needs of a section, made once; every error is looked at in its own window."""

    section: Section
    true_owner: NDArray[np.int32]
    owner: NDArray[np.int32]
    half_width: NDArray[np.float64]
    cell_boxes: list[Any]
    segment_boxes: list[Any]

    @classmethod
    def of(cls, section: Section) -> "_Plan":
        return cls(
            section,
            _owners(thin(section.true_cells)),
            _owners(section.thinned),
            np.asarray(ndimage.distance_transform_edt(section.membrane)),
            ndimage.find_objects(section.true_cells),
            ndimage.find_objects(section.thinned),
        )

    def gaps(self, candidate: _Candidate) -> Iterator[NDArray[np.int64]]:
        """Yield the pixels to turn into membrane so that a cell parts from its segment's rest.

        First those along its true border with the other cells in the segment, then along all of
        it, since the way from cell to cell may lead over a corner of a third.
        """
        cell, *others = candidate.cells
        (segment,) = candidate.segments
        window, corner = self._window(self.segment_boxes[segment - 1])
        owner = self.true_owner[window]
        within = (self.section.thinned[window] == segment) & ~self.section.membrane[window]
        mine = within & (owner == cell)
        beside = within & ~mine & _around(mine)
        yield np.argwhere(beside & np.isin(owner, others)) + corner
        yield np.argwhere(beside) + corner

    def walls(self, candidate: _Candidate) -> Iterator[NDArray[np.int64]]:
        """Yield the pixels of membrane to erase so that two segments of a cell become one.

        First all along the line where they meet in the cell, then a hole at its deepest place.
        """
        (cell,) = candidate.cells
        window, corner = self._window(self.cell_boxes[cell - 1])
        owner, half_width = self.owner[window], self.half_width[window]
        one, other = ((owner == segment) for segment in candidate.segments)
        inside = self.section.true_cells[window] == cell
        line = inside & ((one & _around(other)) | (other & _around(one)))
        if not line.any():
            return
        # As far to both sides as the membrane is thick there, and a little more.
        distance, nearest = ndimage.distance_transform_edt(~line, return_indices=True)
        near = distance <= half_width[tuple(nearest)] + 1.5
        wall = self.section.membrane[window] & inside & near
        yield np.argwhere(wall) + corner
        depth = np.where(line, ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1], 0)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        rows, columns = np.ogrid[: line.shape[0], : line.shape[1]]
        hole = np.hypot(rows - y, columns - x) <= half_width[y, x] + 2.5
        yield np.argwhere(wall & hole) + corner

    def _window(self, box: tuple[slice, slice]) -> tuple[tuple[slice, slice], tuple[int, int]]:
        """Return a box and two pixels around it, and its first corner."""
        starts = tuple(max(0, side.start - 2) for side in box)
        stops = (side.stop + 2 for side in box)
        rows, columns = (slice(a, b) for a, b in zip(starts, stops, strict=True))
        return (rows, columns), (starts[0], starts[1])


def _owners(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give each pixel of label 0 the label of the nearest other one."""
    if not (labels == 0).any():
        return labels
    nearest = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    return np.asarray(labels[tuple(nearest)])


def _around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask))


def _farther(mask: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
    """Tell which pixels have no pixel of the mask within the tolerance."""
    if not mask.any():
        return np.ones_like(mask)
    return np.asarray(ndimage.distance_transform_edt(~mask) > tolerance)


def _same(one: Mistake, other: Mistake) -> bool:
    """Tell whether most pixels of one error touch the other's."""
    if one.kind != other.kind:
        return False
    if one.kind == "merge" and set(one.cells) == set(other.cells) and len(one.cells) == 2:
        return True
    return max(_touching(one.pixels, other.pixels), _touching(other.pixels, one.pixels)) > 0.5


def _touching(pixels: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Return the share of the pixels that are among the others or beside one of them."""
    around = others[:, None, :] + np.array(((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)))
    stride = int(max(pixels.max(), others.max())) + 2
    keys, near = (array[..., 0] * stride + array[..., 1] for array in (pixels, around))
    return float(np.isin(keys, near).mean())


def _score(membrane: NDArray[np.bool_], section: Section) -> float:
    cells = label_cells(~membrane)
    return v_rand(replace(section, membrane=membrane, cells=cells).thinned_table).score
