"""Whether an uncertainty map points at the errors: which measure of eight poses does so best.

    python bench/uncertainty.py

`neurites-seed` predicts the challenge's sections 25-29, which it has never seen, in eight poses.
Gaps that join cells and false membranes that cut them are found in the mean map at the model's own
threshold, as `axolemma evaluate` finds them; a measure marks the 5 % of the pixels where it is
highest, once of all pixels and once of the membrane, proposed or drawn. Of each error the share of
pixels that are marked is told, 5 % by chance, and whether any is, against the same marks moved
about at random. To choose a measure by, the same is done for its validation sections, 22-24. Writes
``docs/results/uncertainty.json``.
"""

from typing import Any

import numpy as np
from scipy import ndimage

from axolemma import datasets
from axolemma.metrics import Mistake, Sections, find_mistakes
from axolemma.modelfile import Model, load_model
from axolemma.predict import membrane_map
from axolemma.uncertainty import entropy
from measuring import keep, table

MODEL = "neurites-seed"
CHOOSING, SCORED = range(22, 25), range(25, 30)
SHARE, MOVES = 0.05, 40


def posed(model: Model, stack: np.ndarray) -> np.ndarray:
    """Predict a stack in eight poses, turned back, (8, Z, Y, X)."""
    maps = []
    for flip in (False, True):
        for turns in range(4):
            seen = np.rot90(stack[..., ::-1] if flip else stack, turns, (1, 2))
            found = np.stack(list(membrane_map(model.network, seen, context=model.info.context)))
            found = np.rot90(found, -turns, (1, 2))
            maps.append(found[..., ::-1] if flip else found)
    return np.stack(maps)


def disagreement(maps: np.ndarray) -> np.ndarray:
    """Tell where maps (n, ...) contradict each other: the entropy of their mean less its mean.

    A pixel that all call undecided, as on the bank of every membrane, is 0 (Houlsby et al. 2011,
    arXiv:1112.5745, with poses in place of drawn networks).
    """
    return np.clip(entropy(maps.mean(axis=0)) - entropy(maps).mean(axis=0), 0, None)


def measures(maps: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Return every measure of the poses (8, Z, Y, X), each (Z, Y, X)."""
    mean = maps.mean(axis=0)
    odds = np.log(np.clip(maps, 1e-6, 1) / np.clip(1 - maps, 1e-6, 1))
    votes = (1 - maps <= threshold).mean(axis=0)
    plain = {
        "entropy of the mean": entropy(mean),
        "standard deviation": maps.std(axis=0),
        "standard deviation of the log-odds": odds.std(axis=0),
        "range": np.ptp(maps, axis=0),
        "disagreement": disagreement(maps),
        "entropy of the votes at the threshold": entropy(votes) + 1e-3 * disagreement(maps),
    }
    smooth = {
        f"{name}, smoothed {pixels} px": ndimage.gaussian_filter(plain[name], (0, pixels, pixels))
        for name in ("entropy of the mean", "standard deviation", "disagreement")
        for pixels in (1, 2, 3)
    }
    product = smooth["entropy of the mean, smoothed 2 px"] * plain["standard deviation"]
    return plain | smooth | {"entropy, smoothed 2 px, times standard deviation": product}


def marks(measure: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Return where a measure is highest of all in a domain, (Z, Y, X)."""
    return np.asarray(domain & (measure > np.quantile(measure[domain], 1 - SHARE)))


def told(marked: np.ndarray, errors: list[tuple[int, Mistake]]) -> dict[str, float]:
    """Return what of the errors, each with its section, lies in marked pixels."""
    sides = np.array(marked.shape[1:])
    moves = np.random.default_rng(0).integers(sides, size=(MOVES, 2))
    shares, hit, chance = [], [], []
    for z, mistake in errors:
        inside = marked[z][tuple(mistake.pixels.T)]
        moved = (mistake.pixels[None] + moves[:, None]) % sides
        shares.append(inside.mean())
        hit.append(inside.any())
        chance.append(marked[z][moved[..., 0], moved[..., 1]].any(axis=1).mean())
    gains = [mistake.gain for _, mistake in errors]
    return {
        "of their pixels": float(np.mean(shares)),
        "by cost": float(np.average(shares, weights=gains)),
        "errors touched": float(np.mean(hit)),
        "by chance": float(np.mean(chance)),
    }


def looked_at(model: Model, sections: range) -> dict[str, Any]:
    """Return what every measure tells of some sections."""
    pairs = datasets.load("isbi2012").slices(sections)
    maps, threshold = posed(model, pairs.images), model.info.threshold
    found = [cut.at(threshold) for cut in Sections(maps.mean(axis=0), pairs.truth).each()]
    errors = [(z, m) for z, section in enumerate(found) for m in find_mistakes(section, count=60)]
    membrane = np.stack([section.membrane | section.true_membrane for section in found])
    domains = {"membrane": membrane, "all pixels": np.ones_like(membrane)}
    kinds = {kind: [e for e in errors if e[1].kind == kind] for kind in ("merge", "split")}
    return {
        **{kind: len(mine) for kind, mine in kinds.items()},
        "measures": {
            name: {
                where: {
                    kind: told(marks(measure, domain), mine)
                    for kind, mine in {"all": errors, **kinds}.items()
                }
                for where, domain in domains.items()
            }
            for name, measure in measures(maps, threshold).items()
        },
    }


def main() -> None:
    model = load_model(MODEL)
    found = {f"{s.start}-{s.stop - 1}": looked_at(model, s) for s in (CHOOSING, SCORED)}
    keep("uncertainty", model=MODEL, share=SHARE, sections=found)
    for sections, result in found.items():
        print(f"\n{sections}: {result['merge']} gaps, {result['split']} false membranes\n")
        rows = [
            {"measure": name}
            | {f"{where}: {what}": v for where in of for what, v in of[where]["all"].items()}
            for name, of in result["measures"].items()
        ]
        print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
