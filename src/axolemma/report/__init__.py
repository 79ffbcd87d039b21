"""Results as one HTML page that is complete in itself, and as PDF.

=====================  ===================================================================
`run_page`             the folder of a training
`evaluation_page`      a proposal against its truth
`comparison_page`      several methods beside each other
`report_page`          any of these, found out from their paths
`write_page`           the page to its file, whole or not at all
`write_pdf`            the page printed by a browser on the machine
=====================  ===================================================================
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.evaluation import Evaluation, evaluate_stacks, matching, read_cells, read_proposal
from axolemma.images import Stack
from axolemma.report.comparisons import comparison_document
from axolemma.report.evaluations import evaluation_document
from axolemma.report.page import Document, page, write_page
from axolemma.report.pdf import find_browser, write_pdf

__all__ = [
    "comparison_page",
    "evaluation_page",
    "find_browser",
    "report_page",
    "run_page",
    "write_page",
    "write_pdf",
]


def run_page(run: str | Path) -> str:
    """Return the page of a training's folder, finished or not.

    Raises
    ------
    InputError
        If the folder is no run's.
    """
    return page(_run(run))


def evaluation_page(
    found: Evaluation,
    *,
    images: NDArray[Any] | None = None,
    run: Path | None = None,
    title: str = "Membranes against the truth",
) -> str:
    """Return the page of an evaluation, see `evaluations.evaluation_document`.

    Raises
    ------
    InputError
        If the images have another shape than the scored sections, or the run's record is missing.
    """
    return page(evaluation_document(found, images=images, run=run, title=title))


def comparison_page(
    told: Mapping[str, Any],
    *,
    folder: Path | None = None,
    truth: Stack | None = None,
    image: Stack | None = None,
    title: str | None = None,
) -> str:
    """Return the page of a comparison's `as_dict`, see `comparisons.comparison_document`.

    Raises
    ------
    InputError
        If it has no rows, or its predictions do not fit the truth or the image.
    """
    return page(comparison_document(told, folder=folder, truth=truth, image=image, title=title))


def report_page(
    sources: Sequence[str | Path | Mapping[str, Any]],
    *,
    truth: Stack | None = None,
    image: Stack | None = None,
    slices: str | None = None,
    title: str | None = None,
) -> str:
    """Return one page of one or several results.

    Parameters
    ----------
    sources
        Folders of trainings, folders or files of segmentations, and comparisons: JSON files of
        their `as_dict`, or that with the key ``folder`` added, whose trainings are then shown too.
    truth
        What segmentations, and the predictions in the folder of a comparison, are scored against;
        from `images.read_truth`.
    image
        The sections to show them over.
    slices
        Sections of the truth to score, see `evaluate_stacks`.
    title
        Of the page.

    Raises
    ------
    InputError
        If a source is none of these, or a segmentation comes without a truth.
    """
    documents = [
        _compared(source, truth, image, slices, prefix=f"{n}-" if n else "")
        if isinstance(source, Mapping)
        else _document(Path(source), truth, image, slices, prefix=f"{n}-" if n else "")
        for n, source in enumerate(sources)
    ]
    return page(*documents, title=title)


def _run(run: str | Path) -> Document:
    from axolemma.report.runs import run_document  # waits for torch, the other pages need not

    return run_document(run)


def _compared(
    told: Mapping[str, Any],
    truth: Stack | None,
    image: Stack | None,
    slices: str | None,
    *,
    prefix: str,
) -> Document:
    folder = told.get("folder")
    return comparison_document(
        told,
        folder=None if folder is None else Path(folder),
        truth=truth,
        image=image,
        slices=slices,
        prefix=prefix,
    )


def _document(
    source: Path, truth: Stack | None, image: Stack | None, slices: str | None, *, prefix: str
) -> Document:
    if (source / "settings.json").is_file():
        return _run(source)
    if source.suffix == ".json" and source.is_file():
        try:
            told = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{source}: this is no comparison's file ({error})") from error
        return comparison_document(told if isinstance(told, dict) else {}, title=source.stem)
    if not source.exists():
        raise InputError(f"{source}: there is no such file or folder")
    if truth is None:
        raise InputError(
            f"{source}: a segmentation is reported against a truth; name it with --truth"
        )
    found = evaluate_stacks(read_proposal(source), truth, slices=slices, cells=read_cells(source))
    images = None if image is None else matching(found, image, None)
    run = source if (source / "run.json").is_file() else None
    return evaluation_document(found, images=images, run=run, title=source.name, prefix=prefix)
