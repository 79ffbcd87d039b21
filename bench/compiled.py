"""Precisions of the default network side by side: speed, and scores of sections it never saw.

    python bench/compiled.py

`neurites-seed` on sections 25-29 of the challenge in eight poses, one thread. int8 is calibrated
on crops of these sections, without their truth. Writes ``docs/results/compiled.json``.
"""

import time

import numpy as np
import torch

from axolemma.compiled import compiled, parity
from axolemma.datasets import isbi2012
from axolemma.metrics import evaluate
from axolemma.modelfile import load_model
from axolemma.models import fused
from axolemma.predict import membrane_map
from axolemma.quality import normalise
from measuring import keep, machine, table


def main() -> None:
    torch.set_num_threads(1)
    pairs = isbi2012.load().slices(range(25, 30))
    model = load_model("neurites-seed")
    network, threshold = model.network, model.info.threshold
    rng = np.random.default_rng(0)
    crops = []
    for number in range(32):
        y, x = rng.integers(0, 256, 2)
        crops.append(normalise(pairs.images[number % 5])[None, y : y + 256, x : x + 256])
    ways = {
        "fp32": (network, "fp32"),
        "bf16": (network, "bf16"),
        "fused bf16": (fused(network), "bf16"),
    }
    for kind in ("fp32", "bf16", "int8"):
        fast = compiled(network, precision=kind, crops=crops[:16], threads=1, average="dihedral")
        print(f"{kind}: {parity(fast, network, crops[16:], threshold=threshold)}")
        ways[f"OpenVINO {kind}"] = (fast, "fp32")
    rows, first = [], None
    for name, (what, precision) in ways.items():
        times = []
        for _ in range(3):
            started = time.perf_counter()
            each = membrane_map(what, pairs.images, average="dihedral", precision=precision)
            maps = np.stack(list(each))
            times.append(time.perf_counter() - started)
        first = maps if first is None else first
        scores = evaluate(maps, pairs.truth, unthinned=False)
        rows.append(
            {
                "precision": name,
                "seconds": round(min(times), 3),
                "v_rand": round(scores.at(threshold, "v_rand").score, 4),
                "v_info": round(scores.at(threshold, "v_info").score, 4),
                "largest": round(float(np.abs(maps - first).max()), 4),
                "changed": round(
                    float(((1 - maps > threshold) != (1 - first > threshold)).mean()), 5
                ),
            }
        )
    for row in rows:
        row["against bf16"] = round(row["seconds"] / rows[1]["seconds"], 2)
    keep("compiled", machine=machine("openvino", "nncf"), rows=rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
