"""SNEMI3D: a volume of mouse cortex in which every neurite has its number through 3D.

A folder with ``train-input.tif`` and ``train-labels.tif``, 100 sections of 1024 × 1024 at
30 × 6 × 6 nm. The files are not fetched: they are given by the folder's path.
"""

from dataclasses import replace
from pathlib import Path

from axolemma.datasets.pairs import Pairs
from axolemma.images import Stack, TruthIs, check_pair, read, to_truth

__all__ = ["TERMS", "VOXEL_SIZE", "is_folder", "load", "load_images"]

VOXEL_SIZE = (30.0, 6.0, 6.0)
TERMS = (
    "SNEMI3D challenge data, snemi3d.grand-challenge.org: see there for the terms of use, and cite"
    " Kasthuri et al. 2015, Cell 162(3):648-661."
)

INPUT, LABELS = "train-input.tif", "train-labels.tif"


def is_folder(path: str | Path) -> bool:
    """Tell whether a path is a folder that holds SNEMI3D's training volume and its labels."""
    return all((Path(path) / name).is_file() for name in (INPUT, LABELS))


def load(
    folder: str | Path, *, truth_is: TruthIs = "auto", ignore_value: int | None = None
) -> Pairs:
    """Load the annotated volume.

    Parameters
    ----------
    folder
        See `is_folder`.
    truth_is
        ``"auto"`` takes the neurites' numbers for what they are; see `images.to_truth`.
    ignore_value
        The number that leaves voxels out, 0 for those without a neurite.

    Returns
    -------
    Pairs
        Membrane is what has number 0, and one pixel between two neurites of a section.

    Raises
    ------
    ImageError
        If a file is unreadable, or the two have different shapes.
    """
    images = load_images(folder)
    drawn = read(Path(folder) / LABELS)
    check_pair(images, drawn)
    truth = to_truth(
        drawn, truth_is="labels" if truth_is == "auto" else truth_is, ignore_value=ignore_value
    )
    return Pairs(
        name="snemi3d train",
        images=images.array,
        truth=truth.array,
        voxel_size=images.voxel_size,
        terms=TERMS,
        notes=images.notes + truth.notes,
        labels=truth.labels,
    )


def load_images(folder: str | Path) -> Stack:
    """Load the training volume's images.

    Raises
    ------
    ImageError
        If the file is unreadable.
    """
    stack = read(Path(folder) / INPUT)
    if stack.voxel_size is not None:
        return stack
    note = "the file does not tell the voxel size; SNEMI3D's, 30 x 6 x 6 nm, was taken"
    return replace(stack, voxel_size=VOXEL_SIZE, notes=(*stack.notes, note))
