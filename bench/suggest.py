"""Whether suggested windows teach more than random ones.

    python bench/suggest.py --data isbi2012 --steps 500 --seeds 0 1 2      # a night
    python bench/suggest.py --data phantom --steps 60 --width 8 --crop 128   # a look

A first model learns from one annotated section, 0. Then as many windows are annotated in sections
1-19 once where it suggests and once at random places (without overlap), and it goes on learning
from section 0 and the windows. Sections 20-24 are scored, for `isbi2012` too:
25-29 are not for finding out whether a method works. The threshold is chosen on what is annotated.
Writes ``docs/results/suggest.json``; what is in it with the same settings is not run again.
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
from axolemma.windows import Window

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


def scores(model: Model, pairs: Pairs) -> dict[str, float]:
    result, told = few_sections.scores(model, pairs.slices(SCORED))
    return told | {"pixel_error": float(result.pooled["pixel_error"].min())}


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
        ways = ["suggested", *(f"random {n}" for n in range(options.draws))]
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
                if way == "suggested":
                    windows = list(
                        suggest(
                            pool,
                            model=first,
                            count=options.count,
                            size=options.size,
                            polarity="dark",
                        ).windows
                    )
                else:
                    drawn = 1000 * seed + int(way.split()[1])
                    windows = random_windows(pool.shape, options.count, options.size, drawn)
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
    for kind in ("first", "suggested", "random"):
        rows = [r for r in mine if r["asked"]["way"].startswith(kind)]
        names = ("v_rand", "v_info", "best_v_rand", "best_v_info", "pixel_error")
        if not rows:
            continue
        told = "  ".join(
            f"{n} {np.mean([r[n] for r in rows]):.4f} ({np.std([r[n] for r in rows]):.4f})"
            for n in names
        )
        print(f"{kind:>9}, {len(rows)} trainings: {told}")


if __name__ == "__main__":
    main()
