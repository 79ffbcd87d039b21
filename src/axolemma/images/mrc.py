"""Read MRC, the format of tomograms: MRC2014 and what IMOD makes of it.

Sections are taken as they lie in the file, the first first. Some programs show them upside down,
because the format counts rows from below; nothing is turned over here.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.images.access import access, extra_package
from axolemma.images.stack import Stack, check_sections

__all__ = ["MRC", "count_mrc", "read_mrc"]

MRC = {".mrc", ".rec", ".map"}

IMOD_STAMP = 1146047817  # "IMOD", at bytes 152-155
SIGNED_FLAG = 1  # of IMOD's flags at bytes 156-159: bytes are signed
IN_EXTRA2 = 40  # where the stamp lies in what mrcfile calls extra2
ANGSTROM = 0.1  # nm


def read_mrc(path: Path, sections: Sequence[int] | None) -> Stack:
    """Read the volume of an MRC file; see `axolemma.images.read`."""
    mrcfile = extra_package("mrcfile", extra="mrc", path=path)
    with access(path), warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        # Files of other programs often break a small rule; the pixels are no worse for it.
        with mrcfile.mmap(path, mode="r", permissive=True) as file:
            header, data = file.header, file.data
            heard = tuple(str(complaint.message).rstrip(".") for complaint in complaints)
            _check_readable(header, data, heard, path)
            whole, said = _zyx(data, header)
            if sections is not None:
                check_sections(sections, len(whole), str(path))
                whole = whole[list(sections)]
            # A copy: the file is closed before anybody looks at the pixels.
            pixels, valued = _bytes(np.array(whole), header)
            voxel_size, sized = _voxel_size(header)
    wrong = tuple(f"the MRC is not quite well-formed: {one}" for one in heard)
    return Stack(pixels, (0, 0), voxel_size, str(path), (*said, *valued, *sized, *wrong))


def count_mrc(path: Path) -> int:
    """Return how many sections `read_mrc` finds in a file, without reading them."""
    mrcfile = extra_package("mrcfile", extra="mrc", path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.mmap(path, mode="r", permissive=True) as file:
            _check_readable(file.header, file.data, (), path)
            return len(_zyx(file.data, file.header)[0])


def _check_readable(header: Any, data: Any, heard: Sequence[str], path: Path) -> None:
    if data is None:
        supported = int(header.mode) in (0, 1, 2, 4, 6, 12)
        reason = "; ".join(heard)
        raise ImageError(
            f"{path}: the file is cut short or damaged ({reason}); copy it again"
            if supported
            else f"{path}: pixels of the MRC mode {int(header.mode)} are not read ({reason});"
            " save it as mode 0, 1, 2 or 6"
        )
    if data.dtype.kind == "c":
        raise ImageError(
            f"{path}: its pixels are complex numbers, a Fourier transform; save the image itself"
        )
    if data.ndim > 3:
        raise ImageError(
            f"{path}: the file is a stack of {len(data)} volumes, shape {data.shape}; save one"
            " volume alone"
        )


def _zyx(data: NDArray[Any], header: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Order the axes as ZYX by what the header calls sections, rows and columns."""
    data = data[None] if data.ndim == 2 else data
    told = [int(header.maps), int(header.mapr), int(header.mapc)]
    if sorted(told) != [1, 2, 3]:
        return data, (
            f"the header's order of axes {told} means nothing; sections, rows and columns were"
            " taken for Z, Y and X",
        )
    if told == [3, 2, 1]:
        return data, ()
    names = "".join("?XYZ"[axis] for axis in told)
    return data.transpose([told.index(axis) for axis in (3, 2, 1)]), (
        f"the file's axes are {names}; they were put into the order ZYX",
    )


def _bytes(pixels: NDArray[Any], header: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return bytes as the writer meant them: the standard has them signed, many do not."""
    if pixels.dtype.kind != "i" or pixels.dtype.itemsize > 1:
        return pixels, ()
    unsigned = pixels.view(np.uint8)
    extra = header.extra2.tobytes()[IN_EXTRA2 : IN_EXTRA2 + 8]
    stamp, flags = np.frombuffer(extra, header.mode.dtype)
    if stamp == IMOD_STAMP:
        if flags & SIGNED_FLAG:
            return pixels, ("bytes were read as signed, as IMOD's flag in the header says",)
        return unsigned, ("bytes were read as 0 to 255, as IMOD's flag in the header says",)
    if float(header.dmax) > 127:
        return unsigned, (
            f"bytes were read as 0 to 255, since the header gives {float(header.dmax):g} as the"
            " highest value",
        )
    if pixels.min() >= 0:
        return pixels, ()
    return pixels, (
        "bytes were read as signed, -128 to 127, as the MRC standard has them; if grey values look"
        " torn, the writer meant 0 to 255: save it again as mode 6 or as TIFF",
    )


def _voxel_size(header: Any) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    cell, grid = header.cella, (header.mz, header.my, header.mx)
    lengths = [float(cell[axis]) for axis in "zyx"]
    if not any(lengths) or min(grid) <= 0:
        return None, ()
    z, y, x = (length / int(count) * ANGSTROM for length, count in zip(lengths, grid, strict=True))
    if not all(math.isfinite(size) and size > 0 for size in (z, y, x)):
        return None, (f"the cell (ZYX {lengths} Å) is incomplete, no voxel size was taken",)
    if max(abs(size - ANGSTROM) for size in (z, y, x)) < 1e-6:
        return None, ("a voxel of 1 Å stands for one that is not known, and was not used",)
    return (z, y, x), ()
