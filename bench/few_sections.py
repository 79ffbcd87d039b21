"""How many annotated sections it takes: from scratch, and from weights of other tissue.

    python bench/few_sections.py --steps 2000                     # for a GPU or a long night
    python bench/few_sections.py --steps 100 --width 8 --crop 128 --counts 1 5    # a look

Learns from the first 1, 2, 5, 10 and all 25 of sections 0-24 of the ISBI 2012 stack, with none held
out, and scores 25-29 at the threshold that the learned sections chose. Weights to start from must
not have seen the scored sections: by default they are trained here, on the phantom, as long as the
others; the shipped `neurites` will not do. ``--score 20-24`` with counts up to 20 is for choosing,
such as ``--rates``. Writes ``docs/results/few_sections.json``; what is in it with the same settings
is not run again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import axolemma
from axolemma import datasets
from axolemma.images import parse_slices, replacing
from axolemma.modelfile import Model

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "few_sections.json"


def scores(
    model: Model, pairs: datasets.Pairs, *, objects: str = "none"
) -> tuple[axolemma.Scores, np.ndarray | None, dict[str, float]]:
    """Score sections; return all scores, cells, and scores at the own and the best threshold."""
    found = axolemma.segment(
        pairs.images,
        model=model,
        polarity="dark",
        objects=objects,
        voxel_size=pairs.voxel_size,
    )
    # Value 2 does not occur: the sections that are scored are annotated whole.
    result = axolemma.evaluate(found.membrane, pairs.truth)
    return (
        result,
        found.cells,
        {
            "v_rand": result.v_rand(found.threshold),
            "v_info": result.v_info(found.threshold),
            "best_v_rand": result.best("v_rand").score,
            "best_v_info": result.best("v_info").score,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, required=True, help="of every training")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 5, 10, 25])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--from", dest="start", help="weights that saw none of the scored sections")
    parser.add_argument("--start-steps", type=int, help="of the phantom's training; --steps")
    parser.add_argument("--rates", type=float, nargs="+", default=[None], help="with a start")
    parser.add_argument("--score", default="25-29", help="sections")
    parser.add_argument("--width", type=int)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--no-scratch", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, help="folder that keeps the runs")
    options = parser.parse_args()
    pairs = datasets.load("isbi2012")
    test = parse_slices(options.score, len(pairs))
    if max(options.counts) > test.start:
        parser.error("the sections to learn from must lie before the scored ones")
    shared = {k: v for k in ("width", "crop", "batch") if (v := getattr(options, k)) is not None}
    found = json.loads(options.results.read_text()) if options.results.is_file() else []

    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        start = options.start
        if start is None:
            steps = options.start_steps or options.steps
            start = axolemma.train("phantom", run=folder / "start", steps=steps, **shared).source
        about = options.start or f"phantom, {options.start_steps or options.steps} steps"
        # The start's own score: what fine-tuning has to beat.
        rows = [{"count": 0, "start": about}]
        for seed in options.seeds:
            for count in options.counts:
                here = {"count": count, "seed": seed, "steps": options.steps, **shared}
                rows += [] if options.no_scratch else [here]
                rows += [here | {"start": about, "rate": rate} for rate in options.rates]
        for number, row in enumerate(rows):
            asked = row | {"scored": options.score}
            if any(asked == old["asked"] for old in found):
                continue
            if row["count"] == 0:
                model = axolemma.load_model(start)
            else:
                begun = {"start": start, "learning_rate": row["rate"]} if "start" in row else shared
                model = axolemma.train(
                    pairs.slices(range(row["count"])),
                    run=folder / str(number),
                    validate="none",
                    steps=options.steps,
                    seed=row["seed"],
                    **{**{k: v for k, v in shared.items() if k != "width"}, **begun},
                )
            *_, told = scores(model, pairs.slices(test))
            found.append({"asked": asked, "threshold": model.info.threshold, **told})
            with replacing(options.results) as partial:
                partial.write_text(json.dumps(found, indent=1) + "\n")
            way = f"from {about}" if "start" in row else "from scratch"
            told = {k: v for k, v in row.items() if k in ("seed", "rate") and v is not None}
            print(
                f"{row['count']:3} sections, {way} {told or ''}: "
                f"V_rand {found[-1]['v_rand']:.4f}  V_info {found[-1]['v_info']:.4f}  "
                f"best {found[-1]['best_v_rand']:.4f} / {found[-1]['best_v_info']:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
