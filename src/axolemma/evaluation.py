"""A proposal and a truth from their files to scores."""

import csv
import re
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.calibration import Calibration
from axolemma.errors import InputError
from axolemma.images import Stack, numbered, parse_slices, read, replacing, write_png
from axolemma.labels import IGNORED, distinct
from axolemma.metrics import (
    SCORE_NAMES,
    SCORES,
    THRESHOLDS,
    Interval,
    Mistake,
    Reliability,
    Scores,
    Sections,
    Suite,
    difference,
    error_map,
    evaluate,
    find_mistakes,
    reliability,
    score_suite,
)
from axolemma.pictures import errors_over

__all__ = [
    "Evaluation",
    "Located",
    "ProposalIs",
    "check_errors_folder",
    "compare",
    "compare_as_dict",
    "evaluate_stacks",
    "matching",
    "parse_roi",
    "read_cells",
    "read_proposal",
    "write_csv",
    "write_mistakes",
]

ProposalIs = Literal["auto", "membrane", "interior", "cells"]

#: A map that scores this much better flipped was read the wrong way round.
_FLIPPED_GAIN = 0.2

#: How many errors are tried for each section, those that promise most: of maps that are any good,
#: all.
_TRIED = 100


@dataclass(frozen=True)
class Located:
    """A gap or a false membrane, and where it is in the stack.

    Parameters
    ----------
    section
        The number of its section.
    gain
        What V_rand of the stack gains when this alone is mended.
    position
        (Y, X) in the whole section, also where only a region was scored.
    mistake
        In the region that was scored.
    """

    section: int
    gain: float
    position: tuple[int, int]
    mistake: Mistake


@dataclass(frozen=True)
class Evaluation:
    """Scores, and how the files were read.

    Parameters
    ----------
    scores
        V_rand and V_info for every threshold and section.
    threshold
        The threshold that was chosen elsewhere: given by the caller, or stored in the proposal by
        the model's validation. None where there is neither, and for labels. It is one of those that
        were scored, which are the challenge's and, where it is none of them, itself.
    suite
        Every score, at that threshold or, without one, where V_rand is best.
    mistakes
        What costs most V_rand there, the costliest first.
    read_as
        What the proposal was taken for, and why.
    notes
        What was assumed and converted, one sentence each.
    pair
        The pixels that were scored.
    cells
        V_rand and V_info of the cells that a segmentation found from the same map; None where
        there are none.
    calibrated
        How often the map's probabilities would come true, once calibrated as the model's validation
        chose; None where the proposal says nothing of that.
    """

    scores: Scores
    threshold: float | None
    suite: Suite
    mistakes: tuple[Located, ...]
    read_as: str
    notes: tuple[str, ...]
    pair: Sections
    cells: Scores | None = None
    calibrated: Reliability | None = None

    def as_dict(self) -> dict[str, object]:
        """Return everything that is reported, for JSON."""
        scores, suite = self.scores, self.suite
        found: dict[str, object] = {
            "read_as": self.read_as,
            "notes": list(self.notes),
            "thresholds": list(scores.thresholds),
        }
        for kind, cut in (("held_out", self.threshold), ("best", None)):
            if kind == "held_out" and cut is None:
                continue
            found[kind] = {
                name: _score_at(scores, self.best_threshold(name) if cut is None else cut, name)
                for name in SCORE_NAMES
            }
        if self.cells is not None:
            # Cells have no threshold, so there is nothing that the truth could have chosen.
            found["cells"] = {
                name: _score_at(self.cells, self.cells.thresholds[0], name)
                for name in SCORE_NAMES[:2]
            }
        best: Any = found["best"]
        for name in scores.pooled:
            at, lowest = self._lowest(name)
            best[name] = {"threshold": at, "score": lowest}
        best["warping_error"] = {
            "threshold": suite.warping_threshold,
            "score": suite.warping_best,
        }
        found["curves"] = {name: scores.curve(name).tolist() for name in SCORE_NAMES} | {
            name: curve.tolist() for name, curve in scores.pooled.items()
        }
        found["all"] = {
            "threshold": suite.threshold,
            "boundary_tolerance": suite.tolerance,
            "scores": {name: self._score_as_dict(name) for name in SCORES},
            "stack": suite.stack,
        }
        for name, told in (("reliability", suite.reliability), ("calibrated", self.calibrated)):
            if told is not None:
                found[name] = {
                    "expected_error": told.expected_error,
                    "largest_error": told.largest_error,
                    "pixels": told.pixels.tolist(),
                    "predicted": told.predicted.tolist(),
                    "membrane": told.membrane.tolist(),
                }
        found["errors"] = [
            {
                "section": located.section,
                "kind": located.mistake.kind,
                "gain": located.gain,
                "gain_in_section": located.mistake.gain,
                "position": list(located.position),
                "pixels": len(located.mistake.pixels),
            }
            for located in self.mistakes
        ]
        return found

    def best_threshold(self, name: str = "v_rand") -> float:
        """Return which of the challenge's thresholds a score is best at, having seen the truth."""
        return self.scores.best_threshold(name, among=THRESHOLDS)

    def _lowest(self, name: str) -> tuple[float, float]:
        """Return which of the challenge's thresholds a pooled error is lowest at, and the error."""
        errors = zip(self.scores.pooled[name].tolist(), self.scores.thresholds, strict=True)
        error, at = min(pair for pair in errors if pair[1] in THRESHOLDS)
        return at, error

    def best(self) -> str:
        """Tell the challenge's own numbers: the best over all thresholds, having seen the truth."""
        scores, suite = self.scores, self.suite
        parts = [
            f"{title} {scores.at(at, name).score:.4f} at {at:.1f}"
            for name, title in (("v_rand", "V_rand"), ("v_info", "V_info"))
            for at in [self.best_threshold(name)]
        ]
        for name, title in (("rand_error", "Rand error"), ("pixel_error", "pixel error")):
            at, lowest = self._lowest(name)
            parts.append(f"{title} {lowest:.4f} at {at:.1f}")
        parts.append(f"warping error {suite.warping_best:.6f} at {suite.warping_threshold:.1f}")
        return ", ".join(parts)

    def _score_as_dict(self, name: str) -> dict[str, object]:
        sure = self.suite.interval(name)
        return {
            "mean": sure.mean,
            "low": sure.low,
            "high": sure.high,
            "sections": dict(
                zip(map(str, self.suite.sections), self.suite.values[name].tolist(), strict=True)
            ),
        }


def read_proposal(path: str | Path) -> Stack:
    """Read a proposal: a map, labels, or the folder that a segmentation wrote.

    Parameters
    ----------
    path
        A file or folder of sections that `images.read` reads, or a folder with ``membrane.tif``.
        Integers of 64 bits are labels and are brought to 32.

    Raises
    ------
    ImageError
        If nothing usable is there.
    """
    path = Path(path)
    stack = read(path / "membrane.tif" if (path / "membrane.tif").is_file() else path)
    if stack.array.dtype.kind in "iu" and stack.array.dtype.itemsize > 4:
        array, notes = numbered(stack.array, stack.source)
        return replace(stack, array=array, notes=stack.notes + notes)
    return stack


def read_cells(path: str | Path) -> Stack | None:
    """Read the cells in the folder that a segmentation wrote; None for anything else."""
    file = Path(path) / "cells.tif"
    return read(file) if file.is_file() and (Path(path) / "membrane.tif").is_file() else None


def parse_roi(text: str, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns that ``"y0:y1,x0:x1"`` names, the ends excluded.

    Raises
    ------
    InputError
        If the text is malformed, or the region is empty or leaves the section.
    """
    match = re.fullmatch(r"\s*(\d{1,9}):(\d{1,9})\s*,\s*(\d{1,9}):(\d{1,9})\s*", text)
    height, width = shape[-2:]
    if match is None:
        raise InputError(
            f"region '{text}': expected rows and columns y0:y1,x0:x1, for example 0:{height},"
            f"0:{width} for the whole section"
        )
    top, bottom, left, right = (int(group) for group in match.groups())
    if not (top < bottom <= height and left < right <= width):
        raise InputError(
            f"region '{text}': it must lie within rows 0:{height} and columns 0:{width} and hold"
            " a pixel"
        )
    return slice(top, bottom), slice(left, right)


def evaluate_stacks(
    proposal: Stack,
    truth: Stack,
    *,
    slices: str | None = None,
    threshold: float | None = None,
    proposal_is: ProposalIs = "auto",
    roi: str | None = None,
    ignore: Stack | None = None,
    tolerance: float = 2.0,
    cells: Stack | None = None,
) -> Evaluation:
    """Score a proposal that was read from a file.

    Parameters
    ----------
    proposal
        From `read_proposal`: a map in [0, 1] or of unsigned integers, a mask, or labels.
    truth
        From `images.read_truth`: (Z, Y, X), 1 = membrane, and its labels where it has them. Only
        what is annotated counts, and cells of truth and proposal alike end where that ends.
    slices
        Sections of the truth to score. The proposal holds either the same stack or just these.
        Where None and the proposal says which sections it holds, those.
    threshold
        Chosen elsewhere; the proposal's own where None.
    proposal_is
        What the proposal holds. ``"auto"`` believes what the file says; where it says nothing it
        takes flat regions of many numbers for labels and anything else for a map of the interior,
        the challenge's convention.
    roi
        Rows and columns to score, ``"y0:y1,x0:x1"``; all where None.
    ignore
        Pixels not to count, nonzero, of the truth's shape or that of the scored sections.
    tolerance
        Pixels that a boundary may be off.
    cells
        Labels of the same sections as the proposal, to be scored beside it.

    Returns
    -------
    Evaluation
        Scores of the chosen sections.

    Raises
    ------
    InputError
        If the shapes do not fit, nothing of a section is annotated, or the map is evidently the
        other way round.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"a threshold lies between 0 and 1, not {threshold:g}")
    chosen, array = _matched(proposal, len(truth.array), slices)
    notes = [*proposal.notes, *_matching_notes(proposal, len(truth.array), chosen, slices)]
    if cells is not None and cells.array.shape != proposal.array.shape:
        raise InputError(
            f"{cells.source}: the cells have shape {cells.array.shape} and the map "
            f"{proposal.array.shape}; they must be of one segmentation"
        )
    objects = None if cells is None else _matched(cells, len(truth.array), slices)[1]
    labelled = truth.labels is not None
    drawn = truth.array if truth.labels is None else truth.labels
    drawn = drawn[chosen.start : chosen.stop]
    if array.shape != drawn.shape:
        raise InputError(
            f"{proposal.source}: it has shape {array.shape} and the truth {drawn.shape} "
            "(sections, rows, columns); they must be the same pixels"
        )
    where = None if ignore is None else ~_ignored(ignore, len(truth.array), chosen, drawn.shape)
    hidden = truth.array[chosen.start : chosen.stop] == IGNORED
    if hidden.any():
        _check_annotated(hidden, truth.source, chosen.start)
        drawn = drawn if labelled else (drawn > 0).astype(np.uint8)
        where = ~hidden if where is None else where & ~hidden
    array, kind, read_as = _read_as(array, proposal, proposal_is)
    if threshold is not None and kind == "cells":
        raise InputError(f"{proposal.source}: labels have no threshold; leave it out")
    corner = (0, 0)
    if roi is not None:
        rows, columns = parse_roi(roi, drawn.shape)
        corner = (rows.start, columns.start)
        array, drawn, hidden = (part[:, rows, columns] for part in (array, drawn, hidden))
        objects = None if objects is None else objects[:, rows, columns]
        where = None if where is None else where[:, rows, columns]
    if where is not None and not (counted := where.any(axis=(1, 2))).all():
        # It would count as perfect.
        bare = chosen.start + int(counted.argmin())
        raise InputError(
            f"every pixel of section {bare} is ignored, not annotated or out of the region; score"
            " others with --slices (slices=)"
        )
    if hidden.any():
        highest = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
        array = np.where(hidden, array.dtype.type(highest if kind == "membrane" else 0), array)
        objects = None if objects is None else np.where(hidden, 0, objects)
    pair = Sections(array, drawn, kind, labelled, where)
    cut = proposal.info.get("threshold") if threshold is None else threshold
    cut = None if cut is None or kind == "cells" else float(cut)
    if cut is not None:
        # .3 is what the challenge has as .30000000000000004, which some maps tell apart.
        cut = next((t for t in THRESHOLDS if abs(cut - t) < 1e-6), cut)
    sweep = THRESHOLDS if cut is None else tuple(sorted({*THRESHOLDS, cut}))
    options: dict[str, Any] = {
        "proposal_is": kind,
        "truth_is": "cells" if labelled else "membrane",
        "sections": list(chosen),
        "where": where,
    }
    scores = evaluate(array, drawn, thresholds=sweep, **options)
    assumed = proposal_is == "auto" and proposal.holds is None and kind != "cells"
    if assumed and scores.best().score < 1 - _FLIPPED_GAIN:
        _check_flipped(pair, proposal.source)
    at = scores.best_threshold() if cut is None else cut
    suite = score_suite(
        array,
        drawn,
        threshold=at,
        tolerance=tolerance,
        voxel_size=truth.voxel_size or proposal.voxel_size,
        **options,
    )
    mistakes = _located(pair, at, list(chosen), corner)
    found = None
    if objects is not None:
        found = evaluate(objects, drawn, **options | {"proposal_is": "cells"}, unthinned=False)
    calibrated = None if kind == "cells" else _calibrated(proposal, pair)
    return Evaluation(scores, cut, suite, mistakes, read_as, tuple(notes), pair, found, calibrated)


def _calibrated(proposal: Stack, pair: Sections) -> Reliability | None:
    """Return how often probabilities come true once they are what the proposal says they mean."""
    match proposal.info.get("calibration"):
        case [float(slope), float(shift)]:
            calibrate = Calibration(slope, shift)
            return reduce(
                add,
                (
                    reliability(calibrate(1 - cut.interior), cut.true_membrane, where=cut.where)
                    for cut in pair.each()
                ),
            )
    return None


def _check_annotated(hidden: NDArray[np.bool_], source: str, first: int) -> None:
    """Refuse sections of which nothing can be scored: they would count as perfect."""
    if (bare := hidden.all(axis=(1, 2))).any():
        raise InputError(
            f"{source}: nothing is annotated in section {first + int(bare.argmax())}; score others"
            " with --slices (slices=)"
        )


def compare(one: Evaluation, other: Evaluation) -> tuple[bool, dict[str, Interval]]:
    """Return how much higher each score of `one` is, with a bootstrap interval.

    Returns
    -------
    paired, differences
        Whether both scored the same sections, so that the sections' differences were resampled;
        and for every name in `SCORES` the difference of the means.
    """
    paired = one.suite.sections == other.suite.sections
    return paired, {
        name: difference(one.suite.values[name], other.suite.values[name], paired=paired)
        for name in SCORES
    }


def compare_as_dict(one: Evaluation, other: Evaluation) -> dict[str, object]:
    """Return what `compare` finds, for JSON."""
    paired, differences = compare(one, other)
    scores = {
        name: {"mean": sure.mean, "low": sure.low, "high": sure.high}
        for name, sure in differences.items()
    }
    return {"paired": paired, "note": differences["v_rand"].note, "scores": scores}


def matching(found: Evaluation, image: Stack, roi: str | None) -> NDArray[Any]:
    """Return the pixels of `image` that were scored; it holds those sections or a longer stack.

    Raises
    ------
    InputError
        If it does not hold them.
    """
    array, numbers = image.array, found.suite.sections
    if len(array) != len(numbers):
        if numbers[-1] >= len(array):
            raise InputError(
                f"{image.source}: it holds {len(array)} sections, not the scored ones"
                f" {numbers[0]}-{numbers[-1]}"
            )
        array = array[numbers[0] : numbers[-1] + 1]
    if roi is not None:
        array = array[(slice(None), *parse_roi(roi, array.shape))]
    return array


def write_csv(path: str | Path, found: Evaluation) -> None:
    """Write every score as a table, a row for each section and one for their mean.

    Parameters
    ----------
    path
        The file to make or replace.
    found
        The scores of the stack in 3D, where there are any, stand in the row of the mean.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    suite = found.suite
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["section", "threshold", *SCORES, *suite.stack])
        cut = "" if suite.threshold is None else suite.threshold
        for z, number in enumerate(suite.sections):
            row = [suite.values[name][z] for name in SCORES]
            table.writerow([number, cut, *row, *([""] * len(suite.stack))])
        table.writerow(["mean", cut, *(suite.mean(name) for name in SCORES), *suite.stack.values()])


def write_mistakes(
    folder: str | Path, found: Evaluation, images: NDArray[Any] | None = None
) -> list[Path]:
    """Write the list of errors and, for every section, a picture of where they are.

    Parameters
    ----------
    folder
        Made where it does not exist: ``errors.csv``, ``section-000.png`` and so on.
    found
        What to show.
    images
        The sections (Z, Y, X) that were scored, to lay the errors over; the truth where None.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        If the folder cannot be written or holds anything else, or the images have another shape.
    """
    folder = Path(folder)
    truth = found.pair.truth
    if images is not None and images.shape != truth.shape:
        raise InputError(
            f"the images have shape {images.shape} and the scored sections {truth.shape}; "
            "give the same sections"
        )
    check_errors_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob("section-*.png"):
            earlier.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{folder}: cannot be made, {reason}; choose another folder") from error
    written = [folder / "errors.csv"]
    with replacing(written[0]) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["rank", "section", "kind", "gain", "gain_in_section", "y", "x", "pixels"])
        for rank, located in enumerate(found.mistakes, start=1):
            wrong = located.mistake
            table.writerow(
                [
                    rank,
                    located.section,
                    wrong.kind,
                    located.gain,
                    wrong.gain,
                    *located.position,
                    len(wrong.pixels),
                ]
            )
    at = found.suite.threshold
    for z, (number, cut) in enumerate(zip(found.suite.sections, found.pair.each(), strict=True)):
        section = cut.at(0.5 if at is None else at)
        mine = [located.mistake for located in found.mistakes if located.section == number]
        kinds = error_map(section, mine, tolerance=found.suite.tolerance)
        base = np.where(section.true_membrane, 150, 255) if images is None else images[z]
        written.append(folder / f"section-{number:03d}.png")
        rings = [mistake.position for mistake in mine]
        write_png(written[-1], errors_over(base, kinds, rings))
    return written


def check_errors_folder(folder: Path) -> None:
    """Refuse a folder of anything else than what `write_mistakes` wrote.

    Raises
    ------
    InputError
        If it holds other files.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "errors.csv").is_file():
        raise InputError(f"{folder}: this folder holds other files; choose a new one")


def _located(
    pair: Sections, threshold: float, numbers: list[int], corner: tuple[int, int]
) -> tuple[Located, ...]:
    found = [
        Located(
            number,
            mistake.gain / len(pair),
            (mistake.position[0] + corner[0], mistake.position[1] + corner[1]),
            mistake,
        )
        for number, cut in zip(numbers, pair.each(), strict=True)
        for mistake in find_mistakes(cut.at(threshold), count=_TRIED)
    ]
    return tuple(sorted(found, key=lambda located: -located.gain))


def _score_at(scores: Scores, threshold: float, name: str) -> dict[str, object]:
    """Return a score of the stack, its halves and that of each section, for JSON."""
    mean = scores.at(threshold, name)
    each = scores.sections_at(threshold, name)[:, 0].tolist()
    return {
        "threshold": threshold,
        "score": mean.score,
        "split": mean.split,
        "merge": mean.merge,
        "sections": dict(zip(map(str, scores.sections), each, strict=True)),
    }


def _matched(proposal: Stack, count: int, slices: str | None) -> tuple[range, NDArray[Any]]:
    """Return the truth's sections to score, of `count`, and the proposal's pixels of them."""
    array, source = proposal.array, proposal.source
    held = _held(proposal, count)
    if slices is None:
        if held is None and len(array) != count:
            raise InputError(
                f"{source}: it holds {len(array)} sections and the truth {count}; say with "
                "--slices which sections of the truth they are"
            )
        return (range(count), array) if held is None else (held, array)
    chosen = parse_slices(slices, count)
    if len(array) == len(chosen):
        return chosen, array
    held = held or range(len(array))
    if chosen.start < held.start or chosen.stop > held.stop:
        raise InputError(
            f"{source}: it holds the sections {held.start}-{held.stop - 1}, not all of "
            f"--slices {slices}"
        )
    return chosen, array[chosen.start - held.start : chosen.stop - held.start]


def _matching_notes(
    proposal: Stack, count: int, chosen: range, slices: str | None
) -> tuple[str, ...]:
    """Say which sections of the truth a proposal was held against, where that is not plain."""
    held = _held(proposal, count)
    if held is None or len(held) == count or (chosen == held and slices is not None):
        return ()
    says = f"{proposal.source}: the file says that it holds the sections {held.start}-{held[-1]}"
    if slices is None:
        return (
            f"{says}, and it is scored against those of the truth; if it was cut out of a stack,"
            " say with --slices (slices=) which they are",
        )
    if chosen.start >= held.start and chosen.stop <= held.stop:
        return ()
    return (f"{says}; it is scored against {slices}, as asked",)


def _held(proposal: Stack, count: int) -> range | None:
    """Return the sections that the proposal says it holds, where that fits a truth of `count`."""
    match proposal.info.get("sections"):
        case [int(first), int(last)] if last < count and last - first + 1 == len(proposal.array):
            return range(first, last + 1)
    return None


def _ignored(ignore: Stack, count: int, chosen: range, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which pixels of the chosen sections a mask leaves out."""
    array = ignore.array
    if len(array) == count:
        array = array[chosen.start : chosen.stop]
    if array.shape != shape:
        raise InputError(
            f"{ignore.source}: the mask of pixels to ignore has shape {ignore.array.shape} and the"
            f" sections to score {shape}; it must cover them pixel for pixel"
        )
    return np.asarray(array != 0)


def _read_as(
    array: NDArray[Any], proposal: Stack, proposal_is: ProposalIs
) -> tuple[NDArray[Any], Literal["membrane", "interior", "cells"], str]:
    """Return a proposal's sections, what they hold, and a sentence that says so and why."""
    holds = proposal.holds or ""
    why = "as asked" if proposal_is != "auto" else f"the file says it holds {holds}"
    kind = proposal_is
    if kind == "auto":
        if holds in ("cells", "neurons"):
            kind = "cells"
        elif holds.startswith("membrane"):
            kind = "membrane"
        elif _looks_labelled(array):
            kind, why = "cells", "flat regions of many values; --proposal-is changes it"
        else:
            kind = "interior"
            why = "the file does not say; the challenge's convention, --proposal-is changes it"
    if kind == "cells":
        if array.dtype.kind == "f" and (array == np.floor(array)).all():
            array = array.astype(np.int64)
        return array, kind, f"labels, 0 = membrane ({why})"
    what = "map"
    if len(_few_values(array)) <= 2:
        values = distinct(array) if array.dtype.kind == "u" else np.unique(array)
        what = "binary mask" if len(values) <= 2 else what
        if array.dtype.kind == "u" and len(values) == 2:
            array = array == values[1]
    _check_range(array, proposal.source, ours=holds.startswith("membrane"))
    return array, kind, f"{what}, high = {kind} ({why})"


def _check_range(array: NDArray[Any], source: str, *, ours: bool) -> None:
    """Refuse a map whose values are no shares, or seem to be of fewer bits than their type has.

    Those of `ours` have all the bits, whatever is to be seen.
    """
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            f"{source}: the map holds values that are not finite (NaN or infinity); replace them"
        )
    if array.dtype.kind == "f" and not (low >= 0 and high <= 1):
        raise InputError(
            f"{source}: a map lies in [0, 1], this one spans {low:g} to {high:g}; rescale it"
        )
    top = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 0
    if 0 < high < top / 2 and not ours:
        raise InputError(
            f"{source}: the highest value of this map is {high} where its type has {top}; stretch"
            " it over that, or save it as float in [0, 1]"
        )


def _few_values(array: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct values of the first section, or only some where they are many."""
    return np.unique(array[0][:: max(1, array.shape[1] // 256)])


def _looks_labelled(array: NDArray[Any]) -> bool:
    """Tell labels from a map: flat regions of values that are neither low nor high."""
    if array.dtype.kind in "iu" and (array.dtype.kind == "i" or array.dtype.itemsize > 2):
        return True
    section = array[len(array) // 2]
    if array.dtype.kind == "b" or min(section.shape) < 3:
        return False
    if array.dtype.kind == "f" and (section.max() <= 1 or (section != np.floor(section)).any()):
        return False
    low, high = float(section.min()), float(section.max())
    margin = 0.05 * (high - low)
    inner = section[1:-1, 1:-1]
    between = (inner > low + margin) & (inner < high - margin)
    flat = between.copy()
    for other in (section[:-2, 1:-1], section[2:, 1:-1], section[1:-1, :-2], section[1:-1, 2:]):
        flat &= inner == other
    return bool(between.mean() > 0.2 and flat.sum() > between.sum() / 2)


def _check_flipped(pair: Sections, source: str) -> None:
    """Refuse a map that was only assumed to be one of the interior, and is much better flipped."""
    ways: tuple[Literal["membrane", "interior"], ...] = ("interior", "membrane")
    first = replace(
        pair,
        proposal=pair.proposal[:1],
        truth=pair.truth[:1],
        where=None if pair.where is None else pair.where[:1],
    )
    found, flipped = (
        evaluate(
            first.proposal,
            first.truth,
            proposal_is=way,
            truth_is="cells" if pair.labelled else "membrane",
            where=first.where,
            unthinned=False,
        )
        .best()
        .score
        for way in ways
    )
    if flipped > found + _FLIPPED_GAIN:
        raise InputError(
            f"{source}: the map is evidently the other way round, V_rand is {found:.3f} as "
            f"interior and {flipped:.3f} as membrane; say --proposal-is membrane"
        )
