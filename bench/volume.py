"""Volumes larger than the memory that a process may have: time and memory against size, workers.

    python bench/volume.py                             three sizes, one and two workers
    python bench/volume.py --largest 28x16384x16384    one ten times as large as that memory

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
from axolemma.geometry import grid
from axolemma.images import create_zarr, open_zarr
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


def into_page() -> None:
    """Put all that was measured into the table of the page."""
    found = json.loads((RESULTS / "volume.json").read_text("utf-8"))
    rows = [row for part in ("sizes", "largest") if part in found for row in found[part]["runs"]]
    page = RESULTS.parent / "scale.md"
    before, _, after = page.read_text("utf-8").split("<!-- volume -->")
    shown = "\n".join(table(rows))
    page.write_text(f"{before}<!-- volume -->\n\n{shown}\n\n<!-- volume -->{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", type=int, default=700, help="MB that a process may allocate")
    parser.add_argument("--largest", help="ZxYxX of one volume, by two processes")
    options = parser.parse_args()
    rows = []

    def note(row: dict) -> None:
        rows.append(row)
        print(row, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "out.zarr"
        if options.largest:
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
    command = " ".join(["python", "bench/volume.py", *sys.argv[1:]])
    part = {"command": command, "machine": machine("zarr"), "runs": rows}
    keep("volume", **{"largest" if options.largest else "sizes": part})
    into_page()


if __name__ == "__main__":
    main()
