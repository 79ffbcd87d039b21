"""Annotated sections by name, from a folder or from a file."""

from pathlib import Path
from typing import TYPE_CHECKING

from axolemma.datasets import cremi, folder, isbi2012, snemi3d
from axolemma.datasets.pairs import Pairs, data_hash, folds
from axolemma.errors import InputError, nearest
from axolemma.images import (
    HDF5,
    Stack,
    StackVolume,
    TruthIs,
    Volume,
    check_truth_is,
    open_volume,
    read,
    split_inside,
)

if TYPE_CHECKING:
    from axolemma.datasets.phantom_tissue import PhantomBlock, phantom

__all__ = [
    "NAMES",
    "Pairs",
    "PhantomBlock",
    "data_hash",
    "folds",
    "holds_truth",
    "load",
    "load_images",
    "open_images",
    "phantom",
    "phantom_pairs",
]

#: Datasets that need no folder.
NAMES = ("isbi2012", "phantom")


def __getattr__(name: str) -> object:
    # The phantom is compiled by numba, for which a segmentation of somebody's file need not wait.
    if name not in ("PhantomBlock", "phantom"):
        raise AttributeError(f"module 'axolemma.datasets' has no attribute '{name}'")
    from axolemma.datasets import phantom_tissue

    return getattr(phantom_tissue, name)


def load(data: str | Path, *, truth_is: TruthIs = "auto", ignore_value: int | None = None) -> Pairs:
    """Load annotated sections.

    Parameters
    ----------
    data
        ``"isbi2012"``, ``"phantom"``, a CREMI sample, the folder of SNEMI3D, or a folder of pairs,
        see `folder.load`.
    truth_is, ignore_value
        What a folder's truths show, and which value nobody annotated; see `images.to_truth`.

    Returns
    -------
    Pairs
        Images and truth, (Z, Y, X), and labels where the truth has them.

    Raises
    ------
    InputError
        If it is neither a name nor a file or folder, or what lies there cannot be used.
    DownloadError
        If the challenge's data is absent and cannot be fetched.
    """
    check_truth_is(truth_is)
    file, inside = split_inside(data)
    known = not file.exists()
    if known and data in NAMES:
        if ignore_value is not None:
            raise InputError(f"every pixel of {data} is annotated; leave --ignore-value out")
        if truth_is != "auto":
            raise InputError(f"what the truth of {data} shows is known; leave --truth-is out")
    if data == "isbi2012" and known:
        return isbi2012.load()
    if data == "phantom" and known:
        return phantom_pairs()
    if known:
        raise InputError(f"no dataset or folder named '{data}'{nearest(str(data), NAMES)}")
    if inside:
        raise InputError(
            f"{data}: is one array, where images and truth are needed; give {file} if it is a CREMI"
            " sample, or a folder of images and truths"
        )
    if file.suffix.lower() in HDF5 and file.is_file():
        return cremi.load(file, truth_is=truth_is, ignore_value=ignore_value)
    if snemi3d.is_folder(file):
        return snemi3d.load(file, truth_is=truth_is, ignore_value=ignore_value)
    return folder.load(file, truth_is=truth_is, ignore_value=ignore_value)


def holds_truth(data: str | Path) -> bool:
    """Tell whether a name or path stands for images with their truth, as `load` takes them.

    A folder of pairs is not told from a folder of sections, and is none here.
    """
    if data in NAMES and not Path(data).exists():
        return True
    return snemi3d.is_folder(data) or cremi.is_sample(data, annotated=True)


def load_images(source: str | Path) -> Stack:
    """Load sections to segment: a dataset's images, or a file or folder of sections.

    The pixels are not checked: which of them are used is for the caller to say.
    ``isbi2012`` is the annotated volume, ``isbi2012-test`` the one to be predicted.

    Raises
    ------
    InputError
        If nothing usable is there.
    """
    if source in ("isbi2012", "isbi2012-test") and not Path(source).exists():
        return isbi2012.load_images("test" if source == "isbi2012-test" else "train")
    if source == "phantom" and not Path(source).exists():
        pairs = phantom_pairs()
        return Stack(pairs.images, (0, 255), pairs.voxel_size, "phantom")
    if cremi.is_sample(source):
        return cremi.load_images(source)
    if snemi3d.is_folder(source):
        return snemi3d.load_images(source)
    return read(source)


def open_images(source: str | Path) -> Volume:
    """Open sections to segment box by box: the challenge's images by name, or a volume's address.

    Raises
    ------
    InputError
        If nothing usable is there.
    """
    if source == "phantom" and not Path(source).exists():
        raise InputError(
            "phantom: is made in memory and not read box by box; give an output that is a folder"
        )
    if source not in ("isbi2012", "isbi2012-test") or Path(source).exists():
        return open_volume(source)
    stack = load_images(source)
    depth, height, width = stack.array.shape
    return StackVolume(
        stack.source, (depth, height, width), stack.array.dtype, stack.voxel_size, stack.notes
    )


def phantom_pairs(shape: tuple[int, int, int] = (30, 512, 512), *, seed: int = 0) -> Pairs:
    """Return a block of the synthetic tissue as annotated sections; see `phantom`."""
    from axolemma.datasets.phantom_tissue import VOXEL_SIZE, phantom

    block = phantom(shape, seed=seed)
    return Pairs("phantom", block.image, block.truth, VOXEL_SIZE, labels=block.neurons)
