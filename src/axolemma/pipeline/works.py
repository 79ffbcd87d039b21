"""What is done with one block in each pass: read, computed, written, and told in small tables."""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from axolemma import quality
from axolemma.calibration import Calibration
from axolemma.geometry import Box
from axolemma.images import Volume, ZarrVolume, replacing
from axolemma.modelfile import Model, load_model
from axolemma.objects import (
    cut_block,
    join_fragments,
    join_stack,
    link_block,
    looked_up,
    number_cells,
    overlap_block,
    paint_cells,
    pool_fragments,
    pool_overlaps,
    subset,
    ways_of,
)
from axolemma.pipeline.mask import Mask
from axolemma.predict import (
    HALO,
    Average,
    Polarity,
    choose_device,
    levels_of,
    neighbours,
    predict_part,
    ready,
)
from axolemma.segmentation import likely_size
from axolemma.uncertainty import HIGHEST, uncertainty_map
from axolemma.volume import Block, Plan, Results, Tables

__all__ = [
    "FORM",
    "Coarser",
    "Fragments",
    "Joins",
    "Link",
    "Membrane",
    "Overlap",
    "Paint",
    "Renumber",
    "Right",
    "Shifts",
    "Survey",
    "Uncertainty",
    "Ways",
    "keep_cells",
    "keep_numbers",
    "of_section",
]

#: The form of what the passes tell in tables and leave for each other. To be raised with every
#: change of it, in this file or in what makes the tables (`quality`, `objects`), be it a name, a
#: unit or a pass that is new: what a ledger of another form holds would not be understood, and is
#: refused.
FORM = 4


@dataclass(frozen=True, slots=True)
class Survey:
    """Tells what the grey values of every section of a block are like."""

    source: Volume
    first: int
    shape: tuple[int, int, int]
    mask: Mask | None

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
class Size:
    """Finds by the look of the membranes what size the pixels of a volume have.

    A pass of one block: what goes on with it on another machine is to find the same.
    """

    source: Volume
    first: int
    usable: tuple[int, ...]
    model: str
    polarity: Literal["auto"] | Polarity
    device: str

    def __call__(self, _: Block) -> Tables:
        """Return the factor by which sections are to be enlarged for the model."""
        shape = (len(self.usable), *self.source.shape[1:])
        model = _loaded(self.model, self.device, "fp32")
        read = partial(read_usable, self.source, self.first, self.usable)
        found = likely_size(read, shape, model, polarity=self.polarity, device=self.device)
        return {"factor": np.array([found or 1.0])}


def read_usable(source: Volume, first: int, usable: tuple[int, ...], box: Box) -> NDArray[Any]:
    """Read a part of one of the sections that are not left out, counted from `first`."""
    z = first + usable[box.start[0]]
    return source.read(Box((z, *box.start[1:]), (z + 1, *box.stop[1:])))


@dataclass(frozen=True, slots=True)
class Membrane:
    """Predicts the membrane of a block.

    Of the same prediction several maps may be written, each with what it is calibrated by.
    """

    source: Volume
    first: int
    outs: tuple[tuple[ZarrVolume, Calibration | None], ...]
    model: str
    contrasts: tuple[quality.Contrast | None, ...]
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
        """Write the maps; return their checksums."""
        model = _loaded(self.model, self.device, self.precision)
        network, context = model.network, model.info.context
        voxels = self.source.read(block.read.moved((self.first, 0, 0)))
        whole = self.outs[0][0].shape[1:]
        usable = np.flatnonzero([found is not None for found in self.contrasts])
        seen, wanted = (Box(box.start[1:], box.stop[1:]) for box in (block.read, block.write))
        # Where nothing is predicted there is membrane, so that no cell is seen there.
        results = [
            np.full(block.write.shape, _kept(np.float32(1), out.dtype), out.dtype)
            for out, _ in self.outs
        ]
        core = voxels[block.write.within(block.read).slices]
        # What is not finite in one section says nothing of the others.
        lowest, highest = (of.reduce(core, axis=None) for of in (np.fmin, np.fmax))
        tissue = np.full(core.shape, lowest < highest)
        if self.mask is not None:
            tissue &= self.mask.read(block.write.moved((self.first, 0, 0)))
        for n, z in enumerate(range(block.write.start[0], block.write.stop[0])):
            if self.contrasts[z] is None or not tissue[n].any():
                continue
            place_ = int(np.searchsorted(usable, z))
            near = usable[neighbours(place_, context, len(usable))]

            def read(box: Box, near: NDArray[np.int64] = near) -> NDArray[Any]:
                rows, columns = box.within(seen).slices
                return voxels[near - block.read.start[0], rows, columns]

            map_ = predict_part(
                network,
                read,
                whole,
                wanted,
                levels=levels_of([self.contrasts[k] for k in near], self.polarity),
                magnification=self.magnification,
                average=self.average,
                precision=self.precision,
                device=torch.device(self.device),
                tile=self.tile,
            )
            for (_, calibration), result in zip(self.outs, results, strict=True):
                # Calibrated before it is rounded: at its ends a map changes by more than a level.
                seen_as = map_ if calibration is None else calibration(map_)
                result[n][tissue[n]] = _kept(seen_as, result.dtype)[tissue[n]]
        told = [
            _written(out, block, result)["crc"]
            for (out, _), result in zip(self.outs, results, strict=True)
        ]
        return {"crc": np.array(told)}


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Tells where the membrane map of a block is likely to be wrong; 0 in unusable sections."""

    membrane: ZarrVolume
    out: ZarrVolume
    usable: tuple[int, ...]
    smoothing: float

    def __call__(self, block: Block) -> Tables:
        """Write the uncertainty; return its checksum."""
        seen = _share(self.membrane.read(block.read))
        inner = block.write.within(block.read).slices[1:]
        result = np.zeros(block.write.shape, self.out.dtype)
        for n, z in enumerate(range(block.write.start[0], block.write.stop[0])):
            if z in self.usable:
                found = uncertainty_map(seen[n], smoothing=self.smoothing)[inner]
                in_bytes = result.dtype == np.uint8
                result[n] = np.rint(found * (255 / HIGHEST)) if in_bytes else found
        return _written(self.out, block, result)


@dataclass(frozen=True, slots=True)
class Fragments:
    """Cuts the sections of a block into fragments."""

    membrane: ZarrVolume
    out: ZarrVolume
    options: Mapping[str, Any]
    first: int
    mask: Mask | None

    def __call__(self, block: Block) -> Tables:
        """Write the fragments; return what lies between them, by section."""
        where = block.write.moved((self.first, 0, 0))
        labels, tables = cut_block(
            _share(self.membrane.read(block.read)),
            read=block.read,
            write=block.write,
            shape=self.out.shape,
            tissue=None if self.mask is None else self.mask.read(where),
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
class Joins:
    """Finds the cells of a layer of blocks, from what all its blocks told of each section."""

    fragments: Results
    overlaps: Results | None
    blocks: Plan
    options: Mapping[str, Any]

    def __call__(self, block: Block) -> Tables:
        """Return how far each fragment's name is from the one before, and its cell, from 1 on."""
        width = self.blocks.shape[2]
        sections = range(block.read.start[0], block.read.stop[0])
        pooled = (pool_fragments(of_section(self.fragments, self.blocks, z)) for z in sections)
        found: Iterable[tuple[NDArray[np.uint64], NDArray[np.int64]]]
        if self.overlaps is None:
            found = (join_fragments(table, width, **self.options) for table in pooled)
        else:
            # What the last one has in common with the next is not asked for.
            over = (self._over(z) if z < block.write.stop[0] else {} for z in sections)
            both = zip(pooled, over, strict=True)
            beyond = block.read.start < block.write.start, block.read.stop > block.write.stop
            found = join_stack(both, width, beyond=beyond, **self.options)
        ids, numbers = number_cells(found)
        return {"steps": np.diff(ids, prepend=np.uint64(0)), "numbers": numbers}

    def _over(self, z: int) -> dict[str, NDArray[Any]]:
        assert self.overlaps is not None
        return pool_overlaps(of_section(self.overlaps, self.blocks, z))


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
            labels, *_mapped(self.mapping, labels), shape=block.write.shape, filled=self.filled
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

        ways, means = ways_of(read, (height, width), sections=last - first, behind=self.behind)
        return {"ways": ways, "means": means}


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
    others: tuple[ZarrVolume, ...] = ()

    def __call__(self, block: Block, tables: Tables) -> bool:
        """Compare the checksums."""
        found = [_checksum(out.read(block.write)) for out in (self.out, *self.others)]
        return bool(found == np.atleast_1d(tables["crc"]).tolist())


def keep_cells(path: Path, layers: Sequence[Tables]) -> tuple[int, np.dtype[Any]]:
    """Give the cells of all layers their numbers in the volume, and lay these beside the ledger.

    Parameters
    ----------
    path
        See `keep_numbers`.
    layers
        What `Joins` found in each. One of them is held at once.

    Returns
    -------
    count, dtype
        Of the cells, which have the numbers that `number_cells` gives those of the whole volume.
    """
    sizes = [(len(one["steps"]), int(one["numbers"].max(initial=0))) for one in layers]
    before = np.cumsum([0, *(cells for _, cells in sizes)])
    count = int(before[-1])
    dtype = np.dtype(np.uint32 if count < 2**32 else np.uint64)
    parts = (
        (np.cumsum(one["steps"]), one["numbers"].astype(dtype) + dtype.type(last))
        for one, last in zip(layers, before[:-1], strict=True)
    )
    length = sum(fragments for fragments, _ in sizes)
    keep_numbers(path, parts, length, (np.dtype(np.uint64), dtype))
    return count, dtype


def keep_numbers(
    path: Path,
    parts: Iterable[tuple[NDArray[Any], NDArray[Any]]],
    length: int,
    dtypes: tuple[np.dtype[Any], np.dtype[Any]],
) -> None:
    """Lay a mapping beside the ledger, where all workers find it, part by part.

    Parameters
    ----------
    path
        From it come the names of two files.
    parts
        Of the mapping, in order: labels, sorted, and what each becomes.
    length
        Of all parts together.
    dtypes
        Of labels and of what they become.
    """
    with ExitStack() as stack:
        files = []
        for name, dtype in zip(("ids", "new"), dtypes, strict=True):
            beside = stack.enter_context(replacing(path.with_name(f"{path.name}-{name}.npy")))
            files.append(stack.enter_context(beside.open("wb")))
            # Not mapped: a disk that is full would end this process without a word.
            np.lib.format.write_array_header_1_0(
                files[-1],
                {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (length,),
                },
            )
        for arrays in parts:
            for file, array, dtype in zip(files, arrays, dtypes, strict=True):
                file.write(array.astype(dtype, copy=False).tobytes())


def _mapped(
    path: str, labels: NDArray[Any]
) -> tuple[NDArray[np.uint64], NDArray[np.unsignedinteger[Any]]]:
    """Return the part that some labels need of what `keep_numbers` wrote."""
    # Mapped, not read: of a large volume a block needs a small part.
    known, numbers = (np.load(f"{path}-{name}.npy", mmap_mode="r") for name in ("ids", "new"))
    return subset(known, numbers, labels)


def of_section(found: Results, blocks: Plan, z: int) -> list[dict[str, NDArray[Any]]]:
    """Return the tables that the blocks of a section's layer told of it."""
    layer = math.prod(blocks.counts[1:])
    first, mark = z // blocks.block[0] * layer, f"{z}:"
    # They are read together with those of the other sections, but not kept.
    tables = found.only(slice(first, first + layer), mark)
    return [{name.removeprefix(mark): array for name, array in of.items()} for of in tables]


def _by_number(tables: Sequence[Tables], block: Block) -> dict[str, NDArray[Any]]:
    """Put the tables of a block's sections into one, see `of_section`."""
    return {
        f"{z}:{name}": array
        for z, table in enumerate(tables, start=block.write.start[0])
        for name, array in table.items()
    }


def _share(map_: NDArray[Any]) -> NDArray[np.float32]:
    """Return a membrane map in [0, 1], whatever it is kept as."""
    return np.asarray(map_ / np.float32(255) if map_.dtype == np.uint8 else map_, np.float32)


def _kept(map_: NDArray[Any] | np.float32, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a membrane map in [0, 1] as it is kept, see `_share`."""
    return np.asarray(np.rint(map_ * 255) if dtype == np.uint8 else map_).astype(dtype)


def _written(out: ZarrVolume, block: Block, voxels: NDArray[Any]) -> Tables:
    out.write(block.write, voxels)
    return {"crc": np.array(_checksum(voxels), np.uint32)}


def _checksum(voxels: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(voxels).data)


@lru_cache(maxsize=1)
def _loaded(model: str, device: str, precision: Literal["fp32", "bf16"]) -> Model:
    """Load a model, once in every process."""
    found = load_model(model)
    return replace(found, network=ready(found.network, choose_device(device), precision))
