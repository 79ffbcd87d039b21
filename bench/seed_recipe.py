"""Why the earlier project's U-Net++ failed: its recipe, and the recipe with one thing changed.

    python bench/seed_recipe.py                                       # at full size: use a GPU
    python bench/seed_recipe.py --width 16 --unshuffle 4 --crop 256 --steps 1500    # for a CPU

Trains on 0-24 with seed 0, scores 25-29 as the challenge does, at the threshold that validation
inside 0-24 chose and at the best one, and writes ``docs/results/seed_recipe.json``. A variant that
is in that file with the same settings is not run again.
"""

import argparse
import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from axolemma.images import replacing
from command_line import axolemma_json

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "seed_recipe.json"
UNET, NESTED = "seed-unet", "seed-unetplusplus"

#: What is trained: the recipe, and settings that differ from it.
VARIANTS: dict[str, tuple[str, dict]] = {
    "U-Net as it was": (UNET, {}),
    "U-Net++ as it was": (NESTED, {}),
    "U-Net++ without dropout": (NESTED, {"arguments": {"dropout": 0.0, "dropout_twice": False}}),
    "U-Net++ without weight decay": (NESTED, {"weight_decay": 0}),
    "U-Net++ with batch normalisation": (NESTED, {"arguments": {"normalisation": True}}),
}


def measured(recipe: str, changes: dict, size: dict) -> dict:
    """Train one variant and score it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = {**size.get("arguments", {}), **changes.get("arguments", {})}
        settings = {**size, **changes, "recipe": recipe, "arguments": arguments}
        (folder / "settings.yaml").write_text(json.dumps(settings))
        trained = axolemma_json(
            *("train", "--data", "isbi2012", "--slices", "0-24", "--seed", 0),
            *("--config", folder / "settings.yaml", "-o", folder / "run"),
        )["training"]
        axolemma_json(
            *("segment", "isbi2012", "--slices", "25-29", "--model", folder / "run"),
            *("--average", "half-turn", "-o", folder / "out"),
        )
        scores = axolemma_json("evaluate", folder / "out", "isbi2012", "--slices", "25-29")
    kept = {
        when: {name: scores[when][name] for name in ("v_rand", "v_info")}
        for when in ("held_out", "best")
    }
    return {"minutes": trained["minutes"], "validation": trained["validation"]["half-turn"], **kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int)
    parser.add_argument("--unshuffle", type=int, help="at so much less than full resolution")
    parser.add_argument("--crop", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, of one thread each")
    options = parser.parse_args()
    size = {key: value for key in ("width", "crop", "steps") if (value := getattr(options, key))}
    if options.unshuffle:
        size["arguments"] = {"unshuffle": options.unshuffle}
    if options.jobs > 1:
        os.environ["OMP_NUM_THREADS"] = "1"
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}

    lock = threading.Lock()

    def run(name: str) -> None:
        recipe, changes = VARIANTS[name]
        asked = {"recipe": recipe, "changes": changes, "size": size}
        if found.get(name, {}).get("asked") == asked:
            return
        result = {"asked": asked, **measured(recipe, changes, size)}
        with lock, replacing(RESULTS) as partial:
            found[name] = result
            partial.write_text(json.dumps(found, indent=1) + "\n")

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, options.only))
    for name in options.only:
        for when in ("held_out", "best"):
            rand, info = found[name][when]["v_rand"], found[name][when]["v_info"]
            print(f"{name:34} {when:>8}  V_rand {rand['score']:.4f}  V_info {info['score']:.4f}")


if __name__ == "__main__":
    main()
