"""The main job from beginning to end on synthetic tissue, with nothing to download."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError
from axolemma.evaluation import Evaluation, evaluate_stacks, read_cells, read_proposal
from axolemma.images import Stack, read_truth, write_tiff
from axolemma.segmentation import segment_stack
from axolemma.settings import SegmentSettings, TrainSettings
from axolemma.training import Progress, fit

__all__ = ["run_demo"]

#: Sections of the demo's stack: the first ones train, the last ones were never seen.
TRAINING, UNSEEN = 10, 4

#: Folders by which an earlier demo is known.
_OURS = ("segmented", "run")


def run_demo(
    out: Path,
    settings: TrainSettings | None = None,
    *,
    report: Callable[[Progress], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Segment synthetic sections and score the result, by the weights that ship or one's own.

    Parameters
    ----------
    out
        Folder for the sections (``image.tif``), what is true of them (``truth.tif``, 0 = membrane)
        and the segmentation (``segmented``) with its preview; and for the run (``run``).
    settings
        Of a training on other sections of the same tissue, whose model is taken then; its `data`
        is the phantom. None takes the weights that ship.
    report
        Progress of the training.
    advance
        Called with the number of section pixels that were segmented.
    say
        Called with a line at the start of each part.

    Returns
    -------
    Evaluation
        Of the unseen sections, at the model's own threshold, and of their cells.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: this is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_dir() for name in _OURS):
        raise InputError(f"{out}: this folder holds other files; choose a new one")
    say("growing synthetic tissue")
    data = phantom_pairs((TRAINING + UNSEEN, 512, 512))
    chosen = SegmentSettings()
    if settings is not None:
        fit(data.slices(range(TRAINING)), settings, out / "run", report=report, say=say)
        chosen = SegmentSettings(model=str(out / "run"))
    say(f"segmenting {UNSEEN} sections that it has not seen")
    unseen = data.slices(range(TRAINING, TRAINING + UNSEEN))
    stack = Stack(unseen.images, (0, 255), unseen.voxel_size, "phantom")
    segmented, truth = out / "segmented", out / "truth.tif"
    segment_stack(stack, chosen, segmented, overwrite=True, advance=advance)
    # So that every command can be tried on them.
    write_tiff(out / "image.tif", unseen.images, voxel_size=unseen.voxel_size)
    interior = np.where(unseen.truth == 1, 0, 255).astype(np.uint8)
    write_tiff(truth, interior, voxel_size=unseen.voxel_size)
    return evaluate_stacks(read_proposal(segmented), read_truth(truth), cells=read_cells(segmented))
