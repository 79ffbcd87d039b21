"""Every score under known changes of the challenge's own labels, as a table for docs/scores.md.

    python bench/perturbations.py [--results docs/results/perturbations.json]

Reads train-labels.tif where AXOLEMMA_DATA has it. Ten sections, every third; each proposal is a
change of the section's own labels (4-connected dilation or erosion of the membrane, the next
section's labels, noise, one gap or one false membrane), so that a column says what it forgives.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from axolemma.metrics import SCORES, score_suite

SHOWN = {
    "v_rand": "V_rand",
    "v_info": "V_info",
    "v_rand_unthinned": "V_rand*",
    "rand_error": "Rand error",
    "pixel_error": "pixel error",
    "warping_error": "warping error",
    "voi_cremi_split": "VOI split",
    "voi_cremi_merge": "VOI merge",
    "are_skimage": "ARE (skimage)",
    "cell_ap": "cell AP",
    "panoptic_quality": "PQ",
    "f1": "F1",
    "cl_dice": "clDice",
    "boundary_f": "boundary F",
    "betti_1": "Betti-1",
    "betti_matching_1": "Betti-1 matching",
}


def labels() -> np.ndarray:
    for folder in (Path(os.environ.get("AXOLEMMA_DATA", ".")) / part for part in ("", "isbi2012")):
        if (folder / "train-labels.tif").is_file():
            return tifffile.imread(folder / "train-labels.tif") == 0
    raise SystemExit("no train-labels.tif: set AXOLEMMA_DATA to the folder that holds it")


def gap(membrane: np.ndarray) -> np.ndarray:
    """Open 6 pixels of membrane between the two largest cells that touch."""
    cells, _ = ndimage.label(~membrane)
    sizes = np.bincount(cells.ravel())
    sizes[0] = 0
    order = np.argsort(sizes)[::-1]
    near = {int(cell): ndimage.binary_dilation(cells == cell, iterations=6) for cell in order[:12]}
    for i, one in enumerate(near):
        for other in list(near)[:i]:
            contact = np.argwhere(near[one] & near[other])
            if len(contact):
                y, x = contact[len(contact) // 2]
                opened = membrane.copy()
                opened[max(0, y - 8) : y + 9, max(0, x - 3) : x + 3] = False
                return opened
    raise SystemExit("no two large cells touch")


def wall(membrane: np.ndarray) -> np.ndarray:
    """Cut the largest cell in two along its middle row, 3 pixels thick."""
    cells, _ = ndimage.label(~membrane)
    sizes = np.bincount(cells.ravel())
    largest = cells == 1 + sizes[1:].argmax()
    rows = np.flatnonzero(largest.any(axis=1))
    cut = membrane.copy()
    middle = rows[len(rows) // 2]
    cut[middle - 1 : middle + 2] |= largest[middle - 1 : middle + 2]
    return cut


def changes(drawn: np.ndarray, z: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    here = drawn[z]
    flipped = rng.random(here.shape) < 0.01
    return {
        "the labels themselves": here,
        "membrane + 1 px": ndimage.binary_dilation(here),
        "membrane + 2 px": ndimage.binary_dilation(here, iterations=2),
        "membrane + 3 px": ndimage.binary_dilation(here, iterations=3),
        "membrane - 1 px": ndimage.binary_erosion(here, border_value=1),
        "membrane - 2 px": ndimage.binary_erosion(here, iterations=2, border_value=1),
        "shifted 3 rows": np.roll(here, 3, axis=0),
        "the next section's labels": drawn[z + 1],
        "1 % salt and pepper": here ^ flipped,
        "one gap between large cells": gap(here),
        "one false membrane": wall(here),
        "all interior": np.zeros_like(here),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    drawn = labels()
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, list[float]]] = {}
    for z in range(0, 29, 3):
        for what, proposal in changes(drawn, z, rng).items():
            suite = score_suite(proposal, drawn[z])
            for name in SCORES:
                found.setdefault(what, {}).setdefault(name, []).append(suite.mean(name))
    means = {w: {n: float(np.mean(v)) for n, v in row.items()} for w, row in found.items()}
    print("| proposal | " + " | ".join(SHOWN.values()) + " |")
    print("|---" * (len(SHOWN) + 1) + "|")
    for what, row in means.items():
        print(f"| {what} | " + " | ".join(f"{row[name]:.3g}" for name in SHOWN) + " |")
    if options.results:
        options.results.write_text(json.dumps(means, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
