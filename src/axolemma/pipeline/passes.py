"""The passes over a volume, one after the other."""

import json
import math
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from axolemma import quality
from axolemma._version import __version__
from axolemma.calibration import Calibration
from axolemma.engines import Engine
from axolemma.errors import InputError
from axolemma.geometry import Box
from axolemma.images import (
    Volume,
    ZarrVolume,
    refuse_in_the_way,
    refuse_input,
    remove_zarr,
    replacing,
)
from axolemma.objects import (
    GAP,
    GROWTH,
    Method,
    fragment_halo,
    join_cells,
    link_halo,
    overlap_halo,
    pool_links,
)
from axolemma.pipeline.job import BLOCK, Job
from axolemma.pipeline.works import (
    Coarser,
    Fragments,
    Joins,
    Link,
    Membrane,
    Overlap,
    Paint,
    Renumber,
    Right,
    Shifts,
    Size,
    Survey,
    Uncertainty,
    Ways,
    keep_cells,
    keep_numbers,
    of_section,
    read_usable,
)
from axolemma.predict import choose_device, choose_polarity, enlargement
from axolemma.segmentation import BLUR, SMALLEST, SMOOTHING, notes_on
from axolemma.settings import SegmentSettings
from axolemma.uncertainty import HIGHEST, uncertainty_halo
from axolemma.volume import Ledger, Progress, Results, plan, run

__all__ = ["segment_volume"]

#: Pixels of a section that is read whole, where it has spikes.
_READABLE = 2**28


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
        Address of the OME-Zarr to make: the membrane map, and ``labels/cells``,
        ``labels/neurons`` and ``uncertainty`` below it.
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
        If `out` is what is read, volume and model do not fit, a section is constant or not finite,
        the model holds no calibration and one is asked for, or the ledger is of a run with other
        settings.
    IncompleteError
        If blocks failed again and again; all others are done, and another run does just those.
    """
    started = time.monotonic()
    job = Job.of(source, out.rstrip("/"), settings, block, ledger, mask)
    job.precision(choose_device(settings.device))
    refuse_in_the_way(job.out)
    refuse_input(job.out, job.source.source, None if job.mask is None else job.mask.volume.source)
    if job.mask is not None and job.mask.factors != (1, 1, 1):
        sides = " × ".join(map(str, job.mask.factors))
        say(f"a voxel of the mask is taken for {sides} voxels of the volume (Z × Y × X)")
    finished = job.folder / "run.json"
    if not overwrite and not job.folder.is_dir() and job.is_there():
        raise InputError(f"{out}: this is there already; choose a new place, or say --overwrite")
    identity = job.identity
    books = Ledger(
        job.folder, identity, afresh=partial(remove_zarr, job.out) if overwrite else None
    )
    try:
        with books:
            if finished.is_file() and job.is_there():
                job.clean()  # The run may have been killed before it did.
                say(f"the run in {job.folder} is finished already")
                record: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
                return record
            # Where the result is gone, what is done again is not finished until its end.
            finished.unlink(missing_ok=True)
            do = partial(run, ledger=books, engine=engine, advance=advance)
            record = _passes(job, identity, do, say)
            record["seconds"] = round(time.monotonic() - started, 3)
            with replacing(finished) as beside:
                beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            job.clean()
    except InputError:
        # What was refused before anything was made leaves nothing: mended, it may be another job.
        if not job.began():
            shutil.rmtree(job.folder)
        raise
    return record


def _passes(
    job: Job, identity: dict[str, Any], do: Callable[..., Results], say: Callable[[str], None]
) -> dict[str, Any]:
    """Do all passes, one after the other; return the record, with what the results depend on."""
    settings, info = job.settings, job.model.info
    device = choose_device(settings.device)
    precision = job.precision(device)
    pooled = quality.pool(
        do("survey", Survey(job.source, job.first, job.shape, job.mask), job.plan(quality.HALO))
    )
    contrasts = _contrasts(pooled, job)
    suspect = _suspect(job, do, pooled)
    usable = [z for z, found in enumerate(contrasts) if found is not None]
    if not usable:
        raise InputError("every section is blank or holds NaN; there is nothing to segment")
    # Where a size is told it is not doubted: a worker's memory is not for that.
    pixel = enlargement(job.voxel_size, info.voxel_size)
    if job.voxel_size is None:
        look = Size(
            job.source, job.first, tuple(usable), settings.model, settings.polarity, str(device)
        )
        pixel = float(do("size", look, plan((1,), (1,), (0,)))[0]["factor"][0])
    polarity = choose_polarity(
        settings.polarity,
        partial(read_usable, job.source, job.first, tuple(usable)),
        (len(usable), *job.source.shape[1:]),
        magnification=pixel,
    )
    notes = notes_on(
        job.voxel_size,
        job.model,
        likely=pixel,
        polarity=(settings.polarity, polarity),
        masked=[job.first + z for z, found in enumerate(contrasts) if found is None],
        suspect=suspect,
        framed=[
            job.first + z
            for z, found in enumerate(contrasts)
            if found is not None and found.padding
        ],
    )
    for note in notes:
        say(f"note: {note}")
    threshold, boundary = job.threshold, job.boundary
    cut = threshold if job.calibration is None else job.calibration.threshold(threshold)
    membrane, outs = _maps(job, cut)
    # As in memory, all that follows is made of the map as the network has it.
    raw, *others = [out for out, _ in outs]
    predict = Membrane(
        job.source,
        job.first,
        outs,
        settings.model,
        contrasts if job.mask is None else tuple(_framed(c, job.source.dtype) for c in contrasts),
        job.mask,
        polarity,
        pixel,
        settings.average,
        precision,
        str(device),
        settings.tile,
    )
    halo = predict.halo(info.context, int(job.model.network.stride))  # type: ignore[arg-type]
    do("membrane", predict, job.plan(halo), check=Right(raw, tuple(others)))
    written: dict[str, list[ZarrVolume]] = {"membrane": membrane}
    if settings.uncertainty:
        written["uncertainty"] = _uncertainty(job, do, raw, tuple(usable), pixel=pixel)
    counts: dict[str, int | None] = {"cells": None, "neurons": None}
    if settings.objects != "none":
        seen = Ways(raw, behind=2 if settings.objects == "neurons" else 1)
        told = do("ways", seen, plan(job.shape[:1], job.block[:1], (0,)))
        ways = {name: np.concatenate([table[name] for table in told]) for name in ("ways", "means")}
        written["cells"], counts["cells"] = _cells(
            job, do, raw, ways, threshold=threshold, boundary=boundary, pixel=pixel
        )
        if settings.objects == "neurons":
            written["neurons"], counts["neurons"] = _neurons(
                job, do, raw, written["cells"][0], ways, pixel=pixel
            )
    for name, levels in written.items():
        for number, (fine, coarse) in enumerate(pairwise(levels), start=1):
            blocks = plan(coarse.shape, job.block, (0, 0, 0))
            do(f"{name}-level-{number}", Coarser(fine, coarse), blocks, check=Right(coarse))
    return {
        "axolemma": __version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **identity,
        "model": {"source": job.model.source},
        "sections": [job.first, job.last],
        "notes": [*job.source.notes, *notes],
        "findings": [quality.as_dict(report, job.voxel_size) for report in suspect],
        "voxel_size": None if job.voxel_size is None else list(job.voxel_size),
        "magnification": pixel,
        "polarity": polarity,
        "threshold": cut,
        "boundary": boundary,
        **counts,
        "device": str(device),
        "precision": precision,
        "torch": torch.__version__,
    }


def _maps(
    job: Job, threshold: float
) -> tuple[list[ZarrVolume], tuple[tuple[ZarrVolume, Calibration | None], ...]]:
    """Make the membrane map; return its levels, and all maps to be written, the network's first."""
    dtype = np.uint8 if job.bits == 8 else np.float32
    about: dict[str, Any] = {"threshold": threshold}
    if job.calibration is not None:
        levels = job.create("", dtype, holds="membrane map", info=about)
        raw, *_ = job.create("uncalibrated", dtype, holds="uncalibrated map")
        return levels, ((raw, None), (levels[0], job.calibration))
    known = job.model.info.calibration
    # With it `evaluate` tells what calibrating would do.
    scale = {} if known is None else {"calibration": list(known)}
    levels = job.create("", dtype, holds="membrane map", info=about | scale)
    return levels, ((levels[0], None),)


def _uncertainty(
    job: Job,
    do: Callable[..., Results],
    membrane: ZarrVolume,
    usable: tuple[int, ...],
    *,
    pixel: float,
) -> list[ZarrVolume]:
    smoothing = BLUR / pixel
    # Where it has 8 bits, 255 stands for the highest.
    about = {"highest": HIGHEST}
    levels = job.create("uncertainty", membrane.dtype, holds="uncertainty", info=about)
    halo = uncertainty_halo(smoothing=smoothing)
    do(
        "uncertainty",
        Uncertainty(membrane, levels[0], usable, smoothing),
        job.plan((0, halo, halo)),
        check=Right(levels[0]),
    )
    return levels


def _cells(
    job: Job,
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
        Fragments(membrane, fragments, options, job.first, job.mask),
        job.plan((0, halo, halo)),
        check=Right(fragments),
    )
    how = {"method": method, "boundary": boundary, "smallest": SMALLEST / pixel**2}
    over = None
    if method != "threshold":
        beyond = overlap_halo()
        work = Overlap(fragments, membrane, **ways)
        over = do("overlaps", work, job.plan((1, beyond, beyond))).shared()
    # Of sections: a layer of blocks, and one more on both sides, which have a say in it.
    layers = plan(job.shape[:1], job.block[:1], (int(over is not None),))
    joined = do("joins", Joins(found.shared(), over, job.plan(), how), layers)
    mapping = job.folder / "cells"
    count, dtype = keep_cells(mapping, joined)
    cells = job.create("labels/cells", dtype, kind="labels", holds="cells")
    do(
        "cells",
        Paint(fragments, cells[0], str(mapping), job.settings.filled),
        job.plan(),
        check=Right(cells[0]),
    )
    return cells, count


def _neurons(
    job: Job,
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
    ids, numbers = join_cells(
        pool_links(of_section(tables, job.plan(), z)) for z in range(job.shape[0])
    )
    mapping = job.folder / "neurons"
    keep_numbers(mapping, [(ids, numbers)], len(ids), (ids.dtype, numbers.dtype))
    neurons = job.create("labels/neurons", cells.dtype, kind="labels", holds="neurons")
    do("neurons", Renumber(cells, neurons[0], str(mapping)), job.plan(), check=Right(neurons[0]))
    return neurons, int(numbers.max(initial=0))


def _suspect(
    job: Job, do: Callable[..., Results], pooled: quality.Table
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


def _framed(contrast: quality.Contrast | None, dtype: np.dtype[Any]) -> quality.Contrast | None:
    """Let what is usual outside of a mask, black or white, be padding: it was not counted.

    Nor looked at, so that each part has to tell by itself where it is.
    """
    if contrast is None:
        return None
    usual = (0.0, float(np.iinfo(dtype).max)) if dtype.kind == "u" else (0.0,)
    padding = tuple(dict.fromkeys((*contrast.padding, *usual)))
    return contrast._replace(padding=padding, frame=None)


def _contrasts(pooled: quality.Table, job: Job) -> tuple[quality.Contrast | None, ...]:
    """Return mean and standard deviation of every section.

    None for a section that shows nothing, where such ones are to be left out.
    """
    found: list[quality.Contrast | None] = []
    small = math.prod(job.shape[1:]) <= _READABLE
    for z in range(job.shape[0]):
        try:
            by = quality.contrast(pooled, z)
            if small and job.mask is None and quality.spikes(pooled, by, z):
                # Sums do not tell spikes from tissue; the section itself does.
                near = Box((job.first + z, 0, 0), (job.first + z + 1, *job.shape[1:]))
                by = quality.contrast_of(job.source.read(near)[0])
            found.append(by)
        except InputError as error:
            if job.settings.bad_sections == "mask":
                found.append(None)
                continue
            raise InputError(
                f"{job.source.source}: section {job.first + z}: {error}; replace it, or say"
                " --bad-sections mask"
            ) from None
    return tuple(found)
