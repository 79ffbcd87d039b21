"""Centre lines and Betti numbers: by hand, against flood fills, and their properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import euler_number

from axolemma.errors import InputError
from axolemma.metrics.topology import (
    BettiErrors,
    BettiMatching,
    betti_errors,
    betti_matching,
    betti_numbers,
    centre_lines,
    cl_dice,
)

FOUR = ((-1, 0), (0, -1), (0, 1), (1, 0))
EIGHT = (*FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1))


@st.composite
def random_masks(draw, count=1):
    """Dense noise: in a small section it has more holes than any other picture."""
    shape = draw(st.integers(1, 11)), draw(st.integers(1, 11))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = rng.random((count, *shape)) < draw(st.sampled_from([0.3, 0.5, 0.7]))
    return masks if count > 1 else masks[0]


masks, pairs = random_masks(), random_masks(2)


def drawn(*rows):
    """A mask from rows of text, # = membrane."""
    return np.array([[c == "#" for c in row] for row in rows])


def pieces(mask, around):
    """The connected sets of pixels of a mask, in scan order of their first pixels."""
    left, found = {tuple(p) for p in np.argwhere(mask).tolist()}, []
    while left:
        todo = [min(left)]
        piece = set()
        while todo:
            y, x = todo.pop()
            if (y, x) in left:
                left.remove((y, x))
                piece.add((y, x))
                todo += [(y + v, x + u) for v, u in around]
        found.append(piece)
    return found


def holes(mask):
    height, width = mask.shape
    return [
        piece
        for piece in pieces(~mask, FOUR)
        if not any(y in (0, height - 1) or x in (0, width - 1) for y, x in piece)
    ]


def unmatched(proposal, truth):
    """Pairs as the docstring tells: shared pieces, and holes that live equally long."""
    union = pieces(proposal | truth, EIGHT)
    mine, theirs = pieces(proposal, EIGHT), pieces(truth, EIGHT)
    both = [u for u in union if any(p <= u for p in mine) and any(g <= u for g in theirs)]
    zero = len(mine) + len(theirs) - 2 * len(both)

    # Fill the holes of the union, small ones first, of equal ones the last in scan order; a hole
    # of a mask dies when nothing of the union's holes is left in it.
    first = {min(hole): hole for hole in holes(proposal | truth)}
    order = sorted(first.values(), key=lambda hole: (len(hole), [-c for c in min(hole)]))
    open_, matched = [frozenset(hole) for hole in order], 0
    mine, theirs = holes(proposal), holes(truth)
    for filled in order:
        before = open_
        open_ = [hole for hole in open_ if hole != filled]

        def dies(hole, before=before, after=open_):
            return any(h <= hole for h in before) and not any(h <= hole for h in after)

        matched += any(map(dies, mine)) and any(map(dies, theirs))
    return zero, len(mine) + len(theirs) - 2 * matched


# Centre lines ------------------------------------------------------------------------------------


def test_cl_dice_by_hand():
    # A line of 9 pixels; the proposal misses 3 of them and has a wrong line of 4.
    truth, proposal = np.zeros((2, 7, 11), bool)
    truth[1, 1:10] = True
    proposal[1, 1:7] = True
    proposal[5, 3:7] = True
    found = cl_dice(proposal, truth)
    assert (found.precision, found.sensitivity) == (6 / 10, 6 / 9)
    assert found.score == pytest.approx(2 * (6 / 10) * (6 / 9) / (6 / 10 + 6 / 9))


def test_thickness_costs_nothing():
    truth, thick = np.zeros((2, 9, 20), bool)
    truth[4, 2:18] = True
    thick[2:7, :] = True
    found = cl_dice(thick, truth)
    assert found.sensitivity == 1
    # The thick line's centre runs in row 4, and a little beyond the truth on both sides.
    lines = centre_lines(thick)
    assert lines[4, 3:17].all()
    assert found.precision == np.count_nonzero(lines & truth) / np.count_nonzero(lines) > 0.8
    # A membrane two rows off is inside the thick one, whose centre line misses it.
    beside = cl_dice(thick, np.roll(truth, 2, axis=0))
    assert (beside.score, beside.precision, beside.sensitivity) == (0, 0, 1)


@settings(max_examples=60)
@given(pairs)
def test_cl_dice_properties(both):
    proposal, truth = both
    found = cl_dice(proposal, truth)
    swapped = cl_dice(truth, proposal)
    assert (swapped.precision, swapped.sensitivity) == (found.sensitivity, found.precision)
    assert cl_dice(truth, truth).score == 1
    lines = centre_lines(proposal)
    assert not (lines & ~proposal).any()
    given_lines = {"proposal_lines": lines, "truth_lines": centre_lines(truth)}
    assert cl_dice(proposal, truth, **given_lines) == found


def test_cl_dice_without_membrane():
    empty, wall = np.zeros((2, 4, 5), bool)
    wall[:, 2] = True
    assert cl_dice(empty, empty).score == 1
    nothing = cl_dice(empty, wall)
    assert (nothing.score, nothing.precision, nothing.sensitivity) == (0, 1, 0)
    assert cl_dice(wall, empty).score == 0


# Betti numbers -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(masks)
def test_betti_numbers_equal_flood_fills(membrane):
    assert betti_numbers(membrane) == (len(pieces(membrane, EIGHT)), len(holes(membrane)))


@settings(max_examples=60)
@given(masks)
def test_betti_numbers_make_the_euler_number(membrane):
    pieces, holes = betti_numbers(membrane)
    assert pieces - holes == euler_number(membrane, connectivity=2)
    assert betti_numbers(membrane.T) == betti_numbers(membrane[::-1]) == (pieces, holes)


def test_betti_numbers_by_hand():
    # A diamond whose sides touch at corners closes a hole; the cell cut by the border is none;
    # two cells that meet at a corner only are two holes.
    membrane = drawn(
        "..#.......",
        ".#.#..####",
        "..#...#.##",
        "......##.#",
        "###...####",
        "..#.......",
    )
    assert betti_numbers(membrane) == (3, 3)
    assert betti_numbers(np.zeros((3, 3), bool)) == (0, 0)
    assert betti_numbers(np.ones((3, 3), bool)) == (1, 0)


def test_patches_by_hand():
    # A dot on the left in the truth, on the right in the proposal: as many, elsewhere.
    truth, proposal = np.zeros((2, 3, 8), bool)
    truth[1, 1] = proposal[1, 6] = True
    assert betti_errors(proposal, truth) == BettiErrors(0, 0)
    assert betti_errors(proposal, truth, patch=4) == BettiErrors(1, 0)
    # Patches of 3 x 5 and 3 x 3, and then of 3 x 3, 3 x 3 and 3 x 2: the middle one is right.
    assert betti_errors(proposal, truth, patch=5) == BettiErrors(1, 0)
    assert betti_errors(proposal, truth, patch=3).betti_0 == pytest.approx(2 / 3)
    # A ring that the patches cut is no hole in any of them.
    ring = np.ones((4, 4), bool)
    ring[1:3, 1:3] = False
    assert betti_errors(ring, np.zeros_like(ring)) == BettiErrors(1, 1)
    assert betti_errors(ring, np.zeros_like(ring), patch=2) == BettiErrors(1, 0)


@settings(max_examples=40)
@given(pairs, st.integers(2, 12))
def test_patches_equal_their_description(both, patch):
    proposal, truth = both
    height, width = truth.shape
    differences = []
    for y in range(0, height, patch):
        for x in range(0, width, patch):
            cut = np.s_[y : y + patch, x : x + patch]
            mine, theirs = betti_numbers(proposal[cut]), betti_numbers(truth[cut])
            differences.append([abs(a - b) for a, b in zip(mine, theirs, strict=True)])
    found = betti_errors(proposal, truth, patch=patch)
    assert (found.betti_0, found.betti_1) == pytest.approx(np.mean(differences, axis=0))


# Betti matching ----------------------------------------------------------------------------------


def test_equal_numbers_at_different_places():
    # Two dots each, of which one is shared: one of each mask has no partner.
    proposal = drawn("#....#", "......", "......")
    truth = drawn("#.....", "......", ".....#")
    assert betti_errors(proposal, truth) == BettiErrors(0, 0)
    assert betti_matching(proposal, truth) == BettiMatching(2, 0)
    # One ring each, far from each other: nothing matches.
    proposal = drawn("###....", "#.#....", "###....")
    truth = drawn("....###", "....#.#", "....###")
    assert betti_errors(proposal, truth) == BettiErrors(0, 0)
    assert betti_matching(proposal, truth) == BettiMatching(2, 2)
    # A wall through the left cell instead of the right one: the outer contour is shared.
    proposal = drawn("#########", "#.#.#...#", "#########")
    truth = drawn("#########", "#...#.#.#", "#########")
    # Union: four cells of one pixel. The left large hole of the truth takes one of the left two,
    # the right large one of the proposal one of the right two: 3 + 3 holes, 2 pairs.
    assert betti_errors(proposal, truth) == BettiErrors(0, 0)
    assert betti_matching(proposal, truth) == BettiMatching(0, 2)


def test_pieces_by_hand():
    # Touching at a corner is enough; of two pieces in one of the union only one has a partner.
    proposal = drawn("#.....", "......")
    assert betti_matching(proposal, drawn("......", ".#....")) == BettiMatching(0, 0)
    assert betti_matching(proposal, drawn("......", "..#...")) == BettiMatching(2, 0)
    line, dashes = drawn("#######"), drawn("##.##.#")
    assert betti_matching(dashes, line) == BettiMatching(2, 0)


def test_holes_by_hand():
    ring, disc = drawn("###", "#.#", "###"), drawn("###", "###", "###")
    # The disc fills the hole.
    assert betti_matching(ring, disc) == BettiMatching(0, 1)
    # A smaller ring around the same cell is the same hole.
    outer = drawn("#####", "#...#", "#...#", "#...#", "#####")
    inner = drawn(".....", ".###.", ".#.#.", ".###.", ".....")
    assert betti_matching(outer, inner) == BettiMatching(0, 0)
    # A hole that only the two together close has no partner in either.
    left, right = drawn("###", "#..", "###"), drawn("..#", "..#", "..#")
    assert betti_matching(left, right) == BettiMatching(0, 0)


@pytest.mark.parametrize(("middle", "alone"), [(1, 2), (5, 0)])
def test_the_largest_shared_hole_decides(middle, alone):
    # Three rooms of the union, 3, `middle` and 3 pixels long. The proposal's only hole is the
    # first two rooms, the truth's the last two. With a large room in the middle both live as
    # long as it does; with a small one each lives on in a room that the other has not.
    end = 6 + middle
    proposal, truth = np.zeros((2, 3, end + 4), bool)
    proposal[:, :end] = True
    proposal[1, 1 : end - 1] = False
    truth[:, 4:] = True
    truth[1, 5:-1] = False
    assert betti_numbers(proposal | truth) == (1, 3)
    assert betti_matching(proposal, truth) == BettiMatching(0, alone)


@settings(max_examples=80)
@given(pairs)
def test_matching_equals_its_description(both):
    proposal, truth = both
    found = betti_matching(proposal, truth)
    assert (found.betti_0, found.betti_1) == unmatched(proposal, truth)


@settings(max_examples=80)
@given(pairs)
def test_matching_properties(both):
    proposal, truth = both
    found, numbers = betti_matching(proposal, truth), betti_errors(proposal, truth)
    assert found == betti_matching(truth, proposal)
    assert found.betti_0 >= numbers.betti_0
    assert found.betti_1 >= numbers.betti_1
    assert betti_matching(truth, truth) == BettiMatching(0, 0)
    assert betti_matching(proposal.T, truth.T).betti_0 == found.betti_0


def test_what_is_refused():
    mask = np.zeros((3, 4), bool)
    for score in (cl_dice, betti_errors, betti_matching):
        with pytest.raises(InputError, match=r"\(3, 4\) and \(4, 3\)"):
            score(mask, mask.T)
        with pytest.raises(InputError, match="boolean, True = membrane, not uint8"):
            score(mask, mask.astype(np.uint8))
    for count in (centre_lines, betti_numbers):
        with pytest.raises(InputError, match=r"one section \(Y, X\)"):
            count(np.zeros((2, 3, 4), bool))
    with pytest.raises(InputError, match=r"\(3, 4\) and \(4, 3\)"):
        cl_dice(mask, mask, truth_lines=mask.T)
    with pytest.raises(InputError, match="at least 1 pixel"):
        betti_errors(mask, mask, patch=0)
