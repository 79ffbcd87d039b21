"""How to choose a threshold on sections that are known, for sections that are not.

    axolemma compare --data isbi2012 --models resunet --seeds 1 --folds 6 --steps 6000 -o six
    python bench/threshold_rule.py six

Every network of the comparison predicts all sections. Each rule chooses a threshold on the held-out
sections of its training, or on twelve with some it learned from, and is scored on the five that
it never saw. The table of
docs/decisions/0003-threshold.md is what this prints: means over the six folds and, since the seed
split's five sections shall choose nothing, over the five folds without them.
"""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np

from axolemma import datasets
from axolemma.metrics import THRESHOLDS, USUAL_THRESHOLD, evaluate, smoothed, steady_choice
from axolemma.modelfile import load_model
from axolemma.predict import membrane_map
from axolemma.training import MOST_CHOOSING, spread

SMOOTHED, GIVEN_AWAY = (0, 1, 2, 3), (0.0, 0.001, 0.0025)
SEED_SPLIT = range(25, 30)


def chosen(curve: np.ndarray, times: int, given_away: float) -> int:
    """Return which threshold a rule chooses: the highest within what it gives away of the best."""
    curve = smoothed(curve, times=times)
    return int(np.flatnonzero(curve >= curve.max() - given_away)[-1])


def main() -> None:
    pairs = datasets.load("isbi2012")
    found: dict[str, list[tuple[float, float]]] = {}
    folds = []
    for file in sorted(Path(sys.argv[1]).glob("cells/*/result.json")):
        result = json.loads(file.read_text())
        model = load_model(file.parent / "run")
        maps = np.stack(list(membrane_map(model.network, pairs.images, average="dihedral")))
        scores = evaluate(maps, pairs.truth, unthinned=False)
        both = [scores.values[name][:, :, 0] for name in ("v_rand", "v_info")]
        held_out, validated = result["sections"], result["validated_on"]
        learned = [z for z in result["learned_from"] if z not in validated]
        twelve = validated + spread(learned, MOST_CHOOSING - len(validated))
        chosen_on = (("held out", validated), ("twelve", twelve))
        rules = {
            f"{where}, smoothed {times} times, {given:g} given away": chosen(
                np.mean(both, axis=0)[:, sections].mean(axis=1), times, given
            )
            for (where, sections), times, given in product(chosen_on, SMOOTHED, GIVEN_AWAY)
        }
        rules |= {
            f"{where}, as it is": steady_choice(
                np.mean(both, axis=0)[:, sections].mean(axis=1), THRESHOLDS, USUAL_THRESHOLD
            )
            for where, sections in chosen_on
        }
        rules |= {f"always {THRESHOLDS[t]:.1f}": t for t in range(4, 9)}
        rules["the best, having seen the truth"] = int(
            np.mean(both, axis=0)[:, held_out].mean(axis=1).argmax()
        )
        for name, t in rules.items():
            found.setdefault(name, []).append(tuple(s[t][held_out].mean() for s in both))
        folds.append(held_out[0] != SEED_SPLIT.start)
    for name, rows in found.items():
        means = [np.mean(r, axis=0) for r in (rows, np.array(rows)[folds])]
        print(f"| {name} | " + " | ".join(f"{r:.4f} / {i:.4f}" for r, i in means) + " |")


if __name__ == "__main__":
    main()
