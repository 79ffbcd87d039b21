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
import tempfile
from pathlib import Path

import numpy as np
import torch

import axolemma
from axolemma.predict import POSES
from command_line import axolemma_json, scored

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "main_job.json"


def one_seed(folder: Path, seed: int, length: tuple[str, object]) -> dict:
    run = folder / f"run-{seed}"
    trained = axolemma_json(
        *("train", "--data", "isbi2012", "--slices", "0-24", "--model", "resunet"),
        *(*length, "--seed", seed, "-o", run),
    )["training"]
    return {
        "seed": seed,
        "training_minutes": trained["minutes"],
        "steps": trained["steps"],
        "precision": trained["precision"],
        "weights_sha256": trained["weights_sha256"],
        **scored(run, "isbi2012", "25-29", folder / f"out-{seed}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, help="folder that keeps runs and segmentations")
    options = parser.parse_args()
    length = ("--budget", options.budget) if options.steps is None else ("--steps", options.steps)
    found: dict = {
        "command": f"python bench/main_job.py --seeds {' '.join(map(str, options.seeds))} "
        f"{length[0]} {length[1]}",
        "axolemma": axolemma.__version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        length[0].lstrip("-"): length[1],
        "seeds": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            found["seeds"].append(one_seed(options.keep or Path(folder), seed, length))
            options.results.parent.mkdir(parents=True, exist_ok=True)
            options.results.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'average':>9} {'V_rand':>8} {'V_info':>8}   per seed")
    for average in POSES:
        rows = [(s[average]["v_rand"], s[average]["v_info"]) for s in found["seeds"]]
        mean = np.mean(rows, axis=0)
        each = "  ".join(f"{r:.4f}/{i:.4f}" for r, i in rows)
        print(f"{average:>9} {mean[0]:8.4f} {mean[1]:8.4f}   {each}")


if __name__ == "__main__":
    main()
