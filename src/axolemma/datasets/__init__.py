"""Annotated sections by name or from a folder."""

from pathlib import Path

from axolemma.datasets import folder, isbi2012
from axolemma.datasets.pairs import Pairs, data_hash, folds
from axolemma.datasets.phantom import VOXEL_SIZE, PhantomBlock, phantom
from axolemma.errors import InputError, nearest
from axolemma.images import Stack, TruthIs, read

__all__ = [
    "NAMES",
    "Pairs",
    "PhantomBlock",
    "data_hash",
    "folds",
    "load",
    "load_images",
    "phantom",
    "phantom_pairs",
]

#: Datasets that need no folder.
NAMES = ("isbi2012", "phantom")


def load(data: str | Path, *, truth_is: TruthIs = "auto") -> Pairs:
    """Load annotated sections.

    Parameters
    ----------
    data
        ``"isbi2012"``, ``"phantom"``, or a folder of pairs, see `folder.load`.
    truth_is
        What a folder's truths show; see `images.to_membrane`.

    Returns
    -------
    Pairs
        Images and truth, (Z, Y, X).

    Raises
    ------
    InputError
        If it is neither a name nor a folder, or what lies there cannot be used.
    DownloadError
        If the challenge's data is absent and cannot be fetched.
    """
    known = not Path(data).exists()
    if data == "isbi2012" and known:
        return isbi2012.load()
    if data == "phantom" and known:
        return phantom_pairs()
    if known:
        raise InputError(f"no dataset or folder named '{data}'{nearest(str(data), NAMES)}")
    return folder.load(data, truth_is=truth_is)


def load_images(source: str | Path) -> Stack:
    """Load sections to segment: a dataset's images by its name, or a file or folder of sections.

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
    return read(source)


def phantom_pairs(shape: tuple[int, int, int] = (30, 512, 512), *, seed: int = 0) -> Pairs:
    """Return a block of the synthetic tissue as annotated sections; see `phantom`."""
    block = phantom(shape, seed=seed)
    return Pairs("phantom", block.image, block.truth, VOXEL_SIZE)
