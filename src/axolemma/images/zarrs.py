"""OME-Zarr: volumes that are read and written box by box, on disk and in object stores.

What is written follows OME-Zarr 0.5 (Zarr v3, sharded) or 0.4 (Zarr v2), labels where viewers look
for them::

    out.zarr/             image: multiscales, voxel size
    ├── 0, 1, 2 …         its levels, each half as fine
    └── labels/           the list of what is below
        └── cells/        labels: multiscales
            └── 0, 1, 2 …

A shard is the unit of writing: two who write parts of one shard at once would lose one of the
parts, so `ZarrVolume.write` takes whole shards only.
"""

import functools
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import AxolemmaError, ImageError, InputError
from axolemma.geometry import Box
from axolemma.images.access import extra_package
from axolemma.images.pyramid import Finer, Kind, coarsened, levels
from axolemma.images.stores import (
    address_text,
    from_store,
    is_remote,
    object_store,
    store_trouble,
)
from axolemma.images.tiff import NANOMETRES

__all__ = [
    "ZarrVolume",
    "check_blocks",
    "create_zarr",
    "enlist_labels",
    "is_listed",
    "is_zarr",
    "open_zarr",
    "refuse_in_the_way",
    "remove_zarr",
]

#: Sides of the chunks in a shard, ZYX, and of the shard where nobody says otherwise.
CHUNK, SHARD = (16, 128, 128), (16, 1024, 1024)

_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


@dataclass(frozen=True, slots=True)
class ZarrVolume:
    """One level of an OME-Zarr image, or a Zarr array; may be pickled and used in other processes.

    Parameters
    ----------
    address
        Of the array: a path or an URL.
    shape
        ZYX.
    dtype
        Of a voxel.
    block
        ZYX, what is written at once: a shard, or a chunk where there are none.
    voxel_size
        ZYX in nm, None where the file does not say.
    factors
        ZYX, how many voxels of the next finer level make one; ones for the finest.
    kind
        Whether its numbers are grey values or labels.
    levels
        How many levels the image has.
    axes
        How many the array has in the file: two, or more than three, the first of length 1.
    notes, holds, info
        As in `Stack`.
    """

    address: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    block: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None = None
    factors: tuple[int, int, int] = (1, 1, 1)
    kind: Kind = "image"
    levels: int = 1
    axes: int = 3
    notes: tuple[str, ...] = ()
    holds: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """For messages."""
        return self.address

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box that lies within the volume."""
        array = self._opened(writable=False)
        cut = (0,) * (self.axes - 3) + box.slices[-min(self.axes, 3) :]
        return np.asarray(_asked(self.address, lambda: array[cut])).reshape(box.shape)

    def write(self, box: Box, voxels: NDArray[Any]) -> None:
        """Write the voxels of a box that consists of whole blocks.

        Raises
        ------
        InputError
            If the box starts or ends within a block, but for the border, or the shapes differ.
        """
        if self.axes != 3:
            raise InputError(f"{self.address}: the array has {self.axes} axes; only ZYX is written")
        check_blocks(self.address, self.shape, self.block, box, voxels)
        array = self._opened(writable=True)
        try:
            array[box.slices] = voxels
        except Exception as error:
            if from_store(error):
                raise store_trouble(self.address, error) from error
            # A shard at the border is read before it is written, and one that was damaged cannot
            # be; nothing in it outlives this.
            _asked(self.address, lambda: _removed(array, box, self.block))
            _asked(self.address, lambda: array.__setitem__(box.slices, voxels))

    def _opened(self, *, writable: bool) -> Any:
        # What it should be is part of the key, so that an array made anew is opened anew.
        return _array(self.address, self.shape, str(self.dtype), self.block, writable=writable)

    def coarsened(self, fine: Finer, box: Box) -> NDArray[Any]:
        """Return the voxels of a box of this level, made from the next finer one."""
        return coarsened(fine, box, self.factors, self.kind)


def check_blocks(
    address: str,
    shape: tuple[int, int, int],
    block: tuple[int, int, int],
    box: Box,
    voxels: NDArray[Any],
) -> None:
    """Raise `InputError` unless voxels fill a box of whole blocks of a volume."""
    whole = Box.of(shape)
    aligned = all(
        start % side == 0 and (stop % side == 0 or stop == end)
        for start, stop, side, end in zip(box.start, box.stop, block, shape, strict=True)
    )
    if not aligned or box.clip(whole) != box or voxels.shape != box.shape:
        raise InputError(
            f"{address}: {voxels.shape} voxels for {box} are not whole blocks of"
            f" {block} in a volume of {shape}; write whole blocks"
        )


def is_zarr(address: str | Path) -> bool:
    """Tell whether an address is one of a Zarr group or array, there or not."""
    text = str(address)
    if is_remote(text) or Path(text).suffix.lower() == ".zarr":
        return True
    return _marked(text)


def open_zarr(address: str | Path, *, level: int = 0) -> ZarrVolume:
    """Open an OME-Zarr image or labels (0.4, 0.5), or a Zarr array of two or three axes.

    Parameters
    ----------
    address
        A folder, or an URL of an object store.
    level
        Of the pyramid; 0 is the finest.

    Raises
    ------
    ImageError
        If nothing is there, it is no such group or array, has more than three axes longer than 1,
        or no such level, or a package is missing.
    """
    address = address_text(address)
    zarr = extra_package("zarr", extra="zarr", path=address)
    if not is_remote(address) and not _marked(address):
        what = "is no Zarr group or array" if Path(address).exists() else "does not exist"
        raise ImageError(f"{address}: {what}; give the folder that holds zarr.json or .zgroup")
    found = _asked(address, lambda: zarr.open(_store(address, writable=False), mode="r"))
    if isinstance(found, zarr.Array):
        if level:
            raise ImageError(f"{address}: an array has no levels; give the image above it")
        return _volume(address, found, {}, None, (1, 1, 1))
    attributes = dict(found.attrs)
    ome = attributes.get("ome", attributes)
    scales = ome.get("multiscales") or [{}]
    levels = scales[0].get("datasets", [])
    if not levels:
        inside = ", ".join(sorted(found.keys())[:6]) or "nothing"
        raise ImageError(
            f"{address}: the Zarr group is no OME-Zarr image, it has no multiscales; give an array"
            f" or image in it (it holds: {inside})"
        )
    if not 0 <= level < len(levels):
        raise ImageError(f"{address}: level {level} does not exist; there are 0-{len(levels) - 1}")
    sizes = [_scale(scales[0], levels[n]) for n in (level, max(0, level - 1))]
    factors = (1, 1, 1)
    if all(sizes):
        ratios = [round(a / b) for a, b in zip(sizes[0][-3:], sizes[1][-3:], strict=True)]
        z, y, x = [1] * (3 - len(ratios)) + ratios
        factors = (z, y, x)
    array = found[levels[level]["path"]]
    kind: Kind = "labels" if "image-label" in ome else "image"
    card = {"kind": kind, "levels": len(levels), **attributes.get("axolemma", {})}
    size, notes = _voxel_size(scales[0], sizes[0])
    card["notes"] = notes
    return _volume(f"{address}/{levels[level]['path']}", array, card, size, factors)


def create_zarr(
    address: str | Path,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    voxel_size: tuple[float, float, float] | None = None,
    block: tuple[int, int, int] = SHARD,
    kind: Kind = "image",
    holds: str | None = None,
    info: Mapping[str, Any] | None = None,
    version: Literal["0.5", "0.4"] = "0.5",
) -> list[ZarrVolume]:
    """Make an OME-Zarr image, or labels, with all its levels, still empty.

    Parameters
    ----------
    address
        Where; a Zarr that is there is replaced. Labels lie below their image, in ``labels/NAME``.
    shape
        ZYX.
    dtype
        Of a voxel.
    voxel_size
        ZYX in nm; ones without a unit where None.
    block
        ZYX, the shard; in 0.4, which has none, the chunk.
    kind
        ``labels`` need an integer dtype.
    holds, info
        As in `write_tiff`.
    version
        Of OME-Zarr.

    Returns
    -------
    list of ZarrVolume
        The levels, the finest first.

    Raises
    ------
    InputError
        If the place cannot be written or holds anything but a Zarr, or labels are no integers.
    """
    address, dtype = address_text(address), np.dtype(dtype)
    zarr = extra_package("zarr", extra="zarr", path=address)
    if kind == "labels" and dtype.kind not in "ui":
        raise InputError(f"{address}: labels are integers, not {dtype}")
    refuse_in_the_way(address)
    form: Literal[2, 3] = 3 if version == "0.5" else 2
    steps = levels(shape, voxel_size)
    name, scales = address.rsplit("/", 1)[-1], []
    finest, unit = voxel_size or (1.0, 1.0, 1.0), {"unit": "nanometer"} if voxel_size else {}
    for number, (_, total) in enumerate(steps):
        scale = [float(a * n) for a, n in zip(finest, total, strict=True)]
        shift = [float(a * (n - 1) / 2) for a, n in zip(finest, total, strict=True)]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(shift):
            transforms.append({"type": "translation", "translation": shift})
        scales.append({"path": str(number), "coordinateTransformations": transforms})
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": scales,
        "type": "mode" if kind == "labels" else "mean",
    }
    ome: dict[str, Any] = {"multiscales": [multiscale]}
    if kind == "labels":
        ome["image-label"] = {"source": {"image": "../../"}} if is_listed(address) else {}
    if form == 2:
        multiscale["version"] = version
        if kind == "labels":
            ome["image-label"]["version"] = version
    card = {"axolemma": {"holds": holds, "info": dict(info or {})}}

    def make() -> None:
        group = zarr.create_group(
            _store(address, writable=True),
            overwrite=True,
            zarr_format=form,
            attributes={"ome": {"version": version, **ome}, **card} if form == 3 else ome | card,
        )
        for number, (_, total) in enumerate(steps):
            size = tuple(-(-side // n) for side, n in zip(shape, total, strict=True))
            chunk = tuple(_divisor(b, c) for b, c in zip(block, CHUNK, strict=True))
            group.create_array(
                str(number),
                shape=size,
                dtype=dtype,
                fill_value=0,
                **(
                    {"chunks": chunk, "shards": block, "dimension_names": list("zyx")}
                    if form == 3
                    else {"chunks": block, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
                ),
            )

    _asked(address, make)
    if is_listed(address):
        enlist_labels(address)
    _array.cache_clear()
    return [open_zarr(address, level=number) for number in range(len(steps))]


def enlist_labels(address: str | Path) -> None:
    """Name labels at ``….zarr/labels/NAME`` in the group above them, where viewers look for them.

    Raises
    ------
    ImageError
        If no labels are there.
    """
    address = address_text(address)
    zarr = extra_package("zarr", extra="zarr", path=address)
    above, name = address.replace("\\", "/").rsplit("/", 1)

    def enlist() -> None:
        form = zarr.open_group(_store(address, writable=False), mode="r").metadata.zarr_format
        group = zarr.open_group(_store(above, writable=True), mode="a", zarr_format=form)
        told = dict(group.attrs)
        ome = told.get("ome", {"version": "0.5"}) if form == 3 else told
        ome["labels"] = sorted({*ome.get("labels", []), name})
        group.attrs.update({"ome": ome} if form == 3 else ome)

    _asked(address, enlist)


def remove_zarr(address: str | Path) -> None:
    """Remove a Zarr group or array and all that is in it; nothing where there is none."""
    address = address_text(address)

    def remove() -> None:
        if not _marked(address):
            return
        if not is_remote(address):
            shutil.rmtree(address)
            return
        from zarr.core.sync import sync

        sync(_store(address, writable=True).delete_dir(""))

    _asked(address, remove, "cannot be removed")


def refuse_in_the_way(address: str) -> None:
    """Raise `InputError` where a place holds files, and no Zarr that they would be part of."""
    if _in_the_way(address):
        raise InputError(f"{address}: something else than a Zarr is there; choose another place")


def _in_the_way(address: str) -> bool:
    if not is_remote(address):
        place = Path(address)
        if not place.is_dir():
            return place.exists()
        return any(place.iterdir()) and not _marked(address)
    from zarr.core.sync import sync

    store = _store(address, writable=False)

    async def holds_anything() -> bool:
        async for _ in store.list():
            return True
        return False

    return bool(_asked(address, lambda: not _marked(address) and sync(holds_anything())))


def _marked(address: str) -> bool:
    """Tell whether a Zarr group or array is at a place."""
    if not is_remote(address):
        return any((Path(address) / mark).is_file() for mark in _MARKS)
    from zarr.core.sync import sync

    store = _store(address, writable=False)
    return any(sync(store.exists(mark)) for mark in _MARKS)


def _divisor(block: int, chunk: int) -> int:
    """Return the largest divisor of a shard's side that is no longer than a chunk's."""
    return max(n for n in range(1, min(block, chunk) + 1) if block % n == 0)


def is_listed(address: str | Path) -> bool:
    """Tell whether labels lie where an image's labels are listed, in its group ``labels``."""
    return str(address).replace("\\", "/").split("/")[-2:-1] == ["labels"]


def _volume(
    address: str,
    array: Any,
    card: Mapping[str, Any],
    voxel_size: tuple[float, float, float] | None,
    factors: tuple[int, int, int],
) -> ZarrVolume:
    shape = tuple(int(side) for side in array.shape)
    block = tuple(int(side) for side in (array.shards or array.chunks))
    extra = len(shape) - 3
    if len(shape) < 2 or any(side != 1 for side in shape[: max(0, extra)]):
        raise ImageError(
            f"{address}: the array has the shape {shape}, where a stack (Z, Y, X) or a section"
            " is expected; choose one channel and one time point, and save it alone"
        )
    if array.dtype.kind not in "buif":
        raise ImageError(f"{address}: voxels of type {array.dtype} are not read; save numbers")
    notes = list(card.get("notes", ()))
    if extra > 0:
        notes.append(f"{extra} leading axes of length 1 were left out")
    z, y, x = ((1, *shape) if extra < 0 else shape)[-3:]
    bz, by, bx = ((1, *block) if extra < 0 else block)[-3:]
    return ZarrVolume(
        address,
        (z, y, x),
        np.dtype(array.dtype),
        (bz, by, bx),
        voxel_size,
        factors,
        card.get("kind", "image"),
        card.get("levels", 1),
        len(shape),
        tuple(notes),
        card.get("holds"),
        card.get("info", {}),
    )


def _scale(multiscale: Mapping[str, Any], level: Mapping[str, Any]) -> list[float]:
    """Return the scale of a level along all axes, empty where the file does not say."""
    total: list[float] = []
    for part in (level, multiscale):
        for transform in part.get("coordinateTransformations", ()):
            scale = transform.get("scale")
            if isinstance(scale, Sequence) and all(isinstance(s, int | float) for s in scale):
                total = [a * b for a, b in zip(total or [1.0] * len(scale), scale, strict=True)]
    return total


def _voxel_size(
    multiscale: Mapping[str, Any], scale: list[float]
) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    axes = [a if isinstance(a, dict) else {"name": a} for a in multiscale.get("axes", ())][-3:]
    named = [a.get("name", "").lower() for a in axes]
    if len(axes) > 1 and named != ["z", "y", "x"][-len(axes) :]:
        raise ImageError(
            f"the axes of {multiscale.get('name', 'the image')} are {', '.join(named)}, where"
            " z, y, x are expected; save it with its axes in that order"
        )
    units = [NANOMETRES.get(str(axis.get("unit", "")).lower()) for axis in axes]
    if len(scale) < 3 or len(units) < 3 or None in units:
        return None, ()
    size = [a * (b or 1) for a, b in zip(scale[-3:], units, strict=True)]
    if not all(math.isfinite(side) and side > 0 for side in size):
        return None, (f"the voxel size ({size} nm) is absurd and was not used",)
    return (size[0], size[1], size[2]), ()


@functools.lru_cache(maxsize=32)
def _array(address: str, *_: object, writable: bool) -> Any:
    import zarr

    mode: Literal["r", "r+"] = "r+" if writable else "r"
    return _asked(address, lambda: zarr.open_array(_store(address, writable=writable), mode=mode))


def _removed(array: Any, box: Box, block: tuple[int, ...]) -> None:
    """Remove the shards of a box."""
    from zarr.core.sync import sync

    places = (
        range(a // side, -(-b // side))
        for a, b, side in zip(box.start, box.stop, block, strict=True)
    )
    for place in product(*places):
        sync((array.store_path / array.metadata.encode_chunk_key(place)).delete())


def _store(address: str, *, writable: bool) -> Any:
    if not is_remote(address):
        return address
    from zarr.storage import ObjectStore

    return ObjectStore(object_store(address), read_only=not writable)


def _asked(address: str, ask: Any, trouble: str = "cannot be opened or is damaged") -> Any:
    """Do what may fail in a store, and say it in one sentence when it does."""
    try:
        return ask()
    except (AxolemmaError, MemoryError):
        raise
    except Exception as error:
        if from_store(error):
            raise store_trouble(address, error) from error
        text = str(error).strip().splitlines()
        raise ImageError(f"{address}: {trouble} ({text[0] if text else 'no details'})") from error
