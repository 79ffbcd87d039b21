"""The warping error: hand-made errors of each kind, oracles, properties, real labels."""

from importlib import import_module
from itertools import product
from unittest import mock

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

import oracles
from axolemma.errors import InputError
from axolemma.metrics.warping import RADIUS, Kind, warp, warping

# The package may hold the function under the module's name.
MODULE = import_module("axolemma.metrics.warping")
CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = ndimage.generate_binary_structure(2, 2)
COUNTS = (
    "splits",
    "mergers",
    "false_objects",
    "missing_objects",
    "false_holes",
    "missing_holes",
)


@st.composite
def sections(draw, max_side=7):
    """A truth, a map of nine grey values and a threshold: ties and exact hits occur."""
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=max_side))
    truth = draw(arrays(bool, shape))
    eighths = draw(arrays(np.uint8, shape, elements=st.integers(0, 8)))
    return eighths / 8, truth, draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))


def pieces(interior):
    """How many pieces of interior and of membrane there are; outside is membrane."""
    padded = np.pad(interior, 1)
    return ndimage.label(padded, CROSS)[1], ndimage.label(~padded, SQUARE)[1]


def oracle_warp(proposal, truth, threshold):
    """The definition: try each differing pixel and keep the flip where no number changes."""
    wanted = proposal > threshold
    warped = truth.copy()
    height, width = truth.shape
    flipped = True
    while flipped:
        flipped = False
        differing = [
            (y, x) for x in range(width) for y in range(height) if warped[y, x] != wanted[y, x]
        ]
        differing.sort(key=lambda p: -np.float32(abs(proposal[p] - threshold)))
        for p in differing:
            before = pieces(warped)
            warped[p] = not warped[p]
            if pieces(warped) == before:
                flipped = True
            else:
                warped[p] = not warped[p]
    return warped


def around(array, y, x):
    """The up to eight neighbours of a pixel that lie in the section."""
    height, width = array.shape
    rows = range(max(y - 1, 0), min(y + 2, height))
    columns = range(max(x - 1, 0), min(x + 2, width))
    return [array[v, u] for v in rows for u in columns if (v, u) != (y, x)]


def oracle_kind(warped, y, x, radius):
    """What a pixel that still differs is, from the cells that its neighbours show."""
    seen = set(around(oracles.components(warped), y, x))
    if seen <= {0}:
        return Kind.MISSING_OBJECT if warped[y, x] else Kind.FALSE_OBJECT
    if len(seen) == 1:
        return Kind.FALSE_HOLE if warped[y, x] else Kind.MISSING_HOLE
    if len(seen) > 2:
        return Kind.SPLIT if warped[y, x] else Kind.MERGER
    if not warped[y, x]:
        return Kind.FALSE_HOLE
    without = warped.copy()
    without[y, x] = False
    if radius > min(warped.shape):
        radius = max(warped.shape)
    window = np.pad(without, radius)[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
    sides = set(around(oracles.components(window), radius, radius)) - {0}
    return Kind.SPLIT if len(sides) > 1 else Kind.MISSING_HOLE


def oracle_counts(kinds, warped):
    """How many groups there are: interior and membrane pixels of a kind never share one."""
    diagonal = {(Kind.MERGER, False), (Kind.FALSE_HOLE, True)}
    return [
        sum(
            ndimage.label(
                (kinds == kind) & (warped == inside),
                SQUARE if (kind, inside) in diagonal else CROSS,
            )[1]
            for inside in (False, True)
        )
        for kind in Kind
    ]


def picture(text):
    """Interior from a drawing: '.' is interior, '#' membrane."""
    return np.array([[c == "." for c in row] for row in text.split()])


def interior(*shape):
    return np.ones(shape, bool)


def wall(*columns):
    """A section of 5 x 9 pixels with a membrane along these columns."""
    section = interior(5, 9)
    section[:, columns] = False
    return section


def patch(section, rows, columns, value):
    changed = section.copy()
    changed[rows, columns] = value
    return changed


def counts(result):
    return {name: getattr(result, name) for name in COUNTS if getattr(result, name)}


BAY = picture("####### #.....# #.###.# #.###.# #.###.# #.###.# #######")
DIAGONAL = ~np.eye(6, dtype=bool)

# name, truth, proposal, groups, pixels left in splits and mergers, pixels left in all
BY_HAND = [
    # A gap two pixels wide in a wall: each touches both cells, none may open.
    ("gap", wall(4), patch(wall(4), slice(1, 3), 4, True), {"mergers": 1}, 2, 2),
    # A gap in a wall three pixels thick is dug until one line of it is left.
    ("deep gap", wall(3, 4, 5), patch(wall(3, 4, 5), 2, slice(0, 9), True), {"mergers": 1}, 1, 1),
    # Two gaps, one above the other: two errors.
    ("two gaps", wall(4), patch(wall(4), [0, 2], 4, True), {"mergers": 2}, 2, 2),
    # The two open pixels of a slanting wall touch at a corner: one error.
    (
        "slanting gap",
        DIAGONAL,
        patch(DIAGONAL, [2, 3], [2, 3], True),
        {"mergers": 1},
        2,
        2,
    ),
    # A false wall grows in from the border; its last pixel would cut the cell.
    ("false wall", interior(5, 9), wall(4), {"splits": 1}, 1, 1),
    ("thick false wall", interior(5, 9), wall(3, 4, 5), {"splits": 1}, 3, 3),
    (
        "false object",
        ~interior(7, 9),
        patch(~interior(7, 9), slice(3, 5), slice(3, 5), True),
        {"false_objects": 1},
        0,
        4,
    ),
    # A cell of 3 x 3 pixels shrinks to one, which may not go.
    (
        "missing object",
        patch(~interior(7, 9), slice(2, 5), slice(3, 6), True),
        ~interior(7, 9),
        {"missing_objects": 1},
        0,
        1,
    ),
    (
        "membrane speck in a cell",
        interior(7, 9),
        patch(interior(7, 9), slice(3, 5), slice(3, 5), False),
        {"false_holes": 1},
        0,
        4,
    ),
    # Two specks that touch at a corner are one hole: membrane is connected across corners.
    (
        "slanting speck",
        interior(7, 9),
        patch(interior(7, 9), [2, 3], [3, 4], False),
        {"false_holes": 1},
        0,
        2,
    ),
    # The mouth of a bay narrows until one pixel would cut its membrane off.
    ("closed bay", BAY, patch(BAY, 5, slice(1, 6), True), {"false_holes": 1}, 0, 1),
    (
        "missing hole",
        patch(interior(7, 9), slice(2, 5), slice(3, 6), False),
        interior(7, 9),
        {"missing_holes": 1},
        0,
        1,
    ),
    ("moved wall", wall(3), wall(4), {}, 0, 0),
    # Clear of itself a wall cannot move: the pixels between do not differ, so none may flip. All
    # five pixels of the old wall stay shut, and one of the new wall stays open.
    ("wall moved too far", wall(3), wall(5), {"splits": 1, "mergers": 1}, 6, 6),
    ("thickened wall", wall(4), wall(2, 3, 4, 5, 6), {}, 0, 0),
    ("thinned wall", wall(3, 4, 5), wall(5), {}, 0, 0),
    ("spur", wall(4), patch(wall(4), 2, slice(5, 8), False), {}, 0, 0),
    ("cell worn at the border", interior(5, 9), patch(interior(5, 9), 0, 0, False), {}, 0, 0),
]


@pytest.mark.parametrize(
    ("truth", "proposal", "groups", "wrong", "left"),
    [case[1:] for case in BY_HAND],
    ids=[case[0] for case in BY_HAND],
)
def test_errors_by_hand(truth, proposal, groups, wrong, left):
    result = warping(proposal.astype(float), truth, 0.5)
    assert counts(result) == groups
    assert result.error == wrong / truth.size
    assert result.total == left / truth.size


def test_kinds_show_where_and_what():
    result = warping(patch(wall(4), 2, 4, True).astype(np.float32), wall(4), 0.5)
    expected = np.zeros((5, 9), np.uint8)
    expected[2, 4] = Kind.MERGER
    np.testing.assert_array_equal(result.kinds, expected)
    assert result.kinds.dtype == np.uint8


@pytest.mark.parametrize("sure", [3, 4])
def test_the_pixel_nearest_the_threshold_is_left(sure):
    # A gap through a wall two pixels thick: the surer of its pixels joins a cell, the other stays.
    truth = wall(3, 4)
    proposal = truth.astype(float)
    proposal[2, [3, 4]] = 0.6
    proposal[2, sure] = 0.9
    left = warping(proposal, truth, 0.5).kinds
    assert np.argwhere(left).tolist() == [[2, 7 - sure]]


def test_a_value_at_the_threshold_is_membrane():
    truth = wall(4)
    proposal = np.where(truth, 1, 0.3)
    assert warping(proposal, truth, 0.3).total == 0
    assert warping(proposal, truth, 0.29).mergers == 1


@pytest.mark.parametrize(("side", "kind"), [(9, Kind.MISSING_HOLE), (49, Kind.SPLIT)])
def test_another_way_round_counts_only_within_the_radius(side, kind):
    # A cell like a ring, one pixel wide, is cut at the middle of its left side. It still hangs
    # together the other way round: 4 pixels away in the small ring, beyond 20 in the large one.
    truth = np.zeros((61, 61), bool)
    truth[2 : 2 + side, 2 : 2 + side] = True
    truth[3 : 1 + side, 3 : 1 + side] = False
    cut = (2 + side // 2, 2)
    result = warping(patch(truth, *cut, False).astype(float), truth, 0.5)
    assert result.kinds[cut] == kind
    assert result.total == 1 / 61**2
    assert result.error == (kind == Kind.SPLIT) / 61**2


def test_simple_points_equal_a_count_of_pieces():
    # All 256 neighbourhoods with an interior and a membrane pixel in their middle.
    for bits in product((False, True), repeat=9):
        truth = np.array(bits).reshape(3, 3)
        flipped = patch(truth, 1, 1, not truth[1, 1])
        expected = flipped if pieces(flipped) == pieces(truth) else truth
        np.testing.assert_array_equal(warp(flipped.astype(float), truth, 0.5), expected)


@settings(max_examples=60)
@given(sections())
def test_warp_equals_its_definition(section):
    np.testing.assert_array_equal(warp(*section), oracle_warp(*section))


@settings(max_examples=60)
@given(sections(max_side=9), st.sampled_from([1, 2, RADIUS]))
def test_kinds_and_groups_equal_their_definition(section, radius):
    proposal, _, threshold = section
    warped = warp(*section)
    with mock.patch.object(MODULE, "RADIUS", radius):
        result = warping(*section)
    expected = np.zeros(warped.shape, np.uint8)
    for y, x in np.argwhere((proposal > threshold) != warped):
        expected[y, x] = oracle_kind(warped, y, x, radius)
    np.testing.assert_array_equal(result.kinds, expected)
    assert [getattr(result, name) for name in COUNTS] == oracle_counts(expected, warped)
    wrong = np.isin(expected, (Kind.SPLIT, Kind.MERGER))
    assert result.error == pytest.approx(wrong.mean())
    assert result.total == pytest.approx((expected != 0).mean())


@given(sections(max_side=12))
def test_warping_keeps_the_topology_and_comes_nearer(section):
    proposal, truth, threshold = section
    warped = warp(*section)
    assert pieces(warped) == pieces(truth)
    wanted = proposal > threshold
    assert np.count_nonzero(warped != wanted) <= np.count_nonzero(truth != wanted)
    kept = truth == wanted
    np.testing.assert_array_equal(warped[kept], truth[kept])
    np.testing.assert_array_equal(warp(proposal, warped, threshold), warped)


@given(sections())
def test_identity_is_perfect(section):
    _, truth, _ = section
    result = warping(truth.astype(float), truth, 0.5)
    assert result.error == result.total == 0
    assert not counts(result)
    assert not result.kinds.any()


def test_inputs_are_left_as_they_were():
    truth, proposal = wall(3), wall(5).astype(float)
    warping(proposal, truth, 0.5)
    np.testing.assert_array_equal(truth, wall(3))
    np.testing.assert_array_equal(proposal, wall(5))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_section_has_no_error(shape):
    assert warping(np.zeros(shape), np.zeros(shape, bool), 0.5).total == 0


def test_errors_say_how_to_mend_them():
    truth = wall(4)
    proposal = truth.astype(float)
    with pytest.raises(InputError, match=r"shape \(4, 9\).*one section"):
        warping(proposal[1:], truth, 0.5)
    with pytest.raises(InputError, match="one section"):
        warp(proposal[None], truth[None], 0.5)
    with pytest.raises(InputError, match=r"threshold 1\.5 lies outside"):
        warping(proposal, truth, 1.5)
    with pytest.raises(InputError, match="spans 0 to 255; rescale"):
        warping(proposal * 255, truth, 0.5)
    with pytest.raises(InputError, match="spans nan to nan"):
        warping(proposal * np.nan, truth, 0.5)


def test_real_labels(isbi2012_folder):
    labels = tifffile.imread(isbi2012_folder / "train-labels.tif") > 0
    changes = {
        "same": lambda z: labels[z],
        "shifted": lambda z: np.roll(labels[z], 1, axis=0),
        "grown": lambda z: ndimage.binary_erosion(labels[z], CROSS, 2, border_value=1),
        "next": lambda z: labels[z + 1],
    }
    error = {
        name: np.mean([warping(change(z).astype(float), labels[z], 0.5).error for z in (20, 24)])
        for name, change in changes.items()
    }
    assert error["same"] == 0
    assert error["shifted"] < 1e-4
    assert error["grown"] < 1e-3
    assert error["next"] > 20 * error["grown"]
