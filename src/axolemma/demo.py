"""The main job from beginning to end on synthetic tissue, with nothing to download."""

from collections.abc import Callable
from pathlib import Path

from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError
from axolemma.evaluation import Evaluation, evaluate_stacks
from axolemma.images import Stack
from axolemma.segmentation import segment_stack
from axolemma.settings import SegmentSettings, TrainSettings
from axolemma.training import Progress, fit

__all__ = ["run_demo"]

#: Sections of the demo's stack: the first ones train, the last ones were never seen.
TRAINING, UNSEEN = 10, 4


def run_demo(
    out: Path,
    settings: TrainSettings,
    *,
    report: Callable[[Progress], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Train on synthetic sections, segment unseen ones and score the result.

    Parameters
    ----------
    out
        Folder for the run (``run``) and the segmentation (``segmented``) with its preview.
    settings
        Of the training; its `data` is the phantom.
    report
        Progress of the training.
    advance
        Called with the number of section pixels that were segmented.
    say
        Called with a line at the start of each part.

    Returns
    -------
    Evaluation
        Of the unseen sections, at the threshold that validation chose.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: this is a file; name a folder")
    say("growing synthetic tissue")
    data = phantom_pairs((TRAINING + UNSEEN, 512, 512))
    fit(data.slices(range(TRAINING)), settings, out / "run", report=report, say=say)
    say(f"segmenting {UNSEEN} sections that it has not seen")
    unseen = data.slices(range(TRAINING, TRAINING + UNSEEN))
    stack = Stack(unseen.images, (0, 255), unseen.voxel_size, "phantom")
    chosen = SegmentSettings(model=str(out / "run"))
    result, _ = segment_stack(stack, chosen, out / "segmented", overwrite=True, advance=advance)
    proposal = Stack(
        result.membrane,
        (0, 1),
        data.voxel_size,
        "phantom",
        holds="membrane map",
        info={"threshold": result.threshold},
    )
    truth = Stack(data.truth, (0, 1), data.voxel_size, "phantom")
    return evaluate_stacks(proposal, truth, slices=f"{TRAINING}-{TRAINING + UNSEEN - 1}")
