"""Scores: one contingency table, many scores.

========================  ====================================================================
`evaluate`                V_rand and V_info by the ISBI 2012 challenge, at every threshold
`score_suite`             every score that the field uses, at one threshold
`find_mistakes`           which gap and which false membrane costs how much V_rand
`interval`, `difference`  bootstrap intervals over sections
========================  ====================================================================

Below them, one function for each score, on a `Contingency` or on masks.
"""

from axolemma.metrics.bootstrap import Interval, difference, interval
from axolemma.metrics.boundaries import BoundaryF, boundary_f
from axolemma.metrics.contingency import Contingency, contingency
from axolemma.metrics.evaluation import (
    SCORE_NAMES,
    THRESHOLDS,
    TOLERANCE,
    USUAL_THRESHOLD,
    ProposalIs,
    Scores,
    Sections,
    evaluate,
    interior_map,
    smoothed,
    steady_choice,
)
from axolemma.metrics.instances import (
    CellPrecision,
    Detection,
    Matches,
    PanopticQuality,
    cell_average_precision,
    detection,
    match,
    panoptic_quality,
)
from axolemma.metrics.membranes import PairCounts, SplitMerge, pair_counts, v_info, v_rand
from axolemma.metrics.mistakes import ErrorKind, Mistake, error_map, find_mistakes, mend
from axolemma.metrics.partitions import (
    AdaptedRand,
    VariationOfInformation,
    cremi_rand,
    cremi_score,
    cremi_voi,
    skimage_rand,
    skimage_voi,
)
from axolemma.metrics.pixels import (
    PixelCounts,
    average_precision,
    mean_squared_error,
    pixel_counts,
    pixel_error,
    precision_recall,
)
from axolemma.metrics.reliability import Reliability, reliability
from axolemma.metrics.run_length import RunLength, expected_run_length
from axolemma.metrics.section import Section
from axolemma.metrics.suite import SCORES, STACK_SCORES, Score, Suite, grouped, score_suite
from axolemma.metrics.thinning import label_cells, thin
from axolemma.metrics.topology import (
    BettiErrors,
    BettiMatching,
    ClDice,
    betti_errors,
    betti_matching,
    betti_numbers,
    centre_lines,
    cl_dice,
)
from axolemma.metrics.warping import Warping, warp, warping

__all__ = [
    "SCORES",
    "SCORE_NAMES",
    "STACK_SCORES",
    "THRESHOLDS",
    "TOLERANCE",
    "USUAL_THRESHOLD",
    "AdaptedRand",
    "BettiErrors",
    "BettiMatching",
    "BoundaryF",
    "CellPrecision",
    "ClDice",
    "Contingency",
    "Detection",
    "ErrorKind",
    "Interval",
    "Matches",
    "Mistake",
    "PairCounts",
    "PanopticQuality",
    "PixelCounts",
    "ProposalIs",
    "Reliability",
    "RunLength",
    "Score",
    "Scores",
    "Section",
    "Sections",
    "SplitMerge",
    "Suite",
    "VariationOfInformation",
    "Warping",
    "average_precision",
    "betti_errors",
    "betti_matching",
    "betti_numbers",
    "boundary_f",
    "cell_average_precision",
    "centre_lines",
    "cl_dice",
    "contingency",
    "cremi_rand",
    "cremi_score",
    "cremi_voi",
    "detection",
    "difference",
    "error_map",
    "evaluate",
    "expected_run_length",
    "find_mistakes",
    "grouped",
    "interior_map",
    "interval",
    "label_cells",
    "match",
    "mean_squared_error",
    "mend",
    "pair_counts",
    "panoptic_quality",
    "pixel_counts",
    "pixel_error",
    "precision_recall",
    "reliability",
    "score_suite",
    "skimage_rand",
    "skimage_voi",
    "smoothed",
    "steady_choice",
    "thin",
    "v_info",
    "v_rand",
    "warp",
    "warping",
]
