"""Read DM3 and DM4, the format of Gatan's DigitalMicrograph.

The file is a tree of tags; an image is one branch of it, found here without reading its pixels::

    ImageList
    └── 0, 1 …            without names; the first is often a thumbnail in colour
        └── ImageData
            ├── Data           the pixels, X fastest
            ├── DataType       what they are, a number of `_TYPES`
            ├── Dimensions     X, Y, Z
            └── Calibrations
                └── Dimension  of X, Y, Z: Scale and Units

The tree's own numbers are big-endian, of 4 bytes in DM3 and of 8 in DM4 where they are lengths;
what a tag holds is in the order of bytes that the header names.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.images.stack import Stack, check_sections, no_thickness, sized
from axolemma.images.tiff import NANOMETRES

__all__ = ["DM", "count_dm", "read_dm"]

DM = {".dm3", ".dm4"}

#: What a tag's numbers are, by the code that stands before them, in the letters of `struct`.
_NUMBERS = {
    2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "B", 9: "b", 10: "b", 11: "q", 12: "Q",
}  # fmt: skip
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_BRANCH, _LEAF = 20, 21

#: What pixels are, by `DataType`, where they are real numbers.
_TYPES = {
    1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "?",
}  # fmt: skip
_COMPLEX, _COLOUR = {3, 5, 13, 27, 28}, {8, 23}

#: Branches within branches; real files have some ten.
DEEPEST = 64

#: Parts of the description of one tag; real ones have some twenty.
MOST_PARTS = 1024

Tag = Any  # a number, a `_Run` of them, or a branch: a dict of tags by name or position


@dataclass(frozen=True, slots=True)
class _Run:
    """Where the numbers of a tag lie: a text, a table, pixels."""

    start: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Image:
    """One image of a file, ZYX; `dtype` is None where its pixels are not real numbers."""

    start: int
    shape: tuple[int, ...]
    code: int
    dtype: np.dtype[Any] | None
    scales: tuple[float, ...]
    units: tuple[str, ...]


def read_dm(path: Path, sections: Sequence[int] | None) -> Stack:
    """Read the largest image of a DM3 or DM4 file; see `axolemma.images.read`.

    Only the sections that are asked for are read from the disk.
    """
    file = _mapped(path)
    image, notes = _choose(_images(file, path), path)
    whole = np.ndarray(_three(image.shape), image.dtype, file.data, image.start)
    if sections is not None:
        check_sections(sections, len(whole), str(path))
        whole = whole[list(sections)]
    pixels = np.array(whole)  # a copy: the file is not held open
    if pixels.dtype.kind == "b":
        pixels, notes = (
            pixels.astype(np.uint8) * 255,
            (*notes, "1-bit pixels were read as 0 and 255"),
        )
    voxel_size, pixel_size, said = _voxel_size(image)
    return Stack(pixels, (0, 0), voxel_size, str(path), (*notes, *said), pixel_size=pixel_size)


def count_dm(path: Path) -> int:
    """Return how many sections `read_dm` finds in a file, without reading them."""
    return _three(_choose(_images(_mapped(path), path), path)[0].shape)[0]


def _mapped(path: Path) -> NDArray[np.uint8]:
    return np.memmap(path, np.uint8, mode="r")


def _choose(images: Sequence[_Image], path: Path) -> tuple[_Image, tuple[str, ...]]:
    """Return the largest image of real numbers, the last of several, and what to say of it."""
    if not images:
        raise ImageError(f"{path}: the file holds no image; open it in DigitalMicrograph and see")
    usable = [image for image in images if image.dtype is not None]
    image = max(reversed(usable or images), key=lambda one: math.prod(one.shape))
    shape = " x ".join(map(str, image.shape))
    if image.dtype is None:
        kind = (
            "complex numbers, a Fourier transform"
            if image.code in _COMPLEX
            else "packed colours"
            if image.code in _COLOUR
            else f"of DigitalMicrograph's data type {image.code}"
        )
        raise ImageError(
            f"{path}: its pixels ({shape}) are {kind}; save a grey image of integers or reals"
        )
    foreign = [unit for unit in image.units if "/" in unit or unit.lower().endswith("ev")]
    if foreign:
        raise ImageError(
            f"{path}: an axis of it is measured in {foreign[0]}, a diffraction pattern or a"
            " spectrum; give an image of tissue, or correct its calibration"
        )
    if sum(side > 1 for side in image.shape) > 3 or 0 in image.shape:
        raise ImageError(
            f"{path}: the image has the shape {image.shape}, where sections, rows and columns are"
            " expected; save one image or stack alone"
        )
    notes: tuple[str, ...] = ()
    if len(image.shape) > 3:
        notes += (f"axes of length 1 were left out of the shape {image.shape}",)
    if len(usable) > 1:
        notes += (f"the largest of the file's {len(usable)} images, {shape}, was read",)
    return image, notes


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    kept = shape if len(shape) <= 3 else tuple(side for side in shape if side > 1)
    z, y, x = (1, 1, 1, *kept)[-3:]
    return z, y, x


def _voxel_size(
    image: _Image,
) -> tuple[tuple[float, float, float] | None, tuple[float, float] | None, tuple[str, ...]]:
    """Return the ZYX voxel size in nm, or the YX pixel size, and a note where a part is missing."""
    told = [
        scale * NANOMETRES.get(unit.lower(), math.nan)
        for scale, unit, side in zip(image.scales, image.units, image.shape, strict=True)
        if len(image.shape) <= 3 or side > 1
    ]
    sizes = [size if 0 < size < math.inf else math.nan for size in told]
    if all(map(math.isnan, sizes)):
        return None, None, ()
    voxel, pixel = sized(([None] * 3 + sizes)[-3:])
    if voxel is not None:
        return voxel, None, ()
    if pixel is not None:
        return None, pixel, (no_thickness(pixel),)
    named = ", ".join(
        f"{axis} {size:g} nm"
        for axis, size in zip("ZYX"[-len(sizes) :], sizes, strict=True)
        if not math.isnan(size)
    )
    return None, None, (f"the voxel size ({named}) is incomplete and was not used",)


def _images(file: NDArray[np.uint8], path: Path) -> list[_Image]:
    tags = _Tags(file, path)
    found = tags.root.get("ImageList")
    entries = found.values() if isinstance(found, Mapping) else ()
    return [
        _image(one["ImageData"], tags)
        for one in entries
        if isinstance(one, Mapping)
        and isinstance(one.get("ImageData"), Mapping)
        and "Data" in one["ImageData"]
    ]


def _image(told: Mapping[str, Tag], tags: "_Tags") -> _Image:
    data, dimensions, code = told["Data"], told.get("Dimensions"), told.get("DataType")
    if not (isinstance(data, _Run) and isinstance(dimensions, Mapping) and isinstance(code, int)):
        raise tags.damaged("an image lacks its type, its size or its pixels")
    sides = [side for side in dimensions.values() if isinstance(side, int)]
    if len(sides) != len(dimensions) or not sides or min(sides) < 0:
        raise tags.damaged(f"the size of an image is {list(dimensions.values())}")
    dtype = np.dtype(tags.order + _TYPES[code]) if code in _TYPES else None
    if dtype is not None and math.prod(sides) * dtype.itemsize != data.bytes:
        raise tags.damaged(
            f"an image of {' x '.join(map(str, sides[::-1]))} {dtype.name} has {data.bytes} bytes"
        )
    scales, units = [], []
    calibrations = told.get("Calibrations")
    axes = calibrations.get("Dimension") if isinstance(calibrations, Mapping) else None
    listed = list(axes.values()) if isinstance(axes, Mapping) else []
    for axis in (listed + [{}] * len(sides))[: len(sides)]:
        known = axis if isinstance(axis, Mapping) else {}
        scale = known.get("Scale")
        scales.append(float(scale) if isinstance(scale, int | float) else math.nan)
        # A micro sign and a Greek letter look alike.
        units.append(tags.text(known.get("Units")).replace("\u03bc", "\u00b5"))
    return _Image(
        data.start, tuple(sides[::-1]), code, dtype, tuple(scales[::-1]), tuple(units[::-1])
    )


class _Tags:
    """The tree of tags of a file, read once from top to bottom.

    Parameters
    ----------
    file
        Its bytes.
    path
        For messages.
    """

    def __init__(self, file: NDArray[np.uint8], path: Path) -> None:
        self._file, self._path, self._at = file.data, path, 0
        version = self._take(">I")
        self._long = ">Q" if version == 4 else ">I"
        self._has_lengths = version == 4
        self._take(self._long)  # how long the file is, which some programs leave wrong
        order = self._take(">I")
        if version not in (3, 4) or order not in (0, 1):
            raise self.damaged(f"version {version}, order of bytes {order}")
        self.order = "<" if order else ">"
        self.root = self._branch(0)

    def text(self, tag: Tag) -> str:
        """Return what a tag says in letters; empty where it does not."""
        if not isinstance(tag, _Run):
            return ""
        letters = bytes(self._file[tag.start : tag.start + tag.bytes])
        return letters.decode(f"utf-16-{'l' if self.order == '<' else 'b'}e", "replace").rstrip(
            "\0"
        )

    def damaged(self, reason: str) -> ImageError:
        """Return the error that says what is wrong."""
        return ImageError(
            f"{self._path}: cannot be read, the file is cut short or damaged ({reason}); copy it"
            " again"
        )

    def _take(self, form: str) -> Any:
        """Return the next number."""
        try:
            (number,) = struct.unpack_from(form, self._file, self._at)
        except struct.error as error:
            raise self.damaged("it ends within its tags") from error
        self._at += struct.calcsize(form)
        return number

    def _skip(self, size: int) -> int:
        """Step over bytes and return where they begin."""
        start = self._at
        if size > len(self._file) - start:
            raise self.damaged(f"{size} bytes are told and {len(self._file) - start} are there")
        self._at += size
        return start

    def _branch(self, depth: int) -> dict[str, Tag]:
        if depth > DEEPEST:
            raise self.damaged(f"tags lie more than {DEEPEST} deep")
        self._skip(2)  # whether the branch is sorted and open
        count = self._take(self._long)
        tags: dict[str, Tag] = {}
        for position in range(count):
            kind, length = self._take(">B"), self._take(">H")
            start = self._skip(length)
            name = bytes(self._file[start : start + length]).decode("latin-1")
            if self._has_lengths:
                self._take(self._long)
            if kind not in (_BRANCH, _LEAF):
                raise self.damaged(f"a tag of the kind {kind} at byte {start - 3}")
            tag = self._branch(depth + 1) if kind == _BRANCH else self._leaf()
            tags[name if name and name not in tags else f"#{position}"] = tag
        return tags

    def _leaf(self) -> Tag:
        start = self._skip(4)
        if bytes(self._file[start : start + 4]) != b"%%%%":
            raise self.damaged(f"no tag at byte {start}")
        count = self._take(self._long)
        if not 0 < count <= MOST_PARTS:
            raise self.damaged(f"a tag of {count} parts at byte {start}")
        parts = [self._take(self._long) for _ in range(count)]
        kind = parts[0]
        if kind in _NUMBERS and count == 1:
            return self._take(self.order + _NUMBERS[kind])
        if kind == _STRING and count == 2:
            return self._run(2 * parts[1])
        if kind == _STRUCT:
            return self._run(self._size(parts))
        if kind == _ARRAY and count >= 3:
            return self._run(self._size(parts[1:-1]) * parts[-1])
        raise self.damaged(f"a tag of the kind {kind} at byte {start}")

    def _size(self, parts: Sequence[int]) -> int:
        """Return the bytes of a number or of a struct, by its parts."""
        kinds = parts[4::2] if parts[0] == _STRUCT else parts
        if not set(kinds) <= _NUMBERS.keys():
            raise self.damaged(f"a tag of the kinds {list(kinds[:8])} at byte {self._at}")
        return sum(struct.calcsize(f"<{_NUMBERS[kind]}") for kind in kinds)

    def _run(self, size: int) -> _Run:
        return _Run(self._skip(size), size)
