"""Pairs of images and truths as laboratories keep them in a folder.

Images and truth in two subfolders, or side by side with a word that tells them apart::

    FOLDER/images/a.tif          FOLDER/images/section1.png        FOLDER/train-volume.tif
    FOLDER/images/b.tif          FOLDER/images/section2.png        FOLDER/train-labels.tif
    FOLDER/truth/a.tif           FOLDER/membranes/section1.png
    FOLDER/truth/b-labels.tif    FOLDER/membranes/section2.png     FOLDER/a.tif
                                                                   FOLDER/a_truth.tif

The words are, for images, ``image``, ``raw``, ``volume`` and ``em``; for the truth, ``truth``,
``label``, ``mask``, ``annotation``, ``membrane``, ``gt`` and ``groundtruth``; in the singular or
the plural, as the name of a subfolder or as the first or last word of a file's name. Files (TIFF,
PNG, JPEG, MRC, or HDF5 with a single 3D dataset) are paired by the rest of their name, and the
pairs put one behind the other in natural order. All sections have one size and type. Beside
``train`` files, those called ``test`` are left out.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from axolemma.datasets.pairs import Pairs
from axolemma.errors import ImageError
from axolemma.images import (
    Stack,
    TruthIs,
    check_pair,
    read,
    read_image,
    section_files,
    to_truth,
)
from axolemma.labels import distinct, renumbered

__all__ = ["load"]

IMAGE_WORDS = "images?|raws?|volumes?|em"
TRUTH_WORDS = "truths?|labels?|masks?|annotations?|membranes?|gt|ground-?_?truths?"


def load(
    folder: str | Path, *, truth_is: TruthIs = "auto", ignore_value: int | None = None
) -> Pairs:
    """Load every pair of image and truth in a folder, laid out as this module's page shows.

    Parameters
    ----------
    folder
        The folder that holds both.
    truth_is
        What the truth shows as bright; see `axolemma.images.to_truth`. ``"auto"`` believes
        the ``manifest.json`` of a folder that `augmentation` wrote.
    ignore_value
        The value in the truths of what nobody annotated; None as ``"auto"``.

    Returns
    -------
    Pairs
        Named after the folder, all sections one behind the other.

    Raises
    ------
    ImageError
        If the folder is missing or holds no pairs, a partner is missing, or two shapes or types
        differ.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: is no folder; give one with images/ and truth/ in it")
    recorded = _recorded(folder)
    if truth_is == "auto":
        truth_is = recorded[0]
    if ignore_value is None:
        ignore_value = recorded[1]
    pairs, left_out = find(folder)
    images = [read_image(image) for image, _ in pairs]
    truths = [read(truth) for _, truth in pairs]
    for image, truth in zip(images, truths, strict=True):
        check_pair(image, truth)
    _check_alike(images)
    drawn = [
        to_truth(truth, truth_is=truth_is, ignore_value=ignore_value) for truth in _together(truths)
    ]
    told = [f"{s.source}: {n}" for s in (*images, *truths, *drawn) for n in s.notes]
    if len(pairs) == 1:
        (place,), (drawn_place,) = (_by_place([file]) for file in pairs[0])
        if drawn_place not in ("", place):
            told.append(f"{pairs[0][1]} is taken for the truth of {pairs[0][0].name}")
    notes = dict.fromkeys((*told, *(f"{file} was left out" for file in left_out)))
    sizes = {image.voxel_size for image in images}
    if len(sizes) > 1:
        notes[f"{folder}: the images disagree on the voxel size, none was taken"] = None
    return Pairs(
        name=folder.resolve().name,
        images=np.concatenate([image.array for image in images]),
        truth=np.concatenate([truth.array for truth in drawn]),
        voxel_size=sizes.pop() if len(sizes) == 1 else None,
        notes=tuple(notes),
        labels=_joined([truth.labels for truth in drawn]),
    )


def _recorded(folder: Path) -> tuple[TruthIs, int | None]:
    """Return what the record of a folder of our own augmented pairs says of its truth."""
    with suppress(OSError, ValueError):
        record = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if isinstance(record, dict) and record.get("truth_is") in get_args(TruthIs):
            value = record.get("ignore_value")
            return cast("TruthIs", record["truth_is"]), value if isinstance(value, int) else None
    return "auto", None


def find(folder: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Return the image and truth of each pair in natural order, and the test files left out.

    Raises
    ------
    ImageError
        If nothing is found or a partner is missing.
    """
    files = section_files(folder, volumes=True)
    truths = _inside(folder, TRUTH_WORDS) or [f for f in files if _bare(f, TRUTH_WORDS) != _name(f)]
    images = _inside(folder, IMAGE_WORDS) or [f for f in files if f not in truths]
    if not images or not truths:
        missing = "truth" if images else "images" if truths else "images or truth"
        raise ImageError(
            f"{folder}: no {missing} found; looked for the subfolders images/ and truth/ (or"
            " labels/, masks/, annotations/, membranes/) and for files such as NAME.tif with"
            " NAME-truth.tif (or -labels, -mask), PNG and JPEG likewise"
        )
    by_image, by_truth = _by_place(images), _by_place(truths)
    left_out = []
    if "train" in by_image:
        left_out = [places.pop("test") for places in (by_image, by_truth) if "test" in places]
    if len(by_image) == len(by_truth) == 1:
        return list(zip(by_image.values(), by_truth.values(), strict=True)), left_out
    _check_partners(by_image, by_truth, folder)
    return [(by_image[place], by_truth[place]) for place in by_image], left_out


def _check_partners(images: dict[str, Path], truths: dict[str, Path], folder: Path) -> None:
    alone = [images[place] for place in images if place not in truths]
    unused = [truths[place] for place in truths if place not in images]
    if alone or unused:
        raise ImageError(
            f"{folder}: {len(images)} images and {len(truths)} truths do not pair by name;"
            f"{_listed(alone, ' without a truth')}{_listed(unused, ' without an image')}"
            " give a pair one name, such as a.tif and a-truth.tif"
        )


def _inside(folder: Path, words: str) -> list[Path]:
    """Return the image files of the one subfolder that is called by one of `words`."""
    found = sorted(
        p for p in folder.iterdir() if p.is_dir() and re.fullmatch(words, p.name.casefold())
    )
    if len(found) > 1:
        names = " and ".join(p.name + "/" for p in found)
        raise ImageError(f"{folder}: {names} could each be meant; keep one of them here")
    return section_files(found[0], volumes=True) if found else []


def _by_place(files: Sequence[Path]) -> dict[str, Path]:
    """Return the files by what is left of their names without any word for image or truth."""
    places: dict[str, Path] = {}
    for file in files:
        place = _strip(_bare(file, TRUTH_WORDS), IMAGE_WORDS)
        if place in places:
            raise ImageError(f"{file}: and {places[place].name} claim the same place; keep one")
        places[place] = file
    return places


def _name(file: Path) -> str:
    return file.stem.casefold().removesuffix(".ome")


def _bare(file: Path, words: str) -> str:
    return _strip(_name(file), words)


def _strip(name: str, words: str) -> str:
    """Return `name` without a last or first word of `words`."""
    short = re.sub(rf"(^|[-_. ])({words})$", "", name)
    return short if short != name else re.sub(rf"^({words})([-_. ]|(?=\d))", "", name)


def _listed(files: Sequence[Path], what: str) -> str:
    if not files:
        return ""
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return f"{what}: {', '.join(file.name for file in files[:3])}{more};"


def _together(truths: Sequence[Stack]) -> Sequence[Stack]:
    """Return single sections as one stack, for they are judged together; whole stacks as given."""
    if not all(len(t.array) == 1 and t.array.dtype == truths[0].array.dtype for t in truths):
        return truths
    array = np.concatenate([t.array for t in truths])
    source = str(Path(truths[0].source).parent) if len(truths) > 1 else truths[0].source
    return [replace(truths[0], array=array, source=source, notes=())]


def _joined(stacks: Sequence[NDArray[np.uint32] | None]) -> NDArray[np.uint32] | None:
    """Return the labels of all stacks, numbered on from stack to stack; None unless all have."""
    if len(stacks) == 1:
        return stacks[0]
    joined: list[NDArray[np.uint32]] = []
    last = np.uint32(0)
    for stack in stacks:
        if stack is None:
            return None
        # Equal numbers in two files are two cells.
        ids = distinct(stack)
        new = renumbered(stack, ids[ids > 0])
        joined.append(np.where(new > 0, new + last, np.uint32(0)))
        last = max(last, joined[-1].max())
    return np.concatenate(joined)


def _check_alike(images: Sequence[Stack]) -> None:
    first = images[0]
    for image in images:
        here = (image.array.shape[1:], image.array.dtype)
        if here != (first.array.shape[1:], first.array.dtype):
            raise ImageError(
                f"{image.source}: its sections are {here[0]} {here[1]}, those of {first.source}"
                f" {first.array.shape[1:]} {first.array.dtype}; crop or convert them alike, or"
                " train on one folder at a time"
            )
