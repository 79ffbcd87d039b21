"""The methods of a comparison over the sections they were tested on, against a truth."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from axolemma.errors import InputError
from axolemma.evaluation import Evaluation, evaluate_stacks, matching
from axolemma.images import Stack, read
from axolemma.report.evaluations import places_document
from axolemma.report.methods import Method, sections
from axolemma.report.page import Document

__all__ = ["overlay_documents", "representative"]

#: Of all methods together, since a page is to be mailed; each has two sections at least.
_FIGURES, _CROPS = 20, 24

#: V_rand of the same map and truth, made twice, differs less.
_SAME = 1e-3


def overlay_documents(
    methods: Sequence[Method],
    folder: Path,
    truth: Stack,
    *,
    image: Stack | None = None,
    slices: str | None = None,
    prefix: str = "",
) -> Iterator[Document]:
    """Show a representative training of each method against the truth.

    Parameters
    ----------
    methods
        With the keys of their finished cells.
    folder
        Of the comparison.
    truth
        From `images.read_truth`, all of its sections.
    image
        The sections to show them over; the predicted maps where None.
    slices
        Of the tested sections, those to show; all where None.
    prefix
        Of the names in the page.

    Raises
    ------
    InputError
        If a map is not there any more, or truth or image do not fit.
    """
    tested = [{_fold(cell) for cell in method.cells} for method in methods]
    common = set.intersection(*tested) if tested else set()
    for n, method in enumerate(methods):
        fold = max(common) if common else max(tested[n])
        cell, told = representative(method, fold)
        file = folder / "cells" / str(cell.get("key")) / "membrane.tif"
        if not file.is_file():
            raise InputError(
                f"{file}: the map that this training predicted is not there any more; leave out "
                "--truth, or remove result.json beside it and repeat the comparison"
            )
        threshold = float(cell["threshold"])
        found = evaluate_stacks(read(file), truth, slices=slices, threshold=threshold)
        yield places_document(
            found,
            images=None if image is None else matching(found, image, None),
            kind="Against the truth",
            title=method.name,
            lead=f"{told} {_scored(found, cell)}",
            prefix=f"{prefix}method-{n + 1}-",
            figures=max(2, _FIGURES // len(methods)),
            crops=max(2, _CROPS // len(methods)),
        )


def representative(method: Method, fold: tuple[int, int]) -> tuple[Mapping[str, Any], str]:
    """Return the cell whose mean V_rand is the median of a fold's, and a sentence that says so.

    Of an even number it is the lower of the two in the middle.
    """
    mine = sorted((cell for cell in method.cells if _fold(cell) == fold), key=_mean)
    cell = mine[(len(mine) - 1) // 2]
    where = sections(cell["sections"])
    if len(mine) == 1:
        return cell, f"Shown is its only training that was tested on {where}, seed {cell['seed']}."
    which = "the median V_rand"
    if len(mine) % 2 == 0:
        which = "the lower V_rand" + (" of the two in the middle" if len(mine) > 2 else "")
    return cell, (
        f"Shown is seed {cell['seed']}: of the {len(mine)} that were tested on {where} the one "
        f"with {which}."
    )


def _fold(cell: Mapping[str, Any]) -> tuple[int, int]:
    return int(cell["first"]), int(cell["last"])


def _mean(cell: Mapping[str, Any]) -> float:
    return float(np.mean(cell["scores"]["v_rand"]))


def _scored(found: Evaluation, cell: Mapping[str, Any]) -> str:
    suite = found.suite
    score = suite.mean("v_rand")
    told = f"At its own threshold, {suite.threshold:.2g}, V_rand is {score:.3f}"
    recorded = dict(zip(cell["sections"], cell["scores"]["v_rand"], strict=True))
    if not {*suite.sections} <= recorded.keys():
        raise InputError(
            f"the truth does not number its sections as the comparison did, which tested "
            f"{sections(recorded)}; give the truth of all sections"
        )
    before = float(np.mean([recorded[z] for z in suite.sections]))
    if abs(score - before) > _SAME:
        return (
            f"{told}, while the comparison found {before:.3f}: this truth is another one, or was "
            "read in another way."
        )
    return f"{told} and V_info {suite.mean('v_info'):.3f}."
