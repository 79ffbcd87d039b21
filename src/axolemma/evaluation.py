"""A proposal and a truth from their files to scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.images import Stack, label_borders, parse_slices, read
from axolemma.metrics import SCORE_NAMES, THRESHOLDS, Scores, evaluate

__all__ = ["Evaluation", "ProposalIs", "evaluate_stacks", "read_proposal"]

ProposalIs = Literal["auto", "membrane", "interior"]

#: A map that scores this much better flipped was read the wrong way round.
_FLIPPED_GAIN = 0.2


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores, and how the files were read.

    Parameters
    ----------
    scores
        Every score for every threshold and section.
    threshold
        The threshold that was chosen elsewhere: given by the caller, or stored in the proposal by
        the model's validation. None where there is neither.
    notes
        What was assumed and converted, one sentence each.
    """

    scores: Scores
    threshold: float | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return everything that is reported, for JSON."""
        scores = self.scores
        found: dict[str, object] = {"thresholds": list(scores.thresholds)}
        for kind, cut in (("held_out", self.threshold), ("best", None)):
            if kind == "held_out" and cut is None:
                continue
            block: dict[str, object] = {}
            for name in SCORE_NAMES:
                at = scores.best_threshold(name) if cut is None else cut
                mean = scores.at(at, name)
                block[name] = {
                    "threshold": at,
                    "score": mean.score,
                    "split": mean.split,
                    "merge": mean.merge,
                    "sections": {
                        str(number): row[0]
                        for number, row in zip(
                            scores.sections, scores.sections_at(at, name).tolist(), strict=True
                        )
                    },
                }
            found[kind] = block
        found["curves"] = {name: scores.curve(name).tolist() for name in SCORE_NAMES}
        found["notes"] = list(self.notes)
        return found


def read_proposal(path: str | Path) -> Stack:
    """Read a proposal: a map, or the folder that a segmentation wrote.

    Parameters
    ----------
    path
        A file or folder of sections that `images.read` reads, or a folder with ``membrane.tif``.

    Raises
    ------
    ImageError
        If nothing usable is there.
    """
    path = Path(path)
    return read(path / "membrane.tif" if (path / "membrane.tif").is_file() else path)


def evaluate_stacks(
    proposal: Stack,
    truth: NDArray[np.uint8],
    *,
    slices: str | None = None,
    threshold: float | None = None,
    proposal_is: ProposalIs = "auto",
) -> Evaluation:
    """Score a proposal that was read from a file.

    Parameters
    ----------
    proposal
        From `read_proposal`: a map in [0, 1] or of unsigned integers.
    truth
        (Z, Y, X), 1 = membrane.
    slices
        Sections of the truth to score. The proposal holds either the same stack or just these.
        Where None and the proposal says which sections it holds, those.
    threshold
        Chosen elsewhere; the proposal's own where None.
    proposal_is
        What is high in the proposal. ``"auto"`` believes what the file says, and takes the
        challenge's convention, interior, where it says nothing.

    Returns
    -------
    Evaluation
        Scores of the chosen sections.

    Raises
    ------
    InputError
        If the shapes do not fit, or the map is evidently the other way round.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"a threshold lies between 0 and 1, not {threshold:g}")
    notes = list(proposal.notes)
    chosen, map_ = _matched(proposal, len(truth), slices)
    truth = truth[chosen.start : chosen.stop]
    if map_.shape != truth.shape:
        raise InputError(
            f"{proposal.source}: it has shape {map_.shape} and the truth {truth.shape} "
            "(sections, rows, columns); they must be the same pixels"
        )
    map_, polarity, said = _polarity(map_, proposal, proposal_is)
    notes += said
    assumed = proposal_is == "auto" and proposal.holds is None
    cut = proposal.info.get("threshold") if threshold is None else threshold
    sweep = THRESHOLDS
    if cut is not None and not any(abs(cut - t) < 1e-6 for t in THRESHOLDS):
        sweep = tuple(sorted({*THRESHOLDS, float(cut)}))
    scores = evaluate(map_, truth, proposal_is=polarity, thresholds=sweep, sections=list(chosen))
    if assumed and scores.best().score < 1 - _FLIPPED_GAIN:
        _check_flipped(map_[:1], truth[:1], polarity, proposal.source)
    return Evaluation(scores, None if cut is None else float(cut), tuple(notes))


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
    if held is None and len(array) == len(chosen):
        return chosen, array
    held = held or range(len(array))
    if chosen.start < held.start or chosen.stop > held.stop:
        raise InputError(
            f"{source}: it holds the sections {held.start}-{held.stop - 1}, not all of "
            f"--slices {slices}"
        )
    return chosen, array[chosen.start - held.start : chosen.stop - held.start]


def _held(proposal: Stack, count: int) -> range | None:
    """Return the sections that the proposal says it holds, where that fits a truth of `count`."""
    match proposal.info.get("sections"):
        case [int(first), int(last)] if last < count and last - first + 1 == len(proposal.array):
            return range(first, last + 1)
    return None


def _polarity(
    map_: NDArray[Any], proposal: Stack, proposal_is: ProposalIs
) -> tuple[NDArray[Any], Literal["membrane", "interior"], list[str]]:
    """Return the map, what is high in it, and a note where that was assumed."""
    if proposal.holds in ("cells", "neurons"):
        return (
            label_borders(map_),
            "membrane",
            ["the proposal holds labels; 0 and the borders between labels were taken for membrane"],
        )
    if map_.dtype.kind == "u" and map_.max() == 1:
        map_ = map_.astype(bool)
    if proposal_is != "auto":
        return map_, proposal_is, []
    if (proposal.holds or "").startswith("membrane"):
        return map_, "membrane", []
    return (
        map_,
        "interior",
        [
            "the file does not say what it holds; high values were taken for cell interior, the "
            "challenge's convention (--proposal-is changes it)"
        ],
    )


def _check_flipped(
    map_: NDArray[Any],
    truth: NDArray[np.uint8],
    polarity: Literal["membrane", "interior"],
    source: str,
) -> None:
    """Refuse a map whose polarity was only assumed and that is much better flipped."""
    other: Literal["membrane", "interior"] = "interior" if polarity == "membrane" else "membrane"
    taken, flipped = (
        evaluate(map_, truth, proposal_is=way, unthinned=False).best().score
        for way in (polarity, other)
    )
    if flipped > taken + _FLIPPED_GAIN:
        raise InputError(
            f"{source}: the map is evidently the other way round, V_rand is {taken:.3f} as "
            f"{polarity} and {flipped:.3f} as {other}; say --proposal-is {other}"
        )
