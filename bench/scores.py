"""Speed of the scores on one core.

    python bench/scores.py

The official sweep over 30 sections of 512 × 512, every score of five sections with their list of
errors, and one pair of 4096 × 4096 label images; on the challenge's own labels where AXOLEMMA_DATA
has them, else on synthetic tissue.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from axolemma.datasets import phantom_pairs
from axolemma.evaluation import evaluate_stacks
from axolemma.images import Stack
from axolemma.metrics import (
    contingency,
    cremi_rand,
    cremi_voi,
    evaluate,
    pair_counts,
    v_info,
    v_rand,
)


def truth() -> tuple[str, np.ndarray]:
    for folder in (Path(os.environ.get("AXOLEMMA_DATA", ".")) / part for part in ("", "isbi2012")):
        if (folder / "train-labels.tif").is_file():
            return "isbi2012", tifffile.imread(folder / "train-labels.tif") == 0
    return "phantom", phantom_pairs().truth.astype(bool)


def seconds(what: str, job: Callable[[], object]) -> None:
    started = time.process_time()
    job()
    print(f"{what}: {time.process_time() - started:.2f} s of processor time")


def large_labels(drawn: np.ndarray) -> np.ndarray:
    """Tile sections to 4096 × 4096 and number their cells."""
    rows = [np.hstack([drawn[(8 * i + j) % len(drawn)] for j in range(8)]) for i in range(8)]
    labels, _ = ndimage.label(~np.vstack(rows)[:4096, :4096])
    return labels


def main() -> None:
    name, drawn = truth()
    rng = np.random.default_rng(0)
    # A map as a network gives it: soft edges, smooth noise, a few gaps and false membranes.
    map_ = ndimage.gaussian_filter(drawn.astype(np.float32), (0, 1.5, 1.5))
    map_ += 0.8 * ndimage.gaussian_filter(rng.normal(size=drawn.shape), (0, 2, 2))
    map_ = np.clip(map_, 0, 1)

    def whole_suite(count: int) -> None:
        proposal = Stack(map_[:count], (0, 1), None, "map", holds="membrane map")
        evaluate_stacks(proposal, Stack(drawn[:count].astype(np.uint8), (0, 1), None, "truth"))

    whole_suite(1)  # compiles
    for what, unthinned in (("thinned", False), ("thinned and not", True)):
        seconds(
            f"{name}, {len(drawn)} sections, 11 thresholds, V_rand and V_info {what}",
            lambda unthinned=unthinned: evaluate(map_, drawn, unthinned=unthinned),
        )
    seconds("every score of five sections, with the list of errors", lambda: whole_suite(5))

    one, other = large_labels(drawn), large_labels(np.roll(drawn, 3, axis=1))

    def pair() -> None:
        table = contingency(one, other)
        for score in (pair_counts, cremi_rand, cremi_voi, v_rand, v_info):
            score(table)

    seconds(f"labels of {one.shape[0]} × {one.shape[1]}, Rand, VOI, V_rand, V_info", pair)


if __name__ == "__main__":
    main()
