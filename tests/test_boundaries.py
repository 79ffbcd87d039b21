"""The boundary F-score: by hand, against all pairs of pixels, and its edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from axolemma.errors import InputError
from axolemma.metrics.boundaries import boundary_f

pairs = array_shapes(min_dims=2, max_dims=2, max_side=7).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)
tolerances = st.sampled_from([0, 1, 2**0.5, 2, 5**0.5, 4.5])


def contour(membrane):
    """Pixels of membrane with one of their four neighbours in the interior."""
    height, width = membrane.shape
    return [
        (y, x)
        for y, x in np.argwhere(membrane).tolist()
        if any(
            0 <= v < height and 0 <= u < width and not membrane[v, u]
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        )
    ]


def share_near(points, others, tolerance):
    near = [
        any((y - v) ** 2 + (x - u) ** 2 <= tolerance**2 + 1e-9 for v, u in others)
        for y, x in points
    ]
    return sum(near) / len(near) if near else 1.0


@settings(max_examples=60)
@given(pairs, tolerances)
def test_equals_a_search_of_all_pairs(masks, tolerance):
    proposal, truth = masks
    found = boundary_f(proposal, truth, tolerance=tolerance)
    mine, theirs = contour(proposal), contour(truth)
    if not mine and not theirs:
        assert found.score == (proposal == truth).all()
        return
    precision, recall = share_near(mine, theirs, tolerance), share_near(theirs, mine, tolerance)
    assert (found.precision, found.recall) == pytest.approx((precision, recall))
    both = precision + recall
    assert found.score == pytest.approx(2 * precision * recall / both if both else 0)


def test_by_hand():
    # Truth: a wall of 6 pixels. The proposal has the upper 4 of them, one column to the right,
    # and a speck of one pixel far away.
    truth, proposal = np.zeros((2, 6, 20), bool)
    truth[:, 4] = True
    proposal[:4, 5] = True
    proposal[2, 15] = True
    exact = boundary_f(proposal, truth, tolerance=0)
    assert (exact.score, exact.precision, exact.recall) == (0, 0, 0)
    # At 1 px four of five proposed pixels are right, and the upper four of six true ones.
    near = boundary_f(proposal, truth, tolerance=1)
    assert (near.precision, near.recall) == (4 / 5, 4 / 6)
    assert near.score == pytest.approx(2 * (4 / 5) * (4 / 6) / (4 / 5 + 4 / 6))
    # The fifth true pixel lies one down and one left of the last proposed one: √2 away.
    assert boundary_f(proposal, truth, tolerance=1.4).recall == 4 / 6
    assert boundary_f(proposal, truth, tolerance=2**0.5).recall == 5 / 6


def test_only_the_contour_counts():
    # A band of 5 columns has a contour of its two outer ones; the inner three are nothing.
    truth = np.zeros((4, 12), bool)
    truth[:, 3:8] = True
    wall = np.zeros_like(truth)
    wall[:, 5] = True
    found = boundary_f(wall, truth, tolerance=1)
    assert (found.score, found.precision, found.recall) == (0, 0, 0)
    assert boundary_f(wall, truth, tolerance=2).score == 1


def test_the_section_border_is_no_contour():
    # Membrane along the whole left border: only its right side is a contour.
    thick, thin = np.zeros((2, 5, 9), bool)
    thick[:, :3] = True
    thin[:, 2] = True
    assert boundary_f(thick, thin, tolerance=0).score == 1


@settings(max_examples=60)
@given(pairs, tolerances)
def test_symmetries(masks, tolerance):
    proposal, truth = masks
    found = boundary_f(proposal, truth, tolerance=tolerance)
    swapped = boundary_f(truth, proposal, tolerance=tolerance)
    assert (swapped.precision, swapped.recall) == (found.recall, found.precision)
    assert swapped.score == pytest.approx(found.score)
    assert boundary_f(proposal.T, truth.T, tolerance=tolerance) == found
    assert boundary_f(truth, truth, tolerance=tolerance).score == 1
    assert boundary_f(proposal, truth, tolerance=tolerance + 1).score >= found.score


def test_without_a_contour():
    empty, full = np.zeros((4, 5), bool), np.ones((4, 5), bool)
    wall = empty.copy()
    wall[:, 2] = True
    one_sided = boundary_f(empty, wall)
    assert (one_sided.score, one_sided.precision, one_sided.recall) == (0, 1, 0)
    assert boundary_f(wall, empty).score == 0
    assert boundary_f(empty, empty).score == boundary_f(full, full).score == 1
    assert boundary_f(full, empty).score == 0


def test_what_is_refused():
    mask = np.zeros((3, 4), bool)
    with pytest.raises(InputError, match="boolean, True = membrane, not float64"):
        boundary_f(np.zeros((3, 4)), mask)
    with pytest.raises(InputError, match=r"\(3, 4\) and \(4, 3\)"):
        boundary_f(mask, mask.T)
    with pytest.raises(InputError, match=r"one section \(Y, X\).* not \(2, 3, 4\)"):
        boundary_f(np.zeros((2, 3, 4), bool), mask)
    with pytest.raises(InputError, match=r"with pixels in it, not \(0, 4\)"):
        boundary_f(mask[:0], mask[:0])
    for tolerance in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="0 or above"):
            boundary_f(mask, mask, tolerance=tolerance)
