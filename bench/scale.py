"""Time and memory of `segment` against area and depth, and how near the estimate comes.

    python bench/scale.py

Each size is a process of its own, one after the other; the faster of two runs counts. Sections are
laid out from a made-up one with some hundred cells.
The exponents are those of a line through the logarithms: 1 is linear. The estimate is what
`axolemma segment` would have said, made in that process before it began, less what it adds for
files, since none are written here. Writes
``docs/results/scale.json``.
"""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from axolemma import estimate
from axolemma.modelfile import load_model
from axolemma.segmentation import segment
from axolemma.settings import SegmentSettings, check
from measuring import keep, machine, peak, seconds, table

#: Of membranes alone larger ones too, and from where on the exponent is taken: what a section takes
#: whatever its size is a tenth of a second.
SIDES = {"none": (512, 1024, 2048, 4096, 8192, 16384), "cells": (512, 1024, 2048, 4096)}
FROM = {"none": 4096, "cells": 1024}
DEPTHS, DEPTH_SIDE = (1, 2, 4, 8), 1024


def laid_out(depth: int, side: int) -> np.ndarray:
    """Lay one section of the phantom out to a stack, each next one mirrored."""
    # Not from the synthetic tissue: compiling that takes memory which a segmentation does not.
    coarse = np.random.default_rng(0).normal(size=(512, 512))
    bumps = gaussian_filter(coarse, 9, mode="wrap")
    walls = np.abs(bumps) < 0.2 * bumps.std()
    one = np.clip(150 - 90 * gaussian_filter(walls.astype(float), 1) + 12 * coarse, 0, 255)
    one = one.astype(np.uint8)
    four = np.block([[one, one[:, ::-1]], [one[::-1], one[::-1, ::-1]]])
    times = -(-side // 1024)
    whole = np.tile(four, (times, times))[:side, :side]
    return np.stack([whole if z % 2 == 0 else whole[::-1] for z in range(depth)])


def resident() -> None:
    """Start the kernel's count of the peak anew."""
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("5")


def measured(depth: int, side: int, objects: str, average: str, precision: str) -> dict:
    """Segment one size; for a process of its own."""
    model, stack = load_model("neurites"), laid_out(depth, side)
    how = {"objects": objects, "average": average, "precision": precision}
    settings = check(SegmentSettings, how)
    tile = estimate.tile_of(model.network, precision=precision)
    said = estimate.of_segmenting(stack.shape, settings, tile)
    told = how | {"voxel_size": (50, 4, 4)}  # else its look would decide, and this is no tissue
    segment(stack[:, :256, :256], model=model, **told)
    resident()
    spent, _ = seconds(lambda: segment(stack, model=model, **told), repeats=2)
    return {
        "objects": objects,
        "average": average,
        "precision": precision,
        "depth": depth,
        "side": side,
        "seconds": round(spent, 3),
        "said": round(said.seconds - estimate.FILES_SECONDS * stack.size, 2),
        "peak MB": round(peak() / 1e6),
        "said MB": round(said.memory / 1e6),
        "said / peak": round(said.memory / peak(), 2),
    }


def exponent(rows: list[dict], key: str, *, base: float = 0.0) -> float:
    """Return the power of the number of voxels with which a column grows, beyond a base."""
    voxels = np.log([row["depth"] * row["side"] ** 2 for row in rows])
    values = np.log([max(row[key] - base, 1e-3) for row in rows])
    return round(float(np.polyfit(voxels, values, 1)[0]), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--average", default="none")
    parser.add_argument("--one", nargs=5, help="depth, side, objects, average, precision")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        depth, side, *how = options.one
        print(json.dumps(measured(int(depth), int(side), *how)))
        return
    jobs = [(1, side, kind, "auto") for kind in SIDES for side in SIDES[kind]]
    jobs += [(1, 2048, "none", "fp32")]
    jobs += [(d, DEPTH_SIDE, kind, "auto") for kind in ("cells", "neurons") for d in DEPTHS]
    rows = []
    for depth, side, kind, precision in jobs:
        one = [str(depth), str(side), kind, options.average, precision]
        command = [sys.executable, __file__, "--threads", str(options.threads), "--one", *one]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(found.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr, flush=True)
    exponents = []
    for kind in ("none", "cells", "neurons"):
        area = [
            r
            for r in rows
            if r["objects"] == kind and r["depth"] == 1 and r["precision"] == "auto"
            if r["side"] >= FROM.get(kind, DEPTH_SIDE)
        ]
        deep = [r for r in rows if r["objects"] == kind and r["side"] == DEPTH_SIDE]
        for against, some in (("area", area), ("depth", deep)):
            if len({r["depth"] * r["side"] ** 2 for r in some}) > 2:
                base = estimate.BASE / 1e6
                exponents.append(
                    {
                        "objects": kind,
                        "against": against,
                        "time": exponent(some, "seconds"),
                        "memory beyond the program": exponent(some, "peak MB", base=base),
                    }
                )
    about = machine() | {"threads": options.threads}
    keep("scale", machine=about, rows=rows, exponents=exponents)
    print("\n".join([*table(rows), "", *table(exponents)]))


if __name__ == "__main__":
    main()
