"""Damage each section of real and synthetic stacks in turn, and count how often it is found.

    python bench/quality.py [FOLDER] [--results docs/results/quality.json]

FOLDER holds the ISBI 2012 files train-volume.tif and test-volume.tif; default: $AXOLEMMA_DATA,
itself or its folder isbi2012. Every damage is done to one section of 30 at a time.
"""

import argparse
import json
import os
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma import quality
from axolemma.datasets import phantom_pairs
from axolemma.geometry import Box
from axolemma.images import read

Section = NDArray[np.float64]
Damage = Callable[[Section, np.random.Generator], Section]


def band(shape: tuple[int, ...], rng: np.random.Generator, width: float) -> Section:
    """Return where a bent band lies, 0 to 1, of four fifths of a side's length, anywhere."""
    rows, columns = np.indices(shape, dtype=float)
    angle = rng.uniform(0, np.pi)
    down, right = (
        axis - rng.uniform(0.3, 0.7) * n for axis, n in zip((rows, columns), shape, strict=True)
    )
    along = down * np.sin(angle) + right * np.cos(angle)
    bends = ndimage.gaussian_filter1d(rng.normal(0, 1, 2048), 80) * 50
    off = down * np.cos(angle) - right * np.sin(angle) - bends[(along + 1024).astype(int)]
    return np.clip((width / 2 - abs(off)) / 3 + 0.5, 0, 1) * (abs(along) < 0.4 * shape[1])


def fold(width: float, grey: float) -> Damage:
    return lambda section, rng: section * (1 - band(section.shape, rng, width) * (1 - grey))


def crack(section: Section, rng: np.random.Generator) -> Section:
    inside = band(section.shape, rng, 20)
    return section * (1 - inside) + inside * rng.normal(235, 5, section.shape)


def shifted(section: Section, rng: np.random.Generator) -> Section:
    angle = rng.uniform(0, 2 * np.pi)
    return np.roll(section, [round(15 * f(angle)) for f in (np.sin, np.cos)], (0, 1))


#: What is done, and what must then be said; of shifts, here or of the next section.
DAMAGE: dict[str, tuple[Damage, str]] = {
    "blank": (lambda section, _: np.full_like(section, 128), "missing"),
    "empty, noise alone": (lambda section, rng: rng.normal(120, 6, section.shape), "missing"),
    "grey values times 0.6": (lambda section, _: section * 0.6, "dark"),
    "contrast times 0.4": (lambda section, _: (section - 128) * 0.4 + 128, "low contrast"),
    "blurred by 2 px": (lambda section, _: ndimage.gaussian_filter(section, 2), "out of focus"),
    "blurred by 3 px": (lambda section, _: ndimage.gaussian_filter(section, 3), "out of focus"),
    "noise of 25": (lambda section, rng: section + rng.normal(0, 25, section.shape), "noisy"),
    "fold, 20 px, grey values times 0.3": (fold(20, 0.3), "folded"),
    "fold, 40 px, grey values times 0.5": (fold(40, 0.5), "folded"),
    "crack, 20 px": (crack, "folded"),
    "inverted": (lambda section, _: 255 - section, "inverted"),
    "shifted by 15 px": (shifted, "shifted"),
}


def table(stack: NDArray[Any], z: int) -> quality.Table:
    whole = Box.of(stack.shape)
    one = Box((z, 0, 0), (z + 1, *whole.stop[1:]))
    return quality.block_statistics(stack[z : z + 1], read=one, write=one, shape=whole.stop)


def judged(
    tables: list[quality.Table], shifts: Callable[[int, int], quality.Shift]
) -> set[tuple[int, str]]:
    """Return the findings of a stack: section and kind."""
    pooled = quality.pool(tables)
    pairs = pairwise(quality.usable(pooled))
    reports = quality.judge(pooled, [shifts(*pair) for pair in pairs])
    return {(report.section, kind) for report in reports for kind in report.kinds}


def measure(stack: NDArray[np.uint8]) -> dict[str, Any]:
    """Return how often each damage is found in a stack, and what is found without any."""

    @cache
    def whole(one: int, other: int) -> quality.Shift:
        return quality.section_shift(lambda box: stack[box.slices], stack.shape, one, other)

    tables = [table(stack, z) for z in range(len(stack))]
    before = judged(tables, whole)
    found: dict[str, dict[str, int]] = {}
    for name, (damage, kind) in DAMAGE.items():
        rng, hits, others = np.random.default_rng(0), 0, 0
        for z in range(len(stack)):
            damaged = stack.copy()
            changed = np.rint(damage(stack[z].astype(float), rng))
            damaged[z] = np.clip(changed, 0, 255).astype(stack.dtype)

            # What is no part of the damaged section is known already.
            def shifts(one: int, other: int, z: int = z, damaged: Any = damaged) -> quality.Shift:
                if z not in (one, other):
                    return whole(one, other)
                return quality.section_shift(
                    lambda box: damaged[box.slices], damaged.shape, one, other
                )

            after = judged([*tables[:z], table(damaged, z), *tables[z + 1 :]], shifts)
            places = {z, z + 1} if kind == "shifted" else {z}
            hits += bool({(place, kind) for place in places} & after)
            others += len({where for where, what in after - before if what != "shifted"} - {z})
        found[name] = {"found": hits, "elsewhere": others}
        print(f"  {name}: {hits} of {len(stack)}, elsewhere {others}", flush=True)
    return {"sections": len(stack), "untouched": sorted(before), "damaged": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=os.environ.get("AXOLEMMA_DATA"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/quality.json"))
    given = parser.parse_args()
    folder = Path(given.folder)
    folder = folder if (folder / "train-volume.tif").is_file() else folder / "isbi2012"
    stacks = {
        "ISBI 2012, training": read(folder / "train-volume.tif").array,
        "ISBI 2012, test": read(folder / "test-volume.tif").array,
        "synthetic": phantom_pairs().images,
    }
    results: dict[str, Any] = {"command": "python bench/quality.py", "stacks": {}}
    for name, stack in stacks.items():
        print(name)
        results["stacks"][name] = measure(stack)
    given.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
