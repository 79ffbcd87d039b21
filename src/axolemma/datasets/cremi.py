"""CREMI: volumes of an adult fly's brain in which every neuron has its number through 3D.

A sample, such as ``sample_A_20160501.hdf``, holds ``/volumes/raw`` and its truth,
``/volumes/labels/neuron_ids``, at 40 × 4 × 4 nm. In the padded samples the raw volume is larger,
and ``offset`` says in nm where the labels lie in it. The files are not fetched: they are given by
their path.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from axolemma.datasets.pairs import Pairs
from axolemma.errors import ImageError
from axolemma.geometry import Box
from axolemma.images import (
    HDF5,
    Dataset,
    Stack,
    TruthIs,
    hdf5_datasets,
    read,
    split_inside,
    to_truth,
)
from axolemma.labels import IGNORED

__all__ = ["TERMS", "VOXEL_SIZE", "is_sample", "load", "load_images"]

VOXEL_SIZE = (40.0, 4.0, 4.0)
TERMS = "CREMI challenge data, cremi.org: see there for the terms of use, and cite it."

RAW = "/volumes/raw"
NEURONS = "/volumes/labels/neuron_ids"


def is_sample(path: str | Path, *, annotated: bool = False) -> bool:
    """Tell whether a path is an HDF5 file with CREMI's raw volume, and labels where asked."""
    file, inside = split_inside(path)
    if inside or file.suffix.lower() not in HDF5 or not file.is_file():
        return False
    found = hdf5_datasets(file)
    return RAW in found and (NEURONS in found or not annotated)


def load(path: str | Path, *, truth_is: TruthIs = "auto", ignore_value: int | None = None) -> Pairs:
    """Load an annotated sample.

    Parameters
    ----------
    path
        The HDF5 file.
    truth_is
        ``"auto"`` takes the neurons' numbers for what they are; see `images.to_truth`.
    ignore_value
        The number that leaves voxels out, such as 0: what nobody numbered may be anything.

    Returns
    -------
    Pairs
        The raw volume where there are labels; membrane is one pixel between two neurons of a
        section, and what has no number unless that is left out.

    Raises
    ------
    ImageError
        If the file is unreadable, lacks one of the two, or they do not lie over each other.
    """
    path = Path(path)
    found = hdf5_datasets(path)
    missing = [name for name in (RAW, NEURONS) if name not in found]
    if missing:
        raise ImageError(
            f"{path}: no annotated CREMI sample, {' and '.join(missing)} missing; give one with"
            f" {RAW} and {NEURONS}, or a folder of images and truths"
        )
    images = load_images(path)
    drawn = read(f"{path}:{NEURONS}")
    truth = to_truth(
        drawn, truth_is="labels" if truth_is == "auto" else truth_is, ignore_value=ignore_value
    )
    notes = [*images.notes, *truth.notes]
    if truth.labels is not None:
        bare = float(np.mean((truth.labels == 0) & (truth.array != IGNORED)))
        if bare > 0:
            notes.append(
                f"{bare:.1%} of the voxels have no neuron's number and count as membrane;"
                " --ignore-value 0 leaves voxels of number 0 out"
            )
    return Pairs(
        name=path.stem,
        images=images.array,
        truth=truth.array,
        voxel_size=images.voxel_size,
        terms=TERMS,
        notes=tuple(notes),
        labels=truth.labels,
    )


def load_images(path: str | Path) -> Stack:
    """Load the raw volume of a sample, cropped to its labels where it has them.

    Raises
    ------
    ImageError
        If the file is unreadable, or its labels do not lie in the raw volume.
    """
    path = Path(path)
    found = hdf5_datasets(path)
    size = _voxel_size(found, path)
    box = _labelled(found, size, path)
    whole = Box.of(found[RAW].shape)
    stack = read(f"{path}:{RAW}", sections=range(box.start[0], box.stop[0]))
    notes = list(stack.notes)
    if all(found[name].voxel_size is None for name in (RAW, NEURONS) if name in found):
        notes.append("the file does not tell the voxel size; CREMI's, 40 x 4 x 4 nm, was taken")
    if box != whole:
        notes.append(
            f"the raw volume {whole.shape} is larger than its labels and was cropped to them,"
            f" {box.shape} from voxel {box.start} on"
        )
    array = np.ascontiguousarray(stack.array[:, *box.slices[1:]])
    return replace(stack, array=array, voxel_size=size, notes=tuple(notes))


def _voxel_size(found: Mapping[str, Dataset], path: Path) -> tuple[float, float, float]:
    sizes = [found[name].voxel_size for name in (RAW, NEURONS) if name in found]
    told = [size for size in sizes if size is not None]
    if len(set(told)) > 1:
        raise ImageError(
            f"{path}: raw volume and labels have voxels of two sizes, {told[0]} and {told[1]} nm;"
            " resample one to the other and set its resolution"
        )
    return told[0] if told else VOXEL_SIZE


def _labelled(found: Mapping[str, Dataset], size: tuple[float, float, float], path: Path) -> Box:
    """Return where in the raw volume the labels lie, in voxels; all of it where there are none."""
    raw = found[RAW]
    whole = Box.of(raw.shape)
    if NEURONS not in found:
        return whole
    labels = found[NEURONS]
    steps = (np.array(labels.offset) - raw.offset) / size
    start = np.rint(steps).astype(int)
    stop = start + np.array(labels.shape)
    if abs(steps - start).max() > 0.01 or min(start) < 0 or (stop > np.array(raw.shape)).any():
        raise ImageError(
            f"{path}: the labels {labels.shape} at {labels.offset} nm do not lie in the raw volume"
            f" {raw.shape} at {raw.offset} nm voxel on voxel; set the offsets right, ZYX in nm"
        )
    return Box(tuple(map(int, start)), tuple(map(int, stop)))
