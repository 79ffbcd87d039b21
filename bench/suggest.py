"""Whether suggested windows teach more than random ones.

    python bench/suggest.py --data isbi2012 --steps 1000 --size 96 --seeds 0 1 2 3 4 5
    python bench/suggest.py --data phantom --steps 60 --width 8 --crop 128   # a look

A first model learns from one annotated section, 0. Then as many windows are annotated in sections
1-19 where it suggests, where its eight poses contradict each other most, and at random places
(without overlap), and each time it goes on learning from section 0 and the windows. Sections 20-24
are scored, maps and cells, for `isbi2012` too: 25-29 are not for finding out whether a method
works. Thresholds are chosen on what is annotated. Writes ``docs/results/suggest.json``; what is in
it with the same settings is not run again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import axolemma
import few_sections
from axolemma import datasets
from axolemma.datasets import Pairs
from axolemma.images import replacing
from axolemma.labels import IGNORED
from axolemma.modelfile import Model
from axolemma.suggestion import suggest
from axolemma.windows import Window, choose_windows
from uncertainty import disagreement, posed

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "suggest.json"
POOL, SCORED = range(1, 20), range(20, 25)


def random_windows(shape: tuple[int, ...], count: int, size: int, seed: int) -> list[Window]:
    """Draw windows that do not overlap, every place as likely as others."""
    rng = np.random.default_rng(seed)
    free = np.ones(shape, bool)
    windows: list[Window] = []
    while len(windows) < count:
        z, y, x = (int(rng.integers(n)) for n in (shape[0], *(s - size + 1 for s in shape[1:])))
        if free[z, y : y + size, x : x + size].all():
            free[z, y : y + size, x : x + size] = False
            windows.append(Window(z, y, x, size, 0.0))
    return windows


def annotated(pairs: Pairs, windows: list[Window]) -> Pairs:
    """Return section 0 and the pool, of which nothing but the windows is annotated."""
    truth = np.full_like(pairs.truth[: POOL.stop], IGNORED)
    truth[0] = pairs.truth[0]
    for w in windows:
        part = np.s_[POOL.start + w.section, w.y : w.y + w.size, w.x : w.x + w.size]
        truth[part] = pairs.truth[part]
    return Pairs(pairs.name, pairs.images[: POOL.stop], truth, pairs.voxel_size)


def windows_by(
    way: str, pool: np.ndarray, first: Model, count: int, size: int, seed: int
) -> list[Window]:
    """Choose windows of the sections of the pool."""
    if way == "suggested":
        found = suggest(pool, model=first, count=count, size=size, polarity="dark").windows
    elif way == "disagreement":
        unsure = disagreement(posed(first, pool)).astype(np.float32)
        found = choose_windows(unsure, count=count, size=size)
    else:
        found = random_windows(pool.shape, count, size, 1000 * seed + int(way.split()[1]))
    return list(found)


def scores(model: Model, pairs: Pairs) -> dict[str, float]:
    scored = pairs.slices(SCORED)
    result, cells, told = few_sections.scores(model, scored, objects="cells")
    told["pixel_error"] = float(result.pooled["pixel_error"].min())
    found = axolemma.evaluate(cells, scored.truth, proposal_is="cells")
    return told | {f"cells_{name}": found.at(0, name).score for name in ("v_rand", "v_info")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=datasets.NAMES, default="phantom")
    parser.add_argument("--steps", type=int, required=True, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--draws", type=int, default=2, help="of random windows for each seed")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    pairs = datasets.load(options.data)
    pool = pairs.images[POOL.start : POOL.stop]
    given = ("width", "crop", "batch", "steps")
    shared = {k: v for k in given if (v := getattr(options, k)) is not None} | {"validate": "none"}
    found = json.loads(options.results.read_text()) if options.results.is_file() else []

    def keep(asked: dict, model: Model) -> None:
        found.append({"asked": asked, **scores(model, pairs)})
        with replacing(options.results) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n")

    asked = {k: getattr(options, k) for k in ("data", "count", "size")} | shared
    for seed in options.seeds:
        ways = ["suggested", "disagreement", *(f"random {n}" for n in range(options.draws))]
        todo = [
            w
            for w in ways
            if not any(r["asked"] == {**asked, "seed": seed, "way": w} for r in found)
        ]
        if not todo:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            first = axolemma.train(
                pairs.slices(range(1)), run=folder / "first", seed=seed, **shared
            )
            if not any(r["asked"] == {**asked, "seed": seed, "way": "first"} for r in found):
                keep({**asked, "seed": seed, "way": "first"}, first)
            for way in todo:
                windows = windows_by(way, pool, first, options.count, options.size, seed)
                more = {k: v for k, v in shared.items() if k != "width"}
                model = axolemma.train(
                    annotated(pairs, windows),
                    run=folder / way,
                    start=first.source,
                    seed=seed,
                    **more,
                )
                keep({**asked, "seed": seed, "way": way}, model)
    mine = [r for r in found if asked.items() <= r["asked"].items()]
    for kind in ("first", "suggested", "disagreement", "random"):
        rows = [r for r in mine if r["asked"]["way"].startswith(kind)]
        names = ("v_rand", "v_info", "best_v_rand", "best_v_info", "pixel_error")
        names += ("cells_v_rand", "cells_v_info")
        if not rows:
            continue
        told = "  ".join(
            f"{n} {np.mean([r[n] for r in rows]):.4f} ({np.std([r[n] for r in rows]):.4f})"
            for n in names
        )
        print(f"{kind:>12}, {len(rows)} trainings: {told}")


if __name__ == "__main__":
    main()
