import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axolemma.datasets import phantom
from axolemma.errors import InputError
from axolemma.metrics import contingency, cremi_voi
from axolemma.objects import link_cells, multicut
from axolemma.objects.alignment import displacement, follow
from axolemma.objects.neurons import FEATURES, LOG_ODDS

SIDE = 128


def bundle(sections=8, *, seed=0, step=1):
    """Cells of a hexagonal bundle of some 60 neurites, all leaning by `step` px a section."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE))
    centres = [
        (row * 16 + 8, column * 16 + 8 + 8 * (row % 2))
        for row, column in itertools.product(range(9), range(-2, 9))
    ]
    radii = rng.uniform(4.5, 7, len(centres))
    stack = np.zeros((sections, SIDE, SIDE), np.int64)
    for z, (number, (cy, cx)) in itertools.product(range(sections), enumerate(centres, 1)):
        stack[z][(y - cy) ** 2 + (x - cx - step * z) ** 2 < radii[number - 1] ** 2] = number
    return stack


def shuffled(stack, seed=0):
    """Give the cells of every section other numbers, no matter what they are called elsewhere."""
    rng = np.random.default_rng(seed)
    names = np.concatenate(([0], rng.choice(2**32 - 2, int(stack.max()), replace=False) + 1))
    sections = []
    for section in stack:
        names[1:] = rng.permutation(names[1:])
        sections.append(names[section])
    return np.stack(sections).astype(np.uint32)


def error(labels, truth):
    return cremi_voi(contingency(labels.astype(np.int64), truth.astype(np.int64))).total


def test_a_straight_bundle_is_its_neurites():
    truth = bundle()
    found = link_cells(shuffled(truth))
    assert found.dtype == np.uint32
    assert error(found, truth) == 0
    assert ((found == 0) == (truth == 0)).all()
    assert np.unique(found).tolist() == list(range(len(np.unique(truth))))


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_numbers_mean_nothing(seed):
    truth = bundle(3)
    assert (link_cells(shuffled(truth, seed)) == link_cells(truth)).all()


def test_the_same_every_time():
    cells = phantom((5, 128, 128), seed=3).neurons
    assert (link_cells(cells) == link_cells(cells)).all()


def test_a_neurite_branches():
    y, x = np.indices((SIDE, SIDE))
    truth = bundle(8, step=0)
    truth[:, 30:98, 30:98] = 0
    for z in range(8):
        apart = max(0, 3 * z - 6)  # one disc, then two that part
        for side in (-1, 1):
            truth[z][(y - 64) ** 2 + (x - 64 - side * apart) ** 2 < 11**2] = 1000
    truth[5:, :, 62:67][truth[5:, :, 62:67] == 1000] = 0
    cells = np.where(truth == 1000, truth + (np.arange(SIDE) > 64), truth)
    cells[:5][cells[:5] == 1001] = 1000
    assert len(np.unique(cells[6, 50:78, 40:90])) == 3  # two branches and membrane
    found = link_cells(shuffled(cells))
    assert error(found, truth) == 0


@pytest.mark.parametrize("what", ["removed", "blank"])
def test_a_lost_section_cuts_nothing(what):
    truth, sections = bundle(9), np.arange(9) != 4
    if what == "removed":
        assert error(link_cells(shuffled(truth[sections])), truth[sections]) == 0
        return
    cells = shuffled(truth)
    cells[4] = 0
    found = link_cells(cells)
    assert not found[4].any()
    assert error(found[sections], truth[sections]) == 0


def test_a_shifted_section_cuts_nothing():
    truth = bundle(8, step=0)
    # The lattice repeats every 16 px: what breaks the tie is its border and its radii.
    wide = np.pad(truth, ((0, 0), (24, 24), (24, 24)))
    wide[3] = np.roll(wide[3], (13, -9), axis=(0, 1))
    wide[6] = np.roll(wide[6], (-7, 18), axis=(0, 1))
    assert error(link_cells(shuffled(wide)), wide) == 0


def test_a_cell_that_one_section_misses():
    truth = bundle(7)
    cells = shuffled(truth)
    cells[3][truth[3] == 50] = 0
    found = link_cells(cells)
    kept = cells > 0
    assert error(found * kept, truth * kept) == 0


def test_tissue_is_linked_better_than_by_its_overlaps():
    truth = phantom((8, 256, 256), seed=5).neurons
    assert error(link_cells(truth), truth) < 0.2


def test_a_membrane_map_aligns_what_looks_alike():
    truth = np.zeros((3, 80, 156), np.int64)
    for number in range(13):  # a row of cells that looks the same one further
        truth[:, 30:50, 12 * number : 12 * number + 10] = number + 1
    truth[1] = np.roll(truth[1], 12, axis=1)
    membrane = (truth == 0).astype(np.float32)
    pale = np.kron(np.random.default_rng(0).random((20, 39)) < 0.3, np.ones((4, 4))) > 0
    for z in range(3):
        membrane[z][np.roll(pale, 12 * (z == 1), axis=1)] = 0
    seen = truth * (truth != 13)  # the last one left at the right and came in at the left
    assert error(link_cells(truth), seen) > 0.5
    assert error(link_cells(truth, membrane=membrane), seen) == 0


def test_caution_splits():
    cells = phantom((5, 128, 128), seed=3).neurons
    counts = [link_cells(cells, caution=c).max() for c in (-3, 0, 3, 20)]
    assert counts == sorted(counts)
    assert counts[-1] == sum(len(np.unique(section)) - 1 for section in cells)


@pytest.mark.parametrize("shape", [(1, 20, 30), (0, 20, 30), (3, 1, 1), (4, 5, 60)])
def test_small_stacks(shape):
    assert not link_cells(np.zeros(shape, np.uint8)).any()
    full = np.full(shape, 2**32 - 1, np.uint32)
    assert (link_cells(full) == 1).all()


def test_one_section_keeps_its_cells():
    section = bundle(1)
    found = link_cells(shuffled(section))
    assert error(found, section) == 0
    first = [int(np.flatnonzero(found.ravel() == n)[0]) for n in range(1, found.max() + 1)]
    assert first == sorted(first)


def test_one_set_of_constants_for_each_distance():
    assert [len(row) for row in LOG_ODDS] == [len(FEATURES) + 1] * 2


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (np.zeros((4, 4), int), {}, "axes ZYX"),
        (np.zeros((1, 4, 4)), {}, "integers of the axes"),
        (np.full((1, 4, 4), -2), {}, "number -2; number them from 1"),
        (np.ones((1, 4, 4), int), {"membrane": np.zeros((1, 4, 5))}, "same voxels"),
        (np.ones((1, 4, 4), int), {"membrane": np.full((1, 4, 4), 255.0)}, "leaves 0 to 1"),
        (np.ones((1, 4, 4), int), {"membrane": np.full((1, 4, 4), np.nan)}, "leaves 0 to 1"),
        (np.ones((1, 4, 4), int), {"caution": np.nan}, "caution is a finite number"),
        (np.ones((1, 4, 4), int), {"largest_shift": -1}, "at least 0 pixels"),
    ],
)
def test_what_cannot_be_linked(cells, options, message):
    with pytest.raises(InputError, match=message):
        link_cells(cells, **options)


@pytest.mark.parametrize("shift", [(0, 0), (17, -30), (-6, 5)])
def test_a_shift_is_found(shift):
    section = (phantom((1, 200, 200), seed=1).truth[0] > 0).astype(np.float32)
    step = displacement(section[40:160, 40:160], np.roll(section, shift, (0, 1))[40:160, 40:160])
    assert np.median(step.rows) == shift[0]
    assert np.median(step.columns) == shift[1]


def test_a_bend_is_found():
    section = phantom((1, 256, 256), seed=2).truth[0].astype(np.float32)
    y, x = np.indices(section.shape)
    bend = np.rint(10 * np.sin(x / 60)).astype(int)
    bent = section[np.clip(y + bend, 0, 255), x]
    step = displacement(bent, section)
    inner = np.s_[20:-20, 20:-20]
    assert np.abs(step.rows - bend)[inner].mean() < 2
    assert (follow(section, step) != bent)[inner].mean() < (section != bent)[inner].mean() / 2


def test_the_table_comes_from_the_bench():
    root = Path(__file__).parent.parent / "docs"
    results = json.loads((root / "results" / "neurons.json").read_text())
    text = (root / "neurons.md").read_text(encoding="utf-8")
    for cells in ("true", "noisy"):
        table = text.split(f"<!-- {cells} -->")[1].split(f"<!-- /{cells} -->")[0]
        for line in (line for line in table.splitlines() if line.startswith("| ")):
            method, *shown = (part.strip() for part in line.strip("|").split("|"))
            rows = [r for r in results if (r["cells"], r["method"]) == (cells, method)]
            conditions = dict.fromkeys(r["condition"] for r in rows)
            for condition, cell in zip(conditions, shown, strict=bool(rows)):
                here = [r for r in rows if r["condition"] == condition]
                means = [np.mean([r[key] for r in here]) for key in ("voi", "run_length_share")]
                assert cell == "{:.3f} / {:.3f}".format(*means), (method, condition)
        assert table.count(" / ") == 5 * len({r["method"] for r in results})


def partitions(count):
    """Yield the labels of every partition of `count` nodes."""
    labels = [0] * count

    def rest(place, used):
        if place == count:
            yield np.array(labels)
            return
        for label in range(used + 1):
            labels[place] = label
            yield from rest(place + 1, max(used, label + 1))

    yield from rest(0, 0)


def cut(labels, edges, costs):
    return costs[labels[edges[:, 0]] != labels[edges[:, 1]]].sum()


def greedy(count, edges, costs):
    """Contract the most attractive pair of parts, again and again: slow and obvious."""
    labels = np.arange(count)
    while True:
        sums = {}
        for (a, b), cost in zip(labels[edges], costs, strict=True):
            if a != b:
                pair = (min(a, b), max(a, b))
                sums[pair] = sums.get(pair, 0) + cost
        best = max(sums, key=sums.get, default=None)
        if best is None or sums[best] <= 0:
            return labels
        labels[labels == best[1]] = best[0]


def test_multicut_beside_all_partitions_of_small_graphs():
    optimal = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(2, 7))
        edges = np.array(list(itertools.combinations(range(count), 2)))
        edges = edges[rng.random(len(edges)) < 0.8]
        costs = rng.normal(size=len(edges))
        found = cut(multicut(count, edges, costs), edges, costs)
        least = min(cut(labels, edges, costs) for labels in partitions(count))
        assert least - 1e-9 <= found <= cut(greedy(count, edges, costs), edges, costs) + 1e-9
        optimal += found <= least + 1e-9
    assert optimal >= 57  # a local search; on graphs this small it hardly ever gets stuck


def test_multicut_takes_edges_twice_and_either_way_round():
    edges = np.array([[0, 1], [1, 0], [2, 1]], np.int32)
    assert multicut(4, edges, np.array([2, -3, 1], np.float32)).tolist() == [0, 1, 1, 2]


def test_multicut_without_edges():
    none = np.zeros((0, 2), np.int64)
    assert multicut(3, none, np.zeros(0)).tolist() == [0, 1, 2]
    assert multicut(0, none, np.zeros(0)).tolist() == []


@pytest.mark.parametrize(
    ("count", "edges", "costs", "message"),
    [
        (-1, [[0, 1]], [1.0], "at least 0 nodes"),
        (3, [[0, 1, 2]], [1.0], "do not fit"),
        (3, [[0, 1]], [1.0, 2.0], "do not fit"),
        (3, [[0.0, 1.0]], [1.0], "give integers"),
        (3, [[0, 3]], [1.0], "names node 3 but there are 3"),
        (3, [[-1, 2]], [1.0], "names node -1"),
        (3, [[0, 1], [1, 2]], [1.0, np.nan], "cost of edge 1 is nan"),
        (3, [[0, 1], [2, 2]], [1.0, 1.0], "edge 1 joins node 2 to itself"),
    ],
)
def test_what_multicut_refuses(count, edges, costs, message):
    with pytest.raises(InputError, match=message):
        multicut(count, np.array(edges), np.array(costs))


def test_the_table_of_the_real_stack_comes_from_the_bench():
    docs = Path(__file__).parent.parent / "docs"
    found = json.loads((docs / "results" / "consistency.json").read_text())
    table = (docs / "neurons.md").read_text(encoding="utf-8").split("<!-- real -->")[1]
    for method, row in found.items():
        assert f"| {method} | " + " | ".join(f"{v:.3f}" for v in row.values()) + " |" in table
