"""Image, membranes and labels in neuroglancer, served to a browser on this machine."""

import importlib
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import ImageError, InputError, SettingsError
from axolemma.geometry import Box
from axolemma.images import Boxes, Stack, is_zarr, open_zarr, read
from axolemma.labels import COLOUR_SEED
from axolemma.uncertainty import HIGHEST

__all__ = ["Layer", "close_viewer", "held", "open_viewer", "read_layers"]

VoxelSize = tuple[float, float, float]
Kind = Literal["image", "membrane", "uncertainty", "labels"]

#: What a segmentation consists of, from the lowest layer to the topmost.
_PARTS: dict[str, Kind] = {
    "membrane": "membrane",
    "uncertainty": "uncertainty",
    "cells": "labels",
    "neurons": "labels",
}
#: Where they lie below the membrane map of a volume.
_BELOW = {"uncertainty": "uncertainty", "cells": "labels/cells", "neurons": "labels/neurons"}
#: What files say they hold, and what that is called here.
_HOLDS = {"membrane map": "membrane", **{name: name for name in _BELOW}}
#: Neurons that are shown in 3D from the start, the largest; all others are a click away.
_IN_3D = 12
#: Voxels from which meshes are made at most, all of them then held in memory.
_MESHED = 2**28
_GLANCES, _GLANCE = 8, 1024  # sections, and pixels a side of their middle, that are looked at
#: Turns the stack so that its sections and its depth are seen, a quaternion.
_ASKANCE = (0.3, 0.3, 0.1, 0.9)
_WINDOW = 640  # pixels of the screen that a section fills at first
#: Grey, or the orange and the blue that stand out from it for every kind of colour vision.
_COLOURS: dict[Kind, str] = {
    "image": "emitGrayscale(normalized());",
    "membrane": "emitRGBA(vec4(1.0, 0.55, 0.0, 0.6 * normalized()));",
    "uncertainty": "emitRGBA(vec4(0.2, 0.65, 1.0, 0.8 * normalized()));",
}


#: Types of grey values that the viewer knows.
_GREYS = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"}


@dataclass(frozen=True, slots=True)
class _Held:
    """A stack in memory, or some sections of a volume, to be read box by box."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_size: VoxelSize | None
    source: str
    holds: str | None
    info: Mapping[str, Any]
    voxels: NDArray[Any] | Boxes
    first: int = 0

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box that lies within the volume."""
        box = box.moved((self.first, 0, 0))
        return (
            self.voxels[box.slices]
            if isinstance(self.voxels, np.ndarray)
            else self.voxels.read(box)
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """One volume of those that lie over each other.

    Parameters
    ----------
    name
        What the viewer calls it.
    kind
        ``"image"`` is shown in grey, a ``"membrane"`` map in orange, its ``"uncertainty"`` in blue,
        ``"labels"`` in the colours of `labels.colours`.
    levels
        The finest first; others show the same with fewer voxels, for a view from afar.
    """

    name: str
    kind: Kind
    levels: Sequence[Boxes]


def held(stack: Stack) -> Boxes:
    """Return a stack in memory as a volume to be shown."""
    depth, height, width = stack.array.shape
    shape, dtype = (depth, height, width), stack.array.dtype
    about = stack.voxel_size, stack.source, stack.holds, stack.info
    return _Held(shape, dtype, *about, stack.array)


def read_layers(source: str | Path, *, image: str | Path | None = None) -> list[Layer]:
    """Find what `segment` wrote, and lay it over the sections that it was made of.

    Parameters
    ----------
    source
        An OME-Zarr image with its labels, whose voxels are read when they are looked at; the folder
        of a segmentation; or any other stack, of an image or of labels.
    image
        The stack to lie under it.

    Returns
    -------
    list of Layer
        From the lowest to the topmost.

    Raises
    ------
    InputError
        If nothing is there to show, or the shapes differ.
    """
    layers = _parts(source)
    first = layers[0].levels[0]
    if image is not None:
        layers.insert(0, Layer("image", "image", _same_sections(_opened(image), first)))
    for layer in layers:
        finest = layer.levels[0]
        if finest.shape != first.shape:
            raise InputError(
                f"{finest.source}: its shape {finest.shape} is not that of {first.source},"
                f" {first.shape}; show what was made of one stack"
            )
    return layers


def open_viewer(
    layers: Sequence[Layer], *, voxel_size: VoxelSize | None = None, port: int = 0
) -> Any:
    """Serve layers to a browser on this machine.

    Parameters
    ----------
    layers
        All of one shape, from the lowest to the topmost.
    voxel_size
        (Z, Y, X) in nm; what the layers tell, else cubes of 1 nm, where None.
    port
        Of the server; any free one where 0.

    Returns
    -------
    neuroglancer.Viewer
        Its ``get_viewer_url()`` is the page. The server runs until `close_viewer` or the end of
        the process, and answers to this machine alone.

    Raises
    ------
    SettingsError
        If the port is taken, or neuroglancer is not installed.
    """
    neuroglancer = _neuroglancer()
    told = [layer.levels[0].voxel_size for layer in layers]
    size = voxel_size or next((one for one in told if one is not None), (1.0, 1.0, 1.0))
    _check_port(port)
    neuroglancer.set_server_bind_address("127.0.0.1", port)
    viewer = neuroglancer.Viewer()
    shape = layers[0].levels[0].shape
    with viewer.txn() as state:
        state.dimensions = _space(neuroglancer, size)
        state.display_dimensions = ["x", "y", "z"]
        state.position = [side / 2 for side in shape]
        state.layout = "xy-3d"
        state.cross_section_scale = max(shape[1:]) / _WINDOW
        extent = max(side * length for side, length in zip(shape, size, strict=True))
        state.projection_scale = 1.8 * extent / min(size)
        state.projection_orientation = _ASKANCE
        state.show_slices = False
        for layer in layers:
            state.layers[layer.name] = _layer(neuroglancer, layer, size)
        # Of labels over labels only the topmost can be seen.
        for name in [layer.name for layer in layers if layer.kind == "labels"][:-1]:
            state.layers[name].visible = False
    return viewer


def close_viewer() -> None:
    """Stop the server of all viewers of this process."""
    _neuroglancer().stop()


def _check_port(port: int) -> None:
    """Refuse a port that is taken: the server would fail in a thread of its own."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError as error:
        raise SettingsError(
            f"port {port} cannot be used, {(error.strerror or str(error)).lower()}; give another"
            " --port, or none for any that is free"
        ) from error


def _neuroglancer() -> Any:
    try:
        return importlib.import_module("neuroglancer")
    except ImportError as error:
        raise SettingsError(
            "to view needs the package neuroglancer; pip install 'axolemma[view]'"
        ) from error


def _opened(address: str | Path) -> list[Boxes]:
    """Open all levels of an OME-Zarr image, or read any other stack."""
    if not is_zarr(address):
        return [held(read(address))]
    finest = open_zarr(address)
    return [finest, *(open_zarr(address, level=n) for n in range(1, finest.levels))]


def _parts(source: str | Path) -> list[Layer]:
    """Open what a segmentation consists of."""
    found: dict[str, list[Boxes]] = {}
    if is_zarr(source):
        levels = _opened(source)
        found[_HOLDS.get(levels[0].holds or "", "image")] = levels
        for name, place in _BELOW.items():
            try:
                found[name] = _opened(f"{str(source).rstrip('/')}/{place}")
            except ImageError:  # not below this image
                continue
        return _named(found)
    files = {name: Path(source) / f"{name}.tif" for name in _PARTS}
    found = {name: _opened(file) for name, file in files.items() if file.is_file()}
    if not found:
        levels = _opened(source)
        found[_HOLDS.get(levels[0].holds or "", "image")] = levels
    return _named(found)


def _named(found: Mapping[str, list[Boxes]]) -> list[Layer]:
    return [Layer(name, _PARTS.get(name, "image"), levels) for name, levels in found.items()]


def _same_sections(image: list[Boxes], result: Boxes) -> list[Boxes]:
    """Return the sections of an image that a result tells to be made of."""
    sections = result.info.get("sections")
    whole, (depth, *_) = image[0], result.shape
    if whole.shape[0] == depth or not sections:
        return image
    first, last = sections
    if last >= whole.shape[0]:
        return image
    about = whole.voxel_size, whole.source, whole.holds, whole.info
    return [_Held((last - first + 1, *whole.shape[1:]), whole.dtype, *about, whole, first)]


def _layer(neuroglancer: Any, layer: Layer, size: VoxelSize) -> Any:
    """Return a layer as neuroglancer's, served a chunk at a time."""
    source = _served(neuroglancer, layer, size)
    if layer.kind == "labels":
        largest = _largest(layer.levels[0]) if layer.name == "neurons" else []
        return neuroglancer.SegmentationLayer(
            source=source,
            segments=largest,
            color_seed=COLOUR_SEED,
            selected_alpha=0.4,
            not_selected_alpha=0.25 if largest else 0,
        )
    highest = HIGHEST if layer.kind == "uncertainty" else 1.0
    low, high = 0.0, 255.0 if layer.levels[0].dtype == np.uint8 else highest
    if layer.kind == "image":
        low, high = _contrast(layer.levels[0])
    shader = (
        f"#uicontrol invlerp normalized(range=[{low:g}, {high:g}])\n"
        f"void main() {{ {_COLOURS[layer.kind]} }}"
    )
    return neuroglancer.ImageLayer(source=source, shader=shader, opacity=1.0)


def _served(neuroglancer: Any, layer: Layer, size: VoxelSize) -> Any:
    """Return a neuroglancer volume that takes each chunk from the coarsest level that has it."""
    finest = layer.levels[0].shape
    kind = "segmentation" if layer.kind == "labels" else "image"
    factors = [
        tuple(max(1, round(a / b)) for a, b in zip(finest, level.shape, strict=True))
        for level in layer.levels
    ]
    options = {"volume_type": kind}

    def plain(level: Boxes, factor: tuple[int, ...]) -> Any:
        sides = tuple(length * n for length, n in zip(size, factor, strict=True))
        space = _space(neuroglancer, sides)
        return neuroglancer.LocalVolume(_Indexed(level, layer.kind), space, **options)

    volumes = [plain(level, factor) for level, factor in zip(layer.levels, factors, strict=True)]
    meshed = [
        volume
        for volume, level in zip(volumes, layer.levels, strict=True)
        if math.prod(level.shape) <= _MESHED
    ]

    class Levels(neuroglancer.LocalVolume):  # type: ignore[misc]
        def get_encoded_subvolume(
            self, data_format: str, start: Any, end: Any, scale_key: str
        ) -> tuple[bytes, str]:
            wanted = [int(n) for n in scale_key.split(",")]
            volume, factor = next(
                (volume, factor)
                for volume, factor in zip(volumes[::-1], factors[::-1], strict=True)
                if all(n % m == 0 for n, m in zip(wanted, factor, strict=True))
            )
            rest = ",".join(str(n // m) for n, m in zip(wanted, factor, strict=True))
            found: tuple[bytes, str] = volume.get_encoded_subvolume(data_format, start, end, rest)
            return found

        def get_object_mesh(self, object_id: int) -> bytes:
            if not meshed:
                raise neuroglancer.local_volume.MeshesNotSupportedForVolume
            mesh: bytes = meshed[0].get_object_mesh(object_id)
            return mesh

    coarsest = math.prod(factors[-1])
    return Levels(
        _Indexed(layer.levels[0], layer.kind),
        _space(neuroglancer, size),
        max_downsampling=64 * coarsest,
        **options,
    )


class _Indexed:
    """A volume that is indexed by slices, as neuroglancer does it."""

    def __init__(self, volume: Boxes, kind: Kind) -> None:
        self.volume = volume
        self.shape = volume.shape
        self.dtype: np.dtype[Any] = volume.dtype
        # What the viewer does not know is served as something like it.
        if kind == "labels":
            self.dtype = np.dtype(f"u{volume.dtype.itemsize}")
        elif volume.dtype.name not in _GREYS:
            self.dtype = np.dtype(np.uint8 if volume.dtype.kind == "b" else np.float32)

    def __getitem__(self, slices: tuple[slice, ...]) -> NDArray[Any]:
        box = Box(tuple(part.start for part in slices), tuple(part.stop for part in slices))
        voxels: NDArray[Any] = np.ascontiguousarray(self.volume.read(box), dtype=self.dtype)
        return voxels

    def transpose(self) -> NDArray[Any]:
        """Return all of it as XYZ, for meshes."""
        return self[Box.of(self.shape).slices].T


def _space(neuroglancer: Any, size: tuple[float, ...]) -> Any:
    return neuroglancer.CoordinateSpace(names=["z", "y", "x"], units="nm", scales=size)


def _glances(volume: Boxes) -> NDArray[Any]:
    """Return the middle of some sections, evenly spread."""
    depth, *sides = volume.shape
    starts = [max(0, (side - _GLANCE) // 2) for side in sides]
    stops = [min(side, start + _GLANCE) for side, start in zip(sides, starts, strict=True)]
    sections = sorted({depth * n // _GLANCES for n in range(_GLANCES)})
    return np.concatenate([volume.read(Box((z, *starts), (z + 1, *stops))) for z in sections])


def _contrast(volume: Boxes) -> tuple[float, float]:
    """Return the grey values between which an image is shown."""
    seen = _glances(volume)
    seen = seen[np.isfinite(seen)]
    low, high = np.percentile(seen, (0.5, 99.5)) if seen.size else (0, 1)
    return float(low), float(max(high, low + 1e-6))


def _largest(volume: Boxes) -> list[int]:
    """Return the labels of which most is seen."""
    names, counts = np.unique(_glances(volume), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [int(name) for name in names[order] if name != 0][:_IN_3D]
