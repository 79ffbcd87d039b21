"""Scores of cells as objects: each one found, missed or made up."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.metrics.contingency import Contingency

__all__ = [
    "IOU_THRESHOLDS",
    "CellPrecision",
    "Detection",
    "Matches",
    "PanopticQuality",
    "cell_average_precision",
    "detection",
    "match",
    "panoptic_quality",
]

#: Where `cell_average_precision` cuts: .5, .55, … .95, each the float nearest to its decimal.
IOU_THRESHOLDS: tuple[float, ...] = tuple(percent / 100 for percent in range(50, 100, 5))

#: So that an IoU of 3/5 counts at a threshold of .6, however that was computed.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Matches:
    """The one-to-one matches between two sets of cells; add matches to pool sections.

    A pooled score weighs each cell alike, the mean of the sections' scores each section.

    Parameters
    ----------
    iou
        Intersection over union of each match, in (0, 1], in no order.
    truth_cells, proposal_cells
        How many cells there are on each side, matched or not.
    """

    iou: NDArray[np.float64]
    truth_cells: int
    proposal_cells: int

    def __add__(self, other: "Matches") -> "Matches":
        return Matches(
            np.concatenate((self.iou, other.iou)),
            self.truth_cells + other.truth_cells,
            self.proposal_cells + other.proposal_cells,
        )


@dataclass(frozen=True, slots=True)
class Detection:
    """How well cells were found at one IoU; all in [0, 1] but for the counts.

    Parameters
    ----------
    precision
        The share of proposed cells that match a true one.
    recall
        The share of true cells that were found.
    f1
        The harmonic mean of both.
    true_positive, false_positive, false_negative
        Cells found, made up and missed.
    """

    precision: float
    recall: float
    f1: float
    true_positive: int
    false_positive: int
    false_negative: int


@dataclass(frozen=True, slots=True)
class CellPrecision:
    """TP / (TP + FP + FN) of cells, in [0, 1].

    Parameters
    ----------
    mean
        The mean over `IOU_THRESHOLDS`.
    values
        One value for each of `IOU_THRESHOLDS`.
    """

    mean: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PanopticQuality:
    """Panoptic quality and its two factors, all in [0, 1].

    Parameters
    ----------
    quality
        PQ, the product of the two others.
    recognition
        RQ, the F1 of the detection at IoU > .5.
    segmentation
        SQ, the mean IoU of those matches.
    """

    quality: float
    recognition: float
    segmentation: float


def match(table: Contingency) -> Matches:
    """Match the cells of proposal and truth one to one, the largest IoU first.

    A union counts all pixels of both cells, those on the other side's background included. Pairs
    are taken by descending IoU, of equal ones that with the lowest truth id and then the lowest
    proposal id, if neither cell is taken yet. The matches at or above any IoU are therefore a part
    of those above a lower one, and one matching serves all thresholds. Above .5 no other matching
    exists; at .5 exactly two halves may claim one cell, and either choice scores the same; below
    .5 an optimal assignment can find more matches than this one.

    Parameters
    ----------
    table
        Overlaps of proposal and truth, background included, see `contingency`.

    Returns
    -------
    Matches
        Every match of any IoU above 0, and the numbers of cells.
    """
    truth_ids, rows = np.unique(table.truth_ids, return_inverse=True)
    proposal_ids, columns = np.unique(table.proposal_ids, return_inverse=True)
    shared = table.counts.astype(np.float64)
    unions = np.bincount(rows, shared)[rows] + np.bincount(columns, shared)[columns] - shared
    cells = np.flatnonzero((table.truth_ids != 0) & (table.proposal_ids != 0))
    iou = shared[cells] / unions[cells]
    order = np.lexsort((columns[cells], rows[cells], -iou))
    free_rows, free_columns = [True] * len(truth_ids), [True] * len(proposal_ids)
    taken = []
    for pair in order.tolist():
        row, column = rows[cells[pair]], columns[cells[pair]]
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            taken.append(pair)
    return Matches(
        iou[np.array(taken, np.intp)],
        int(np.count_nonzero(truth_ids)),
        int(np.count_nonzero(proposal_ids)),
    )


def detection(cells: Contingency | Matches, *, iou: float = 0.5) -> Detection:
    """Count the cells found, made up and missed.

    Parameters
    ----------
    cells
        A table of overlaps, or its matches, possibly of several sections added up.
    iou
        A match counts where its IoU is at least this, in (0, 1]. Below .5 the matching is greedy,
        see `match`.

    Returns
    -------
    Detection
        Precision, recall and F1 are 1 where there is no cell on either side, 0 where there are
        cells on one side only.

    Raises
    ------
    InputError
        If `iou` is not in (0, 1].
    """
    if not 0 < iou <= 1:
        raise InputError(f"an IoU to match at lies above 0 and up to 1, not {iou:g}")
    matches = _matches(cells)
    found = int(np.count_nonzero(matches.iou >= iou - _SLACK))
    return _detection(matches, found)


def cell_average_precision(cells: Contingency | Matches) -> CellPrecision:
    """Compute TP / (TP + FP + FN) of cells at IoU .5, .55, … .95, and the mean of the ten.

    This is what the Data Science Bowl 2018, StarDist and Cellpose call average precision. It is
    **not** the average precision of COCO, the area under a curve over ranked confidences: cells
    here have no confidence. Those averaged the images; for that average the sections' values
    rather than pooling their matches.

    Parameters
    ----------
    cells
        A table of overlaps, or its matches, possibly of several sections added up.

    Returns
    -------
    CellPrecision
        1 where there is no cell on either side.

    References
    ----------
    Caicedo et al. 2019, Nat. Methods 16:1247.
    """
    matches = _matches(cells)
    values = []
    for threshold in IOU_THRESHOLDS:
        found = detection(matches, iou=threshold)
        wrong = found.false_positive + found.false_negative
        values.append(_ratio(found.true_positive, found.true_positive + wrong))
    return CellPrecision(float(np.mean(values)), tuple(values))


def panoptic_quality(cells: Contingency | Matches) -> PanopticQuality:
    r"""Compute the panoptic quality of the cells, one class.

    .. math:: PQ = \frac{\sum IoU}{TP + FP/2 + FN/2}

    over the matches of IoU **above** .5, which is the product of their mean IoU and the F1.

    Parameters
    ----------
    cells
        A table of overlaps, or its matches, possibly of several sections added up.

    Returns
    -------
    PanopticQuality
        All 1 where there is no cell on either side, all 0 where there are cells and no match.

    References
    ----------
    Kirillov et al. 2019, CVPR, equations 1 and 2.
    """
    matches = _matches(cells)
    sure = matches.iou[matches.iou > 0.5]
    recognition = _detection(matches, len(sure)).f1
    segmentation = float(sure.mean()) if len(sure) else recognition
    return PanopticQuality(recognition * segmentation, recognition, segmentation)


def _matches(cells: Contingency | Matches) -> Matches:
    return cells if isinstance(cells, Matches) else match(cells)


def _detection(matches: Matches, found: int) -> Detection:
    drawn, proposed = matches.truth_cells, matches.proposal_cells
    return Detection(
        precision=_ratio(found, proposed, drawn),
        recall=_ratio(found, drawn, proposed),
        f1=_ratio(2 * found, drawn + proposed),
        true_positive=found,
        false_positive=proposed - found,
        false_negative=drawn - found,
    )


def _ratio(part: int, whole: int, elsewhere: int = 0) -> float:
    # Of nothing: perfect if the other side has nothing as well.
    return part / whole if whole else float(elsewhere == 0)
