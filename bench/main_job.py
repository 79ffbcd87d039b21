"""The main job on the challenge's real sections: train on 0–24, score 25–29, seed by seed.

    python bench/main_job.py --seeds 0 1 2 --budget 10m
    python bench/main_job.py --seeds 0 1 2 --steps 1500    # does not depend on the machine's speed

Calls the command line as a user would, one process after the other, and writes
``docs/results/main_job.json``, from which the table in README.md is taken. The five test sections
choose nothing: threshold and weights come from validation sections inside 0–24.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import axolemma
from command_line import axolemma_json

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "main_job.json"


def one_seed(folder: Path, seed: int, length: tuple[str, object]) -> dict:
    run = folder / f"run-{seed}"
    started = time.monotonic()
    trained = axolemma_json(
        *("train", "--data", "isbi2012", "--slices", "0-24", "--model", "resunet"),
        *(*length, "--seed", seed, "-o", run),
    )["training"]
    result = {
        "seed": seed,
        "training_seconds": round(time.monotonic() - started, 1),
        "steps": trained["steps"],
        "precision": trained["precision"],
        "weights_sha256": trained["weights_sha256"],
    }
    for average in ("none", "flips", "dihedral"):
        out = folder / f"out-{seed}-{average}"
        record = axolemma_json(
            *("segment", "isbi2012", "--slices", "25-29", "--model", run),
            *("--average", average, "-o", out),
        )
        scores = axolemma_json("evaluate", out, "isbi2012", "--slices", "25-29")
        held_out = scores["held_out"]
        result[average] = {
            "threshold": record["threshold"],
            "seconds": record["seconds"],
            "v_rand": held_out["v_rand"]["score"],
            "v_info": held_out["v_info"]["score"],
            "v_rand_sections": held_out["v_rand"]["sections"],
            "v_info_sections": held_out["v_info"]["sections"],
            "best_v_rand": scores["best"]["v_rand"]["score"],
            "best_v_info": scores["best"]["v_info"]["score"],
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    length = ("--budget", options.budget) if options.steps is None else ("--steps", options.steps)
    found: dict = {
        "command": " ".join(["python", "bench/main_job.py", *sys.argv[1:]]),
        "axolemma": axolemma.__version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        length[0].lstrip("-"): length[1],
        "seeds": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            found["seeds"].append(one_seed(Path(folder), seed, length))
            options.results.parent.mkdir(parents=True, exist_ok=True)
            options.results.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'average':>9} {'V_rand':>8} {'V_info':>8}   per seed")
    for average in ("none", "flips", "dihedral"):
        rows = [(s[average]["v_rand"], s[average]["v_info"]) for s in found["seeds"]]
        mean = np.mean(rows, axis=0)
        each = "  ".join(f"{r:.4f}/{i:.4f}" for r, i in rows)
        print(f"{average:>9} {mean[0]:8.4f} {mean[1]:8.4f}   {each}")


if __name__ == "__main__":
    main()
