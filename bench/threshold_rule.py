"""How to choose a threshold on sections that are known, for sections that are not.

    axolemma compare --data isbi2012 --models resunet --seeds 1 --folds 6 --steps 6000 -o six
    python bench/threshold_rule.py six

Every network of the comparison predicts the eight sections that it has not learned from, in two
poses and in eight. First as it was: a rule chooses on the three that were held out, and is scored
on the other five. Three sections are few, so then every three of the eight choose, and the other
five are scored: 56 choices for each network. Since the seed split's five sections shall choose
nothing, the network that was tested on them is left out there. The tables of
docs/decisions/0003-threshold.md are what this prints.
"""

import json
import sys
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from axolemma import datasets
from axolemma.metrics import THRESHOLDS, TOLERANCE, USUAL_THRESHOLD, evaluate, steady_choice
from axolemma.modelfile import load_model
from axolemma.predict import membrane_map
from measuring import table

SMOOTHED, TOLERANCES, ALWAYS = (0, 1, 2, 3), (0.0, 0.001, 0.0025, 0.005, 0.01), (0.5, 0.6, 0.7)
SEED_SPLIT = 25
AVERAGES = ("half-turn", "dihedral")


@dataclass(frozen=True)
class Unseen:
    """V_rand and V_info of the sections that a network has not seen.

    Parameters
    ----------
    scores
        (average, score, threshold, section).
    tested
        How many of the sections were tested; the others were held out. The tested come first.
    first
        The number of the first of them.
    """

    scores: NDArray[np.float64]
    tested: int
    first: int

    def chosen(self, rule: tuple[int, float], by: list[int]) -> int:
        """Return which threshold a rule chooses by some of the sections, in eight poses."""
        curve = self.scores[1].mean(axis=0)[:, by].mean(axis=1)
        times, tolerance = rule
        return steady_choice(curve, THRESHOLDS, USUAL_THRESHOLD, tolerance=tolerance, times=times)


def unseen(pairs: datasets.Pairs, folder: Path) -> Unseen:
    """Score what a cell of the comparison has not learned from."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    numbers = [*result["sections"], *result["validated_on"]]
    network = load_model(folder / "run").network
    scores = []
    for average in AVERAGES:
        maps = np.stack(list(membrane_map(network, pairs.images[numbers], average=average)))
        found = evaluate(maps, pairs.truth[numbers], unthinned=False)
        scores.append([found.values[name][:, :, 0] for name in ("v_rand", "v_info")])
    return Unseen(np.array(scores), len(result["sections"]), result["first"])


def row(rule: str, found: list[NDArray[np.float64]], **more: object) -> dict[str, object]:
    """Average the scores (average, score) that a rule came to."""
    means = np.mean(found, axis=0)
    return (
        {"rule": rule}
        | {
            average: " / ".join(f"{score:.4f}" for score in mean)
            for average, mean in zip(AVERAGES, means, strict=True)
        }
        | more
    )


def main() -> None:
    pairs = datasets.load("isbi2012")
    folders = sorted(file.parent for file in Path(sys.argv[1]).glob("cells/*/result.json"))
    networks = [unseen(pairs, folder) for folder in folders]
    rows = []
    for name, rule in (("as it is", (3, TOLERANCE)), ("the best, not smoothed", (0, 0.0))):
        found = []
        for net in networks:
            held_out = range(net.tested, net.scores.shape[-1])
            t = net.chosen(rule, [*held_out])
            found.append(net.scores[:, :, t, : net.tested].mean(axis=-1))
        rows.append(row(name, found))
    for threshold in ALWAYS:
        t = int(np.abs(np.subtract(THRESHOLDS, threshold)).argmin())
        found = [net.scores[:, :, t, : net.tested].mean(axis=-1) for net in networks]
        rows.append(row(f"always {threshold}", found))
    found = []
    for net in networks:
        t = net.chosen((0, 0.0), [*range(net.tested)])
        found.append(net.scores[:, :, t, : net.tested].mean(axis=-1))
    rows.append(row("the best, having seen the truth", found))
    print("Held-out sections choose, six folds\n")
    print("\n".join(table(rows)))
    rows = []
    for times, tolerance in product(SMOOTHED, TOLERANCES):
        found, taken = [], []
        for net in (net for net in networks if net.first != SEED_SPLIT):
            every = range(net.scores.shape[-1])
            for by in combinations(every, net.scores.shape[-1] - net.tested):
                t = net.chosen((times, tolerance), [*by])
                others = [z for z in every if z not in by]
                found.append(net.scores[:, :, t][:, :, others].mean(axis=-1))
                taken.append(abs(THRESHOLDS[t] - USUAL_THRESHOLD) < 1e-6)
        share = f"{np.mean(taken):.2f}"
        name = f"smoothed {times} times, the nearest to .6 within {tolerance:g} of the best"
        rows.append(row(name, found, **{"takes .6": share}))
    print("\nEvery three of the eight choose, without the seed split\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
