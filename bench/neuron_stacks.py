"""Stacks of cells whose neurons are known: synthetic tissue, and what sections suffer."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage, sparse

from axolemma.datasets import phantom
from axolemma.labels import pieces
from axolemma.objects import segment_cells

SIDE = 512
SHIFT = 10  # px, the largest shift of a section along either axis
NEAR = 32  # px within which a neuron must show in the next two sections to be one there
LOST = 14  # the section that is removed or blank

#: What is done to the sections.
CONDITIONS = (
    "plain",
    "one section removed",
    "one section blank",
    "sections shifted",
    "removed and shifted",
)


@dataclass(frozen=True)
class Case:
    """Cells to link, the membrane map they come from, and the neurons that they belong to."""

    cells: np.ndarray
    membrane: np.ndarray
    truth: np.ndarray
    scored: np.ndarray  # the sections that count: not a blank one


def cells_of(neurons: np.ndarray) -> np.ndarray:
    """Give a number to the profiles of every section, none twice."""
    cells = np.zeros(neurons.shape, np.int64)
    last = 0
    for z, section in enumerate(neurons):
        found = pieces(section)
        cells[z] = np.where(found > 0, found + last, 0)
        last += int(found.max())
    return cells


def tissue(seed: int, *, sections: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return the neurons of a phantom, wider by the shifts, and a noisy membrane map of it.

    What carries one name but never comes near itself within this stack, because it meets outside,
    is two neurons here.
    """
    side = SIDE + 2 * SHIFT
    names = phantom((sections, side, side), seed=seed).neurons
    cells = cells_of(names)
    count = int(cells.max()) + 1
    links = [np.zeros(0, np.int64)]
    for gap, dy, dx in product((1, 2), *(range(-NEAR, NEAR + 1, 8),) * 2):
        if dy * dy + dx * dx > NEAR**2:
            continue
        one = np.s_[: sections - gap, max(0, dy) : side + dy, max(0, dx) : side + dx]
        two = np.s_[gap:, max(0, -dy) : side - dy, max(0, -dx) : side - dx]
        same = (names[one] == names[two]) & (names[one] > 0)
        links.append(np.unique(cells[one][same] * count + cells[two][same]))
    ends = np.divmod(np.unique(np.concatenate(links)), count)
    graph = sparse.coo_matrix((np.ones(len(ends[0])), ends), (count, count))
    _, neuron = sparse.csgraph.connected_components(graph, directed=False)
    truth = np.where(cells > 0, neuron[cells] + 1, 0)
    rng = np.random.default_rng(seed)
    # A map as a network gives it: soft edges, smooth noise, a few gaps and false membranes.
    map_ = ndimage.gaussian_filter((truth == 0).astype(np.float32), (0, 1.5, 1.5))
    noise = rng.normal(size=truth.shape).astype(np.float32)
    map_ += 0.8 * ndimage.gaussian_filter(noise, (0, 2, 2))
    return truth, np.clip(map_, 0, 1)


def case(truth: np.ndarray, map_: np.ndarray, condition: str, *, noisy: bool, seed: int) -> Case:
    """Return what `tissue` made under one of `CONDITIONS`.

    The cells are the truth's own profiles, or where `noisy` those of the thresholded map.
    """
    shifts = np.random.default_rng(seed).integers(0, 2 * SHIFT + 1, (len(truth), 2))
    if "shifted" not in condition:
        shifts[:] = SHIFT
    truth, map_ = (
        np.stack([s[y : y + SIDE, x : x + SIDE] for s, (y, x) in zip(a, shifts, strict=True)])
        for a in (truth, map_)
    )
    if "removed" in condition:
        truth, map_ = (np.delete(array, LOST, axis=0) for array in (truth, map_))
    cells = segment_cells(map_, method="threshold").astype(np.int64) if noisy else cells_of(truth)
    membrane = map_ if noisy else (truth == 0).astype(np.float32)
    scored = np.arange(len(truth))
    if "blank" in condition:
        cells[LOST], membrane[LOST] = 0, 1
        scored = np.delete(scored, LOST)
    return Case(cells, membrane, truth, scored)
