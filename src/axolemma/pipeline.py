"""A volume through a model, block by block, to membranes, cells and neurons: any size, resumable.

Each pass reads what the one before has written. What a pass cannot know from its block alone, it
returns as small tables; what all blocks told is added up between the passes, and is the same in
whatever order, and by however many workers, they were done::

    image ─▶ survey ─▶ membrane ─▶ fragments ─▶ overlaps ─▶ cells ─▶ links ─▶ neurons ─▶ levels
              │ contrast,           │ contacts   │ sections   ▲       │         ▲
              ╰─ findings           ╰────────────┴─ joins ────╯       ╰─────────╯ multicut

In memory (`segmentation.segment`) the same functions see the whole volume as one block.
"""

import json
import math
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from axolemma import quality
from axolemma._version import __version__
from axolemma.engines import Engine
from axolemma.errors import AxolemmaError, ImageError, InputError, SettingsError
from axolemma.geometry import Box
from axolemma.images import (
    Volume,
    ZarrVolume,
    create_zarr,
    open_zarr,
    parse_slices,
    remove_zarr,
    replacing,
)
from axolemma.modelfile import Model, load_model, state_hash
from axolemma.objects import (
    GAP,
    GROWTH,
    Method,
    cut_block,
    fragment_halo,
    join_cells,
    join_fragments,
    join_stack,
    link_block,
    link_halo,
    looked_up,
    number_cells,
    overlap_block,
    overlap_halo,
    paint_cells,
    pool_fragments,
    pool_links,
    pool_overlaps,
    subset,
    thumbnail,
    way_of,
)
from axolemma.predict import (
    HALO,
    Average,
    Polarity,
    choose_device,
    choose_polarity,
    choose_precision,
    enlargement,
    glance,
    neighbours,
    normalise,
    predict_part,
    predict_section,
    ready,
)
from axolemma.segmentation import SMALLEST, SMOOTHING, notes_on
from axolemma.settings import SegmentSettings
from axolemma.volume import Block, Ledger, Plan, Progress, Results, Tables, plan, run

__all__ = ["BLOCK", "Outlook", "outlook", "segment_volume"]

#: Sides of a block that is written, ZYX: a shard of the results.
BLOCK = (8, 2048, 2048)


@dataclass(frozen=True, slots=True)
class Survey:
    """Tells what the grey values of every section of a block are like."""

    source: Volume
    first: int
    shape: tuple[int, int, int]
    mask: "Mask | None"

    def __call__(self, block: Block) -> Tables:
        """Return the sums of `quality.block_statistics`."""
        box = block.read.moved((self.first, 0, 0))
        return quality.block_statistics(
            self.source.read(box),
            read=block.read,
            write=block.write,
            shape=self.shape,
            tissue=None if self.mask is None else self.mask.read(box),
        )


@dataclass(frozen=True, slots=True)
class Shifts:
    """Finds how far sections lie beside the one before, each as a whole."""

    source: Volume
    first: int
    shape: tuple[int, int, int]
    usable: tuple[int, ...]

    def __call__(self, block: Block) -> Tables:
        """Return the values of a `quality.Shift` to each section of the block, a row each."""
        (start,), (stop,) = block.write.start, block.write.stop
        found = [
            quality.section_shift(self._read, self.shape, *pair)
            for pair in pairwise(self.usable)
            if start <= pair[1] < stop
        ]
        return {"shifts": np.array([astuple(shift) for shift in found]).reshape(-1, 6)}

    def _read(self, box: Box) -> NDArray[Any]:
        return self.source.read(box.moved((self.first, 0, 0)))


@dataclass(frozen=True, slots=True)
class Mask:
    """Where a volume shows tissue.

    Parameters
    ----------
    volume
        Not 0 = tissue; of the volume's shape, or coarser by whole factors.
    factors
        ZYX, how many voxels of the volume one of the mask stands for.
    """

    volume: Volume
    factors: tuple[int, int, int]

    @classmethod
    def of(cls, volume: Volume, source: Volume) -> "Mask":
        """Fit a mask to a volume, or raise `InputError`."""
        z, y, x = (
            max(1, round(whole / side)) if side else 0
            for whole, side in zip(source.shape, volume.shape, strict=True)
        )
        if volume.shape != tuple(-(-a // n) for a, n in zip(source.shape, (z, y, x), strict=True)):
            raise InputError(
                f"{volume.source}: the mask has the shape {volume.shape} and {source.source}"
                f" {source.shape}; give one of that shape, or coarser by whole factors"
            )
        return cls(volume, (z, y, x))

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Tell which voxels of a box are tissue."""
        start = tuple(a // n for a, n in zip(box.start, self.factors, strict=True))
        stop = tuple(-(-b // n) for b, n in zip(box.stop, self.factors, strict=True))
        tissue = self.volume.read(Box(start, stop)) != 0
        for axis, many in enumerate(self.factors):
            tissue = tissue.repeat(many, axis)
        inner = box.moved(tuple(-a * n for a, n in zip(start, self.factors, strict=True)))
        return np.asarray(tissue[inner.slices])


@dataclass(frozen=True, slots=True)
class Membrane:
    """Predicts the membrane of a block."""

    source: Volume
    first: int
    out: ZarrVolume
    model: str
    contrasts: tuple[tuple[float, float] | None, ...]
    mask: Mask | None
    polarity: Polarity
    magnification: float
    average: Average
    precision: Literal["fp32", "bf16"]
    device: str
    tile: int

    def halo(self, context: int, stride: int) -> tuple[int, int, int]:
        """Return how many voxels are read beyond a block, ZYX."""
        beyond = math.ceil((HALO + 2 * stride) / self.magnification) + 2
        # Sections that are left out are passed over when neighbours are looked for.
        gaps = np.diff(np.flatnonzero([found is not None for found in self.contrasts]))
        return context * int(gaps.max(initial=1)), beyond, beyond

    def __call__(self, block: Block) -> Tables:
        """Write the map; return its checksum."""
        model = _loaded(self.model, self.device)
        network, context = model.network, model.info.context
        voxels = self.source.read(block.read.moved((self.first, 0, 0)))
        sign = np.float32(1 if self.polarity == "dark" else -1)
        whole = self.out.shape[1:]
        usable = np.flatnonzero([found is not None for found in self.contrasts])
        seen, wanted = (Box(box.start[1:], box.stop[1:]) for box in (block.read, block.write))
        # Where nothing is predicted there is membrane, so that no cell is seen there.
        all_membrane = 255 if self.out.dtype == np.uint8 else 1
        result = np.full(block.write.shape, all_membrane, self.out.dtype)
        core = voxels[block.write.within(block.read).slices]
        tissue = np.full(core.shape, core.min() < core.max())
        if self.mask is not None:
            tissue &= self.mask.read(block.write.moved((self.first, 0, 0)))
        for n, z in enumerate(range(block.write.start[0], block.write.stop[0])):
            if self.contrasts[z] is None or not tissue[n].any():
                continue
            place_ = int(np.searchsorted(usable, z))
            near = usable[neighbours(place_, context, len(usable))]

            def read(box: Box, near: NDArray[np.int64] = near) -> NDArray[np.float32]:
                cut = box.within(seen).slices
                parts = [
                    normalise(voxels[k - block.read.start[0], *cut], self.contrasts[k])
                    for k in near
                ]
                return np.asarray(np.stack(parts) * sign)

            map_ = predict_part(
                network,
                read,
                whole,
                wanted,
                magnification=self.magnification,
                average=self.average,
                precision=self.precision,
                device=torch.device(self.device),
                tile=self.tile,
            )
            map_ = np.rint(map_ * 255) if result.dtype == np.uint8 else map_
            result[n] = np.where(tissue[n], map_, all_membrane)
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
        return {**_written(self.out, block, labels), **_by_number(tables, block)}


@dataclass(frozen=True, slots=True)
class Overlap:
    """Counts what the fragments of a block have in common with those of the next section."""

    fragments: ZarrVolume
    membrane: ZarrVolume
    ways: NDArray[np.int64]
    means: NDArray[np.float64]

    def __call__(self, block: Block) -> Tables:
        """Return the counts, by section."""
        tables = []
        # Two sections at a time: what is around a block is as much as a small block itself.
        for z in range(block.write.start[0], block.write.stop[0]):
            behind = min(z + 2, self.fragments.shape[0])
            read = Box((z, *block.read.start[1:]), (behind, *block.read.stop[1:]))
            tables += overlap_block(
                self.fragments.read(read),
                _share(self.membrane.read(read)),
                read=read,
                write=Box((z, *block.write.start[1:]), (z + 1, *block.write.stop[1:])),
                shape=self.fragments.shape,
                means=self.means,
                ways=self.ways,
            )
        return _by_number(tables, block)


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
        painted = paint_cells(
            labels,
            *_mapped(self.mapping, labels),
            shape=block.write.shape,
            filled=self.filled,
        )
        return _written(self.out, block, painted.astype(self.out.dtype))


@dataclass(frozen=True, slots=True)
class Ways:
    """Finds how far the one or two sections behind one lie beside it, each as a whole."""

    membrane: ZarrVolume
    behind: int

    def __call__(self, block: Block) -> Tables:
        """Return the shifts, and the mean of the membrane map, of every section."""
        depth, height, width = self.membrane.shape
        (first,), (last,) = block.write.start, block.write.stop

        def read(box: Box) -> NDArray[np.float32]:
            stop = min(last + self.behind, depth)
            return _share(self.membrane.read(Box((first, *box.start), (stop, *box.stop))))

        seen = thumbnail(read, (height, width))
        together = self.behind + 1
        ways = [way_of(seen[n : n + together], (height, width)) for n in range(last - first)]
        means = seen[: last - first].mean(axis=(1, 2), dtype=np.float64)
        return {"ways": np.array(ways), "means": means}


@dataclass(frozen=True, slots=True)
class Link:
    """Counts what the cells of a block have in common with those of the next two sections."""

    cells: ZarrVolume
    membrane: ZarrVolume
    ways: NDArray[np.int64]
    means: NDArray[np.float64]
    growth: float
    gap: float

    def __call__(self, block: Block) -> Tables:
        """Return the counts, by section."""
        # Sections behind those of the block are compared with them, those before are not.
        read = Box((block.write.start[0], *block.read.start[1:]), block.read.stop)
        tables = link_block(
            self.cells.read(read),
            _share(self.membrane.read(read)),
            read=read,
            write=block.write,
            shape=self.cells.shape,
            means=self.means,
            ways=self.ways,
            growth=self.growth,
            gap=self.gap,
        )
        return _by_number(tables, block)


@dataclass(frozen=True, slots=True)
class Renumber:
    """Gives the cells of a block the numbers of their neurons."""

    cells: ZarrVolume
    out: ZarrVolume
    mapping: str

    def __call__(self, block: Block) -> Tables:
        """Write the labels; return the checksum."""
        cells = self.cells.read(block.write)
        neurons = looked_up(cells, *_mapped(self.mapping, cells))
        return _written(self.out, block, neurons.astype(self.out.dtype))


@dataclass(frozen=True, slots=True)
class Coarser:
    """Fills a block of a level from the next finer one."""

    fine: ZarrVolume
    out: ZarrVolume

    def __call__(self, block: Block) -> Tables:
        """Write the voxels; return their checksum."""
        return _written(self.out, block, self.out.coarsened(self.fine, block.write))


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
    mask: Volume | None = None,
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
    mask
        Not 0 where there is tissue, of the volume's shape or coarser by whole factors. What is
        outside has membrane everywhere and no cell, and does not count for the contrast.
    overwrite
        Begin anew, in place of what is at `out`.
    advance
        Called after each block.
    say
        Called with a sentence now and then.

    Returns
    -------
    dict
        What is also written to ``run.json`` in the ledger.

    Raises
    ------
    InputError
        If volume and model do not fit, a section is constant or not finite, or the ledger is of a
        run with other settings.
    IncompleteError
        If blocks failed again and again; all others are done, and another run does just those.
    """
    started = time.monotonic()
    job = _Job.of(source, out.rstrip("/"), settings, block, ledger, mask)
    job.precision(choose_device(settings.device))
    finished = job.folder / "run.json"
    if overwrite:
        if (job.folder / "settings.json").is_file():
            shutil.rmtree(job.folder)
        remove_zarr(job.out)
    elif not job.folder.is_dir() and job.is_there():
        raise InputError(f"{out}: this is there already; choose a new place, or say --overwrite")
    with Ledger(job.folder, job.identity) as books:
        if finished.is_file():
            job.clean()  # The run may have been killed before it did.
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
    mask: Volume | None = None,
) -> Outlook:
    """Tell what `segment_volume` would do with these arguments; nothing is written."""
    job = _Job.of(source, out.rstrip("/"), settings, block, ledger, mask)
    voxels = math.prod(job.shape)
    bytes_each = job.bits // 8
    if settings.objects != "none":
        bytes_each += 8 + 4 * (1 + (settings.objects == "neurons"))
    device = choose_device(settings.device)
    model = replace(job.model, network=ready(job.model.network, device))
    pixel = enlargement(job.voxel_size, model.info.voxel_size)
    side = min(settings.tile, *job.shape[1:])
    channels = 2 * model.info.context + 1
    noise = np.random.default_rng(0).normal(size=(channels, side, side)).astype(np.float32)
    predict = partial(
        predict_section,
        model.network,
        noise,
        magnification=model.info.magnification * pixel,
        precision=job.precision(device),
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
    mask: Mask | None

    @classmethod
    def of(
        cls,
        source: Volume,
        out: str,
        settings: SegmentSettings,
        block: tuple[int, int, int],
        ledger: str | Path | None,
        mask: Volume | None = None,
    ) -> "_Job":
        if settings.calibrated or settings.uncertainty:
            raise SettingsError(
                "calibrated and uncertainty are for images in memory, not block by block; leave"
                " them out"
            )
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
            None if mask is None else Mask.of(mask, source),
        )

    @property
    def bits(self) -> int:
        return self.settings.bits if "bits" in self.settings.model_fields_set else 8

    def precision(self, device: torch.device) -> Literal["fp32", "bf16"]:
        if self.settings.precision == "int8":
            raise SettingsError(
                "precision int8 is calibrated on an image in memory, not block by block; take bf16"
            )
        return choose_precision(self.settings.precision, device)

    @property
    def identity(self) -> dict[str, Any]:
        """What the results depend on: a ledger of another one is refused."""
        aside = {"device", "model", "calibrated", "uncertainty"}
        asked = self.settings.model_dump(mode="json", exclude=aside)
        return {
            "axolemma": __version__,
            "input": {
                "source": self.source.source,
                "shape": list(self.source.shape),
                "dtype": str(self.source.dtype),
            },
            "mask": None if self.mask is None else self.mask.volume.source,
            "output": self.out,
            "weights_sha256": state_hash(self.model.network),
            # What "auto" stands for may be another on the next machine.
            "settings": asked
            | {"bits": self.bits, "precision": self.precision(choose_device(self.settings.device))},
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
    precision = job.precision(device)
    pixel = enlargement(job.voxel_size, info.voxel_size)
    magnification = info.magnification * pixel

    pooled = quality.pool(
        do("survey", Survey(job.source, job.first, job.shape, job.mask), job.plan(quality.HALO))
    )
    contrasts = _contrasts(pooled, job)
    suspect = _suspect(job, do, pooled)
    usable = [z for z, found in enumerate(contrasts) if found is not None]
    if not usable:
        raise InputError("every section is blank or holds NaN; there is nothing to segment")
    polarity = choose_polarity(
        settings.polarity,
        glance(job.source.read, job.source.shape, job.first + usable[len(usable) // 2]),
        magnification=magnification,
    )
    notes = notes_on(
        job.voxel_size,
        job.model,
        polarity=(settings.polarity, polarity),
        masked=[job.first + z for z, found in enumerate(contrasts) if found is None],
        suspect=suspect,
    )
    for note in notes:
        say(f"note: {note}")
    membrane = job.create("", np.uint8 if job.bits == 8 else np.float32, holds="membrane map")
    predict = Membrane(
        job.source,
        job.first,
        membrane[0],
        settings.model,
        contrasts,
        job.mask,
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
        seen = Ways(membrane[0], behind=2 if settings.objects == "neurons" else 1)
        told = do("ways", seen, plan(job.shape[:1], job.block[:1], (0,)))
        ways = {name: np.concatenate([table[name] for table in told]) for name in ("ways", "means")}
        written["cells"], counts["cells"] = _cells(
            job, do, membrane[0], ways, threshold=threshold, boundary=boundary, pixel=pixel
        )
        if settings.objects == "neurons":
            written["neurons"], counts["neurons"] = _neurons(
                job, do, membrane[0], written["cells"][0], ways, pixel=pixel
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
        "notes": [*job.source.notes, *notes],
        "findings": [quality.as_dict(report, job.voxel_size) for report in suspect],
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
    ways: dict[str, NDArray[Any]],
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
    how: dict[str, Any] = {"boundary": boundary, "smallest": SMALLEST / pixel**2}
    pooled = (pool_fragments(tables) for tables in _by_section(found, job.plan()))
    sections: Iterable[tuple[NDArray[np.uint64], NDArray[np.int64]]]
    if method == "threshold":
        sections = (join_fragments(table, job.shape[2], method=method, **how) for table in pooled)
    else:
        beyond = overlap_halo()
        counted = do(
            "overlaps",
            Overlap(fragments, membrane, **ways),
            job.plan((1, beyond, beyond)),
        )
        over = (pool_overlaps(tables) for tables in _by_section(counted, job.plan()))
        together = zip(pooled, over, strict=True)
        sections = join_stack(together, job.shape[2], method=method, **how)
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


def _neurons(
    job: _Job,
    do: Callable[..., Results],
    membrane: ZarrVolume,
    cells: ZarrVolume,
    ways: dict[str, NDArray[Any]],
    *,
    pixel: float,
) -> tuple[list[ZarrVolume], int]:
    gap = GAP / pixel
    halo = link_halo(gap=gap)
    tables = do(
        "links",
        Link(cells, membrane, growth=GROWTH / pixel, gap=gap, **ways),
        job.plan((2, halo, halo)),
    )
    ids, numbers = join_cells(pool_links(of) for of in _by_section(tables, job.plan()))
    mapping = _mapping(job.folder / "neurons", ids, numbers)
    neurons = job.create("labels/neurons", cells.dtype, kind="labels", holds="neurons")
    do("neurons", Renumber(cells, neurons[0], mapping), job.plan(), check=Right(neurons[0]))
    return neurons, int(numbers.max(initial=0))


def _by_section(found: Results, blocks: Plan) -> Iterator[list[dict[str, NDArray[Any]]]]:
    """Yield, for each section, the tables that the blocks of its layer told of it."""
    layer = math.prod(blocks.counts[1:])
    for first in range(0, len(blocks), layer):
        box, tables = blocks[first].write, found[first : first + layer]
        for z in range(box.start[0], box.stop[0]):
            mark = f"{z}:"
            yield [
                {n.removeprefix(mark): a for n, a in table.items() if n.startswith(mark)}
                for table in tables
            ]


def _suspect(
    job: _Job, do: Callable[..., Results], pooled: quality.Table
) -> list[quality.SectionReport]:
    """Return what is known of the sections that something is wrong with."""
    shifts = do(
        "shifts",
        Shifts(job.source, job.first, job.shape, tuple(quality.usable(pooled))),
        plan(job.shape[:1], job.block[:1], (0,)),
    )
    reports = quality.judge(
        pooled,
        [
            quality.Shift(*map(int, row[:4]), *map(float, row[4:]))
            for tables in shifts
            for row in tables["shifts"]
        ],
        first=job.first,
    )
    return [report for report in reports if report.findings]


def _contrasts(pooled: quality.Table, job: _Job) -> tuple[tuple[float, float] | None, ...]:
    """Return mean and standard deviation of every section.

    None for a section that shows nothing, where such ones are to be left out.
    """
    found: list[tuple[float, float] | None] = []
    for z in range(job.shape[0]):
        try:
            found.append(quality.contrast(pooled, z))
        except InputError as error:
            if job.settings.bad_sections == "mask":
                found.append(None)
                continue
            raise InputError(
                f"{job.source.source}: section {job.first + z}: {error}; replace it, or say"
                " --bad-sections mask"
            ) from None
    return tuple(found)


def _mapping(path: Path, ids: NDArray[Any], new: NDArray[Any]) -> str:
    """Lay numbers beside the ledger, where all workers find them."""
    for name, array in (("ids", ids), ("new", new)):
        target = path.with_name(f"{path.name}-{name}.npy")
        with replacing(target) as beside, beside.open("wb") as file:
            np.save(file, array)
    return str(path)


def _mapped(
    path: str, labels: NDArray[Any]
) -> tuple[NDArray[np.uint64], NDArray[np.unsignedinteger[Any]]]:
    """Return the part that some labels need of what `_mapping` wrote."""
    # Mapped, not read: of a large volume a block needs a small part.
    known, numbers = (np.load(f"{path}-{name}.npy", mmap_mode="r") for name in ("ids", "new"))
    return subset(known, numbers, labels)


def _by_number(tables: Sequence[Tables], block: Block) -> dict[str, NDArray[Any]]:
    """Put the tables of a block's sections into one, see `_by_section`."""
    return {
        f"{z}:{name}": array
        for z, table in enumerate(tables, start=block.write.start[0])
        for name, array in table.items()
    }


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
    return replace(found, network=ready(found.network, choose_device(device)))
