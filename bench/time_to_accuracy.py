"""How good a training is after how many minutes: a training of its own for every budget.

    python bench/time_to_accuracy.py --budgets 1m 2m 5m 10m 30m --seeds 0 1 2    # hours

The schedule depends on the budget, so a short training is no long one that was stopped. Trains on
the challenge's sections 0-24 and scores 25-29 once, as `bench/main_job.py` does, at the threshold
that validation chose; validation is part of the budget. Writes
``docs/results/time_to_accuracy.json``; what is in it with the same budget and seed on the same
processor is not run again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from axolemma.settings import minutes
from main_job import one_seed
from measuring import RESULTS, keep, machine, table


def about() -> dict[str, object]:
    """Return what the minutes were spent on."""
    now = machine()
    return {"processor": now["processor"], "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", nargs="+", default=["1m", "2m", "5m", "10m", "30m"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
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
                rows.append(asked | one_seed(Path(folder), seed, ("--budget", budget)))
            keep(options.name, trainings=sorted(rows, key=lambda row: row["minutes"]))
    shown = []
    for spent in sorted({row["minutes"] for row in rows}):
        mine = [row for row in rows if row["minutes"] == spent and about().items() <= row.items()]
        if not mine:
            continue
        line = {"minutes": spent, "trainings": len(mine)}
        line["steps"] = float(np.mean([row["steps"] for row in mine]))
        for name in ("v_rand", "v_info", "cells_v_rand", "cells_v_info"):
            values = [row["dihedral"][name] for row in mine]
            line[name] = f"{np.mean(values):.4f} ({np.std(values):.4f})"
        shown.append(line)
    print("\n".join(table(shown)))


if __name__ == "__main__":
    main()
