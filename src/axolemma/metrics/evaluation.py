"""A membrane map against an expert's truth: every section, every threshold, the stack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.metrics.contingency import contingency
from axolemma.metrics.membranes import SplitMerge, v_info, v_rand
from axolemma.metrics.thinning import label_cells, thin

__all__ = ["SCORE_NAMES", "THRESHOLDS", "TOLERANCE", "Scores", "evaluate", "interior_map"]

#: The challenge's thresholds: 0, 0.1, … by repeated addition, so the last is 0.9999999999999999.
THRESHOLDS: tuple[float, ...] = tuple(np.cumsum([0.0] + [0.1] * 10).tolist())

#: What `Scores.choose_threshold` gives away for thicker membranes. Thickening true membranes by
#: three pixels costs .004 of V_rand; thinning them by one, .035.
TOLERANCE = 0.0025

#: The scores that `evaluate` computes, thinned unless their name says otherwise.
SCORE_NAMES = ("v_rand", "v_info", "v_rand_unthinned", "v_info_unthinned")


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a stack for every threshold and section.

    Parameters
    ----------
    thresholds
        A pixel is cell interior where ``1 - membrane map > threshold``.
    sections
        The number of each section, for reports.
    values
        For every name in `SCORE_NAMES` an array of shape (thresholds, sections, 3) with score,
        split half and merge half in [0, 1].
    """

    thresholds: tuple[float, ...]
    sections: tuple[int, ...]
    values: dict[str, NDArray[np.float64]]

    def curve(self, name: str) -> NDArray[np.float64]:
        """Return the mean of score `name` over the sections, one value per threshold."""
        return np.asarray(self.values[name][:, :, 0].mean(axis=1))

    def best_threshold(self, name: str = "v_rand") -> float:
        """Return the threshold with the highest mean of score `name`.

        Of equal ones the middle one is taken, so that a perfect map gives a threshold away from
        the ends. To report held-out sections, choose one on validation sections with
        `choose_threshold` and call `at` on the others.
        """
        curve = self.curve(name)
        ties = np.flatnonzero(curve >= curve.max() - 1e-12)
        return self.thresholds[int(ties[(len(ties) - 1) // 2])]

    def choose_threshold(self) -> float:
        """Return the threshold to use on other sections, when these are validation sections.

        A few validation sections make a ragged curve: a threshold can win by one lucky gap. So
        V_rand and V_info are averaged, each threshold counts half and its two neighbours a quarter
        each. Of the thresholds within `TOLERANCE` of the best the highest is taken, since a
        membrane a little too thick costs little, and one that leaks joins whole cells.
        """
        curve = (self.curve("v_rand") + self.curve("v_info")) / 2
        padded = np.concatenate((curve[:1], curve, curve[-1:]))
        smooth = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
        return self.thresholds[int(np.flatnonzero(smooth >= smooth.max() - TOLERANCE)[-1])]

    def at(self, threshold: float, name: str = "v_rand") -> SplitMerge:
        """Return the stack's score `name` at one threshold: the mean over its sections."""
        return SplitMerge(*self.sections_at(threshold, name).mean(axis=0).tolist())

    def sections_at(self, threshold: float, name: str = "v_rand") -> NDArray[np.float64]:
        """Return score, split and merge half of each section at one threshold, (sections, 3)."""
        distance = np.abs(np.subtract(self.thresholds, threshold))
        nearest = int(distance.argmin())
        if not distance[nearest] <= 1e-6:
            known = ", ".join(f"{t:.3g}" for t in self.thresholds)
            raise InputError(f"threshold {threshold:g} was not evaluated; the sweep holds {known}")
        return np.asarray(self.values[name][nearest])

    def best(self, name: str = "v_rand") -> SplitMerge:
        """Return the challenge's own stack score: the maximum over thresholds of the mean.

        It looks at the truth to pick its threshold, so it is no held-out number.
        """
        return self.at(self.best_threshold(name), name)

    def v_rand(self, threshold: float) -> float:
        """Return the thinned V_rand of the stack at one threshold."""
        return self.at(threshold, "v_rand").score

    def v_info(self, threshold: float) -> float:
        """Return the thinned V_info of the stack at one threshold."""
        return self.at(threshold, "v_info").score


def interior_map(
    values: NDArray[Any], *, proposal_is: Literal["membrane", "interior"] = "membrane"
) -> NDArray[np.float64]:
    """Turn a map of either polarity into the challenge's map of cell interior.

    Parameters
    ----------
    values
        Floats and booleans in [0, 1]; unsigned integers are divided by the dtype's maximum, as
        the challenge does with 8-bit maps.
    proposal_is
        What is high.

    Returns
    -------
    NDArray[np.float64]
        Equal shape, in [0, 1], 1 = interior.

    Raises
    ------
    InputError
        If a value is not finite or lies outside [0, 1], or the dtype is signed.
    """
    if values.dtype.kind == "u":
        top = np.iinfo(values.dtype).max
        return np.asarray((values if proposal_is == "interior" else top - values) / top, np.float64)
    if values.dtype.kind not in "bf":
        raise InputError(f"a map is float in [0, 1], bool or unsigned integer, not {values.dtype}")
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise InputError(f"a map lies in [0, 1], this one spans {low:g} to {high:g}; rescale it")
    exact = values.astype(np.float64)
    return exact if proposal_is == "interior" else 1.0 - exact


def evaluate(
    proposal: NDArray[Any],
    truth: NDArray[Any],
    *,
    proposal_is: Literal["membrane", "interior"] = "membrane",
    thresholds: Sequence[float] = THRESHOLDS,
    sections: Sequence[int] | None = None,
    unthinned: bool = True,
) -> Scores:
    """Score a map by the official ISBI 2012 definitions.

    Parameters
    ----------
    proposal
        Map of (Z, Y, X) or (Y, X); see `interior_map` for dtypes.
    truth
        Equal shape, nonzero = membrane as the expert drew it.
    proposal_is
        What is high in the proposal.
    thresholds
        Where to cut: a pixel is interior where the map of the interior is above.
    sections
        Numbers of the sections for reports; 0, 1, … by default.
    unthinned
        Compute the scores without border thinning as well.

    Returns
    -------
    Scores
        Every score for every threshold and section.

    Raises
    ------
    InputError
        If the shapes differ or the proposal is no such map.

    Examples
    --------
    >>> truth = np.zeros((4, 9), bool)
    >>> truth[:, 4] = True
    >>> evaluate(truth.astype(float), truth).best("v_rand").score
    1.0
    """
    if proposal.shape != truth.shape or proposal.ndim not in (2, 3):
        raise InputError(
            f"the proposal has shape {proposal.shape} and the truth {truth.shape}; "
            "they must be the same sections, (Z, Y, X) or (Y, X)"
        )
    depth = 1 if proposal.ndim == 2 else len(proposal)
    shape = (depth, *proposal.shape[-2:])
    names = SCORE_NAMES if unthinned else SCORE_NAMES[:2]
    values = {name: np.empty((len(thresholds), depth, 3)) for name in names}
    for z, (section, drawn) in enumerate(
        zip(proposal.reshape(shape), truth.reshape(shape), strict=True)
    ):
        interior = interior_map(section, proposal_is=proposal_is)
        true_cells = label_cells(drawn == 0)
        for t, threshold in enumerate(thresholds):
            cells = label_cells(interior > threshold)
            for suffix in ("", "_unthinned") if unthinned else ("",):
                table = contingency(cells if suffix else thin(cells), true_cells)
                for name, score in (("v_rand", v_rand(table)), ("v_info", v_info(table))):
                    values[name + suffix][t, z] = score.score, score.split, score.merge
    numbers = tuple(range(depth)) if sections is None else tuple(sections)
    return Scores(tuple(thresholds), numbers, values)
