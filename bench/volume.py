"""Volumes larger than the memory that a process may have: time and memory against size, workers.

    python bench/volume.py                             three sizes, one and two workers
    python bench/volume.py --largest 28x16384x16384    one ten times as large as that memory
    python bench/volume.py --driver 16x2048x2048       what the driver does between the passes

Made-up tissue, mirrored to size, as an OME-Zarr on disk; `axolemma segment … -o out.zarr` with
cells, one pass over the network, and the memory of every process held down by its limit (ulimit -d,
what it may allocate). Of the largest one membranes alone. The memory that is told is the most that
any process of the command held. Writes ``docs/results/volume.json`` and the table of docs/scale.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from axolemma.datasets import phantom
from axolemma.engines import engine_from
from axolemma.geometry import grid
from axolemma.images import create_zarr, open_volume, open_zarr
from axolemma.pipeline import segment_volume
from axolemma.settings import SegmentSettings, check
from axolemma.volume import Progress
from measuring import RESULTS, keep, machine, table

SIZES = ((8, 1024, 1024), (8, 2048, 2048), (8, 4096, 4096))
OPTIONS = ("--average", "none", "--tile", "1024", "--block")
BLOCK, FLAT_BLOCK = "2,1024,1024", "8,1024,1024"
SHARD = (8, 2048, 2048)
AMPLE = 4000  # MB, where workers are compared


def made(folder: Path, shape: tuple[int, int, int]) -> Path:
    """Write a volume of that shape; tissue of 1024² mirrored from tile to tile."""
    path = folder / f"{'x'.join(map(str, shape))}.zarr"
    tissue = phantom((SHARD[0], 1024, 1024), seed=9).image
    wide = np.concatenate((tissue, tissue[:, :, ::-1]), axis=2)
    shard = np.concatenate((wide, wide[:, ::-1]), axis=1)
    volume, *_ = create_zarr(path, shape, np.uint8, voxel_size=(50, 4, 4), block=SHARD)
    for box in grid(shape, SHARD):
        volume.write(box, shard[tuple(slice(side) for side in box.shape)])
    return path


def segmented(
    source: Path, out: Path, engine: str, megabytes: int, *, what: str = "cells", block: str = BLOCK
) -> dict:
    """Run the command; return what it took."""
    for left in (out, Path(f"{out}.ledger")):
        shutil.rmtree(left, ignore_errors=True)
    command = [sys.executable, "-m", "axolemma", "segment", source, "-o", out, *OPTIONS, block]
    limited = f'ulimit -d {megabytes * 1024} && exec "$@"'
    started = time.perf_counter()
    process = subprocess.Popen(
        ["bash", "-c", limited, "bash", *command, "--engine", engine, "--objects", what],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the command failed: {said[-2000:]}")
    seconds = time.perf_counter() - started
    shape = open_zarr(source).shape
    voxels = float(np.prod(shape))
    return {
        "shape": " x ".join(map(str, shape)),
        "gigabytes": round(voxels / 1e9, 3),
        "engine": engine,
        "objects": what,
        "block": block,
        "limit_mb": megabytes,
        "seconds": round(seconds, 1),
        "mvx_per_second": round(voxels / seconds / 1e6, 2),
        "peak_mb": round(used.ru_maxrss * 1024 / 1e6),
        "written_mb": round(sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6),
        "ledger_mb": round(sum(f.stat().st_size for f in Path(f"{out}.ledger").iterdir()) / 1e6, 2),
    }


def driven(source: Path, out: Path, engine: str) -> dict:
    """Segment to neurons in this process; return what it did where the workers had nothing to do.

    In seconds of its processor, which others at work on the machine do not change much; of the
    pass of the joins too, which it does itself where the engine is the serial one.
    """
    moments: dict[tuple[str, bool], float] = {}

    def note(progress: Progress) -> None:
        moments[progress.name, progress.block is None] = time.process_time()

    settings = check(SegmentSettings, {"average": "none", "tile": 1024, "objects": "neurons"})
    block = tuple(map(int, FLAT_BLOCK.split(",")))
    with engine_from(engine) as workers:
        record = segment_volume(
            open_volume(source),
            str(out),
            settings,
            engine=workers,
            block=block,
            ledger=f"{out}.ledger",
            advance=note,
            overwrite=True,
        )

    def between(one: tuple[str, bool], other: tuple[str, bool]) -> float:
        return round(moments[other] - moments[one], 3)

    def megabytes(name: str) -> float:
        return round(Path(f"{out}.ledger/{name}.tables").stat().st_size / 1e6, 2)

    return {
        "shape": " x ".join(map(str, open_zarr(source).shape)),
        "engine": engine,
        "block": FLAT_BLOCK,
        "cells": record["cells"],
        "joins_s": between(("joins", True), ("joins", False)),
        "cells_s": between(("joins", False), ("cells", True)),
        "neurons_s": between(("links", False), ("neurons", True)),
        **{f"{name}_mb": megabytes(name) for name in ("fragments", "overlaps", "joins", "links")},
    }


def into_page() -> None:
    """Put all that was measured into the tables of the page."""
    found = json.loads((RESULTS / "volume.json").read_text("utf-8"))
    page = RESULTS.parent / "scale.md"
    for name, parts in (("volume", ("sizes", "largest")), ("driver", ("driver",))):
        rows = [row for part in parts if part in found for row in found[part]["runs"]]
        before, _, after = page.read_text("utf-8").split(mark := f"<!-- {name} -->")
        shown = "\n".join(table(rows))
        page.write_text(f"{before}{mark}\n\n{shown}\n\n{mark}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", type=int, default=700, help="MB that a process may allocate")
    parser.add_argument("--driver", help="ZxYxX of one volume, serially and by two processes")
    parser.add_argument("--largest", help="ZxYxX of one volume, by two processes")
    options = parser.parse_args()
    rows = []

    def note(row: dict) -> None:
        rows.append(row)
        print(row, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "out.zarr"
        if options.driver:
            z, y, x = (int(side) for side in options.driver.split("x"))
            middle = made(folder, (z, y, x))
            for engine in ("serial", "processes:2"):
                note(driven(middle, out, engine))
        elif options.largest:
            z, y, x = (int(side) for side in options.largest.split("x"))
            large = made(folder, (z, y, x))
            note(
                segmented(large, out, "processes:2", options.memory, what="none", block=FLAT_BLOCK)
            )
        else:
            for shape in SIZES:
                note(segmented(made(folder, shape), out, "serial", options.memory))
            middle = made(folder, SIZES[-1])
            for engine in ("processes:1", "processes:2"):
                note(segmented(middle, out, engine, AMPLE))
    what = "driver" if options.driver else "largest" if options.largest else "sizes"
    command = " ".join(["python", "bench/volume.py", *sys.argv[1:]])
    part = {"command": command, "machine": machine("zarr"), "runs": rows}
    keep("volume", **{what: part})
    into_page()


if __name__ == "__main__":
    main()
