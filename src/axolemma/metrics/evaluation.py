"""A proposal against an expert's truth: every section, every threshold, the stack."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.labels import IGNORED, label_borders, pieces
from axolemma.metrics.membranes import PairCounts, SplitMerge, pair_counts, v_info, v_rand
from axolemma.metrics.pixels import PixelCounts, pixel_error
from axolemma.metrics.section import Section, section_of_labels, section_of_map
from axolemma.metrics.thinning import label_cells

__all__ = [
    "SCORE_NAMES",
    "THRESHOLDS",
    "TOLERANCE",
    "USUAL_THRESHOLD",
    "ProposalIs",
    "Scores",
    "Sections",
    "evaluate",
    "interior_map",
    "smoothed",
    "steady_choice",
]

#: The challenge's thresholds: 0, 0.1, … by repeated addition, so the last is 0.9999999999999999.
THRESHOLDS: tuple[float, ...] = tuple(np.cumsum([0.0] + [0.1] * 10).tolist())

#: The threshold that does well where nothing else is known (docs/decisions/0003-threshold.md).
USUAL_THRESHOLD = 0.6

#: Scores of a few sections that differ by less can hardly be told apart: the mean of V_rand and
#: V_info of three moves by so much where one more of them has a gap in a large cell.
TOLERANCE = 0.005

#: The scores that `evaluate` computes, thinned unless their name says otherwise.
SCORE_NAMES = ("v_rand", "v_info", "v_rand_unthinned", "v_info_unthinned")

#: What a proposal's array holds: a map that is high on membrane or on interior, or labels.
ProposalIs = Literal["membrane", "interior", "cells"]


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
    pooled
        For ``"rand_error"`` and ``"pixel_error"``, the challenge's first scores, the error of the
        whole stack at every threshold, its counts pooled over the sections. Empty where only the
        thinned scores were asked for.
    """

    thresholds: tuple[float, ...]
    sections: tuple[int, ...]
    values: dict[str, NDArray[np.float64]]
    pooled: dict[str, NDArray[np.float64]]

    def curve(self, name: str) -> NDArray[np.float64]:
        """Return the mean of score `name` over the sections, one value per threshold."""
        return np.asarray(self.values[name][:, :, 0].mean(axis=1))

    def best_threshold(
        self, name: str = "v_rand", *, among: Sequence[float] | None = None
    ) -> float:
        """Return the threshold, of all or of those `among`, with the highest mean of score `name`.

        Of equal ones the middle one is taken, so that a perfect map gives a threshold away from
        the ends. To report held-out sections, choose one on validation sections with
        `choose_threshold` and call `at` on the others.
        """
        known = range(len(self.thresholds))
        allowed = [t for t in known if among is None or self.thresholds[t] in among]
        curve = self.curve(name)[allowed]
        ties = np.flatnonzero(curve >= curve.max() - 1e-12)
        return self.thresholds[allowed[int(ties[(len(ties) - 1) // 2])]]

    def choose_threshold(self) -> float:
        """Return the threshold to use on other sections, when these are validation sections.

        By the mean of V_rand and V_info, see `steady_choice`.
        """
        curve = (self.curve("v_rand") + self.curve("v_info")) / 2
        return self.thresholds[steady_choice(curve, self.thresholds, USUAL_THRESHOLD)]

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


def smoothed(curve: NDArray[np.float64], *, times: int = 3) -> NDArray[np.float64]:
    """Smooth a curve of scores, each time by a half and two quarters; the ends repeat.

    Parameters
    ----------
    curve
        One mean score for each of several settings in order, at least one.
    times
        How often.
    """
    for _ in range(times):
        padded = np.concatenate((curve[:1], curve, curve[-1:]))
        curve = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
    return curve


def steady_choice(
    curve: NDArray[np.float64],
    values: Sequence[float],
    usual: float,
    *,
    tolerance: float = TOLERANCE,
    times: int = 3,
) -> int:
    """Choose a setting for other sections by the scores of a few.

    A few sections make a ragged curve: a setting can win by one lucky gap. So the curve is
    smoothed, and of those within a tolerance of its best the nearest to the usual one is taken.

    Parameters
    ----------
    curve
        One mean score for each setting.
    values
        The settings, in order.
    usual
        What does well elsewhere.
    tolerance
        See above.
    times
        How often the curve is smoothed.

    Returns
    -------
    int
        Which of them.
    """
    curve = smoothed(curve, times=times)
    good = np.flatnonzero(curve >= curve.max() - tolerance)
    return int(good[np.abs(np.asarray(values)[good] - usual).argmin()])


def interior_map(
    values: NDArray[Any], *, proposal_is: ProposalIs = "membrane"
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


def holds_labels(truth_is: str) -> bool:
    """Tell whether a truth holds labels.

    Raises
    ------
    InputError
        If it is neither ``"membrane"`` nor ``"cells"``.
    """
    if truth_is not in ("membrane", "cells"):
        raise InputError(
            f"truth_is is membrane, for an array that is not 0 there, or cells, for labels, not"
            f" '{truth_is}'"
        )
    return truth_is == "cells"


@dataclass(frozen=True)
class Sections:
    """The sections of a proposal and its truth, ready to be cut at any threshold.

    Parameters
    ----------
    proposal
        Map or labels of (Z, Y, X) or (Y, X).
    truth
        Equal shape; nonzero = membrane, or labels where `labelled`.
    proposal_is
        What the proposal holds. In a section, each 4-connected piece of a label is a cell.
    labelled
        The truth holds labels, 0 = membrane.
    where
        Equal shape, the pixels to count; all where None.

    Raises
    ------
    InputError
        If the shapes differ or an array cannot hold what it should.
    """

    proposal: NDArray[Any]
    truth: NDArray[Any]
    proposal_is: ProposalIs = "membrane"
    labelled: bool = False
    where: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.proposal_is not in (known := get_args(ProposalIs)):
            raise InputError(f"proposal_is is one of {', '.join(known)}, not '{self.proposal_is}'")
        for name in ("proposal", "truth"):
            given = getattr(self, name)
            array = np.asarray(given)
            if array.dtype.kind not in "buif":
                kind = f"{type(given).__name__} of {array.dtype}"
                raise InputError(f"the {name} is an array of real numbers, not {kind}")
            object.__setattr__(self, name, array)
        if self.where is not None:
            # As a mask: numbers would pick pixels by their places.
            object.__setattr__(self, "where", np.asarray(self.where, np.bool_))
        shape = self.proposal.shape
        if shape != self.truth.shape or len(shape) not in (2, 3):
            raise InputError(
                f"the proposal has shape {shape} and the truth {self.truth.shape}; "
                "they must be the same sections, (Z, Y, X) or (Y, X)"
            )
        if self.where is not None and self.where.shape != shape:
            raise InputError(
                f"the pixels to count have shape {self.where.shape}, the sections {shape}"
            )
        for what, array, labelled in (
            ("proposal", self.proposal, self.proposal_is == "cells"),
            ("truth", self.truth, self.labelled),
        ):
            if labelled and (array.dtype.kind not in "iu" or (array.size and array.min() < 0)):
                raise InputError(f"the {what}'s labels are integers from 0 on, 0 for membrane")
        if self.proposal_is != "cells" and self.proposal.dtype in (np.uint32, np.uint64):
            raise InputError(
                f"{self.proposal.dtype} is a type of labels, and the proposal is scored as a map of"
                f" the {self.proposal_is}; say proposal_is='cells', or give a map in [0, 1]"
            )
        if not self.labelled and self.truth.dtype == np.uint8 and self.truth.max(initial=0) == 255:
            raise InputError(
                "the truth is a picture of 0 and 255, and which of them is membrane is not said;"
                " give truth == 0 where it is drawn black, truth == 255 where it is drawn white"
            )
        if not self.labelled and self.where is None and self.truth.max(initial=0) == IGNORED:
            raise InputError(
                f"the truth holds {IGNORED}, as where nobody annotated; give where=truth !="
                f" {IGNORED}, or truth != 0 if that is membrane"
            )

    def __len__(self) -> int:
        return 1 if self.proposal.ndim == 2 else len(self.proposal)

    def each(self) -> Iterator["Cut"]:
        """Yield the sections one by one."""
        shape = (len(self), *self.proposal.shape[-2:])
        masks = [None] * len(self) if self.where is None else self.where.reshape(shape)
        for section, drawn, where in zip(
            self.proposal.reshape(shape), self.truth.reshape(shape), masks, strict=True
        ):
            labelled = self.proposal_is == "cells"
            yield Cut(
                labels=section if labelled else None,
                interior=(
                    np.asarray(~label_borders(section), np.float64)
                    if labelled
                    else interior_map(section, proposal_is=self.proposal_is)
                ),
                true_membrane=label_borders(drawn) if self.labelled else drawn != 0,
                true_cells=pieces(drawn) if self.labelled else label_cells(drawn == 0),
                where=where,
            )


@dataclass(frozen=True)
class Cut:
    """One section, to be cut at a threshold; arrays are (Y, X).

    Parameters
    ----------
    interior
        The proposal's map, 1 = interior; of labels, what is not membrane.
    labels
        The proposal's, None for a map.
    true_membrane, true_cells, where
        See `Section`.
    """

    interior: NDArray[np.float64]
    labels: NDArray[np.integer] | None
    true_membrane: NDArray[np.bool_]
    true_cells: NDArray[np.integer]
    where: NDArray[np.bool_] | None

    def at(self, threshold: float) -> Section:
        """Return the section at one threshold, which means nothing to labels."""
        truth = (self.true_membrane, self.true_cells, self.where)
        if self.labels is not None:
            return section_of_labels(self.labels, *truth)
        return section_of_map(self.interior, threshold, *truth)


def evaluate(
    proposal: NDArray[Any],
    truth: NDArray[Any],
    *,
    proposal_is: ProposalIs = "membrane",
    truth_is: Literal["membrane", "cells"] = "membrane",
    thresholds: Sequence[float] = THRESHOLDS,
    sections: Sequence[int] | None = None,
    where: NDArray[np.bool_] | None = None,
    unthinned: bool = True,
) -> Scores:
    """Score a proposal by the official ISBI 2012 definitions.

    Parameters
    ----------
    proposal
        Map of (Z, Y, X) or (Y, X), see `interior_map` for dtypes; or labels, 0 = membrane.
    truth
        Equal shape, nonzero = membrane as the expert drew it; or labels, 0 = membrane.
    proposal_is
        What is high in the proposal, or ``"cells"`` for labels, which have no threshold: their
        scores are the same at every one. In a section, each 4-connected piece of a label is a cell.
    truth_is
        What the truth holds.
    thresholds
        Where to cut: a pixel is interior where the map of the interior is above.
    sections
        Numbers of the sections for reports; 0, 1, … by default.
    where
        The pixels to count; all where None. The others are thinned with the rest.
    unthinned
        Compute the scores without border thinning, and the challenge's first ones, as well.

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
    stack = Sections(proposal, truth, proposal_is, holds_labels(truth_is), where)
    if not len(thresholds) or (sections is not None and len(sections) != len(stack)):
        raise InputError("give a threshold or more, and a number for each section")
    # Labels are the same at every threshold: they are scored once.
    cuts = thresholds[:1] if proposal_is == "cells" else thresholds
    names = SCORE_NAMES if unthinned else SCORE_NAMES[:2]
    values = {name: np.empty((len(cuts), len(stack), 3)) for name in names}
    pairs = [PairCounts(0, 0, 0)] * len(cuts)
    pixels = [PixelCounts(0, 0, 0, 0)] * len(cuts)
    for z, cut in enumerate(stack.each()):
        for t, threshold in enumerate(cuts):
            section = cut.at(threshold)
            tables = [("", section.thinned_table)]
            if unthinned:
                tables.append(("_unthinned", section.table))
                pairs[t] += pair_counts(section.table)
                pixels[t] += section.interior_counts
            for suffix, table in tables:
                for name, score in (("v_rand", v_rand(table)), ("v_info", v_info(table))):
                    values[name + suffix][t, z] = score.score, score.split, score.merge
    pooled = {
        "rand_error": np.array([1 - pair.f_score.score for pair in pairs]),
        "pixel_error": np.array([pixel_error(counts) for counts in pixels]),
    }
    same = len(thresholds) // len(cuts)
    return Scores(
        tuple(thresholds),
        tuple(range(len(stack))) if sections is None else tuple(sections),
        {name: array.repeat(same, axis=0) for name, array in values.items()},
        {name: array.repeat(same) for name, array in pooled.items()} if unthinned else {},
    )
