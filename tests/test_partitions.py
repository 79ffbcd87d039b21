"""Variation of information and adapted Rand error: two conventions, hand-checked and by oracle."""

from math import log2, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.metrics import adapted_rand_error, variation_of_information

from axolemma.metrics import (
    contingency,
    cremi_rand,
    cremi_score,
    cremi_voi,
    skimage_rand,
    skimage_voi,
    v_rand,
)

labels = array_shapes(min_dims=2, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(
        arrays(int, shape, elements=st.integers(0, 4)),
        arrays(int, shape, elements=st.integers(0, 4)),
    )
)


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    contingency(np.ones((1, 1), int), np.ones((1, 1), int))


def table(proposal, truth):
    return contingency(np.array(proposal), np.array(truth))


def test_voi_by_hand():
    # Truth 1 1 2 2 and one unlabelled pixel; the proposal cuts cell 1 in two and keeps 2.
    # CREMI counts 4 pixels: H(S|T) = P(cell 1) * 1 bit = .5, H(T|S) = 0.
    found = cremi_voi(table([[1, 2, 3, 3, 3]], [[1, 1, 2, 2, 0]]))
    assert (found.split, found.merge, found.total) == pytest.approx((0.5, 0, 0.5))
    # scikit-image counts the fifth: segment 3 then holds two pixels of cell 2 and one of "cell" 0,
    # H(T|S) = 3/5 (2/3 log2(3/2) + 1/3 log2 3).
    found = skimage_voi(table([[1, 2, 3, 3, 3]], [[1, 1, 2, 2, 0]]))
    assert found.split == pytest.approx(2 / 5)
    assert found.merge == pytest.approx(3 / 5 * (2 / 3 * log2(3 / 2) + 1 / 3 * log2(3)))


def test_cremi_takes_the_proposals_zero_for_a_segment():
    # Two cells, both left unlabelled: one segment, so the truth has 1 bit left.
    found = cremi_voi(table([[0, 0, 0, 0]], [[1, 1, 2, 2]]))
    assert (found.split, found.merge) == (0, 1)


def test_adapted_rand_by_hand():
    # A pure split: pairs (with themselves) of the truth 3² = 9, of the proposal 2² + 1² = 5, of
    # both 5.
    found = cremi_rand(table([[1, 1, 2]], [[1, 1, 1]]))
    assert found.split == pytest.approx(5 / 9)
    assert found.merge == 1
    assert found.error == pytest.approx(1 - 2 * 5 / (9 + 5))
    # scikit-image leaves out a pixel's pair with itself: 6, 2 and 2. Its precision is our split.
    found = skimage_rand(table([[1, 1, 2]], [[1, 1, 1]]))
    assert (found.split, found.merge) == (pytest.approx(2 / 6), 1)
    assert found.error == pytest.approx(1 - 2 * 2 / (6 + 2))


def test_the_three_meanings_of_a_proposals_zero():
    # Truth: one cell of 4 pixels; the proposal finds 2 and leaves 2 as membrane.
    mine = table([[1, 1, 0, 0]], [[1, 1, 1, 1]])
    # V_rand: each zero is a segment of one pixel, 4 + 2 pairs of 16.
    assert v_rand(mine).split == pytest.approx(6 / 16)
    # CREMI: both together weigh 2 / 4.
    assert cremi_rand(mine).split == pytest.approx(4.5 / 16)
    # scikit-image: one segment of two pixels; 2 + 2 pairs of 12.
    assert skimage_rand(mine).split == pytest.approx(4 / 12)


def test_the_cremi_score_is_the_geometric_mean_of_both_errors():
    mine = table([[1, 2, 3, 3]], [[1, 1, 2, 2]])
    assert cremi_score(mine) == pytest.approx(sqrt(cremi_rand(mine).error * 0.5))
    assert cremi_score(table([[3, 3]], [[1, 1]])) == 0


@given(labels)
def test_as_scikit_image(pair):
    proposal, truth = pair
    mine = contingency(proposal, truth)
    splits, merges = variation_of_information(truth, proposal)
    found = skimage_voi(mine)
    assert (found.split, found.merge) == pytest.approx((splits, merges), abs=1e-12)
    cremi = cremi_voi(mine)
    inside = truth > 0
    if inside.any():
        splits, merges = variation_of_information(truth[inside], proposal[inside])
        assert (cremi.split, cremi.merge) == pytest.approx((splits, merges), abs=1e-12)
    else:
        assert cremi.total == 0
    pairs = [np.unique(a[inside], return_counts=True)[1] for a in (truth, proposal)]
    if all((counts > 1).any() for counts in pairs):
        error, precision, recall = adapted_rand_error(truth, proposal)
        ours = skimage_rand(mine)
        assert (ours.error, ours.split, ours.merge) == pytest.approx((error, precision, recall))


@given(labels)
def test_cremi_rand_by_its_definition(pair):
    proposal, truth = pair
    found = cremi_rand(contingency(proposal, truth))
    ids = [i for i in np.unique(truth) if i]
    segments = [j for j in np.unique(proposal) if j]
    shared = sum(((truth == i) & (proposal == j)).sum() ** 2 for i in ids for j in segments)
    weight = ((truth > 0) & (proposal == 0)).sum() / truth.size
    a = sum((truth == i).sum() ** 2 for i in ids)
    b = sum(((truth > 0) & (proposal == j)).sum() ** 2 for j in segments) + weight
    expected = 1 - 2 * (shared + weight) / (a + b) if a + b else 0
    assert found.error == pytest.approx(expected)


@given(labels)
def test_numbering_and_orientation_do_not_matter(pair):
    proposal, truth = pair
    here = contingency(proposal, truth)
    there = contingency(np.where(proposal > 0, 9 - proposal, 0).T, np.where(truth, truth + 3, 0).T)
    for score in (cremi_voi, skimage_voi):
        assert score(here).total == pytest.approx(score(there).total, abs=1e-12)
    for score in (cremi_rand, skimage_rand):
        assert score(here).error == pytest.approx(score(there).error, abs=1e-12)
