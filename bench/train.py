"""How fast networks learn: steps and pixels per second, and what ours has learned when.

    peers/bin/python bench/train.py        (see bench/requirements-peers.txt)

Ours and the networks that people use, in each precision, by our own loop with the default's batch
and augmentation; validation is not counted, waiting for crops is, and its share is told. Then our
default is trained on the challenge's sections 0-24 for budgets that double, and scored on 25-29.
Without the peers' packages, ours alone. Writes ``docs/results/train.json``.
"""

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch

from axolemma import datasets
from axolemma.predict import choose_device, choose_precision
from axolemma.settings import TrainSettings, check
from axolemma.training import Laps, fit
from infer import PEERS
from measuring import keep, machine, table
from peers import OURS, network_of
from time_to_accuracy import PIXELS, one

#: Parts of a step, as a training with --profile tells them.
STEP = (
    "crops",
    "transfer",
    "forward",
    "loss",
    "backward",
    "optimizer",
    "recorded steps",
    "averaging",
)

#: Of the trainings that are scored, in seconds.
BUDGETS = (15, 30, 60, 120, 240)


def pace(name: str, precision: str, steps: int) -> dict[str, object]:
    """Train for so many steps and tell how long one took."""
    network = network_of(name)
    # Few sections, since all that is validated takes time that is not counted.
    pairs = datasets.load("isbi2012").slices(range(8))
    settings = {"data": "isbi2012", "model": network, "validate": "7", "precision": precision}
    settings |= {} if name == OURS else {"learning_rate": 1e-3}
    seconds = []
    for many in (1, 1 + steps):  # the first step chooses algorithms
        laps = Laps()
        with tempfile.TemporaryDirectory() as folder:
            fit(
                pairs,
                check(TrainSettings, {**settings, "steps": many}),
                Path(folder) / "run",
                lap=laps,
            )
        seconds.append({part: laps.seconds.get(part, 0.0) for part in STEP})
    each = {part: (seconds[1][part] - seconds[0][part]) / steps for part in STEP}
    took = sum(each.values())
    return {
        "network": name,
        "precision": precision,
        "steps/s": round(1 / took, 3),
        "Mpx/s": round(PIXELS / took / 1e6, 3),
        "crops": round(max(0.0, each["crops"]) / took, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--steps", type=int, nargs=2, default=(200, 3), help="of ours, of the peers'"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    fast = choose_precision("auto", choose_device())
    pace(OURS, fast, 1)  # compiles what cuts crops
    rows: list[dict[str, object]] = []
    for name in (OURS, *(PEERS if find_spec("monai") else ())):
        for precision in dict.fromkeys(("fp32", fast)):
            rows.append(pace(name, precision, options.steps[name != OURS]))
            print(rows[-1], flush=True)
    ours = rows[int(fast != "fp32")]
    for row in rows:
        row["default is faster by"] = round(ours["steps/s"] / row["steps/s"], 2)  # type: ignore[operator]
    keep("train", machine=machine("segmentation-models-pytorch", "monai"), paces=rows)
    print("\n".join(table(rows)))

    tries: list[dict[str, object]] = []
    for seconds in BUDGETS:
        with tempfile.TemporaryDirectory() as folder:
            found = one(Path(folder), options.seed, f"{seconds}s")
        scores = found["half-turn"]
        line = {"seconds": seconds, "steps": found["steps"], "V_rand": scores["v_rand"]}
        tries.append(line | {"of the cells": scores["cells_v_rand"]})
        keep("train", tries=tries, threads=torch.get_num_threads())
    print("\n".join(table(tries)))


if __name__ == "__main__":
    main()
