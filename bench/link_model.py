"""Fit the constants of `objects.neurons.LOG_ODDS`.

    python bench/link_model.py

Logistic regression over all pairs of cells that meet, on synthetic stacks of seeds that
``bench/neurons.py`` does not use, as they are and with a section removed and all shifted, with
true and with noisy cells. Prints the constants to put into the module, and the loss on each seed
of constants that were fitted on the other two.
"""

import numpy as np
from scipy.optimize import minimize

from axolemma.objects.neurons import FEATURES, links
from neuron_stacks import Case, case, tissue

SEEDS = (11, 12, 13)
CONDITIONS = ("plain", "removed and shifted")
WEIGHT_DECAY = 1e-5

Examples = tuple[np.ndarray, np.ndarray]


def owners(found: Case) -> np.ndarray:
    """Return the neuron that has most of each cell, 0 for cells on membrane."""
    count = int(found.truth.max()) + 1
    keys, pixels = np.unique(found.cells * count + found.truth, return_counts=True)
    cell, neuron = np.divmod(keys, count)
    order = np.argsort(np.where(neuron > 0, -pixels, 0), kind="stable")
    known, first = np.unique(cell[order], return_index=True)
    owner = np.zeros(int(known.max()) + 1, np.int64)
    owner[known] = neuron[order][first]
    return owner


def examples(seed: int) -> list[list[Examples]]:
    """Return features and answers, for neighbouring sections and for those with one between."""
    truth, map_ = tissue(seed)
    found: list[list[Examples]] = [[], []]
    for condition in CONDITIONS:
        for noisy in (False, True):
            stack = case(truth, map_, condition, noisy=noisy, seed=seed)
            owner = owners(stack)
            for list_, pairs in zip(found, links(stack.cells, stack.membrane), strict=True):
                one, two = owner[pairs.cells].T
                list_.append((pairs.features, (one == two) & (one > 0)))
    return found


def together(parts: list[Examples]) -> Examples:
    features = np.concatenate([part[0] for part in parts])
    return np.hstack((np.ones((len(features), 1)), features)), np.concatenate([p[1] for p in parts])


def loss(weights: np.ndarray, features: np.ndarray, answers: np.ndarray) -> float:
    odds = features @ weights
    return float((np.logaddexp(0, odds) - answers * odds).mean())


def fitted(features: np.ndarray, answers: np.ndarray) -> np.ndarray:
    def target(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = features @ weights
        slope = features.T @ (1 / (1 + np.exp(-odds)) - answers) / len(answers)
        decay = WEIGHT_DECAY * weights
        return loss(weights, features, answers) + decay @ weights / 2, slope + decay

    start = np.zeros(features.shape[1])
    return minimize(target, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000}).x


def main() -> None:
    found = {seed: examples(seed) for seed in SEEDS}
    for n, name in enumerate(("neighbouring sections", "one section between")):
        for left_out in SEEDS:
            others = [part for seed in SEEDS if seed != left_out for part in found[seed][n]]
            weights = fitted(*together(others))
            lost = loss(weights, *together(found[left_out][n]))
            print(f"{name}, loss on seed {left_out}: {lost:.4f}")
        features, answers = together([part for seed in SEEDS for part in found[seed][n]])
        print(f"{name}, {len(answers)} pairs, {answers.mean():.0%} are one neuron")
        print(dict(zip(("constant", *FEATURES), fitted(features, answers).round(3), strict=True)))


if __name__ == "__main__":
    main()
