"""What weights make of sections that are unlike those they learned from.

    python bench/robustness.py
    python bench/robustness.py runs/mine --slices 22-24

Sections 25-29 of the challenge, which `neurites-seed` has never seen, or others, with the faults
that sections of microscopes have, segmented as `axolemma segment` does with no other word. Nobody
tells it the pixel size either. Where there are specks only the rest of the section is scored.
Of `neurites-seed` on 25-29 it writes ``docs/results/robustness.json``, from which docs/weights.md
takes its table.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.datasets import isbi2012
from axolemma.images import parse_slices
from axolemma.metrics import evaluate
from axolemma.modelfile import load_model, state_hash
from axolemma.segmentation import segment
from measuring import keep, table

MODEL, SCORED = "neurites-seed", "25-29"

Grey = NDArray[np.float64]

FRAME = 60
ROWS, COLUMNS = np.mgrid[:512, :512] / 512 - 0.5


def bits(grey: Grey) -> NDArray[np.uint8]:
    """Return grey values as an image of 8 bits."""
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


def mosaic(stack: Grey, gains: float, steps: float) -> Grey:
    """Give each of 4 × 4 tiles of a section another gain and another offset."""
    rng = np.random.default_rng(0)
    gain = np.exp(rng.normal(0, gains, (len(stack), 4, 4)))
    offset = rng.normal(0, steps, (len(stack), 4, 4))
    wide = np.ones((1, 128, 128))
    return (stack - 128) * np.kron(gain, wide) + 128 + np.kron(offset, wide)


def striped(stack: Grey, strength: float) -> Grey:
    """Brighten or darken ten horizontal stripes of each section, 4 to 20 pixels wide."""
    rng, found = np.random.default_rng(1), stack.copy()
    for section in found:
        for start, width in zip(rng.integers(0, 500, 10), rng.integers(4, 20, 10), strict=True):
            section[start : start + width] += strength * rng.choice((-1, 1))
    return found


def specks(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where 25 round specks of 3 to 20 pixels lie in each section."""
    rng, found = np.random.default_rng(2), np.zeros(shape, bool)
    for section in found:
        for y, x, radius in rng.uniform((-0.5, -0.5, 3), (0.5, 0.5, 20), (25, 3)):
            section |= (ROWS - y) ** 2 + (COLUMNS - x) ** 2 < (radius / 512) ** 2
    return found


def framed(stack: Grey, level: float, noise: float) -> NDArray[np.uint8]:
    """Lay a frame of some grey value around each section."""
    widths = ((0, 0), (FRAME, FRAME), (FRAME, FRAME))
    outside = np.pad(np.zeros(stack.shape, bool), widths, constant_values=True)
    found = np.pad(stack, widths, constant_values=level)
    found[outside] += np.random.default_rng(3).normal(0, noise, np.count_nonzero(outside))
    return bits(found)


CHANGES: dict[str, Callable[[Grey], NDArray[np.generic]]] = {
    "as they are": bits,
    "inverted, in 640 of 65,536 values": lambda s: (20000 - 2.5 * s).astype(np.uint16),
    "gamma 0.5": lambda s: bits(255 * (s / 255) ** 0.5),
    "gamma 2": lambda s: bits(255 * (s / 255) ** 2),
    "noise of 40 grey values": lambda s: bits(s + np.random.default_rng(4).normal(0, 40, s.shape)),
    "blurred by 1.5 px": lambda s: bits(ndimage.gaussian_filter(s, (0, 1.5, 1.5))),
    "a shading of ±70 %": lambda s: bits(s * (1 + 1.4 * COLUMNS)),
    "corners at a tenth of the brightness": lambda s: bits(s * (1 - 1.8 * (ROWS**2 + COLUMNS**2))),
    "a mosaic of 4 × 4 tiles, offsets of 25": lambda s: bits(mosaic(0.6 * s + 50, 0, 25)),
    "the same, offsets of 50, gains by a third": lambda s: mosaic(s, 0.3, 50).astype(np.float32),
    "ten stripes, 60 grey values off": lambda s: bits(striped(0.6 * s + 50, 60)),
    "black specks": lambda s: bits(np.where(specks(s.shape), 5, s)),
    "a white frame": lambda s: framed(s, 255, 0),
    "a noisy frame": lambda s: framed(s, 20, 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=MODEL)
    parser.add_argument("--slices", default=SCORED)
    options = parser.parse_args()
    model, pairs = load_model(options.model), isbi2012.load()
    pairs = pairs.slices(parse_slices(options.slices, len(pairs)))
    rows = []
    for name, change in CHANGES.items():
        images = change(pairs.images.astype(float))
        found = segment(images, model=model)
        inner = slice(FRAME, -FRAME) if "frame" in name else slice(None)
        where = ~specks(pairs.truth.shape) if "specks" in name else None
        row: dict[str, object] = {"sections": name}
        for what, proposal, kind in (
            ("map", np.clip(found.membrane, 0, 1), "membrane"),
            ("cells", found.cells, "cells"),
        ):
            scores = evaluate(
                proposal[:, inner, inner],
                pairs.truth,
                proposal_is=kind,
                where=where,
                unthinned=False,
            )
            threshold = model.info.threshold if what == "map" else 0
            row[f"V_rand, {what}"] = round(scores.v_rand(threshold), 4)
            row[f"V_info, {what}"] = round(scores.v_info(threshold), 4)
        rows.append(row)
        print(row, flush=True)
    if (options.model, options.slices) == (MODEL, SCORED):
        keep("robustness", weights_sha256=state_hash(model.network), rows=rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
