"""A volume through a model, block by block, to membranes, cells and neurons: any size, resumable.

Each pass reads what the one before has written. What a pass cannot know from its block alone, it
returns as small tables; what all blocks told is added up between the passes, and is the same in
whatever order, and by however many workers, they were done::

    image ──▶ survey ──▶ membrane ──▶ fragments ──▶ cells ──▶ links ──▶ neurons ──▶ levels
               │ mean, deviation        │ contacts      ▲       │ overlaps   ▲
               ╰─ of each section       ╰─ multicut ────╯       ╰─ multicut ─╯

In memory (`segmentation.segment`) the same functions see the whole volume as one block.
"""

import json
import math
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from axolemma._version import __version__
from axolemma.engines import Engine
from axolemma.errors import AxolemmaError, ImageError, InputError
from axolemma.geometry import Box
from axolemma.images import (
    Volume,
    ZarrVolume,
    create_zarr,
    halved,
    open_zarr,
    parse_slices,
    remove_zarr,
    replacing,
)
from axolemma.modelfile import Model, load_model, state_hash
from axolemma.objects import (
    Method,
    cut_block,
    fragment_halo,
    join_fragments,
    number_cells,
    paint_cells,
    pool_fragments,
    subset,
)
from axolemma.predict import (
    HALO,
    Average,
    Moments,
    Polarity,
    choose_device,
    choose_polarity,
    choose_precision,
    enlargement,
    glance,
    neighbours,
    normalise,
    place,
    predict_part,
    predict_section,
)
from axolemma.segmentation import SMALLEST, SMOOTHING
from axolemma.settings import SegmentSettings
from axolemma.volume import Block, Ledger, Plan, Progress, Results, Tables, plan, run

__all__ = ["BLOCK", "Outlook", "outlook", "segment_volume"]

#: Sides of a block that is written, ZYX: a shard of the results.
BLOCK = (8, 2048, 2048)


@dataclass(frozen=True, slots=True)
class Survey:
    """Tells mean and spread of the grey values of every section of a block."""

    source: Volume
    first: int

    def __call__(self, block: Block) -> Tables:
        """Return the `Moments` of each section, one row each."""
        voxels = self.source.read(block.read.moved((self.first, 0, 0)))
        return {"moments": np.array([Moments.of(section) for section in voxels])}


@dataclass(frozen=True, slots=True)
class Membrane:
    """Predicts the membrane of a block."""

    source: Volume
    first: int
    out: ZarrVolume
    model: str
    moments: tuple[tuple[float, float], ...]
    polarity: Polarity
    magnification: float
    average: Average
    precision: Literal["fp32", "bf16"]
    device: str
    tile: int

    def halo(self, context: int, stride: int) -> tuple[int, int, int]:
        """Return how many voxels are read beyond a block, ZYX."""
        beyond = math.ceil((HALO + 2 * stride) / self.magnification) + 2
        return context, beyond, beyond

    def __call__(self, block: Block) -> Tables:
        """Write the map; return its checksum."""
        model = _loaded(self.model, self.device)
        network, context = model.network, model.info.context
        voxels = self.source.read(block.read.moved((self.first, 0, 0)))
        sign = np.float32(1 if self.polarity == "dark" else -1)
        count, *whole = self.out.shape
        seen, wanted = (Box(box.start[1:], box.stop[1:]) for box in (block.read, block.write))
        result = np.empty(block.write.shape, self.out.dtype)
        for n, z in enumerate(range(block.write.start[0], block.write.stop[0])):
            near = neighbours(z, context, count)

            def read(box: Box, near: NDArray[np.int64] = near) -> NDArray[np.float32]:
                cut = box.within(seen).slices
                parts = [
                    normalise(voxels[k - block.read.start[0], *cut], self.moments[k]) for k in near
                ]
                return np.asarray(np.stack(parts) * sign)

            map_ = predict_part(
                network,
                read,
                tuple(whole),
                wanted,
                magnification=self.magnification,
                average=self.average,
                precision=self.precision,
                device=torch.device(self.device),
                tile=self.tile,
            )
            result[n] = np.rint(map_ * 255) if result.dtype == np.uint8 else map_
        return _written(self.out, block, result)


@dataclass(frozen=True, slots=True)
class Fragments:
    """Cuts the sections of a block into fragments."""

    membrane: ZarrVolume
    out: ZarrVolume
    options: Mapping[str, Any]

    def __call__(self, block: Block) -> Tables:
        """Write the fragments; return what lies between them, by section."""
        labels, tables = cut_block(
            _share(self.membrane.read(block.read)),
            read=block.read,
            write=block.write,
            shape=self.out.shape,
            **self.options,
        )
        told = {
            f"{z}:{name}": array
            for z, table in enumerate(tables, start=block.write.start[0])
            for name, array in table.items()
        }
        return {**_written(self.out, block, labels), **told}


@dataclass(frozen=True, slots=True)
class Paint:
    """Gives the labels of a block other numbers: those of fragments the numbers of their cells."""

    labels: ZarrVolume
    out: ZarrVolume
    mapping: str
    filled: bool

    def __call__(self, block: Block) -> Tables:
        """Write the labels; return the checksum."""
        # One more pixel to the right and below: a line is drawn where two labels meet.
        stop = tuple(b + n for b, n in zip(block.write.stop, (0, 1, 1), strict=True))
        labels = self.labels.read(Box(block.write.start, stop).clip(Box.of(self.labels.shape)))
        # Mapped, not read: of a large volume a block needs a small part.
        known, numbers = (np.load(f"{self.mapping}-{n}.npy", mmap_mode="r") for n in ("ids", "new"))
        painted = paint_cells(
            labels,
            *subset(known, numbers, labels),
            shape=block.write.shape,
            filled=self.filled,
        )
        return _written(self.out, block, painted.astype(self.out.dtype))


@dataclass(frozen=True, slots=True)
class Coarser:
    """Fills a block of a level from the next finer one."""

    fine: ZarrVolume
    out: ZarrVolume

    def __call__(self, block: Block) -> Tables:
        """Write the voxels; return their checksum."""
        factors = self.out.factors
        start = tuple(a * n for a, n in zip(block.write.start, factors, strict=True))
        stop = tuple(b * n for b, n in zip(block.write.stop, factors, strict=True))
        voxels = self.fine.read(Box(start, stop).clip(Box.of(self.fine.shape)))
        return _written(self.out, block, halved(voxels, factors, self.out.kind))


@dataclass(frozen=True, slots=True)
class Right:
    """Tells whether what a block has written is still there."""

    out: ZarrVolume

    def __call__(self, block: Block, tables: Tables) -> bool:
        """Compare the checksum."""
        return int(tables["crc"]) == _checksum(self.out.read(block.write))


def segment_volume(
    source: Volume,
    out: str,
    settings: SegmentSettings,
    *,
    engine: Engine,
    block: tuple[int, int, int] = BLOCK,
    ledger: str | Path | None = None,
    overwrite: bool = False,
    advance: Callable[[Progress], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Segment a volume of any size; begun again, it goes on where it was interrupted.

    Parameters
    ----------
    source
        From `images.open_volume`.
    out
        Address of the OME-Zarr to make: the membrane map, and ``labels/cells`` and
        ``labels/neurons`` below it.
    settings
        See `SegmentSettings`; the membrane map has 8 bits unless 32 are asked for.
    engine
        Where the blocks are done, see `engines.engine_from`.
    block
        ZYX, what is done at once, and a shard of `out`.
    ledger
        Folder of what is done so far, on a file system that all workers reach; beside `out` where
        None.
    overwrite
        Begin anew, in place of what is at `out`.
    advance
        Called after each block.
    say
        Called with a sentence now and then.

    Returns
    -------
    dict
        What is also written to ``run.json`` in the ledger and into the attributes of `out`.

    Raises
    ------
    InputError
        If volume and model do not fit, a section is constant or not finite, or the ledger is of a
        run with other settings.
    IncompleteError
        If blocks failed again and again; all others are done, and another run does just those.
    """
    started = time.monotonic()
    job = _Job.of(source, out.rstrip("/"), settings, block, ledger)
    finished = job.folder / "run.json"
    if overwrite:
        shutil.rmtree(job.folder, ignore_errors=True)
        remove_zarr(job.out)
    elif not job.folder.is_dir() and job.is_there():
        raise InputError(f"{out}: this is there already; choose a new place, or say --overwrite")
    with Ledger(job.folder, job.identity) as books:
        if finished.is_file():
            say(f"the run in {job.folder} is finished already")
            record: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
            return record
        do = partial(run, ledger=books, engine=engine, advance=advance)
        record = _passes(job, do, say)
        record["seconds"] = round(time.monotonic() - started, 3)
        with replacing(finished) as beside:
            beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        job.clean()
    return record


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run over a volume would take.

    Parameters
    ----------
    shape, block
        ZYX, of what would be segmented and of a block.
    blocks
        How many there are; every pass goes over all of them.
    read, written
        Bytes before compression: of the input, and of the results and what lies between them.
    hours
        Of one worker, for the network alone, as one tile on this machine took.
    """

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    blocks: int
    read: int
    written: int
    hours: float


def outlook(
    source: Volume,
    out: str,
    settings: SegmentSettings,
    *,
    block: tuple[int, int, int] = BLOCK,
    ledger: str | Path | None = None,
) -> Outlook:
    """Tell what `segment_volume` would do with these arguments; nothing is written."""
    job = _Job.of(source, out.rstrip("/"), settings, block, ledger)
    voxels = math.prod(job.shape)
    bytes_each = job.bits // 8
    if settings.objects != "none":
        bytes_each += 8 + 4 * (1 + (settings.objects == "neurons"))
    device = choose_device(settings.device)
    model = replace(job.model, network=place(job.model.network, device).eval())
    pixel = enlargement(job.voxel_size, model.info.voxel_size)
    side = min(settings.tile, *job.shape[1:])
    channels = 2 * model.info.context + 1
    noise = np.random.default_rng(0).normal(size=(channels, side, side)).astype(np.float32)
    predict = partial(
        predict_section,
        model.network,
        noise,
        magnification=model.info.magnification * pixel,
        precision=choose_precision(settings.precision, device),
        device=device,
        tile=settings.tile,
        average=settings.average,
    )
    predict()  # The first one is slower.
    started = time.monotonic()
    predict()
    seconds = time.monotonic() - started
    # What lies around a block is predicted too.
    inner = [min(side, whole) for side, whole in zip(job.block[1:], job.shape[1:], strict=True)]
    around = math.prod(
        side + 2 * HALO * (side < whole) for side, whole in zip(inner, job.shape[1:], strict=True)
    )
    hours = seconds / side**2 * voxels * around / math.prod(inner) / 3600
    return Outlook(
        job.shape,
        job.block,
        len(job.plan()),
        voxels * source.dtype.itemsize,
        voxels * bytes_each,
        hours,
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be done, and where."""

    source: Volume
    first: int
    shape: tuple[int, int, int]
    out: str
    settings: SegmentSettings
    model: Model
    block: tuple[int, int, int]
    folder: Path
    voxel_size: tuple[float, float, float] | None

    @classmethod
    def of(
        cls,
        source: Volume,
        out: str,
        settings: SegmentSettings,
        block: tuple[int, int, int],
        ledger: str | Path | None,
    ) -> "_Job":
        depth, height, width = source.shape
        if not math.prod(source.shape):
            raise InputError(f"{source.source}: the volume is empty, its shape is {source.shape}")
        chosen = parse_slices(settings.slices, depth) if settings.slices else range(depth)
        shape = (len(chosen), height, width)
        # A shard no larger than the volume, in multiples of what networks and chunks go by.
        sides = [
            min(side, -(-whole // step) * step)
            for side, whole, step in zip(block, shape, (1, 128, 128), strict=True)
        ]
        if min(sides) < 1:
            raise InputError(f"a block needs sides of at least 1 voxel, got {block}")
        folder = Path(ledger or f"{Path(out).name if '://' in out else out}.ledger")
        return cls(
            source,
            chosen.start,
            shape,
            out,
            settings,
            load_model(settings.model),
            (sides[0], sides[1], sides[2]),
            folder,
            settings.voxel_size or source.voxel_size,
        )

    @property
    def bits(self) -> int:
        return self.settings.bits if "bits" in self.settings.model_fields_set else 8

    @property
    def identity(self) -> dict[str, Any]:
        """What the results depend on: a ledger of another one is refused."""
        asked = self.settings.model_dump(mode="json", exclude={"device", "model"})
        return {
            "axolemma": __version__,
            "input": {
                "source": self.source.source,
                "shape": list(self.source.shape),
                "dtype": str(self.source.dtype),
            },
            "output": self.out,
            "weights_sha256": state_hash(self.model.network),
            "settings": asked | {"bits": self.bits},
            "block": list(self.block),
        }

    def plan(self, halo: Sequence[int] = (0, 0, 0)) -> Plan:
        return plan(self.shape, self.block, tuple(halo))

    def create(
        self, name: str, dtype: Any, *, kind: Literal["image", "labels"] = "image", holds: str
    ) -> list[ZarrVolume]:
        """Make a volume of the results, or open it where an earlier run made it."""
        address = f"{self.out}/{name}".rstrip("/")
        made = self.folder / f"made-{holds.replace(' ', '-')}"
        if made.is_file():
            try:
                return _all_levels(address)
            except AxolemmaError:
                pass  # It was removed since; its blocks will be found to be wrong.
        levels = create_zarr(
            address,
            self.shape,
            dtype,
            voxel_size=self.voxel_size,
            block=self.block,
            kind=kind,
            holds=holds,
            info={"source": self.source.source, "sections": [self.first, self.last]},
        )
        made.touch()
        return levels

    @property
    def last(self) -> int:
        return self.first + self.shape[0] - 1

    def is_there(self) -> bool:
        try:
            open_zarr(self.out)
        except ImageError:
            return Path(self.out).exists()
        return True

    def clean(self) -> None:
        """Remove what only the passes needed, and what killed writers left behind."""
        remove_zarr(f"{self.out}/fragments")
        if "://" not in self.out:
            for left in Path(self.out).rglob("*.partial"):
                left.unlink(missing_ok=True)


def _all_levels(address: str) -> list[ZarrVolume]:
    first = open_zarr(address)
    return [first, *(open_zarr(address, level=n) for n in range(1, first.levels))]


def _passes(job: _Job, do: Callable[..., Results], say: Callable[[str], None]) -> dict[str, Any]:
    """Do all passes, one after the other."""
    settings, info = job.settings, job.model.info
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    pixel = enlargement(job.voxel_size, info.voxel_size)
    magnification = info.magnification * pixel

    surveyed = do("survey", Survey(job.source, job.first), job.plan())
    moments = _pooled_moments(surveyed, job)
    polarity = choose_polarity(
        settings.polarity,
        glance(job.source.read, job.source.shape, job.first + job.shape[0] // 2),
        magnification=magnification,
    )
    say(f"membranes are {polarity}; {precision} on {device}")
    membrane = job.create("", np.uint8 if job.bits == 8 else np.float32, holds="membrane map")
    predict = Membrane(
        job.source,
        job.first,
        membrane[0],
        settings.model,
        moments,
        polarity,
        magnification,
        settings.average,
        precision,
        str(device),
        settings.tile,
    )
    halo = predict.halo(info.context, int(job.model.network.stride))  # type: ignore[arg-type]
    do("membrane", predict, job.plan(halo), check=Right(membrane[0]))
    threshold = settings.threshold
    threshold = info.threshold(settings.average) if threshold is None else threshold
    boundary = info.boundary if settings.boundary is None else settings.boundary
    written: dict[str, list[ZarrVolume]] = {"membrane": membrane}
    counts: dict[str, int | None] = {"cells": None, "neurons": None}
    if settings.objects != "none":
        written["cells"], counts["cells"] = _cells(
            job, do, membrane[0], threshold=threshold, boundary=boundary, pixel=pixel
        )
    for name, levels in written.items():
        for number, (fine, coarse) in enumerate(pairwise(levels), start=1):
            blocks = plan(coarse.shape, job.block, (0, 0, 0))
            do(f"{name}-level-{number}", Coarser(fine, coarse), blocks, check=Right(coarse))
    return {
        "axolemma": __version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **job.identity,
        "model": {"source": job.model.source},
        "sections": [job.first, job.last],
        "notes": list(job.source.notes),
        "voxel_size": None if job.voxel_size is None else list(job.voxel_size),
        "magnification": magnification,
        "polarity": polarity,
        "threshold": threshold,
        "boundary": boundary,
        **counts,
        "device": str(device),
        "precision": precision,
        "torch": torch.__version__,
    }


def _cells(
    job: _Job,
    do: Callable[..., Results],
    membrane: ZarrVolume,
    *,
    threshold: float,
    boundary: float,
    pixel: float,
) -> tuple[list[ZarrVolume], int]:
    method: Method = job.settings.method
    smoothing = SMOOTHING / pixel
    (fragments, *_) = job.create("fragments", np.uint64, kind="image", holds="fragments")
    halo = fragment_halo(smoothing=smoothing)
    options = {"method": method, "threshold": threshold, "smoothing": smoothing}
    found = do(
        "fragments",
        Fragments(membrane, fragments, options),
        job.plan((0, halo, halo)),
        check=Right(fragments),
    )
    sections = (
        join_fragments(
            pool_fragments(tables),
            job.shape[2],
            boundary=boundary,
            method=method,
            smallest=SMALLEST / pixel**2,
        )
        for tables in _by_section(found, job.plan())
    )
    ids, numbers = number_cells(sections)
    mapping = _mapping(job.folder / "cells", ids, numbers)
    cells = job.create("labels/cells", numbers.dtype, kind="labels", holds="cells")
    do(
        "cells",
        Paint(fragments, cells[0], mapping, job.settings.filled),
        job.plan(),
        check=Right(cells[0]),
    )
    return cells, int(numbers.max(initial=0))


def _by_section(found: Results, blocks: Plan) -> "Any":
    """Yield, for each section, the tables that the blocks of its layer told of it."""
    layer = math.prod(blocks.counts[1:])
    for first in range(0, len(blocks), layer):
        tables = found[first : first + layer]
        box = blocks[first].write
        for z in range(box.start[0], box.stop[0]):
            mark = f"{z}:"
            yield [
                {n.removeprefix(mark): a for n, a in table.items() if n.startswith(mark)}
                for table in tables
            ]


def _pooled_moments(surveyed: Results, job: _Job) -> tuple[tuple[float, float], ...]:
    """Return mean and standard deviation of every section, from those of its parts."""
    blocks, layer = job.plan(), math.prod(job.plan().counts[1:])
    found = []
    for first in range(0, len(blocks), layer):
        parts = [table["moments"] for table in surveyed[first : first + layer]]
        for n in range(len(parts[0])):
            total = Moments(0, 0.0, 0.0)
            for part in parts:
                total = total + Moments(*part[n])
            try:
                found.append(total.normal())
            except InputError as error:
                z = job.first + len(found)
                raise InputError(f"{job.source.source}: section {z}: {error}") from None
    return tuple(found)


def _mapping(path: Path, ids: NDArray[Any], new: NDArray[Any]) -> str:
    """Lay numbers beside the ledger, where all workers find them."""
    for name, array in (("ids", ids), ("new", new)):
        target = path.with_name(f"{path.name}-{name}.npy")
        with replacing(target) as beside, beside.open("wb") as file:
            np.save(file, array)
    return str(path)


def _share(map_: NDArray[Any]) -> NDArray[np.float32]:
    """Return a membrane map in [0, 1], whatever it is kept as."""
    return np.asarray(map_ / np.float32(255) if map_.dtype == np.uint8 else map_, np.float32)


def _written(out: ZarrVolume, block: Block, voxels: NDArray[Any]) -> Tables:
    out.write(block.write, voxels)
    return {"crc": np.array(_checksum(voxels), np.uint32)}


def _checksum(voxels: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(voxels).data)


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> Model:
    """Load a model, once in every process."""
    found = load_model(model)
    return replace(found, network=place(found.network, choose_device(device)).eval())
