"""How good a training is after how many minutes: a training of its own for every budget.

    python bench/time_to_accuracy.py --budgets 1m 2m 10m --seeds 0 1 2
    python bench/time_to_accuracy.py --budgets 30m --keep FOLDER    # keeps what it made

The schedule depends on the budget, so a short training is no long one that was stopped; a long one
ends early, see docs/training.md. Trains on the challenge's sections 0-24, segments 25-29 in every
way of averaging, and scores them once, at the threshold that validation chose, all by the command
line, as a user would; validation is part of the budget. The five sections are looked at by nothing
but this script. Writes ``docs/results/time_to_accuracy.json``, from which the tables in README.md
and docs/training.md are taken; what is in it with the same budget and seed on the same processor is
not run again.
"""

import argparse
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from axolemma.predict import POSES
from axolemma.settings import TrainSettings, minutes
from command_line import axolemma_json, scored
from measuring import RESULTS, keep, machine, table

#: That a step learns from.
PIXELS = math.prod(TrainSettings.model_fields[of].default for of in ("batch", "crop", "crop"))


def one(folder: Path, seed: int, budget: str) -> dict[str, object]:
    """Train with one seed, segment and score."""
    run = folder / f"run-{budget}-{seed}"
    trained = axolemma_json(
        *("train", "--data", "isbi2012", "--slices", "0-24", "--model", "resunet"),
        *("--budget", budget, "--seed", seed, "-o", run),
    )["training"]
    return {
        "training_minutes": trained["minutes"],
        "steps": trained["steps"],
        "precision": trained["precision"],
        "weights_sha256": trained["weights_sha256"],
        **scored(run, "isbi2012", "25-29", folder / f"out-{budget}-{seed}"),
    }


def about() -> dict[str, object]:
    """Return what the minutes were spent on."""
    if torch.cuda.is_available():
        return {"processor": torch.cuda.get_device_name(), "threads": os.cpu_count()}
    return {"processor": machine()["processor"], "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", nargs="+", default=["1m", "2m", "5m", "10m", "30m"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="folder that keeps runs and segmentations")
    parser.add_argument("--name", default="time_to_accuracy", help="of the file in docs/results")
    options = parser.parse_args()
    file = RESULTS / f"{options.name}.json"
    rows = json.loads(file.read_text("utf-8"))["trainings"] if file.is_file() else []
    for budget in sorted(options.budgets, key=minutes):
        for seed in options.seeds:
            asked = {"minutes": minutes(budget), "seed": seed, **about()}
            if any(asked.items() <= row.items() for row in rows):
                continue
            with tempfile.TemporaryDirectory() as folder:
                rows.append(asked | one(options.keep or Path(folder), seed, budget))
            keep(options.name, trainings=sorted(rows, key=lambda r: (r["minutes"], r["seed"])))
    shown = []
    for spent in sorted({row["minutes"] for row in rows}):
        mine = [row for row in rows if row["minutes"] == spent and about().items() <= row.items()]
        for average in POSES if mine else ():
            line = {"minutes": spent, "trainings": len(mine), "average": average}
            line["steps"] = round(float(np.mean([row["steps"] for row in mine])))
            pace = float(np.mean([row["steps"] / row["training_minutes"] / 60 for row in mine]))
            line |= {"steps/s": pace, "Mpx/s": pace * PIXELS / 1e6}
            for name in ("v_rand", "v_info", "cells_v_rand", "cells_v_info"):
                values = [row[average][name] for row in mine]
                line[name] = f"{np.mean(values):.4f} ({np.std(values):.4f})"
            shown.append(line)
    print("\n".join(table(shown)))


if __name__ == "__main__":
    main()
