"""Read TIFF in its dialects: plain, ImageJ, OME, BigTIFF."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError
from axolemma.images.grey import opaque_grey
from axolemma.images.stack import Stack, check_sections, no_thickness, sized

__all__ = ["NANOMETRES", "count_tiff", "read_tiff"]

# Nanometres per unit, by the names that ImageJ and OME-TIFF use.
NANOMETRES = {
    "pm": 1e-3, "å": 0.1, "angstrom": 0.1,
    "nm": 1.0, "nanometer": 1.0, "nanometre": 1.0,
    "µm": 1e3, "um": 1e3, "micron": 1e3, "microns": 1e3, "micrometer": 1e3, "micrometre": 1e3,
    "mm": 1e6, "millimeter": 1e6, "cm": 1e7, "centimeter": 1e7, "m": 1e9, "meter": 1e9,
}  # fmt: skip

#: What a plain TIFF's resolution counts pixels in, in nm; it is one for printing where pixels are
#: larger than the last number.
_RESOLUTIONS, _PRINTED = {2: 2.54e7, 3: 1e7}, 1e3

SECTION_AXES = "ZTIQ"  # I and Q: pages whose axis the file does not name

_complaints: ContextVar[list[logging.LogRecord] | None] = ContextVar("_complaints", default=None)


def read_tiff(path: Path, sections: Sequence[int] | None) -> Stack:
    """Read the first image of a TIFF file; see `axolemma.images.read`."""
    import tifffile

    with _listening() as complaints, tifffile.TiffFile(path) as file:
        series, notes = _first_series(file)
        _check_whole(series, path)
        voxel_size, pixel_size, said = _voxel_size(file)
        pixels, axed = _pixels(series, sections, path)
        heard = _heard(complaints, path)
        array, valued = _values(pixels, series[0].keyframe, str(path))
        card = _card(file)
    notes = (*notes, *said, *axed, *heard, *valued)
    return Stack(
        array,
        (0, 0),
        voxel_size,
        str(path),
        notes,
        card.get("holds"),
        card.get("info", {}),
        pixel_size=pixel_size,
    )


def count_tiff(path: Path) -> int:
    """Return how many sections `read_tiff` finds in a file, without reading them."""
    import tifffile

    with _listening(), tifffile.TiffFile(path) as file:
        series, _ = _first_series(file)
        _check_whole(series, path)
        stacked, _ = _section_axis(series[0].axes, series[0].shape, str(path))
        return len(series) * (series[0].shape[series[0].axes.index(stacked)] if stacked else 1)


def _first_series(file: Any) -> tuple[list[Any], tuple[str, ...]]:
    """Return the images to read: the first, or all where each one is a section of its own."""
    found = list(file.series)
    if len(found) > 1:
        first = found[0]
        if all((s.shape, s.dtype, s.axes) == (first.shape, first.dtype, "YX") for s in found):
            return found, (f"{len(found)} separate images of one size were read as sections",)
    notes = []
    if len(found) > 1:
        notes.append(
            f"the first of {len(found)} images was read, {found[0].axes} {found[0].shape};"
            " the others were left out"
        )
    if found and len(found[0].levels) > 1:
        notes.append("of a pyramid only the full resolution was read")
    return found[:1], tuple(notes)


def _check_whole(series: Sequence[Any], path: Path) -> None:
    """Refuse a file that ends before the pixels that it announces."""
    if not series:
        raise ImageError(f"{path}: the file is cut short, it holds no whole image; copy it again")
    for one in series:
        if one.dataoffset is not None:  # uncompressed and in one piece, perhaps without pages
            ends = [(one.dataoffset + one.nbytes, one.pages[0])]
        else:
            ends = [(_end(page, number, path), page) for number, page in enumerate(one.pages)]
        for end, page in ends:
            if end > (size := page.parent.filehandle.size):
                raise ImageError(
                    f"{path}: the file is cut short, its pixels go on to byte {end} and it ends at"
                    f" byte {size}; copy it again"
                )


def _end(page: Any, number: int, path: Path) -> int:
    if page is None:
        raise ImageError(f"{path}: section {number} lies in another file, which is missing")
    if len(page.dataoffsets) != len(page.databytecounts) or 0 in page.dataoffsets:
        raise ImageError(f"{path}: the file is damaged, section {number} has no pixels")
    return int(max(a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)))


def _pixels(
    series: Sequence[Any], sections: Sequence[int] | None, path: Path
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the pixels of the sections that were asked for, ZYX or ZYXS, and notes."""
    first = series[0]
    axes, shape = first.axes, first.shape
    if len(series) > 1:
        axes, shape = f"Q{axes}", (len(series), *shape)
    stacked, notes = _section_axis(axes, shape, str(path))
    if sections is not None:
        check_sections(sections, shape[axes.index(stacked)] if stacked else 1, str(path))
    if len(series) > 1:
        pixels = np.stack([one.asarray() for one in series])
    elif sections is not None and stacked and axes == f"{stacked}YX":
        return _picked(first, sections), notes
    else:
        pixels = first.asarray()
    pixels = _zyx(pixels, axes, stacked)
    return pixels if sections is None else pixels[list(sections)], notes


def _picked(series: Any, sections: Sequence[int]) -> NDArray[Any]:
    """Read a few sections of a stack, so that a large file need not fit into memory."""
    if series.dataoffset is not None:
        file, dtype = series.parent, np.dtype(series.dtype).newbyteorder(series.parent.byteorder)
        whole = file.filehandle.memmap_array(dtype, series.shape, series.dataoffset)
        return np.array(whole[list(sections)])
    if len(series.pages) == series.shape[0]:
        return np.stack([series.pages[i].asarray() for i in sections])
    return np.asarray(series.asarray()[list(sections)])


def _section_axis(axes: str, shape: Sequence[int], source: str) -> tuple[str, tuple[str, ...]]:
    """Return the one axis of sections, empty for a single section; refuse any further axis."""
    stacked = [
        axis for axis, size in zip(axes, shape, strict=True) if size > 1 and axis not in "YXS"
    ]
    if len(stacked) > 1 or any(axis not in SECTION_AXES for axis in stacked):
        raise ImageError(
            f"{source}: the file has the axes {axes}, shape {tuple(shape)}, where one axis of"
            " sections is expected (T is time, C channels); save one channel and one time point"
            " alone, or in Fiji turn a mistaken axis into sections with Image > Hyperstacks >"
            " Re-order Hyperstack"
        )
    notes = ("the time axis was read as sections",) if stacked == ["T"] else ()
    return "".join(stacked), notes


def _zyx(pixels: NDArray[Any], axes: str, stacked: str) -> NDArray[Any]:
    """Order the axes as ZYX, or ZYXS for a picture with samples; the others have length 1."""
    keep = f"{stacked}YX{'S' if 'S' in axes else ''}"
    rest = [i for i, axis in enumerate(axes) if axis not in keep]
    pixels = pixels.transpose([*rest, *(axes.index(axis) for axis in keep)])
    return pixels.reshape((-1, *pixels.shape[len(rest) + len(stacked) :]))


def _values(pixels: NDArray[Any], page: Any, source: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return ZYX numbers that mean brightness or a label, and how they came to be."""
    if pixels.dtype.kind not in "buif":
        raise ImageError(
            f"{source}: pixels of type {pixels.dtype} are not read; save real numbers, for example"
            " 8-bit, 16-bit or 32-bit grey"
        )
    notes: list[str] = []
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * 255
        notes.append("1-bit pixels were read as 0 and 255")
    if page.photometric.name == "MINISWHITE":
        if pixels.dtype.kind == "u":
            pixels = np.iinfo(pixels.dtype).max - pixels
            notes.append("the file says that 0 is white, so its values were inverted")
        else:
            notes.append(f"the file says that 0 is white; its {pixels.dtype} were left as they are")
    if page.photometric.name == "PALETTE" and page.colormap is not None:
        shades = page.colormap
        if bool((shades == shades[0]).all()):
            pixels = (shades[0] >> 8).astype(np.uint8)[pixels]
            notes.append("palette indices were read as the shades they show")
        else:
            notes.append("a lookup table of colours was left aside, the values below it were read")
    if pixels.ndim == 4:
        pixels, said = opaque_grey(pixels, source)
        notes += said
    return pixels, tuple(notes)


def _voxel_size(
    file: Any,
) -> tuple[tuple[float, float, float] | None, tuple[float, float] | None, tuple[str, ...]]:
    """Return the ZYX voxel size in nm, or the YX pixel size, and a note where a part is missing."""
    tags = file.pages.first.tags
    if not file.is_ome and not file.is_imagej:
        pixel = _resolution(tags)
        return None, pixel, () if pixel is None else (no_thickness(pixel),)
    if file.is_ome:
        sizes, units = _ome_sizes(file.ome_metadata)
    else:
        meta = file.imagej_metadata
        unit = meta.get("unit", "pixel")
        if unit in ("inch", "in"):
            return None, None, ("a resolution in inches is one for printing and was not used",)
        sizes = (
            meta.get("spacing"),
            *(_inverse(tags.valueof(name)) for name in ("YResolution", "XResolution")),
        )
        # ImageJ names the units of the other axes where they differ from that of X.
        units = (meta.get("zunit", unit), meta.get("yunit", unit), unit)
    if all(size is None for size in sizes) or "pixel" in units:
        return None, None, ()
    factors = [NANOMETRES.get(_unit(unit)) for unit in units]
    nm = [None if a is None or b is None else a * b for a, b in zip(sizes, factors, strict=True)]
    voxel, pixel = sized(nm)
    if voxel is not None:
        return voxel, None, ()
    if pixel is not None:
        return None, pixel, (no_thickness(pixel),)
    told = ", ".join(f"{size} {unit}" for size, unit in zip(sizes, units, strict=True))
    return None, None, (f"the voxel size (ZYX {told}) is incomplete and was not used",)


def _resolution(tags: Any) -> tuple[float, float] | None:
    """Return the YX pixel size in nm by the resolution of a plain TIFF, if it can be one."""
    unit = _RESOLUTIONS.get(tags.valueof("ResolutionUnit"))
    lengths = [_inverse(tags.valueof(name)) for name in ("YResolution", "XResolution")]
    if unit is None:
        return None
    _, pixel = sized((None, *(unit * length if length else None for length in lengths)))
    return pixel if pixel is not None and max(pixel) <= _PRINTED else None


def _ome_sizes(xml: str) -> tuple[tuple[float | None, ...], tuple[str, ...]]:
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    given = {} if pixels is None else pixels.attrib
    sizes = (given.get(f"PhysicalSize{axis}") for axis in "ZYX")
    return (
        tuple(None if size is None else float(size) for size in sizes),
        tuple(given.get(f"PhysicalSize{axis}Unit", "µm") for axis in "ZYX"),
    )


def _unit(name: str) -> str:
    # ImageJ escapes the micro sign; Unicode has two of them.
    return name.replace("\\u00B5", "µ").replace("\u03bc", "µ").strip().lower()


def _inverse(ratio: tuple[int, int] | None) -> float | None:
    return ratio[1] / ratio[0] if ratio and ratio[0] else None


def _card(file: Any) -> Mapping[str, Any]:
    """Return what `write_tiff` wrote beside the pixels; empty for a file of another program."""
    if file.is_ome:
        text = ElementTree.fromstring(file.ome_metadata).findtext(".//{*}Image/{*}Description")
    else:
        text = (file.imagej_metadata or {}).get("Info")
    try:
        card = json.loads(text or "")["axolemma"]
    except (ValueError, TypeError, KeyError):
        return {}
    return card if isinstance(card, dict) else {}


class _Listener(logging.Handler):
    """Keeps what tifffile logs while a file is read, instead of letting it reach the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        complaints = _complaints.get()
        if complaints is not None:
            complaints.append(record)


@contextmanager
def _listening() -> Iterator[list[logging.LogRecord]]:
    log = logging.getLogger("tifffile")
    if not any(isinstance(handler, _Listener) for handler in log.handlers):
        log.addHandler(_Listener())
    complaints: list[logging.LogRecord] = []
    token = _complaints.set(complaints)
    try:
        yield complaints
    finally:
        _complaints.reset(token)


def _heard(complaints: Sequence[logging.LogRecord], path: Path) -> tuple[str, ...]:
    """Refuse a file that could only be read in part; return the lesser complaints as notes."""
    for complaint in complaints:
        if complaint.levelno >= logging.ERROR:
            raise ImageError(
                f"{path}: the file is cut short or damaged ({complaint.getMessage()}); copy it"
                " again, or save it again from the program that made it"
            )
    return tuple(
        f"the TIFF is not quite well-formed: {complaint.getMessage()}"
        for complaint in complaints
        if complaint.levelno >= logging.WARNING
    )
