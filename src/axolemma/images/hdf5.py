"""Read HDF5: one dataset of a file, chosen as ``volume.h5:/path/in/file``.

BigDataViewer's layout, ``/t00000/s00/LEVEL/cells`` beside ``NAME.xml``, is read by its levels.
What a dataset says of itself is taken from the attributes in use: ``resolution`` and ``offset``
(CREMI: ZYX in nm) and ``element_size_um`` (BigDataViewer and ilastik: ZYX in µm).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError, nearest
from axolemma.geometry import Box
from axolemma.images.access import access, extra_package
from axolemma.images.stack import Stack, check_sections
from axolemma.images.tiff import NANOMETRES

__all__ = [
    "HDF5",
    "Dataset",
    "HDF5Volume",
    "count_hdf5",
    "hdf5_datasets",
    "open_hdf5",
    "read_hdf5",
    "split_inside",
]

HDF5 = {".h5", ".hdf5", ".hdf"}

#: What numbers of 3D objects are called inside a file.
NEURONS = "neuron_ids"

#: One level of one image in the layout of BigDataViewer.
_BDV = re.compile(r"/(t\d+/s\d+)/(\d+)/cells")

LISTED = 6  # candidates that a message names


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a file says of one of its arrays.

    Parameters
    ----------
    name
        Its path in the file, from ``/`` on.
    shape, dtype
        Of the array as it lies in the file.
    voxel_size
        ZYX in nm, None where the file does not say.
    offset
        Where its first voxel lies, ZYX in nm; zeros where the file does not say.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_size: tuple[float, float, float] | None
    offset: tuple[float, float, float]

    @property
    def is_volume(self) -> bool:
        """Whether it may be a stack: real numbers along three axes, or more of length 1."""
        return self.is_readable and len(self.shape) >= 3 and 0 not in self.shape

    @property
    def is_readable(self) -> bool:
        """Whether it is a stack or a single section."""
        return self.dtype.kind in "buif" and len(self.shape) >= 2 and self._axes() <= 3

    def __str__(self) -> str:
        return f"{self.name} ({' x '.join(map(str, self.shape))} {self.dtype})"

    def _axes(self) -> int:
        return len(self.shape) if len(self.shape) <= 3 else sum(side > 1 for side in self.shape)


@dataclass(frozen=True, slots=True)
class HDF5Volume:
    """A dataset as a `Volume`: what a box needs is read, no more."""

    path: str
    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    block: tuple[int, int, int]
    axes: tuple[int, ...]
    voxel_size: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()
    holds: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """File and dataset, for messages."""
        return f"{self.path}:{self.name}"

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box that lies within the volume."""
        h5py = extra_package("h5py", extra="hdf5", path=self.path)
        with access(Path(self.path)), h5py.File(self.path, "r") as file:
            node = file[self.name]
            cut: list[Any] = [0] * node.ndim
            for axis, where in zip(self.axes, box.slices[3 - len(self.axes) :], strict=True):
                cut[axis] = where
            voxels = np.asarray(node[tuple(cut)]).reshape(box.shape)
        return _valued(voxels, self.name)[0]


def split_inside(path: str | Path) -> tuple[Path, str]:
    """Return the file and the path in it that ``volume.h5:/path/in/file`` names.

    The second is empty where only a file is named.

    Examples
    --------
    >>> split_inside("a.h5:/volumes/raw")[1]
    '/volumes/raw'
    """
    match = re.fullmatch(r"(.*?\.(?:h5|hdf5|hdf)):(.*)", str(path), re.IGNORECASE | re.DOTALL)
    if match is None:
        return Path(path), ""
    # A Path has turned the slashes round on Windows; in the file they are always the same.
    return Path(match[1]), "/" + match[2].replace("\\", "/").strip("/")


def hdf5_datasets(path: str | Path) -> Mapping[str, Dataset]:
    """Return what an HDF5 file says of its arrays, by their paths in it; no pixel is read.

    Raises
    ------
    ImageError
        If the file is missing, damaged, no HDF5, or h5py is not installed.
    """
    path = Path(path)
    h5py = extra_package("h5py", extra="hdf5", path=path)
    with access(path), h5py.File(path, "r") as file:
        return _datasets(file, h5py)


def read_hdf5(path: Path, inside: str, sections: Sequence[int] | None) -> Stack:
    """Read one dataset of an HDF5 file; see `axolemma.images.read`.

    Parameters
    ----------
    path
        The file.
    inside
        Path of a dataset, or of a group with a single 3D dataset; empty for the whole file.
    sections
        Read only these; all where None.
    """
    h5py = extra_package("h5py", extra="hdf5", path=path)
    with access(path), h5py.File(path, "r") as file:
        chosen, notes = _choose(_datasets(file, h5py), inside, path)
        source = f"{path}:{chosen.name}"
        _check_filters(file[chosen.name], h5py, source)
        pixels = _pixels(file[chosen.name], chosen, sections, source)
        said = _unread_size(file[chosen.name], chosen)
    if len(chosen.shape) > 3:
        said += (f"axes of length 1 were left out of the shape {chosen.shape}",)
    pixels, valued = _valued(pixels, chosen.name)
    return Stack(
        pixels, (0, 0), chosen.voxel_size, source, notes + said + valued, _holds(chosen.name)
    )


def open_hdf5(path: Path, inside: str, *, level: int = 0) -> HDF5Volume:
    """Open one dataset of an HDF5 file as a volume; no voxel of it is read.

    Parameters
    ----------
    path, inside
        As in `read_hdf5`.
    level
        Of BigDataViewer's pyramid; 0 is the finest, and the only one of a plain dataset.
    """
    h5py = extra_package("h5py", extra="hdf5", path=path)
    with access(path), h5py.File(path, "r") as file:
        chosen, notes = _choose(_datasets(file, h5py), inside, path, level)
        node, source = file[chosen.name], f"{path}:{chosen.name}"
        _check_filters(node, h5py, source)
        if 0 in chosen.shape:
            raise ImageError(f"{source}: the dataset is empty, its shape is {chosen.shape}")
        said = _unread_size(node, chosen)
        chunks = node.chunks
    axes = tuple(range(len(chosen.shape)))
    if len(axes) > 3:
        said += (f"axes of length 1 were left out of the shape {chosen.shape}",)
        axes = tuple(axis for axis in axes if chosen.shape[axis] > 1)
    z, y, x = ([1, 1, 1] + [chosen.shape[axis] for axis in axes])[-3:]
    by_chunk = (1, y, x) if chunks is None else ([1, 1, 1] + [chunks[axis] for axis in axes])[-3:]
    bz, by, bx = (int(min(a, b)) for a, b in zip(by_chunk, (z, y, x), strict=True))
    empty, valued = _valued(np.empty(0, chosen.dtype), chosen.name)
    return HDF5Volume(
        str(path), chosen.name, (int(z), int(y), int(x)), empty.dtype, (bz, by, bx), axes,
        chosen.voxel_size, notes + said + valued, _holds(chosen.name),
    )  # fmt: skip


def _holds(name: str) -> str | None:
    return "neurons" if name.endswith(f"/{NEURONS}") else None


def _valued(pixels: NDArray[Any], name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return what the numbers mean, in this machine's order of bytes."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * 255, ("1-bit pixels were read as 0 and 255",)
    if pixels.dtype == np.int16 and _BDV.fullmatch(name):
        # Java has no unsigned numbers.
        return pixels.view(np.uint16), ("BigDataViewer's numbers were read as 0 to 65535",)
    return pixels, ()


def count_hdf5(path: Path, inside: str) -> int:
    """Return how many sections `read_hdf5` finds in a dataset, without reading them."""
    shape = _choose(hdf5_datasets(path), inside, path)[0].shape
    kept = shape if len(shape) <= 3 else tuple(side for side in shape if side > 1)
    return kept[0] if len(kept) == 3 else 1


def _datasets(file: Any, h5py: Any) -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            size = _triple(node.attrs, "resolution", 1.0) or _triple(
                node.attrs, "element_size_um", 1e3
            )
            if size is not None and min(size) <= 0:
                size = None
            offset = _triple(node.attrs, "offset", 1.0) or (0.0, 0.0, 0.0)
            found[f"/{name}"] = Dataset(f"/{name}", node.shape, node.dtype, size, offset)

    file.visititems(note)
    return found


def _triple(
    attributes: Mapping[str, Any], name: str, factor: float
) -> tuple[float, float, float] | None:
    """Return three finite numbers that an attribute holds, in nm; None where it does not."""
    try:
        z, y, x = (float(value) * factor for value in np.asarray(attributes[name]).ravel())
    except (KeyError, TypeError, ValueError):
        return None
    return (z, y, x) if math.isfinite(z + y + x) else None


def _unread_size(node: Any, chosen: Dataset) -> tuple[str, ...]:
    given = [name for name in ("resolution", "element_size_um") if name in node.attrs]
    if chosen.voxel_size is not None or not given:
        return ()
    told = ", ".join(f"{name} {np.asarray(node.attrs[name]).tolist()}" for name in given)
    return (f"the voxel size ({told}) is not three lengths ZYX and was not used",)


def _choose(
    datasets: Mapping[str, Dataset], inside: str, path: Path, level: int = 0
) -> tuple[Dataset, tuple[str, ...]]:
    """Return the dataset at `inside`, or the only volume below it, and a note on the choice."""
    if inside in datasets:
        chosen = datasets[inside]
        if level:
            raise ImageError(f"{path}:{inside}: a dataset has no levels; give the group above it")
        if not chosen.is_readable:
            raise ImageError(
                f"{path}:{inside}: the dataset has the shape {chosen.shape}, {chosen.dtype}, where"
                " numbers along three axes ZYX are expected; save one channel and one time point"
                " as a dataset of its own"
            )
        return chosen, ()
    below = [d for name, d in datasets.items() if name.startswith(f"{inside.rstrip('/')}/")]
    if not below and inside.strip("/"):
        raise ImageError(
            f"{path}: there is no dataset '{inside}' in the file{nearest(inside, datasets)}"
        )
    volumes = [dataset for dataset in below if dataset.is_volume]
    if levels := _bdv_levels(volumes):
        if level not in levels:
            raise ImageError(f"{path}: level {level} does not exist; there are 0-{max(levels)}")
        return _bdv_sized(levels, level, path), ()
    if level:
        raise ImageError(f"{path}: level {level} does not exist; the file has no pyramid")
    if len(volumes) == 1:
        return volumes[0], (f"the file's only 3D dataset there, {volumes[0]}, was read",)
    if not volumes:
        raise ImageError(
            f"{path}{inside and ':'}{inside}: no 3D dataset of numbers is in it{_listed(below)};"
            " save the stack as a dataset ZYX"
        )
    raise ImageError(
        f"{path}: {len(volumes)} datasets could be meant{_listed(volumes)};"
        f" name one, as in {path.name}:{volumes[0].name}"
    )


def _bdv_levels(volumes: Sequence[Dataset]) -> dict[int, Dataset]:
    """Return the levels of the one image that these are, empty where they are something else."""
    matches = [_BDV.fullmatch(volume.name) for volume in volumes]
    whole = [match for match in matches if match]
    if len(whole) != len(matches) or len({match[1] for match in whole}) != 1:
        return {}
    return {int(match[2]): one for match, one in zip(whole, volumes, strict=True)}


def _bdv_sized(levels: Mapping[int, Dataset], level: int, path: Path) -> Dataset:
    """Return a level with the voxel size that the XML beside the file tells."""
    chosen = levels[level]
    setup = int(chosen.name.split("/")[2][1:])
    try:
        tree = ElementTree.parse(path.with_suffix(".xml"))
    except (OSError, ElementTree.ParseError):
        return chosen
    for view in tree.iter("ViewSetup"):
        unit = NANOMETRES.get((view.findtext("voxelSize/unit") or "").strip().lower())
        if view.findtext("id") != str(setup) or unit is None:
            continue
        size = _triple({"size": (view.findtext("voxelSize/size") or "").split()}, "size", unit)
        if size is not None and min(size) > 0:
            # As in the file: what fewer voxels cover is as long as what more of them do.
            z, y, x = (
                length * round(a / b)
                for length, a, b in zip(size[::-1], levels[0].shape, chosen.shape, strict=True)
            )
            return replace(chosen, voxel_size=(z, y, x))
    return chosen


def _listed(datasets: Sequence[Dataset]) -> str:
    if not datasets:
        return ""
    more = f" and {len(datasets) - LISTED} more" if len(datasets) > LISTED else ""
    return f": {', '.join(map(str, datasets[:LISTED]))}{more}"


def _check_filters(node: Any, h5py: Any, source: str) -> None:
    """Refuse what a compression that is not installed has written: no reader could say so later."""
    plan = node.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise ImageError(
                f"{source}: it is compressed by the filter {code} {name.decode() or 'without name'}"
                ", which is not installed; save it again with gzip, or pip install hdf5plugin and"
                " import it first"
            )


def _pixels(
    node: Any, chosen: Dataset, sections: Sequence[int] | None, source: str
) -> NDArray[Any]:
    """Return ZYX; of a plain stack only the sections that were asked for are read."""
    if len(chosen.shape) == 3 and sections is not None:
        check_sections(sections, chosen.shape[0], source)
        first, last = min(sections), max(sections)
        # In one stroke: a compressed chunk may hold many sections.
        block: NDArray[Any] = node[first : last + 1]
        return block[[z - first for z in sections]]
    pixels: NDArray[Any] = node[()]
    if pixels.ndim > 3:
        kept = [side for side in pixels.shape if side > 1]
        pixels = pixels.reshape([1] * (3 - len(kept)) + kept)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if not pixels.size:
        raise ImageError(f"{source}: the dataset is empty, its shape is {chosen.shape}")
    if sections is None:
        return pixels
    check_sections(sections, len(pixels), source)
    return pixels[list(sections)]
