"""Read a file or a folder of sections; every format's ways end here."""

import math
import re
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.geometry import Box
from axolemma.images.access import access
from axolemma.images.dm import DM, count_dm, read_dm
from axolemma.images.grey import opaque_grey
from axolemma.images.hdf5 import HDF5, count_hdf5, read_hdf5, split_inside
from axolemma.images.mrc import MRC, count_mrc, read_mrc
from axolemma.images.stack import Stack, check_image, check_sections, native, span
from axolemma.images.tensors import TensorVolume, is_tensor, open_tensor
from axolemma.images.tiff import count_tiff, read_tiff
from axolemma.images.zarrs import ZarrVolume, is_zarr, open_zarr

__all__ = ["check_file", "count_sections", "open_chunked", "read", "read_image", "section_files"]

TIFF = {".tif", ".tiff", ".btf", ".tf8"}
PICTURE = {".png", ".jpg", ".jpeg"}
SECTION = TIFF | PICTURE | DM
FORMAT = (
    dict.fromkeys(TIFF, "TIFF")
    | {".png": "PNG"}
    | dict.fromkeys((".jpg", ".jpeg"), "JPEG")
    | dict.fromkeys(HDF5, "HDF5")
    | dict.fromkeys(MRC, "MRC")
    | dict.fromkeys(DM, "DM3/DM4")
)

#: Pictures that are not read, and volumes: in a folder of sections they are missed.
_LEFT_OUT = {".bmp", ".gif", ".jp2", ".tga", ".webp"} | (FORMAT.keys() - SECTION)

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: How much longer than its shortest side, and at least how long, both others of a stack are where
#: its axes are doubted.
_SLIVER, _LONG = 4, 64


def read(path: str | Path, *, sections: Sequence[int] | None = None) -> Stack:
    """Read a stack of any format, a PNG or JPEG picture, or a folder of single sections.

    Parameters
    ----------
    path
        A file; a dataset of an HDF5 file as ``volume.h5:/path/in/file``, which may be left out
        where the file holds a single 3D one; an OME-Zarr image, Zarr or N5 array or precomputed
        volume, on disk or in an object store; or a folder whose visible TIFF, PNG, JPEG and DM
        files are the sections in natural order (section2 before section10).
    sections
        Read only these, counted from 0; all where None.

    Returns
    -------
    Stack
        ZYX, values as in the file. Constant sections, NaN and infinity pass: see `read_image`.

    Raises
    ------
    ImageError
        If the path is missing, unreadable, cut short, of another format, holds colour, more
        than three axes or several datasets, or needs a package that is not installed. The message
        starts with the path.
    InputError
        If `sections` leaves the stack.
    """
    if (chunked := open_chunked(path)) is not None:
        return _read_chunked(chunked, sections)
    path, inside = split_inside(path)
    with access(path):
        folder = path.stat() and path.is_dir()
    stack = _read_folder(path, sections) if folder else _read_file(path, sections, inside)
    array = native(stack.array)
    notes = (*stack.notes, *_axes_notes(array.shape))
    return replace(stack, array=array, range=span(array), notes=notes)


def _axes_notes(shape: tuple[int, ...]) -> list[str]:
    """Tell of sections that are slivers, and more than they are wide: they may lie crosswise."""
    depth, *sides = shape
    if max(_SLIVER * min(sides), _LONG) > min(max(sides), depth):
        return []
    return [
        f"the axes {' × '.join(map(str, shape))} are taken for {depth} sections (Z, Y, X) of"
        f" {sides[0]} × {sides[1]} pixels; bring sections to the first axis if they lie on another"
    ]


def count_sections(path: str | Path) -> int:
    """Return how many sections `read` finds, without reading them.

    Raises
    ------
    ImageError
        As `read`, for what shows without reading the pixels.
    """
    if (chunked := open_chunked(path)) is not None:
        return chunked.shape[0]
    path, inside = split_inside(path)
    with access(path):
        if path.is_dir():
            return len(section_files(path))
        match FORMAT.get(path.suffix.lower()):
            case "TIFF":
                return count_tiff(path)
            case "HDF5":
                return count_hdf5(path, inside)
            case "MRC":
                return count_mrc(path)
            case "DM3/DM4":
                return count_dm(path)
            case _:
                return 1


def read_image(path: str | Path, *, sections: Sequence[int] | None = None) -> Stack:
    """Read like `read` and refuse what no microscope makes: NaN, infinity, a constant section."""
    return check_image(read(path, sections=sections))


def section_files(folder: Path, *, volumes: bool = False) -> list[Path]:
    """Return the visible image files of `folder` in natural order, with HDF5 and MRC if asked."""
    return _sections(_visible(folder), FORMAT if volumes else SECTION)


def _visible(folder: Path) -> list[Path]:
    with access(folder):
        return [p for p in folder.iterdir() if not p.name.startswith(".")]


def _sections(visible: list[Path], known: Container[str]) -> list[Path]:
    """Return the files of known kinds in natural order."""
    files = []
    for path in visible:
        if path.suffix.lower() not in known:
            continue
        if path.is_file():
            files.append(path)
        elif path.is_symlink() and not path.exists():
            raise ImageError(
                f"{path}: leads to {path.readlink()}, which is not there; mend or remove the link"
            )
    return sorted(files, key=_natural)


def check_file(path: Path) -> None:
    """Raise `ImageError` unless a file has a known name and the content that it stands for."""
    suffix = path.suffix.lower()
    if suffix not in FORMAT:
        known = ", ".join(sorted(FORMAT))
        raise ImageError(
            f"{path}: '{path.suffix}' files are not read; give one of {known}, or a folder of"
            " sections"
        )
    with access(path), path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise ImageError(f"{path}: the file is empty (0 bytes); copy it again")
    if (found := _format(head)) != (expected := FORMAT[suffix]):
        raise ImageError(
            f"{path}: the name says {expected} but the content is {found}; give it its right"
            f" name, or save it again as {expected}"
        )


def _read_file(path: Path, sections: Sequence[int] | None, inside: str = "") -> Stack:
    check_file(path)
    with access(path):
        match FORMAT[path.suffix.lower()]:
            case "TIFF":
                return read_tiff(path, sections)
            case "HDF5":
                return read_hdf5(path, inside, sections)
            case "MRC":
                return read_mrc(path, sections)
            case "DM3/DM4":
                return read_dm(path, sections)
            case _:
                return _read_picture(path, sections)


def open_chunked(path: str | Path, *, level: int = 0) -> ZarrVolume | TensorVolume | None:
    """Open what lies in chunks and not in a file: Zarr, N5, precomputed; None for the others."""
    if is_tensor(path):
        return open_tensor(path, level=level)
    return open_zarr(path, level=level) if is_zarr(path) else None


def _read_chunked(volume: ZarrVolume | TensorVolume, sections: Sequence[int] | None) -> Stack:
    depth, *sides = volume.shape
    address = volume.address
    if not math.prod(volume.shape):
        raise ImageError(f"{address}: the volume is empty, its shape is {volume.shape}")
    if sections is None:
        array = volume.read(Box.of(volume.shape))
    else:
        check_sections(sections, depth, address)
        first, last = min(sections), max(sections)
        block = volume.read(Box((first, 0, 0), (last + 1, *sides)))
        array = block if len(sections) == len(block) else block[[z - first for z in sections]]
    notes = volume.notes
    if array.dtype.kind == "b":
        array, notes = array.astype(np.uint8) * 255, (*notes, "1-bit pixels were read as 0 and 255")
    return Stack(
        native(array),
        span(array),
        volume.voxel_size,
        address,
        notes,
        volume.holds,
        volume.info,
    )


def _read_picture(path: Path, sections: Sequence[int] | None) -> Stack:
    check_sections(sections if sections is not None else [0], 1, str(path))
    pixels, notes = _decode_png(path) if path.suffix.lower() == ".png" else (_decode_jpeg(path), ())
    grey, said = opaque_grey(pixels[..., None] if pixels.ndim == 2 else pixels, str(path))
    array = grey[None] if sections is None else np.stack([grey] * len(sections))
    return Stack(array, (0, 0), None, str(path), notes + said)


def _decode_png(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    # Pillow would cut 16-bit colour down to 8 bits without a word.
    import imagecodecs

    data = path.read_bytes()
    bits, kind = data[24], data[25]
    pixels: NDArray[Any] = imagecodecs.png_decode(data)
    if kind == 0 and bits < 8:
        return pixels, (f"{bits}-bit pixels were stretched to 8 bits, 0 to 255",)
    return pixels, ("palette indices were read as the shades they show",) if kind == 3 else ()


def _decode_jpeg(path: Path) -> NDArray[Any]:
    # Unlike the codec alone, Pillow notices a picture that is cut short; its limit on the number
    # of pixels, too low for electron microscopy, is only in Image.open.
    from PIL.JpegImagePlugin import JpegImageFile

    with JpegImageFile(path) as picture:
        return np.asarray(picture)


def _read_folder(folder: Path, sections: Sequence[int] | None) -> Stack:
    visible = _visible(folder)
    files = _sections(visible, SECTION)
    if not files:
        known = ", ".join(sorted(SECTION))
        raise ImageError(f"{folder}: the folder holds no image; sections are files in {known}")
    if sections is not None:
        check_sections(sections, len(files), str(folder))
        files = [files[i] for i in sections]
    stacks = [_read_file(file, None) for file in files]
    first = stacks[0]
    for stack in stacks:
        if len(stack.array) != 1:
            raise ImageError(
                f"{stack.source}: this file holds {len(stack.array)} sections, and a folder is read"
                " as one section a file; give the file itself, or split it"
            )
        if (stack.array.shape, stack.array.dtype) != (first.array.shape, first.array.dtype):
            raise ImageError(
                f"{stack.source}: this section is {_form(stack)} but {first.source} is"
                f" {_form(first)}; the sections of a stack need one size and type"
            )
    notes = dict.fromkeys(note for stack in stacks for note in stack.notes)
    left = sorted(p.name for p in visible if p.suffix.lower() in _LEFT_OUT)
    if left:
        told = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        notes[f"files that are no sections in a folder were left out, {len(left)}: {told}"] = None
    same = all((s.voxel_size, s.pixel_size) == (first.voxel_size, first.pixel_size) for s in stacks)
    return Stack(
        np.concatenate([s.array for s in stacks]),
        (0, 0),
        first.voxel_size if same else None,
        str(folder),
        (*notes,) if same else (*notes, "the sections disagree on the voxel size, none was taken"),
        first.holds if all(s.holds == first.holds for s in stacks) else None,
        pixel_size=first.pixel_size if same else None,
    )


def _form(stack: Stack) -> str:
    rows, columns = stack.array.shape[1:]
    return f"{rows} x {columns} {stack.array.dtype}"


def _natural(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(p) if i % 2 else p for i, p in enumerate(parts)], path.name


def _format(head: bytes) -> str:
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    # MATLAB writes a page of its own before the HDF5; MRC has its word near the header's end.
    if HDF5_SIGNATURE in (head[:8], head[512:520]):
        return "HDF5"
    if head[208:211] == b"MAP":
        return "MRC"
    # Version, length of 4 or 8 bytes, order of bytes.
    if (head[:4], head[8:11]) == (b"\0\0\0\3", bytes(3)):
        return "DM3/DM4"
    if (head[:4], head[12:15]) == (b"\0\0\0\4", bytes(3)):
        return "DM3/DM4"
    printable = all(byte >= 32 or byte in b"\t\r\n" for byte in head[:16])
    return "text" if printable else "neither TIFF, PNG, JPEG, HDF5, MRC nor DM3/DM4"
