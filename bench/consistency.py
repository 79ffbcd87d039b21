"""Whether neurons of the real stack stay themselves when their sections suffer.

    python bench/consistency.py

The real stack has no 3D truth. So the cells that its experts drew are linked as they are, and again
with a section removed, with a section blank (five of each, one at a time), and with every section
shifted by up to 10 pixels; on pixels that both hold the first answer is compared with the second
as if it were the truth. A method that errs the same way twice is not found out. Writes
``docs/results/consistency.json``: variation of information in bits, 0 = nothing changed.
"""

import json
from pathlib import Path

import numpy as np

from axolemma import datasets
from axolemma.images import replacing
from axolemma.metrics import contingency, cremi_voi
from neuron_stacks import SHIFT, Case, cells_of
from neurons import METHODS

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "consistency.json"
LOST = (4, 9, 14, 19, 24)


def case(cells: np.ndarray) -> Case:
    return Case(cells, (cells == 0).astype(np.float32), cells, np.arange(len(cells)))


def voi(one: np.ndarray, other: np.ndarray) -> float:
    both = (one > 0) & (other > 0)
    return cremi_voi(contingency(other[both].astype(int), one[both].astype(int))).total


def main() -> None:
    truth = datasets.load("isbi2012").truth
    cells = cells_of(1 - truth)
    side = cells.shape[1] - 2 * SHIFT
    offsets = np.random.default_rng(0).integers(0, 2 * SHIFT + 1, (len(cells), 2))

    def cut(stack: np.ndarray) -> np.ndarray:
        return np.stack(
            [s[y : y + side, x : x + side] for s, (y, x) in zip(stack, offsets, strict=True)]
        )

    found = {}
    for name, link in METHODS.items():
        whole = link(case(cells))
        removed, blank = [], []
        for z in LOST:
            rest = np.delete(np.arange(len(cells)), z)
            removed.append(voi(whole[rest], link(case(cells[rest]))))
            faded = case(cells.copy())
            faded.cells[z], faded.membrane[z] = 0, 1
            blank.append(voi(whole[rest], link(faded)[rest]))
        found[name] = {
            "removed": round(float(np.mean(removed)), 4),
            "blank": round(float(np.mean(blank)), 4),
            "shifted": round(voi(cut(whole), link(case(cut(cells)))), 4),
        }
        print(f"| {name} | " + " | ".join(f"{v:.3f}" for v in found[name].values()) + " |")
    with replacing(RESULTS) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
