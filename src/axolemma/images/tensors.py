"""N5 and neuroglancer's precomputed volumes, read box by box; the latter written too.

An address is the folder of the array (N5: with ``attributes.json``; precomputed: with ``info``),
or, in an object store, its URL with the name of the format before it, as neuroglancer has it:
``n5://s3://bucket/a.n5/raw``, ``precomputed://gs://bucket/image``.

What is written is sharded: 64 chunks in one file, each compressed::

    out/                  info: type, levels, voxel size
    ├── 4_4_50/           the finest level, named by its voxel size in nm, XYZ
    └── 8_8_50 …          its other levels
"""

import functools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import AxolemmaError, ImageError, InputError
from axolemma.geometry import Box, grid
from axolemma.images.access import extra_package
from axolemma.images.pyramid import Finer, Kind, coarsened, levels
from axolemma.images.stores import address_text, endpoint, is_remote
from axolemma.images.tiff import NANOMETRES
from axolemma.images.zarrs import CHUNK, check_blocks

__all__ = [
    "PRECOMPUTED",
    "TensorVolume",
    "create_precomputed",
    "is_precomputed",
    "is_tensor",
    "open_tensor",
    "remove_precomputed",
]

#: What stands before the address of such a volume.
PRECOMPUTED = "precomputed://"

Form = Literal["n5", "precomputed"]

#: Of the numbers of its chunks, in Morton's order, so many bits are the place in a shard.
_SHARD_BITS = 6

#: What the format knows; floats are of 32 bits.
_WRITTEN = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")

_DRIVER = {"n5": "n5", "precomputed": "neuroglancer_precomputed"}


@dataclass(frozen=True, slots=True)
class TensorVolume:
    """One level of such a volume; may be pickled and used in other processes.

    Parameters
    ----------
    address
        Of the array or multiscale volume: a path or an URL, without the format's name.
    form
        The format.
    level
        Of a precomputed volume.
    order
        For each of Z, Y, X the axis in the file, -1 where there is none.
    origin
        ZYX, the file's own number of the first voxel.
    shape, dtype, block, voxel_size, notes, holds, info
        As in `Volume`; `block` is a shard where it is to be written.
    factors, kind
        As in `ZarrVolume`, where it is to be written.
    """

    address: str
    form: Form
    level: int
    order: tuple[int, int, int]
    origin: tuple[int, int, int]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    block: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()
    holds: str | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    factors: tuple[int, int, int] = (1, 1, 1)
    kind: Kind = "image"

    @property
    def source(self) -> str:
        """For messages."""
        return self.address

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of a box that lies within the volume."""
        if 0 in box.shape:
            return np.empty(box.shape, self.dtype)
        tensor = _tensor(self.address, self.form, self.level)
        cut: list[Any] = [int(first) for first in tensor.domain.origin]
        for axis, where, first in zip(self.order, box.slices, self.origin, strict=True):
            if axis >= 0:
                cut[axis] = slice(where.start + first, where.stop + first)
        voxels = _asked(self.address, lambda: tensor[tuple(cut)].read().result())
        kept = [axis for axis in self.order if axis >= 0]
        in_file = sorted(kept)
        turned = np.asarray(voxels).transpose([in_file.index(axis) for axis in kept])
        return np.ascontiguousarray(turned).reshape(box.shape)

    def write(self, box: Box, voxels: NDArray[Any]) -> None:
        """Write the voxels of a box of whole blocks into what `create_precomputed` made.

        Raises
        ------
        InputError
            If the box starts or ends within a block, but for the border, or the shapes differ.
        """
        import tensorstore

        check_blocks(self.address, self.shape, self.block, box, voxels)
        tensor = _tensor(self.address, self.form, self.level, writable=True)
        for part in grid(box.shape, self.block):
            z, y, x = part.moved(box.start).slices
            # One transaction a shard: else it would be written anew with every chunk.
            transaction = tensorstore.Transaction()
            place = tensor.with_transaction(transaction)[x, y, z, 0]
            with _writing(self.address):
                place.write(voxels[part.slices].T).result()
                transaction.commit_async().result()

    def coarsened(self, fine: Finer, box: Box) -> NDArray[Any]:
        """Return the voxels of a box of this level, made from the next finer one."""
        return coarsened(fine, box, self.factors, self.kind)


def is_tensor(address: str | Path) -> bool:
    """Tell whether an address is one of an N5 or precomputed volume."""
    return _form(address_text(address)) is not None


def is_precomputed(address: str | Path) -> bool:
    """Tell whether an address is one of a precomputed volume."""
    return _form(address_text(address)) == "precomputed"


def create_precomputed(
    address: str | Path,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    voxel_size: tuple[float, float, float],
    kind: Kind = "image",
    holds: str | None = None,
    info: Mapping[str, Any] | None = None,
) -> list[TensorVolume]:
    """Make a precomputed volume with all its levels, still empty.

    Parameters
    ----------
    address
        Where, with or without the format's name before it; a precomputed volume that is there is
        removed.
    shape
        ZYX.
    dtype
        Of a voxel: integers or float32; uint32 or uint64 for labels.
    voxel_size
        ZYX in nm; the format cannot do without.
    kind
        Labels are a ``segmentation``, in neuroglancer's own compression.
    holds, info
        As in `write_tiff`.

    Returns
    -------
    list of TensorVolume
        The levels, the finest first; a block is a shard.

    Raises
    ------
    InputError
        If the place holds anything else, or the format knows no such numbers.
    AxolemmaError
        If the place cannot be written.
    """
    address, dtype = address_text(address).removeprefix(PRECOMPUTED), np.dtype(dtype)
    tensorstore = extra_package("tensorstore", extra="n5", path=address)
    known = _WRITTEN if kind == "image" else ("uint32", "uint64")
    if dtype.name not in known:
        raise InputError(
            f"{address}: precomputed {kind} of {dtype} do not exist; there are {', '.join(known)}"
        )
    remove_precomputed(address)
    store = _asked(address, lambda: tensorstore.KvStore.open(_place(address)).result())
    if _asked(address, lambda: store.list().result()):
        raise InputError(
            f"{address}: something else than a precomputed volume is there; choose another place"
        )
    steps = levels(shape, voxel_size)
    told = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation" if kind == "labels" else "image",
        "data_type": dtype.name,
        "num_channels": 1,
        "scales": [_scale(shape, total, voxel_size, kind) for _, total in steps],
        "axolemma": {"holds": holds, "info": dict(info or {})},
    }
    with _writing(address):
        store.write("info", json.dumps(told, indent=1).encode()).result()
    _tensor.cache_clear()
    made = []
    for level, (factors, _) in enumerate(steps):
        shard = _tensor(address, "precomputed", level, writable=True).chunk_layout.write_chunk.shape
        z, y, x = (int(side) for side in shard[2::-1])
        made.append(
            replace(
                open_tensor(PRECOMPUTED + address, level=level),
                block=(z, y, x),
                factors=factors,
                kind=kind,
            )
        )
    return made


def remove_precomputed(address: str | Path) -> None:
    """Remove a precomputed volume and all that is in its folder; nothing where there is none."""
    address = address_text(address).removeprefix(PRECOMPUTED)
    tensorstore = extra_package("tensorstore", extra="n5", path=address)
    if "scales" not in _json(address, "info"):
        return
    store = _asked(address, lambda: tensorstore.KvStore.open(_place(address)).result())
    with _writing(address):
        store.delete_range(tensorstore.KvStore.KeyRange()).result()


def _scale(
    shape: tuple[int, int, int],
    total: tuple[int, int, int],
    voxel_size: tuple[float, float, float],
    kind: Kind,
) -> dict[str, Any]:
    """Return what the info says of one level; XYZ, as everything in it."""
    size = [-(-side // n) for side, n in zip(shape, total, strict=True)][::-1]
    resolution = [float(side * n) for side, n in zip(voxel_size, total, strict=True)][::-1]
    chunk = CHUNK[::-1]
    counts = [-(-side // of) for side, of in zip(size, chunk, strict=True)]
    bits = sum((count - 1).bit_length() for count in counts)
    return {
        "key": "_".join(f"{side:g}" for side in resolution),
        "size": size,
        "resolution": resolution,
        "voxel_offset": [0, 0, 0],
        "chunk_sizes": [chunk],
        **(
            {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
            if kind == "labels"
            else {"encoding": "raw"}
        ),
        "sharding": {
            "@type": "neuroglancer_uint64_sharded_v1",
            "hash": "identity",
            "preshift_bits": min(_SHARD_BITS, bits),
            "minishard_bits": 0,
            "shard_bits": max(0, bits - _SHARD_BITS),
            "minishard_index_encoding": "gzip",
            "data_encoding": "gzip",
        },
    }


def open_tensor(address: str | Path, *, level: int = 0) -> TensorVolume:
    """Open an N5 array or precomputed volume of two or three axes.

    Parameters
    ----------
    address
        See above.
    level
        Of a precomputed volume, or of an N5 group that holds ``s0``, ``s1`` and so on; 0 is the
        finest.

    Raises
    ------
    ImageError
        If nothing is there, it is a group without levels, has more than three axes longer than 1,
        or no such level, or tensorstore is not installed.
    AxolemmaError
        If a store does not answer.
    """
    text = address_text(address)
    form = _form(text) or "n5"
    text = text.removeprefix(f"{form}://")
    extra_package("tensorstore", extra="n5", path=text)
    if not is_remote(text) and not Path(text).is_dir():
        raise ImageError(f"{text}: does not exist")
    return _open_n5(text, level) if form == "n5" else _open_precomputed(text, level)


def _form(text: str) -> Form | None:
    if text.startswith("n5://"):
        return "n5"
    if text.startswith("precomputed://"):
        return "precomputed"
    folder = Path(text)
    below = any(part.lower().endswith(".n5") for part in folder.parts)
    if is_remote(text) or folder.is_file():
        return "n5" if below and is_remote(text) else None
    if below or (folder / "attributes.json").is_file():
        return "n5"
    try:
        told = json.loads((folder / "info").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return "precomputed" if isinstance(told, dict) and "scales" in told else None


def _open_n5(address: str, level: int) -> TensorVolume:
    told = _json(address, "attributes.json")
    if "dimensions" not in told:
        scale = _json(f"{address}/s{level}", "attributes.json")
        if "dimensions" not in scale:
            raise ImageError(
                f"{address}: is an N5 group without an array s{level}; give the folder of an"
                f" array{_inside(address)}"
            )
        # Of a pyramid what is true of all levels stands above them; its voxels are the finest's.
        address, told = f"{address}/s{level}", scale
    elif level:
        raise ImageError(f"{address}: an array has no levels; give the group above it")
    tensor = _tensor(address, "n5", 0)
    axes = [str(name).lower() for name in told.get("axes", "xyzct"[: tensor.rank])]
    sizes = dict(zip(axes, tensor.shape, strict=False))
    order = _order(address, axes, tensor.shape)
    size, notes = _n5_size(told, axes)
    if any(sizes[name] == 1 and name not in "zyx" for name in sizes):
        notes += (f"axes of length 1 were left out of the shape {tensor.shape}, {''.join(axes)}",)
    return _volume(address, "n5", 0, tensor, order, size, notes, None)


def _open_precomputed(address: str, level: int) -> TensorVolume:
    told = _json(address, "info")
    scales = told.get("scales") or []
    if not scales:
        raise ImageError(f"{address}: is no precomputed volume, its info has no scales")
    if not 0 <= level < len(scales):
        raise ImageError(f"{address}: level {level} does not exist; there are 0-{len(scales) - 1}")
    if told.get("num_channels", 1) != 1:
        raise ImageError(
            f"{address}: the volume has {told['num_channels']} channels, where one is expected;"
            " save one alone"
        )
    tensor = _tensor(address, "precomputed", level)
    x, y, z = (float(side) for side in scales[level]["resolution"])
    origin = tuple(int(n) for n in tensor.domain.origin[2::-1])
    notes = (
        (f"its first voxel is {origin} (ZYX) of the space it lies in; it counts as 0, 0, 0 here",)
        if any(origin)
        else ()
    )
    holds = "neurons" if told.get("type") == "segmentation" else None
    volume = _volume(address, "precomputed", level, tensor, (2, 1, 0), (z, y, x), notes, holds)
    card = told.get("axolemma")
    if not isinstance(card, dict):
        return volume
    return replace(volume, holds=card.get("holds") or holds, info=card.get("info") or {})


def _volume(
    address: str,
    form: Form,
    level: int,
    tensor: Any,
    order: tuple[int, int, int],
    voxel_size: tuple[float, float, float] | None,
    notes: tuple[str, ...],
    holds: str | None,
) -> TensorVolume:
    dtype = np.dtype(tensor.dtype.numpy_dtype)
    if dtype.kind not in "buif":
        raise ImageError(f"{address}: voxels of type {dtype} are not read; save numbers")
    chunk = tensor.chunk_layout.read_chunk.shape

    def sides(values: Sequence[int], missing: int) -> tuple[int, int, int]:
        z, y, x = (int(values[axis]) if axis >= 0 else missing for axis in order)
        return z, y, x

    return TensorVolume(
        address, form, level, order, sides(tensor.domain.origin, 0), sides(tensor.shape, 1), dtype,
        sides(chunk, 1), voxel_size, notes, holds,
    )  # fmt: skip


def _order(address: str, axes: Sequence[str], shape: Sequence[int]) -> tuple[int, int, int]:
    """Return which axis of the file each of Z, Y, X is."""
    others = [n for n, name in enumerate(axes) if name not in ("z", "y", "x")]
    if len(axes) != len(shape) or not {"x", "y"} <= set(axes) or any(shape[n] != 1 for n in others):
        raise ImageError(
            f"{address}: the array has the axes {', '.join(axes)} and the shape {tuple(shape)},"
            " where x, y and z are expected; choose one channel and one time point, and save it"
            " alone"
        )
    z, y, x = (axes.index(name) if name in axes else -1 for name in "zyx")
    return z, y, x


def _n5_size(
    told: Mapping[str, Any], axes: Sequence[str]
) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    """Return the voxel size by any of the attributes in use that name a unit."""
    transform, pixel = told.get("transform"), told.get("pixelResolution")
    if isinstance(transform, dict):
        names, scale = transform.get("axes", axes), transform.get("scale", ())
        units = transform.get("units", ())
    elif isinstance(pixel, dict):
        names, scale, units = axes, pixel.get("dimensions", ()), [pixel.get("unit", "")] * len(axes)
    else:
        names, scale, units = axes, told.get("resolution", ()), told.get("units", ())
    if not isinstance(scale, list) or not scale:
        return None, ()
    sizes: dict[str, float] = {}
    for name, length, unit in zip(names, scale, units, strict=False):
        factor = NANOMETRES.get(str(unit).lower())
        if factor is not None and isinstance(length, int | float) and 0 < length < math.inf:
            sizes[str(name).lower()] = length * factor
    if not {"z", "y", "x"} <= set(sizes):
        return None, (f"the voxel size ({scale}, {list(units)}) is incomplete and was not used",)
    return (sizes["z"], sizes["y"], sizes["x"]), ()


def _inside(address: str) -> str:
    if is_remote(address):
        return ""
    found = sorted(file.parent.name for file in Path(address).glob("*/attributes.json"))
    return f" (it holds: {', '.join(found[:6])})" if found else ""


def _json(address: str, name: str) -> dict[str, Any]:
    """Read one JSON file of a volume; empty where there is none."""
    import tensorstore

    def ask() -> Any:
        return tensorstore.KvStore.open(_place(address)).result().read(name).result()

    found = _asked(address, ask)
    if found.state != "value":
        return {}
    try:
        told = json.loads(found.value)
    except ValueError as error:
        raise ImageError(f"{address}: its {name} is damaged; copy the volume again") from error
    return told if isinstance(told, dict) else {}


@functools.lru_cache(maxsize=32)
def _tensor(address: str, form: Form, level: int, *, writable: bool = False) -> Any:
    import tensorstore

    spec: dict[str, Any] = {"driver": _DRIVER[form], "kvstore": _place(address)}
    if form == "precomputed":
        spec["scale_index"] = level
    return _asked(
        address, lambda: tensorstore.open(spec, open=True, read=True, write=writable).result()
    )


def _place(address: str) -> dict[str, Any] | str:
    if not is_remote(address):
        return {"driver": "file", "path": f"{Path(address).resolve().as_posix()}/"}
    if not address.startswith("s3://"):
        return f"{address}/"
    bucket, _, path = address.removeprefix("s3://").partition("/")
    place = {"driver": "s3", "bucket": bucket, "path": f"{path}/" if path else ""}
    if server := endpoint():
        place |= {"endpoint": server, "aws_region": os.environ.get("AWS_REGION", "us-east-1")}
    return place


def _asked(address: str, ask: Any) -> Any:
    """Do what may fail, and say it in one sentence when it does."""
    try:
        return ask()
    except (AxolemmaError, MemoryError):
        raise
    except Exception as error:
        text = _reason(error)
        kind = AxolemmaError if text.startswith("UNAVAILABLE") else ImageError
        raise kind(f"{address}: cannot be opened or is damaged ({text})") from error


@contextmanager
def _writing(address: str) -> Iterator[None]:
    """Say in one sentence what keeps a volume from being written."""
    try:
        yield
    except (AxolemmaError, MemoryError):
        raise
    except Exception as error:
        raise AxolemmaError(f"{address}: cannot be written ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return str(error).split(" [tensorstore_spec")[0].split(" [source locations")[0]
