"""Convert a volume from any format that is read to OME-Zarr, precomputed or TIFF, by blocks.

Memory holds one part of the volume at a time, however large it is; the result appears whole at the
end, with all its levels, or not at all.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.geometry import Box, grid
from axolemma.images import (
    PRECOMPUTED,
    Kind,
    TensorVolume,
    Volume,
    ZarrVolume,
    create_precomputed,
    create_zarr,
    enlist_labels,
    is_listed,
    is_precomputed,
    is_remote,
    is_zarr,
    open_volume,
    refuse_input,
    remove_precomputed,
    remove_zarr,
    write_tiff_sections,
)

__all__ = ["BLOCK", "convert", "parts"]

#: ZYX, the shard of an OME-Zarr.
BLOCK = (16, 1024, 1024)

#: Bytes of a volume that are held at once, if a block of what is written is no larger.
BUDGET = 512 * 2**20

_TIFF = (".tif", ".tiff")

#: What volumes say that they hold where their numbers are labels.
_LABELS = ("cells", "neurons")


def convert(
    source: str | Path,
    target: str | Path,
    *,
    kind: Kind | None = None,
    voxel_size: tuple[float, float, float] | None = None,
    block: tuple[int, int, int] | None = None,
    version: Literal["0.5", "0.4"] = "0.5",
    overwrite: bool = False,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
    say: Callable[[str], None] = lambda _note: None,
) -> str:
    """Write a volume in another format.

    Parameters
    ----------
    source
        Whatever `images.open_volume` opens.
    target
        ``….zarr`` on disk or in an object store becomes an OME-Zarr image with its pyramid,
        ``….zarr/labels/NAME`` labels of the image there, ``precomputed://FOLDER`` neuroglancer's
        format, ``….tif`` an ImageJ TIFF, or OME-TIFF where ImageJ's does not do.
    kind
        Labels are never averaged, and are integers; None for what the source says.
    voxel_size
        ZYX in nm, instead of what the source says.
    block
        ZYX, the shard of an OME-Zarr 0.5, the chunk of 0.4; `BLOCK` where None. Shards of
        precomputed volumes follow from their size.
    version
        Of OME-Zarr.
    overwrite
        Replace what is there.
    advance
        Is told how many voxels are read or made, and of how many.
    say
        Is told what a user should know.

    Returns
    -------
    str
        The target.

    Raises
    ------
    InputError
        If the source cannot be read, the target's format is not known or something is there.
    AxolemmaError
        If a disk or store fails.
    """
    target = str(target).rstrip("/")
    tiff = Path(target).suffix.lower() in _TIFF
    address = target.removeprefix(PRECOMPUTED)
    if not tiff and address == target and not is_zarr(target) and not is_listed(target):
        raise InputError(
            f"{target}: its name tells no format that is written; give one that ends in .zarr or"
            f" .tif, or {PRECOMPUTED}{target}"
        )
    volume = open_volume(source)
    for note in volume.notes:
        say(note)
    size = voxel_size or volume.voxel_size
    kind = kind or _kind(volume)
    if size is None and address != target:
        raise InputError(
            f"{source}: the voxel size is not known, and precomputed cannot do without;"
            " --voxel-size Z,Y,X tells it"
        )
    if size is None:
        say("the voxel size is not known, none is written; --voxel-size Z,Y,X tells it")
    if kind == "labels" and volume.dtype.kind not in "ui":
        raise InputError(f"{source}: labels are integers, not {volume.dtype}; leave --labels out")
    refuse_input(address, str(source).removeprefix(PRECOMPUTED))
    if size is not None and address != target:
        if block is not None:
            raise InputError(f"{target}: shards of precomputed follow from its size; no --block")
        dtype = _precomputed(volume.dtype, kind)
        if dtype.kind == "f" and dtype.itemsize < volume.dtype.itemsize:
            say(f"precomputed knows no {volume.dtype}; {dtype} is written")
        with _appearing(target, overwrite=overwrite) as place:
            made = create_precomputed(
                place, volume.shape, dtype, voxel_size=size, kind=kind, holds=volume.holds,
                info=volume.info,
            )  # fmt: skip
            _fill(volume, made, advance)
    elif not tiff:
        with _appearing(target, overwrite=overwrite) as place:
            levels = create_zarr(
                place, volume.shape, _plain(volume.dtype), voxel_size=size, block=block or BLOCK,
                kind=kind, version=version, holds=volume.holds, info=volume.info,
            )  # fmt: skip
            _fill(volume, levels, advance)
        if is_listed(target):
            enlist_labels(target)
    else:
        _to_tiff(volume, Path(target), size, overwrite, advance)
    return target


def parts(shape: tuple[int, int, int], block: tuple[int, int, int], itemsize: int) -> Iterator[Box]:
    """Yield boxes of whole blocks that cover a volume, as wide as the budget of memory allows.

    A source whose sections are decoded whole is then read once or a few times, not once a block.
    """
    side = list(block)
    for axis in (2, 1):
        rest = itemsize * side[0] * side[1] * side[2] // side[axis]
        count = max(1, BUDGET // (rest * block[axis]))
        side[axis] = block[axis] * min(count, -(-shape[axis] // block[axis]))
    return grid(shape, (side[0], side[1], side[2]))


def _fill(
    volume: Volume,
    levels: Sequence[ZarrVolume | TensorVolume],
    advance: Callable[[int, int], None],
) -> None:
    """Write the finest level from a volume, and each other from the one before it."""
    done, total = 0, sum(_voxels(level.shape) for level in levels)
    finest = levels[0]
    for part in parts(finest.shape, finest.block, finest.dtype.itemsize):
        finest.write(part, _narrowed(volume.read(part), finest.dtype, volume.source))
        done += _voxels(part.shape)
        advance(done, total)
    for fine, coarse in pairwise(levels):
        for box in grid(coarse.shape, coarse.block):
            coarse.write(box, coarse.coarsened(fine, box))
            done += _voxels(box.shape)
            advance(done, total)


def _to_tiff(
    volume: Volume,
    target: Path,
    size: tuple[float, float, float] | None,
    overwrite: bool,
    advance: Callable[[int, int], None],
) -> None:
    if target.exists() and not overwrite:
        raise InputError(f"{target}: this is there already; choose a new name, or say --overwrite")
    dtype = _plain(volume.dtype)
    if dtype.kind in "ui" and dtype.itemsize == 8:
        dtype = np.dtype(np.uint32)
    total = _voxels(volume.shape)

    def sections() -> Iterator[NDArray[Any]]:
        depth, *sides = volume.shape
        # As deep as a block of the source, if memory has room: else each would be decoded anew.
        deep = max(1, min(volume.block[0], BUDGET // (_voxels(sides) * volume.dtype.itemsize)))
        for first in range(0, depth, deep):
            last = min(depth, first + deep)
            slab = volume.read(Box((first, 0, 0), (last, *sides)))
            for section in slab:
                yield _narrowed(section, dtype, volume.source)
            advance(last * _voxels(sides), total)

    write_tiff_sections(
        target, sections(), shape=volume.shape, dtype=dtype, voxel_size=size, holds=volume.holds,
        info=volume.info,
    )  # fmt: skip


def _narrowed(voxels: NDArray[Any], dtype: np.dtype[Any], source: str) -> NDArray[Any]:
    if voxels.dtype.kind in "ui" and dtype.kind in "ui" and not np.can_cast(voxels.dtype, dtype):
        limits = np.iinfo(dtype)
        if voxels.max() > limits.max or voxels.min() < limits.min:
            raise InputError(
                f"{source}: holds numbers from {voxels.min()} to {voxels.max()}, more than the"
                f" {dtype} of that format; convert it to .zarr"
            )
    return voxels.astype(dtype, copy=False)


def _kind(volume: Volume) -> Kind:
    """Return what a volume says that its numbers are."""
    told = volume.holds in _LABELS or (isinstance(volume, ZarrVolume) and volume.kind == "labels")
    return "labels" if told and volume.dtype.kind in "ui" else "image"


def _precomputed(dtype: np.dtype[Any], kind: Kind) -> np.dtype[Any]:
    """Return the type that a precomputed volume has instead."""
    if kind == "labels":
        return np.dtype(np.uint64)
    return np.dtype(np.float32) if dtype.kind == "f" else _plain(dtype)


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type as it is written: bytes in this machine's order, half floats as floats."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def _voxels(shape: tuple[int, ...] | list[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


@contextmanager
def _appearing(target: str, *, overwrite: bool) -> Iterator[str]:
    """Give the place of a volume that takes the place of `target` when the block ends well.

    On disk it lies beside the target and is renamed; an object store knows no renaming, so there
    the target itself is filled and removed again when the block raises.
    """
    address = target.removeprefix(PRECOMPUTED)
    form = PRECOMPUTED if address != target else ""
    ours, remove = (is_precomputed, remove_precomputed) if form else (is_zarr, remove_zarr)
    if is_remote(address):
        if not overwrite and _is_there(target):
            raise InputError(
                f"{target}: this is there already; choose a new name, or say --overwrite"
            )
        try:
            yield target
        except BaseException:
            remove(target)
            raise
        return
    final = Path(address)
    partial, old = (final.with_name(f".{final.name}.{what}") for what in ("partial", "old"))
    if old.is_dir() and not final.exists():
        old.rename(final)  # A conversion was killed when the old one had left and no new one stood.
    if final.exists() and not (overwrite and ours(final)):
        hint = "or say --overwrite" if ours(final) else "or remove it"
        raise InputError(f"{target}: this is there already; choose a new name, {hint}")
    if not final.resolve().parent.is_dir() and not is_listed(target):
        raise InputError(f"{target}: the folder {final.parent} does not exist; make it first")
    if is_listed(target) and not _is_there(str(final.parent.parent)):
        raise InputError(
            f"{target}: labels belong to an image, and {final.parent.parent} is none; convert the"
            " image first, or give a name of its own that ends in .zarr"
        )
    for left in (partial, old):  # by a conversion that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        yield f"{form}{partial / final.name}"
        if final.exists():
            final.rename(old)
        (partial / final.name).rename(final)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not final.exists():
            old.rename(final)
        raise
    finally:
        _removed(partial)


def _removed(folder: Path) -> None:
    """Remove a folder, into which threads that were interrupted may write a little longer."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _is_there(target: str) -> bool:
    try:
        open_volume(target)
    except InputError:
        return False
    return True
