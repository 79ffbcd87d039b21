"""Speed of the official scores: a whole sweep over 30 sections of 512 × 512, on one core.

    python bench/scores.py

On the challenge's own labels where AXOLEMMA_DATA has them, else on synthetic tissue.
"""

import os
import time
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from axolemma.datasets import phantom_pairs
from axolemma.metrics import evaluate


def truth() -> tuple[str, np.ndarray]:
    for folder in (Path(os.environ.get("AXOLEMMA_DATA", ".")) / part for part in ("", "isbi2012")):
        if (folder / "train-labels.tif").is_file():
            return "isbi2012", tifffile.imread(folder / "train-labels.tif") == 0
    return "phantom", phantom_pairs().truth.astype(bool)


def main() -> None:
    name, drawn = truth()
    rng = np.random.default_rng(0)
    # A map as a network gives it: soft edges, smooth noise, a few gaps and false membranes.
    map_ = ndimage.gaussian_filter(drawn.astype(np.float32), (0, 1.5, 1.5))
    map_ += 0.8 * ndimage.gaussian_filter(rng.normal(size=drawn.shape), (0, 2, 2))
    map_ = np.clip(map_, 0, 1)
    evaluate(map_[:1], drawn[:1])  # compiles
    for what, unthinned in (("thinned", False), ("thinned and unthinned", True)):
        started = time.process_time()
        scores = evaluate(map_, drawn, unthinned=unthinned)
        seconds = time.process_time() - started
        print(
            f"{name}, {len(drawn)} sections, {len(scores.thresholds)} thresholds, "
            f"V_rand and V_info {what}: {seconds:.2f} s of processor time"
        )


if __name__ == "__main__":
    main()
