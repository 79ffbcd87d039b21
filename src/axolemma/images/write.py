"""Write stacks and pictures, whole or not at all."""

import errno
import json
import math
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import AxolemmaError, InputError
from axolemma.images.hdf5 import split_inside
from axolemma.images.stores import is_remote
from axolemma.labels import colours

__all__ = [
    "appearing",
    "check_places",
    "refuse_input",
    "replacing",
    "write_png",
    "write_tiff",
    "write_tiff_sections",
]

CLASSIC_LIMIT = 2**32 - 2**25  # bytes that a classic TIFF may point to, less room for metadata
IMAGEJ_TYPES = {"uint8", "uint16", "float32"}
OME_TYPES = {"int8", "int16", "int32", "uint32", "float64"}
#: What is numbers of objects, and shown in colours.
LABELS = {"cells", "neurons"}
_COLOR_MAP = 320  # the number of the tag
DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def refuse_input(place: str | Path, *inputs: str | Path | None) -> None:
    """Refuse to write over what is read.

    Parameters
    ----------
    place
        File, folder or address to make or to replace.
    inputs
        What is read: files, folders, addresses, ``volume.h5:/path/in/file``; None for none.

    Raises
    ------
    InputError
        If one of them is this place, or lies in it.
    """
    for given in inputs:
        if given is not None and _lies_in(given, place):
            raise InputError(f"{place}: is the input itself; choose another name")


def _lies_in(given: str | Path, place: str | Path) -> bool:
    if is_remote(given) or is_remote(place):
        return f"{str(given).rstrip('/')}/".startswith(f"{str(place).rstrip('/')}/")
    return split_inside(given)[0].resolve().is_relative_to(Path(place).resolve())


def check_places(
    *files: str | Path | None,
    folders: Collection[str | Path | None] = (),
    inputs: Collection[str | Path | None] = (),
) -> None:
    """Refuse places where results cannot be made, before any of them is and before the work.

    Parameters
    ----------
    files, folders
        To make or replace; None for those that nobody asked for.
    inputs
        What is read, see `refuse_input`.

    Raises
    ------
    InputError
        If one of the files is an input or a folder or named twice, one of the folders is a file, or
        the folder that one is to lie in is missing.
    """
    named: set[Path] = set()
    for place in (Path(file) for file in files if file is not None):
        if place.resolve() in named:
            raise InputError(f"{place}: two results would be written there; name two files")
        named.add(place.resolve())
        if place.is_dir():
            raise InputError(f"{place}: this is a folder; name a file")
        refuse_input(place, *inputs)
        _check_parent(place)
    for place in (Path(folder) for folder in folders if folder is not None):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: this is a file; name a folder")


def _check_parent(place: Path) -> None:
    if not place.parent.is_dir():
        raise InputError(f"{place}: the folder {place.parent} does not exist; make it first")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a partial file beside `path` that takes its place when the block ends well.

    Parameters
    ----------
    path
        The file to make or replace. Its folder must exist.

    Yields
    ------
    Path
        ``.NAME.partial`` in the same folder, to be written in the block. When the block raises,
        it is removed and `path` stays as it was.

    Raises
    ------
    InputError
        If the folder is missing or not writable.
    AxolemmaError
        If the disk is full or fails.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    _check_parent(path)
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        kind = AxolemmaError if error.errno in DISK_TROUBLE else InputError
        raise kind(
            f"{path}: cannot be written, {(error.strerror or str(error)).lower()};"
            f" free or choose another place than {path.parent}"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def appearing(
    out: str | Path, *, record: str, files: Collection[str], overwrite: bool = False
) -> Iterator[Path]:
    """Give the folder ``.NAME.partial``, which takes the place of `out` when the block ends well.

    Parameters
    ----------
    out
        The folder to make. Where it is there already it must be empty, or results of ours that
        `overwrite` allows to replace.
    record
        The JSON file by which results of ours are known.
    files
        All that such results may hold besides; a folder with anything else is never replaced.
    overwrite
        Replace earlier results.

    Yields
    ------
    Path
        The folder to fill. When the block raises, it is removed, and so are the parents that were
        made for it.

    Raises
    ------
    InputError
        If something else is there, or the folder cannot be made or written.
    AxolemmaError
        If the disk is full or fails.
    """
    out = Path(out).resolve()
    partial, old = (out.with_name(f".{out.name}.{what}") for what in ("partial", "old"))
    try:
        if old.is_dir() and not out.exists():
            old.rename(out)  # A run was killed when the old results had left and no new ones stood.
        empty = out.is_dir() and not any(out.iterdir())
        if out.exists() and not empty:
            ours = _is_ours(out, record, files)
            if not (overwrite and ours):
                hint = "or say --overwrite" if ours else "or remove it"
                raise InputError(f"{out}: this is there already; choose a new folder {hint}")
        made = [parent for parent in out.parents if not parent.exists()]
    except OSError as error:
        raise InputError(f"{out}: cannot be looked into; choose another folder") from error
    try:
        for left in (partial, old):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            # The old results leave in one step and are removed when the new ones stand.
            out.rename(old)
        partial.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not out.exists():
            old.rename(out)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            kind = AxolemmaError if error.errno in DISK_TROUBLE else InputError
            reason = (error.strerror or str(error)).lower()
            raise kind(f"{out}: cannot be written, {reason}; choose another folder") from error
        raise


def _is_ours(folder: Path, record: str, files: Collection[str]) -> bool:
    """Tell whether a folder holds earlier results of ours and nothing else."""
    try:
        names = {file.name for file in folder.iterdir()}
        told = json.loads((folder / record).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return names <= {*files, record} and isinstance(told, dict) and "axolemma" in told


def write_tiff(
    path: str | Path,
    array: NDArray[Any],
    *,
    voxel_size: tuple[float, float, float] | None = None,
    holds: str | None = None,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a stack as deflate-compressed TIFF that Fiji opens.

    8 and 16-bit unsigned and 32-bit float stacks become ImageJ TIFF. Other types, sections
    narrower than 8 pixels, and whatever exceeds 4 GB, become OME-TIFF (BigTIFF above 4 GB), which
    Fiji opens through Bio-Formats. `read` gives all of it back, the pixels bit for bit.

    ImageJ TIFF of cells or neurons opens in colours, each number up to 255 in that of
    `labels.colours`. ImageJ has 256 colours for all numbers, so where there are more labels, those
    that follow each other share one.

    Parameters
    ----------
    path
        The file; an existing one is replaced, at the end and in one go.
    array
        ZYX, or YX for one section; uint8, uint16, uint32, int8, int16, int32, float32, float64.
    voxel_size
        ZYX in nm; kept to one part in a million.
    holds
        What the numbers are, ``"membrane map"`` or ``"cells"`` for instance.
    info
        Anything that JSON can hold.

    Raises
    ------
    InputError
        If the array has another type or number of axes, the voxel size is not positive, or the
        place cannot be written.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or not array.size:
        raise InputError(f"{path}: a stack has the axes ZYX or YX, got the shape {array.shape}")
    stack = array[None] if array.ndim == 2 else array
    depth, height, width = stack.shape
    write_tiff_sections(
        path,
        iter(stack),
        shape=(depth, height, width),
        dtype=stack.dtype,
        voxel_size=voxel_size,
        holds=holds,
        info=info,
        highest=int(stack.max()) if holds in LABELS and stack.dtype.kind == "u" else None,
    )


def write_tiff_sections(
    path: str | Path,
    sections: Iterator[NDArray[Any]],
    *,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    voxel_size: tuple[float, float, float] | None = None,
    holds: str | None = None,
    info: Mapping[str, Any] | None = None,
    highest: int | None = None,
) -> None:
    """Write a stack like `write_tiff`, section by section, so that it need not fit into memory.

    Parameters
    ----------
    path
        The file.
    sections
        As many as `shape` says, each YX.
    shape
        ZYX.
    dtype
        Of all sections.
    voxel_size, holds, info
        As in `write_tiff`.
    highest
        Of all labels, for the range in which ImageJ shows them in colours; grey where None.

    Raises
    ------
    InputError
        As `write_tiff`.
    """
    import tifffile

    if dtype.name not in IMAGEJ_TYPES | OME_TYPES:
        raise InputError(
            f"{path}: {dtype} pixels cannot be written; convert them to one of"
            f" {', '.join(sorted(IMAGEJ_TYPES | OME_TYPES))}"
        )
    if voxel_size is not None and not _is_size(voxel_size):
        raise InputError(f"{path}: a voxel size is three lengths ZYX in nm, got {voxel_size}")
    big = math.prod(shape) * dtype.itemsize > CLASSIC_LIMIT
    tiny = min(shape[1:]) < 8  # tifffile mistakes the axes of ImageJ sections so narrow
    form = _ome if big or tiny or dtype.name in OME_TYPES else _imagej
    card = json.dumps({"axolemma": {"holds": holds, "info": dict(info or {})}})
    settings = form(voxel_size, card)
    if form is _imagej and holds in LABELS and dtype.kind == "u" and highest is not None:
        settings["metadata"] |= {"min": 0, "max": max(255, highest)}
        # The lookup tables among ImageJ's own metadata are for channels; what a plain stack of any
        # depth is shown in is this tag, of 8-bit length.
        settings["extratags"] = [(_COLOR_MAP, "H", 3 * 256, _palette(), True)]
    with replacing(path) as partial, partial.open("wb") as file:
        tifffile.imwrite(
            file, sections, shape=shape, dtype=dtype, bigtiff=big, compression="zlib",
            photometric="minisblack", **settings,
        )  # fmt: skip


def write_png(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write one picture as PNG.

    Parameters
    ----------
    path
        The file; an existing one is replaced, at the end and in one go.
    picture
        uint8, YX (grey) or YXC with three channels (RGB).

    Raises
    ------
    InputError
        If the array is none of these or the place cannot be written.
    """
    import imagecodecs

    picture = np.asarray(picture)
    grey_or_rgb = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if picture.dtype != np.uint8 or not grey_or_rgb or not picture.size:
        raise InputError(
            f"{path}: a picture is uint8 with the axes YX or YX and 3 colours, got"
            f" {picture.dtype} {picture.shape}"
        )
    with replacing(path) as partial:
        partial.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture)))


def _imagej(voxel_size: tuple[float, float, float] | None, card: str) -> dict[str, Any]:
    # No predictor: ImageJ undoes it for LZW only.
    metadata: dict[str, Any] = {"axes": "ZYX", "Info": card}
    if voxel_size is None:
        return {"imagej": True, "metadata": metadata}
    z, y, x = (size / 1000 for size in voxel_size)
    metadata |= {"unit": "micron", "spacing": z}
    return {"imagej": True, "metadata": metadata, "resolution": (_ratio(1 / x), _ratio(1 / y))}


def _palette() -> tuple[int, ...]:
    """Return the colours of labels 0 to 255 as a TIFF has them: all reds, greens, blues."""
    return tuple((colours(np.arange(256)).T.astype(np.uint16) * 257).ravel().tolist())


def _ome(voxel_size: tuple[float, float, float] | None, card: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX", "Description": card}
    for axis, size in zip("ZYX", voxel_size or (), strict=False):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "nm"}
    return {"ome": True, "metadata": metadata}


def _is_size(lengths: tuple[float, ...]) -> bool:
    return len(lengths) == 3 and all(1e-3 <= length <= 1e9 for length in lengths)


def _ratio(number: float) -> tuple[int, int]:
    """Return the nearest ratio of two unsigned 32-bit integers."""
    largest = 2**32 - 1
    ratio = Fraction(number).limit_denominator(min(largest, max(1, int(largest / number))))
    return ratio.numerator, ratio.denominator
