"""Whether a membrane map means what it says, before and after it is calibrated.

    python bench/calibration.py

`neurites-seed` predicts the challenge's sections 25-29, which it has never seen, in every way of
averaging. Slope and shift of the calibration are fitted on its validation sections in all eight
poses, as training does, and for comparison in that way of averaging alone, and on as many sections
that it learned from. Prints and writes the expected and the
maximum calibration error in 15 bins, the mean squared error and the log loss:
``docs/results/calibration.json``. `--store FILE` calibrates a model file from before there were
calibrations.
"""

import argparse
from pathlib import Path

import numpy as np

from axolemma import datasets
from axolemma.calibration import fit_calibration
from axolemma.datasets import Pairs
from axolemma.images import parse_slices
from axolemma.metrics import mean_squared_error, reliability
from axolemma.modelfile import Model, load_model, save_model
from axolemma.predict import POSES, membrane_map
from axolemma.settings import Average
from axolemma.training import MOST_CHOOSING, spread
from measuring import keep, table

MODEL, SCORED = "neurites-seed", range(25, 30)


def told(map_: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    found = reliability(map_, truth)
    sure = np.clip(np.where(truth, map_, 1 - map_).astype(float), 1e-6, None)
    return {
        "expected error": found.expected_error,
        "largest error": found.largest_error,
        "squared error": mean_squared_error(1 - map_, ~truth),
        "log loss": float(-np.log(sure).mean()),
    }


def predicted(
    model: Model, images: np.ndarray, sections: list[int], average: Average
) -> np.ndarray:
    # One at a time, since they need not be neighbours: for networks that look at one section.
    maps = (membrane_map(model.network, images[z : z + 1], average=average) for z in sections)
    return np.stack([next(map_) for map_ in maps])


def fitting(model: Model, count: int) -> tuple[list[int], list[int]]:
    """Return the sections that training calibrates on, and as many that it learned from."""
    told = model.info.training
    used = parse_slices(told["slices"], count)
    if told["validated_on"] == "none":
        return (known := spread(list(used), MOST_CHOOSING)), known
    held_out = list(parse_slices(told["validated_on"], count))
    return held_out, spread([z for z in used if z not in held_out], len(held_out))


def measure(pairs: Pairs) -> None:
    model, truth = load_model(MODEL), pairs.truth == 1
    held_out, learned = fitting(model, len(truth))
    rows = []
    kept = fit_calibration(predicted(model, pairs.images, held_out, "dihedral"), truth[held_out])
    for average in POSES:
        scored, drawn = predicted(model, pairs.images, [*SCORED], average), truth[[*SCORED]]
        plain = {"average": average, "calibrated on": "–", "slope": 1.0, "shift": 0.0}
        rows.append(plain | told(scored, drawn))
        about = {"average": average, "calibrated on": "validation, 8 poses", **kept._asdict()}
        rows.append(about | told(kept(scored), drawn))
        for name, sections in (("validation", held_out), ("learned", learned)):
            maps = predicted(model, pairs.images, sections, average)
            found = fit_calibration(maps, truth[sections])
            about = {"average": average, "calibrated on": name, **found._asdict()}
            rows.append(about | told(found(scored), drawn))
    keep("calibration", model=MODEL, scored=f"{SCORED.start}-{SCORED.stop - 1}", rows=rows)
    print("\n".join(table(rows)))


def store(file: Path, pairs: Pairs) -> None:
    """Calibrate the model of a file anew as training does, and write that into the file."""
    model = load_model(file)
    sections, _ = fitting(model, len(pairs.truth))
    truth = pairs.truth[sections] == 1
    found = fit_calibration(predicted(model, pairs.images, sections, "dihedral"), truth)
    save_model(file, model.network, model.info.model_copy(update={"calibration": found}))
    print(file, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="a model file of isbi2012 to calibrate anew")
    options = parser.parse_args()
    pairs = datasets.load("isbi2012")
    if options.store is None:
        measure(pairs)
    else:
        store(options.store, pairs)


if __name__ == "__main__":
    main()
