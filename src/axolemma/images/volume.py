"""Volumes: stacks that are read box by box, whatever they lie in."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.geometry import Box
from axolemma.images.hdf5 import HDF5, open_hdf5, split_inside
from axolemma.images.read import check_file, count_sections, open_chunked, read, section_files

__all__ = ["Boxes", "StackVolume", "Volume", "open_volume", "traces"]


#: Bytes of whole sections that are held while a box is cut out of them, if one is no larger.
SECTIONS_AT_ONCE = 2**26

#: Side in pixels of the parts of a volume that its `traces` are of.
_TRACED = 64


class Boxes(Protocol):
    """What is read box by box.

    Attributes
    ----------
    shape
        ZYX.
    dtype
        Of a voxel.
    voxel_size
        ZYX in nm, None where the file does not say.
    source, holds, info
        As in `Stack`.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def voxel_size(self) -> tuple[float, float, float] | None: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def holds(self) -> str | None: ...  # noqa: D102
    @property
    def info(self) -> Mapping[str, Any]: ...  # noqa: D102

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box that lies within the volume."""
        ...


class Volume(Boxes, Protocol):
    """A volume in a file or store; it may be pickled and used in other processes.

    Attributes
    ----------
    block
        ZYX, what is best read at once.
    notes
        As in `Stack`.
    """

    @property
    def block(self) -> tuple[int, int, int]: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class StackVolume:
    """A file or folder of sections as a `Volume`: what a box needs is read section by section."""

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_size: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()
    holds: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The path, for messages."""
        return self.path

    @property
    def block(self) -> tuple[int, int, int]:
        """A whole section."""
        return (1, *self.shape[1:])

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box that lies within the volume."""
        sections = range(box.start[0], box.stop[0])
        if not sections:
            return np.empty(box.shape, self.dtype)
        # A few sections at a time: a narrow box of a stack may lie in sections of gigabytes.
        step = max(1, SECTIONS_AT_ONCE // (self.dtype.itemsize * self.shape[1] * self.shape[2]))
        voxels = np.empty(box.shape, self.dtype)
        for first in range(0, len(sections), step):
            part = read(self.path, sections=sections[first : first + step]).array
            voxels[first : first + step] = part[:, *box.slices[1:]]
        return voxels


def traces(volume: Boxes) -> dict[str, Any]:
    """Return what is likely to differ once a volume's voxels do, as JSON has it.

    Of a file its bytes and when it was changed; of a folder's sections these together; of anything
    else a hash of some voxels in the middle of its first, middle and last section.
    """
    path = split_inside(volume.source)[0]
    files = [path] if path.is_file() else section_files(path) if path.is_dir() else []
    if files:
        found = [(file.name, (seen := file.stat()).st_size, seen.st_mtime_ns) for file in files]
        last = datetime.fromtimestamp(max(when for *_, when in found) / 1e9, UTC)
        digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
        return {"changed": last.isoformat(), "files_sha256": digest}
    whole, hashed = Box.of(volume.shape), hashlib.sha256()
    y, x = (max(0, side - _TRACED) // 2 for side in volume.shape[1:])
    for z in sorted({0, volume.shape[0] // 2, volume.shape[0] - 1}):
        part = Box((z, y, x), (z + 1, y + _TRACED, x + _TRACED)).clip(whole)
        hashed.update(volume.read(part).tobytes())
    return {"voxels_sha256": hashed.hexdigest()}


def open_volume(address: str | Path, *, level: int = 0) -> Volume:
    """Open a volume; no voxel of it is read but for the first section of a stack.

    Parameters
    ----------
    address
        An OME-Zarr image or labels, a Zarr or N5 array, a precomputed volume, or whatever
        `read` reads.
    level
        Of a pyramid; 0 is the finest, and the only one of a stack.

    Raises
    ------
    ImageError
        As `read` raises it, or where there is no such level.
    """
    if (chunked := open_chunked(address, level=level)) is not None:
        return chunked
    path, inside = split_inside(address)
    if path.suffix.lower() in HDF5:
        check_file(path)
        return open_hdf5(path, inside, level=level)
    if level:
        raise ImageError(f"{address}: level {level} does not exist; the file has no pyramid")
    first = read(address, sections=[0])
    _, height, width = first.array.shape
    return StackVolume(
        str(address),
        (count_sections(address), height, width),
        first.array.dtype,
        first.voxel_size,
        first.notes,
        first.holds,
        first.info,
    )
