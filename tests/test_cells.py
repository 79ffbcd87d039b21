"""Cells from membrane maps: by hand, at the edges, and beside scipy, scikit-image and oracles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.segmentation import watershed

from axolemma.datasets import phantom
from axolemma.errors import InputError
from axolemma.labels import label_borders
from axolemma.metrics import contingency, cremi_voi
from axolemma.objects import (
    BOUNDARIES,
    contacts,
    flooding,
    fragments,
    merge,
    segment_cells,
)
from axolemma.objects.contacts import Contacts
from axolemma.objects.flooding import flood
from axolemma.objects.joining import join
from axolemma.objects.solvers import distances
from oracles import components

METHODS = ("multicut", "mean", "threshold")


def walls(*, gap=range(0), side=31, stop=None):
    """Return a section with a membrane down the middle, which has a gap, or ends early."""
    section = np.zeros((side, side), np.float32)
    section[:stop, side // 2] = 1
    section[list(gap), side // 2] = 0
    return section


@pytest.fixture(scope="module")
def tissue():
    """Return a noisy membrane map and the cells of its truth."""
    stack = phantom((2, 224, 208), seed=4)
    rng = np.random.default_rng(0)
    noisy = ndimage.gaussian_filter(stack.truth.astype(np.float32), (0, 1, 1)) * 1.3
    noisy += rng.normal(0, 0.1, noisy.shape)
    return noisy.clip(0, 1).astype(np.float32), stack


def pieces_of(labels):
    """Return how many 4-connected pieces every label of a section has."""
    return {n: int(components(labels == n).max()) for n in np.unique(labels) if n}


# Lines by hand.


@pytest.mark.parametrize("method", ["multicut", "mean"])
def test_a_gap_in_a_line_parts_all_the_same(method):
    section = walls(gap=[15])
    assert segment_cells(section[None], method="threshold").max() == 1
    cells = segment_cells(section[None], method=method)[0]
    assert cells.max() == 2
    assert len(set(cells[:, 2])) == len(set(cells[:, -3])) == 1
    assert cells[15, 2] != cells[15, -3]


@pytest.mark.parametrize("method", METHODS)
def test_a_line_that_ends_in_a_cell_does_not_part_it(method):
    section = walls(stop=16)
    assert segment_cells(section[None], method=method).max() == 1


def test_a_faint_line_parts_where_a_lower_boundary_says_so():
    section = 0.3 * walls()
    assert segment_cells(section[None], boundary=0.4).max() == 1
    # Where nothing is above .5 there is one seed at most: a faint line must cut the fragments.
    both = np.maximum(section, walls(stop=8))
    both[-8:, 15] = 1
    assert segment_cells(both[None], boundary=0.4).max() == 1
    assert segment_cells(both[None], boundary=0.2).max() == 2


def test_a_blurred_place_is_no_cell_of_its_own():
    # A wide membrane with a dip in it: high above zero, but not above what the dip falls to.
    section = np.zeros((61, 41), np.float32)
    section[:, 15:26] = 0.8 - 0.01 * abs(np.arange(-5, 6))
    section[27:34, 17:24] = 0.49
    assert fragments(section).max() == 3
    cells = segment_cells(section[None])[0]
    assert cells.max() == 2
    assert cells[30, 2] != cells[30, -3]
    section[27:34, 17:24] = 0
    assert segment_cells(section[None]).max() == 3


def test_contacts_by_hand():
    labels = np.array([[1, 1, 2], [1, 3, 2], [1, 3, 2]])
    membrane = np.array([[0.1, 0.8, 0.2], [0.2, 0.4, 0.9], [0.3, 0.5, 0.6]])
    found = contacts(labels, membrane)
    assert found.pairs.tolist() == [[1, 2], [1, 3], [2, 3]]
    # 1|2: one pair, .8; 1|3: .8, .4, .5; 2|3: .9, .6. Lowest in the labels: .1, .2, .4.
    assert found.length.tolist() == [1, 3, 2]
    np.testing.assert_allclose(found.rise, [0.8 - 0.2, 0.4 - 0.4, 0.6 - 0.4])
    assert (found.pairs.dtype, found.length.dtype, found.rise.dtype) == (
        "int64",
        "int64",
        "float64",
    )


@pytest.mark.parametrize(("gap", "rise"), [(0, 0.9), (1, 0.9), (2, 0.9), (3, 0.1)])
def test_a_fifth_of_a_contact_may_be_gap(gap, rise):
    labels = np.repeat([[1, 2]], 14, axis=0)
    membrane = np.repeat([[0.0, 0.9]], 14, axis=0)
    membrane[3 : 3 + gap] = 0.1
    found = contacts(labels, membrane)
    # Of fourteen pairs the third lowest counts; 2 is nowhere below what it is in the gap.
    floor = 0.1 if gap else 0.9
    np.testing.assert_allclose(found.rise, [max(0, rise - floor)])
    assert found.length.tolist() == [14]


def test_contacts_of_labels_beyond_sixteen_bits_and_of_none():
    labels = np.array([[7, 70000], [7, 4000000]], np.uint32)
    found = contacts(labels, np.zeros((2, 2), np.float32))
    assert found.pairs.tolist() == [[7, 70000], [7, 4000000], [70000, 4000000]]
    assert contacts(np.zeros((3, 3), int), np.zeros((3, 3))).pairs.shape == (0, 2)
    assert contacts(np.zeros((1, 1), int), np.zeros((1, 1))).length.tolist() == []


@settings(max_examples=30)
@given(
    arrays(np.uint8, (6, 7), elements=st.integers(0, 3)),
    arrays(np.float64, (6, 7), elements=st.integers(0, 8).map(lambda n: n / 8)),
)
def test_contacts_beside_loops(labels, membrane):
    met = {}
    for y, x in np.ndindex(labels.shape):
        for v, u in ((y + 1, x), (y, x + 1)):
            if v < 6 and u < 7 and labels[y, x] != labels[v, u]:
                pair = tuple(sorted((int(labels[y, x]), int(labels[v, u]))))
                met.setdefault(pair, []).append(max(membrane[y, x], membrane[v, u]))
    found = contacts(labels, membrane)
    assert [tuple(pair) for pair in found.pairs.tolist()] == sorted(met)
    for pair, length, rise in zip(found.pairs, found.length, found.rise, strict=True):
        values = sorted(met[tuple(pair.tolist())])
        floor = max(membrane[labels == n].min() for n in pair)
        assert length == len(values)
        assert rise == max(0, values[len(values) // 5] - floor)


# Whole sections.


def test_cells_of_noisy_tissue(tissue):
    membrane, stack = tissue
    truth = stack.neurons
    error = {
        method: cremi_voi(
            contingency(
                segment_cells(membrane, method=method, filled=True).astype(np.int64)[0],
                truth[0].astype(np.int64),
            )
        ).total
        for method in METHODS
    }
    assert error["multicut"] < 0.15
    assert error["mean"] < 0.15
    assert error["threshold"] > 2 * error["multicut"]


@pytest.mark.parametrize("method", METHODS)
def test_membrane_alone_is_no_cell_and_interior_alone_is_one(method):
    assert not segment_cells(np.ones((2, 20, 30)), method=method).any()
    cells = segment_cells(np.zeros((2, 20, 30)), method=method)
    assert (cells[0] == 1).all()
    assert (cells[1] == 2).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (1, 2, 2)])
def test_the_smallest_sections(method, shape):
    assert (segment_cells(np.zeros(shape, np.float32), method=method) == 1).all()
    assert not segment_cells(np.ones(shape, np.float32), method=method).any()


@pytest.mark.parametrize("method", METHODS)
def test_no_sections_at_all(method):
    assert segment_cells(np.zeros((0, 8, 8), np.float32), method=method).shape == (0, 8, 8)


@pytest.mark.parametrize("method", METHODS)
def test_numbers_and_dtype(tissue, method):
    membrane, _ = tissue
    with_hole = np.stack((membrane[0], np.ones_like(membrane[0]), membrane[1]))
    cells = segment_cells(with_hole, method=method)
    assert cells.dtype == np.uint32
    assert cells.shape == with_hole.shape
    assert not cells[1].any()
    first, last = (set(np.unique(cells[z])) - {0} for z in (0, 2))
    assert not first & last
    assert first | last == set(range(1, len(first) + len(last) + 1))
    # A section alone has the cells that it has in a stack.
    alone = segment_cells(membrane[1:], method=method)[0]
    np.testing.assert_array_equal(alone, np.where(cells[2] > 0, cells[2] - len(first), 0))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_every_time_and_for_both_precisions(tissue, method):
    membrane, _ = tissue
    cells = segment_cells(membrane, method=method)
    np.testing.assert_array_equal(cells, segment_cells(membrane, method=method))
    np.testing.assert_array_equal(cells, segment_cells(membrane.astype(np.float64), method=method))
    turned = np.asfortranarray(membrane[:, ::2])
    np.testing.assert_array_equal(
        segment_cells(turned, method=method), segment_cells(turned.copy(), method=method)
    )


@pytest.mark.parametrize("method", ["multicut", "mean"])
def test_filled_cells_lack_the_line_only(tissue, method):
    membrane, _ = tissue
    lines = segment_cells(membrane, method=method)
    filled = segment_cells(membrane, method=method, filled=True)
    assert filled.all()
    np.testing.assert_array_equal(lines, np.where(label_borders(filled), 0, filled))
    assert 0 < (lines == 0).mean() < 0.2
    # No two cells touch, so that a reader who asks for pieces finds the cells.
    for before, after in ((lines[:, :-1], lines[:, 1:]), (lines[..., :-1], lines[..., 1:])):
        assert not ((before != after) & (before > 0) & (after > 0)).any()


@pytest.mark.parametrize("smallest", [0, 25, 400])
def test_no_cell_is_smaller_than_asked(tissue, smallest):
    membrane, _ = tissue
    cells = segment_cells(membrane, smallest=smallest, boundary=0.05, filled=True)
    for section in cells:
        assert np.unique(section, return_counts=True)[1].min() >= smallest
    more = segment_cells(membrane, smallest=0, boundary=0.05).max()
    assert cells.max() == more if smallest == 0 else cells.max() <= more


def test_a_small_cell_joins_where_least_membrane_is_between():
    section = np.zeros((15, 31), np.float32)
    section[:, 12:15] = 0.7
    section[:, 18:21] = 0.9
    cells = segment_cells(section[None], boundary=0.4, smallest=0, filled=True)[0]
    assert cells.max() == 3
    small = int((cells == cells[7, 16]).sum())
    joined = segment_cells(section[None], boundary=0.4, smallest=small + 1, filled=True)[0]
    assert joined.max() == 2
    assert joined[7, 16] == joined[7, 2] != joined[7, -3]


def test_a_section_smaller_than_the_smallest_cell_keeps_it():
    assert (segment_cells(np.zeros((1, 3, 3)), smallest=1000, filled=True) == 1).all()


def test_lower_boundaries_find_more_cells(tissue):
    section = tissue[0][0] * np.linspace(0.3, 1, 208, dtype=np.float32)
    pieces = fragments(section)
    found = contacts(pieces, section)
    levels = (*BOUNDARIES, 0.9)
    counts = [merge(pieces, found, boundary=b, method="mean").max() for b in levels]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 3
    assert pieces.max() >= counts[0]


def test_fragments_cover_everything_and_cells_are_made_of_whole_ones(tissue):
    membrane, _ = tissue
    pieces = fragments(membrane[0])
    assert pieces.dtype == np.int32
    assert np.unique(pieces).tolist() == list(range(1, int(pieces.max()) + 1))
    cells = merge(pieces, contacts(pieces, membrane[0]), boundary=0.4)
    assert len(np.unique(pieces.astype(np.int64) * 10_000 + cells)) == pieces.max()
    assert not merge(np.zeros((4, 4), np.uint32), contacts(pieces, membrane[0]), boundary=0.4).any()


@settings(max_examples=60)
@given(
    arrays(np.float32, (12, 13), elements=st.integers(0, 8).map(lambda n: n / 8)),
    st.sampled_from([0.0, 0.7]),
)
def test_every_cell_is_one_piece(section, smoothing):
    # Of filled cells: the line that is cut out of one may part it where it is a pixel wide.
    pieces = fragments(section, smoothing=smoothing)
    assert set(pieces_of(pieces).values()) <= {1}
    cells = segment_cells(section[None], smoothing=smoothing, smallest=4, filled=True)[0]
    assert set(pieces_of(cells).values()) <= {1}


@pytest.mark.parametrize(
    ("membrane", "options", "message"),
    [
        (np.full((1, 4, 4), np.nan), {}, r"lies in \[0, 1\] and is finite"),
        (np.full((1, 4, 4), 1.01), {}, r"lies in \[0, 1\]"),
        (np.full((1, 4, 4), -0.01), {}, r"lies in \[0, 1\]"),
        (np.full((1, 4, 4), np.inf), {}, "is finite; rescale it"),
        (np.zeros((4, 4)), {}, r"axes \(Z, Y, X\), this one shape \(4, 4\)"),
        (np.zeros((1, 4, 4)), {"boundary": 0}, "between 0 and 1, not at 0"),
        (np.zeros((1, 4, 4)), {"boundary": 1}, "between 0 and 1, not at 1"),
        (np.zeros((1, 4, 4)), {"boundary": np.nan}, "between 0 and 1, not at nan"),
    ],
)
def test_what_is_refused(membrane, options, message):
    with pytest.raises(InputError, match=message):
        segment_cells(membrane, **options)


# The door to bioimage-cpp.


@settings(max_examples=40)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_distances_beside_scipy(mask):
    found = distances(mask)
    assert found.dtype == np.float32
    assert found.shape == mask.shape
    if mask.all():
        assert np.isposinf(found).all()
    else:
        np.testing.assert_allclose(found, ndimage.distance_transform_edt(mask), rtol=1e-6)


def test_distances_of_a_large_mask():
    mask = np.random.default_rng(0).random((150, 170)) < 0.99
    np.testing.assert_allclose(distances(mask), ndimage.distance_transform_edt(mask), rtol=1e-6)
    turned = mask.T[:, ::-1]
    np.testing.assert_allclose(distances(turned), distances(mask).T[:, ::-1])


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20))
def test_flood_beside_scikit_image(seed, height, width):
    rng = np.random.default_rng(seed)
    landscape = rng.permutation(height * width).reshape(height, width) / (height * width)
    seeds = np.where(rng.random((height, width)) < 0.1, rng.integers(1, 6, (height, width)), 0)
    seeds[0, 0] = 9
    found = flood(landscape, seeds)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, watershed(landscape, seeds))


def test_flood_by_hand():
    landscape = np.array([[0, 0.1, 0.9, 0.2, 0, 0.5]], np.float32)
    seeds = np.array([[1, 0, 0, 0, 7, 0]])
    assert flood(landscape, seeds)[0, [0, 1, 3, 4, 5]].tolist() == [1, 1, 7, 7, 7]
    assert not flood(landscape, np.zeros((1, 6), int)).any()
    # Plateaus are shared out, whole and the same every time.
    level = flood(np.zeros((9, 9)), np.pad([[1, 2]], ((4, 4), (3, 4))))
    assert set(np.unique(level)) == {1, 2}
    np.testing.assert_array_equal(
        level, flood(np.zeros((9, 9)), np.pad([[1, 2]], ((4, 4), (3, 4))))
    )


@pytest.mark.parametrize("strip", [7, 130])
def test_strips_change_nothing(monkeypatch, strip):
    rng = np.random.default_rng(strip)
    map_ = ndimage.gaussian_filter(rng.random((90, 60)), 3)
    map_ = (map_ - map_.min()) / np.ptp(map_)
    whole = fragments(map_, threshold=0.5)
    assert whole.max() > 3
    monkeypatch.setattr(flooding, "_STRIP", strip)  # a row of a section at least
    assert len(flooding.strips(map_.shape)) == -(-90 // max(1, strip // 60))
    np.testing.assert_array_equal(fragments(map_, threshold=0.5), whole)


def test_what_flood_refuses():
    with pytest.raises(InputError, match=r"shape \(3, 4\) and seeds of \(4, 3\) do not fit"):
        flood(np.zeros((3, 4)), np.ones((4, 3), int))
    for bad in (np.nan, np.inf, -0.1, 1.1):
        with pytest.raises(InputError, match="a height is outside 0 to 1 or no number"):
            flood(np.full((3, 3), bad), np.ones((3, 3), int))


# Fragments joined by hand, and one by one.


def joined(count, pairs, length, level, floors, boundary):
    """Join the two parts with the least rise between, one pair at a time, as the docstring says."""
    part, floors = list(range(count)), list(floors)
    while True:
        between = {}
        for (a, b), size, height in zip(pairs, length, level, strict=True):
            pair = tuple(sorted((part[a], part[b])))
            total, weight = between.get(pair, (0.0, 0))
            between[pair] = (total + height * size, weight + size)
        rises = {
            (a, b): total / weight - max(floors[a], floors[b])
            for (a, b), (total, weight) in between.items()
            if a != b
        }
        if not rises or min(rises.values()) >= boundary:
            return part
        one, other = min(rises, key=rises.__getitem__)
        floors[one] = min(floors[one], floors[other])
        part = [one if p == other else p for p in part]


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.floats(0, 1))
def test_joining_in_rounds_beside_one_by_one(seed, count, boundary):
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(np.triu(rng.random((count, count)) < 0.5, 1))
    length = rng.integers(1, 30, len(pairs))
    floors = rng.random(count) ** 3
    level = floors[pairs].max(axis=1) + rng.random(len(pairs)) * (1 - floors[pairs].max(axis=1))
    found = join(np.ones(count), Contacts(pairs, length, level, floors), boundary=boundary)
    slow = np.array(joined(count, pairs.tolist(), length, level, floors, boundary))
    np.testing.assert_array_equal(found[:, None] == found, slow[:, None] == slow)
    # From 0 on in the order of their first nodes.
    assert list(dict.fromkeys(found.tolist())) == list(range(int(found.max()) + 1))


def test_what_lies_between_is_taken_anew_after_a_join():
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    # 1 and 2 nearly touch, but once 1 belongs to 0 the long contact of 0 and 2 speaks too.
    level = np.array([0.1, 0.9, 0.5])
    short, long = (Contacts(pairs, np.array([9, n, 9]), level, np.zeros(3)) for n in (1, 90))
    assert join(np.ones(3), short, boundary=0.6).tolist() == [0, 0, 0]
    assert join(np.ones(3), long, boundary=0.6).tolist() == [0, 0, 1]
    # A fragment in a blurred membrane joins the one of two that it rises least above; what it
    # was joined to then stands apart from the other by all the membrane between them.
    dark = Contacts(pairs[[0, 2]], np.array([9, 9]), np.array([0.8, 0.85]), np.array([0, 0.7, 0]))
    assert join(np.ones(3), dark, boundary=0.6).tolist() == [0, 0, 1]


def test_nothing_to_join():
    none = Contacts(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0), np.zeros(4))
    for method in ("mean", "multicut"):
        assert join(np.ones(4), none, boundary=0.6, method=method).tolist() == [0, 1, 2, 3]


def test_where_all_is_membrane_for_sure_there_is_no_fragment():
    map_ = np.full((100, 120), 0.1)
    map_[:, :40] = map_[60:91, 80:111] = 1  # what is masked
    map_[:30, 70:74] = 1  # a membrane
    found = fragments(map_)
    expected = np.zeros(map_.shape, bool)
    expected[:, :40] = expected[60:91, 80:111] = True
    np.testing.assert_array_equal(found == 0, expected)
    map_[:, :40] = 0.999
    assert (fragments(map_)[:, :40] > 0).all()
