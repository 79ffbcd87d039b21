"""Scores: one contingency table, many scores."""

from axolemma.metrics.contingency import Contingency, contingency
from axolemma.metrics.evaluation import (
    SCORE_NAMES,
    THRESHOLDS,
    TOLERANCE,
    Scores,
    evaluate,
    interior_map,
)
from axolemma.metrics.membranes import SplitMerge, v_info, v_rand
from axolemma.metrics.thinning import label_cells, thin, thinned_cells

__all__ = [
    "SCORE_NAMES",
    "THRESHOLDS",
    "TOLERANCE",
    "Contingency",
    "Scores",
    "SplitMerge",
    "contingency",
    "evaluate",
    "interior_map",
    "label_cells",
    "thin",
    "thinned_cells",
    "v_info",
    "v_rand",
]
