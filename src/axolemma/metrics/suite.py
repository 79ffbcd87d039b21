"""Every score at one threshold, section by section, and what each of them means."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.metrics.bootstrap import Interval, interval
from axolemma.metrics.boundaries import boundary_f
from axolemma.metrics.contingency import Contingency, contingency
from axolemma.metrics.evaluation import THRESHOLDS, Cut, ProposalIs, Sections, holds_labels
from axolemma.metrics.instances import cell_average_precision, detection, match, panoptic_quality
from axolemma.metrics.membranes import v_info, v_rand
from axolemma.metrics.partitions import (
    cremi_rand,
    cremi_score,
    cremi_voi,
    skimage_rand,
    skimage_voi,
)
from axolemma.metrics.pixels import average_precision, mean_squared_error, pixel_counts, pixel_error
from axolemma.metrics.reliability import Reliability, reliability
from axolemma.metrics.run_length import expected_run_length
from axolemma.metrics.section import Section
from axolemma.metrics.topology import betti_errors, betti_matching, centre_lines, cl_dice
from axolemma.metrics.warping import Warping, warping

__all__ = [
    "SCORES",
    "STACK_SCORES",
    "WARPING_THRESHOLDS",
    "Score",
    "Suite",
    "grouped",
    "score_suite",
]

#: The warping error's thresholds: the challenge's without the last.
WARPING_THRESHOLDS = THRESHOLDS[:-1]


@dataclass(frozen=True, slots=True)
class Score:
    """What a score is called and which way it is good.

    Parameters
    ----------
    title
        As printed.
    better
        Whether more or less of it is good.
    span
        Its range.
    group
        The heading under which it is printed.
    """

    title: str
    better: Literal["high", "low"]
    span: str
    group: str

    @property
    def arrow(self) -> str:
        """Show which way it is good."""
        return "↑" if self.better == "high" else "↓"


def _group(name: str, better: Literal["high", "low"], span: str, **titles: str) -> dict[str, Score]:
    return {key: Score(title, better, span, name) for key, title in titles.items()}


#: Every score of a section, in the order in which they are printed.
SCORES: dict[str, Score] = (
    _group(
        "Which cells are separated, by the challenge",
        "high",
        "0 … 1",
        v_rand="V_rand, thinned",
        v_rand_split="  split half",
        v_rand_merge="  merge half",
        v_info="V_info, thinned",
        v_info_split="  split half",
        v_info_merge="  merge half",
        v_rand_unthinned="V_rand, not thinned",
        v_info_unthinned="V_info, not thinned",
    )
    | _group(
        "The challenge's first scores",
        "low",
        "0 … 1",
        rand_error="Rand error",
        pixel_error="pixel error",
        squared_error="pixel error, mean squared",
        warping_error="warping error",
    )
    | _group(
        "Topological errors, counted after warping",
        "low",
        "0 …",
        warping_splits="splits",
        warping_mergers="mergers",
        warping_false_objects="false objects",
        warping_missing_objects="missing objects",
        warping_false_holes="false holes",
        warping_missing_holes="missing holes",
    )
    | _group(
        "Cells as label images",
        "low",
        "0 … bits",
        voi_cremi_split="VOI split (CREMI)",
        voi_cremi_merge="VOI merge (CREMI)",
        voi_skimage_split="VOI split (scikit-image)",
        voi_skimage_merge="VOI merge (scikit-image)",
    )
    | _group(
        "Cells as label images",
        "low",
        "0 … 1",
        are_cremi="adapted Rand error (CREMI)",
        are_skimage="adapted Rand error (scikit-image)",
    )
    | _group("Cells as label images", "low", "0 …", cremi_score="CREMI score")
    | _group(
        "Cells as objects",
        "high",
        "0 … 1",
        cell_precision="precision at IoU .5",
        cell_recall="recall at IoU .5",
        cell_f1="F1 at IoU .5",
        cell_ap="AP, mean of IoU .5 … .95",
        panoptic_quality="panoptic quality",
    )
    | _group(
        "Membrane pixels",
        "high",
        "0 … 1",
        accuracy="accuracy",
        precision="precision",
        recall="recall",
        f1="F1 = Dice",
        iou="IoU",
        average_precision="average precision",
    )
    | _group("Membrane pixels", "low", "0 … 1", calibration_error="expected calibration error")
    | _group(
        "Membrane shape",
        "high",
        "0 … 1",
        cl_dice="clDice",
        boundary_f="boundary F, {tolerance:g} px",
    )
    | _group(
        "Membrane shape",
        "low",
        "0 …",
        betti_0="Betti-0 error",
        betti_1="Betti-1 error",
        betti_matching_0="Betti-0 matching error",
        betti_matching_1="Betti-1 matching error",
    )
)

#: Scores of the whole stack in 3D, where proposal and truth number objects through it.
STACK_SCORES: dict[str, Score] = (
    _group("In 3D", "high", "0 … 1", v_rand_3d="V_rand, not thinned", v_info_3d="V_info")
    | _group(
        "In 3D",
        "low",
        "0 … bits",
        voi_cremi_split_3d="VOI split (CREMI)",
        voi_cremi_merge_3d="VOI merge (CREMI)",
    )
    | _group("In 3D", "low", "0 … 1", are_cremi_3d="adapted Rand error (CREMI)")
    | _group("In 3D", "low", "0 …", cremi_score_3d="CREMI score")
    | _group(
        "In 3D",
        "high",
        "0 … 1",
        object_f1_3d="object F1 at IoU .5",
        object_ap_3d="object AP, mean of IoU .5 … .95",
        panoptic_quality_3d="panoptic quality",
    )
    | _group("In 3D", "high", "0 … nm", expected_run_length="expected run length")
    | _group("In 3D", "high", "0 … 1", run_length_share="  of what the truth allows")
)


def grouped() -> Iterator[tuple[str, str, Score]]:
    """Yield every section score's name, its group's title before the first of it, and itself."""
    last = ""
    for name, score in SCORES.items():
        yield name, score.group if score.group != last else "", score
        last = score.group


@dataclass(frozen=True)
class Suite:
    """Every score of a stack at one threshold.

    Parameters
    ----------
    threshold
        Where the map was cut; None for labels.
    sections
        The number of each section.
    values
        For every name in `SCORES` one value per section.
    stack
        For the names in `STACK_SCORES` that apply one value; empty for 2D truth.
    warping_threshold
        Where the challenge's warping error, the minimum over thresholds of the mean over
        sections, was found.
    tolerance
        Of the boundary F-score, in pixels.
    reliability
        How often the map's probabilities come true, over all sections; None for labels.
    """

    threshold: float | None
    sections: tuple[int, ...]
    values: dict[str, NDArray[np.float64]]
    stack: dict[str, float]
    warping_best: float
    warping_threshold: float | None
    tolerance: float
    reliability: Reliability | None = None

    def mean(self, name: str) -> float:
        """Return the mean of score `name` over the sections."""
        return float(self.values[name].mean())

    def interval(self, name: str, *, level: float = 0.95) -> Interval:
        """Return a bootstrap interval of that mean, see `bootstrap.interval`."""
        return interval(self.values[name], level=level)

    def title(self, name: str) -> str:
        """Return how score `name` is printed."""
        return (SCORES | STACK_SCORES)[name].title.format(tolerance=self.tolerance)


def score_suite(
    proposal: NDArray[Any],
    truth: NDArray[Any],
    *,
    threshold: float = 0.5,
    proposal_is: ProposalIs = "membrane",
    truth_is: Literal["membrane", "cells"] = "membrane",
    sections: Sequence[int] | None = None,
    where: NDArray[np.bool_] | None = None,
    tolerance: float = 2.0,
    voxel_size: tuple[float, float, float] | None = None,
) -> Suite:
    """Compute every score at one threshold.

    Parameters
    ----------
    proposal, truth, proposal_is, truth_is, sections, where
        As in `evaluate`. Where both hold labels and there are several sections, the 3D scores take
        the labels as they are; in a section each 4-connected piece of a label is a cell.
    threshold
        A pixel is interior where the map of the interior is above; nothing to labels.
    tolerance
        Pixels that a boundary may be off, see `boundary_f`.
    voxel_size
        (Z, Y, X) in nm, for the expected run length; without it there is none.

    Returns
    -------
    Suite
        Every name of `SCORES` for every section.

    Raises
    ------
    InputError
        As `evaluate`.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"a threshold lies between 0 and 1, not {threshold:g}")
    pair = Sections(proposal, truth, proposal_is, holds_labels(truth_is), where)
    labelled = proposal_is == "cells"
    sweep = (0.5,) if labelled else WARPING_THRESHOLDS
    rows: list[dict[str, float]] = []
    told: list[Reliability] = []
    warps = np.empty((len(sweep), len(pair)))
    for z, cut in enumerate(pair.each()):
        interior = _agreed(cut)
        found = warping(interior, ~cut.true_membrane, 0.5 if labelled else threshold)
        for t, level in enumerate(sweep):
            same = labelled or level == threshold
            warped = found if same else warping(interior, ~cut.true_membrane, level)
            warps[t, z] = warped.error
        told.append(reliability(1 - cut.interior, cut.true_membrane, where=cut.where))
        row = _scores(cut, cut.at(threshold), found, tolerance)
        rows.append(row | {"calibration_error": told[-1].expected_error})
    curve = warps.mean(axis=1)
    numbers = tuple(range(len(pair))) if sections is None else tuple(sections)
    return Suite(
        threshold=None if labelled else threshold,
        sections=numbers,
        values={name: np.array([row[name] for row in rows]) for name in SCORES},
        stack=_stack_scores(pair, voxel_size) if labelled and pair.labelled else {},
        warping_best=float(curve.min()),
        warping_threshold=None if labelled else float(sweep[int(curve.argmin())]),
        tolerance=tolerance,
        reliability=None if labelled else reduce(add, told),
    )


def _scores(cut: Cut, section: Section, warped: Warping, tolerance: float) -> dict[str, float]:
    """Return the value of every score in `SCORES` but the calibration error, for one section."""
    where = cut.where
    rand, info = v_rand(section.thinned_table), v_info(section.thinned_table)
    table = section.table
    membranes = pixel_counts(section.membrane, section.true_membrane, where=where)
    # Shape has no pixel-wise meaning: what is not counted is taken over from the truth.
    drawn = section.true_membrane
    membrane = section.membrane if where is None else np.where(where, section.membrane, drawn)
    voi, voi_skimage = cremi_voi(table), skimage_voi(table)
    cells = match(table)
    found = detection(cells)
    betti, matching = betti_errors(membrane, drawn), betti_matching(membrane, drawn)
    lines = {"proposal_lines": centre_lines(membrane), "truth_lines": centre_lines(drawn)}
    return {
        "v_rand": rand.score,
        "v_rand_split": rand.split,
        "v_rand_merge": rand.merge,
        "v_info": info.score,
        "v_info_split": info.split,
        "v_info_merge": info.merge,
        "v_rand_unthinned": v_rand(table).score,
        "v_info_unthinned": v_info(table).score,
        "rand_error": 1 - v_rand(table).score,
        "pixel_error": pixel_error(section.interior_counts),
        "squared_error": mean_squared_error(cut.interior, ~drawn, where=where),
        "warping_error": warped.error,
        "warping_splits": warped.splits,
        "warping_mergers": warped.mergers,
        "warping_false_objects": warped.false_objects,
        "warping_missing_objects": warped.missing_objects,
        "warping_false_holes": warped.false_holes,
        "warping_missing_holes": warped.missing_holes,
        "voi_cremi_split": voi.split,
        "voi_cremi_merge": voi.merge,
        "voi_skimage_split": voi_skimage.split,
        "voi_skimage_merge": voi_skimage.merge,
        "are_cremi": cremi_rand(table).error,
        "are_skimage": skimage_rand(table).error,
        "cremi_score": cremi_score(table),
        "cell_precision": found.precision,
        "cell_recall": found.recall,
        "cell_f1": found.f1,
        "cell_ap": cell_average_precision(cells).mean,
        "panoptic_quality": panoptic_quality(cells).quality,
        "accuracy": membranes.accuracy,
        "precision": membranes.precision,
        "recall": membranes.recall,
        "f1": membranes.f1,
        "iou": membranes.iou,
        "average_precision": average_precision(1 - cut.interior, drawn, where=where),
        "cl_dice": cl_dice(membrane, drawn, **lines).score,
        "boundary_f": boundary_f(membrane, drawn, tolerance=tolerance).score,
        "betti_0": betti.betti_0,
        "betti_1": betti.betti_1,
        "betti_matching_0": matching.betti_0,
        "betti_matching_1": matching.betti_1,
    }


def _stack_scores(
    pair: Sections, voxel_size: tuple[float, float, float] | None
) -> dict[str, float]:
    """Return the 3D scores of two label arrays; none where no true label spans two sections."""
    proposal, truth = pair.proposal, pair.truth
    if proposal.ndim < 3 or not ((truth[1:] == truth[:-1]) & (truth[1:] != 0)).any():
        return {}
    table: Contingency = contingency(proposal, truth, where=pair.where)
    voi, objects = cremi_voi(table), match(table)
    found = {
        "v_rand_3d": v_rand(table).score,
        "v_info_3d": v_info(table).score,
        "voi_cremi_split_3d": voi.split,
        "voi_cremi_merge_3d": voi.merge,
        "are_cremi_3d": cremi_rand(table).error,
        "cremi_score_3d": cremi_score(table),
        "object_f1_3d": detection(objects).f1,
        "object_ap_3d": cell_average_precision(objects).mean,
        "panoptic_quality_3d": panoptic_quality(objects).quality,
    }
    if voxel_size is not None:
        counted = truth if pair.where is None else np.where(pair.where, truth, 0)
        with suppress(InputError):  # nothing is left to trace: there is no such score
            run = expected_run_length(proposal, counted, voxel_size=voxel_size)
            found |= {"expected_run_length": run.expected, "run_length_share": run.share}
    return found


def _agreed(cut: Cut) -> NDArray[np.float64]:
    """Return the map with the truth put in where nothing is counted, so no error is left there."""
    if cut.where is None:
        return cut.interior
    return np.where(cut.where, cut.interior, np.where(cut.true_membrane, 0.0, 1.0))
