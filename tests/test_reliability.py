"""Reliability of a map by hand, and against the slow way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from axolemma.errors import InputError
from axolemma.metrics import mean_squared_error, pixel_counts, reliability


def test_reliability_by_hand():
    map_ = np.array([[0.1, 0.3, 0.3, 0.5], [0.6, 0.9, 1.0, 0.0]], np.float32)
    truth = np.array([[0, 1, 0, 1], [0, 1, 1, 0]], bool)
    found = reliability(map_, truth, bins=4)
    # Bins from 0, .25, .5 and .75: {.1, 0}, {.3, .3}, {.5, .6}, {.9, 1}.
    assert found.pixels.tolist() == [2, 2, 2, 2]
    assert found.membrane.tolist() == [0, 1, 1, 2]
    assert found.predicted.tolist() == pytest.approx([0.1, 0.6, 1.1, 1.9])
    predicted, share = found.curve()
    assert predicted.tolist() == pytest.approx([0.05, 0.3, 0.55, 0.95])
    assert share.tolist() == [0, 0.5, 0.5, 1]
    # (2 · .05 + 2 · .2 + 2 · .05 + 2 · .05) / 8, and the second bin.
    assert found.expected_error == pytest.approx(0.0875)
    assert found.largest_error == pytest.approx(0.2)


def test_bins_without_pixels_have_no_point():
    found = reliability(np.array([0.05, 0.95]), np.array([False, False]), bins=10)
    predicted, share = found.curve()
    assert predicted.tolist() == [0.05, 0.95]
    assert share.tolist() == [0, 0]
    assert (found.expected_error, found.largest_error) == (0.5, 0.95)


def test_no_pixel_at_all():
    truth = np.ones((2, 2), bool)
    found = reliability(truth, truth, where=~truth)
    assert (found.expected_error, found.largest_error) == (0, 0)
    assert found.curve()[0].size == 0


def test_a_map_that_means_what_it_says():
    rng = np.random.default_rng(0)
    map_ = rng.random((400, 400))
    truth = rng.random(map_.shape) < map_
    assert reliability(map_, truth).expected_error < 0.01
    assert reliability(map_**2, truth).expected_error > 0.1


cases = arrays(np.float64, (2, 3, 4), elements=st.floats(0, 1)).flatmap(
    lambda map_: st.tuples(
        st.just(map_), arrays(bool, map_.shape), arrays(bool, map_.shape), st.integers(1, 20)
    )
)


@settings(max_examples=60)
@given(cases)
def test_it_equals_the_slow_way(case):
    map_, truth, where, bins = case
    found = reliability(map_, truth, bins=bins, where=where)
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        here = where & (map_ * bins >= b) & ((map_ * bins < b + 1) | (b == bins - 1))
        assert (map_[here] >= low - 1e-12).all()
        assert (map_[here] <= high + 1e-12).all()
        assert found.pixels[b] == here.sum()
        if here.any():
            total += here.sum() * abs(map_[here].mean() - truth[here].mean())
    assert found.expected_error == pytest.approx(total / max(1, where.sum()), abs=1e-12)
    # No bin can be farther off than the pixels in it.
    assert found.expected_error <= np.sqrt(mean_squared_error(map_, truth, where=where)) + 1e-12


@settings(max_examples=60)
@given(cases)
def test_sections_add_up(case):
    map_, truth, where, bins = case
    whole = reliability(map_, truth, bins=bins, where=where)
    parts = [
        reliability(m, t, bins=bins, where=w) for m, t, w in zip(map_, truth, where, strict=True)
    ]
    added = parts[0] + parts[1]
    assert added.pixels.tolist() == whole.pixels.tolist()
    assert added.membrane.tolist() == whole.membrane.tolist()
    assert added.expected_error == pytest.approx(whole.expected_error, abs=1e-12)


def test_of_a_binary_map_it_is_the_share_of_wrong_pixels():
    rng = np.random.default_rng(3)
    proposal, truth = rng.random((2, 30, 30)) < 0.4
    wrong = 1 - pixel_counts(proposal, truth).accuracy
    assert reliability(proposal, truth).expected_error == pytest.approx(wrong)


@pytest.mark.parametrize(
    ("map_", "truth", "match"),
    [
        (np.full((2, 2), 1.5), np.ones((2, 2), bool), r"lies in \[0, 1\]"),
        (np.ones((2, 2)), np.ones((2, 3), bool), "must be the same pixels"),
        (np.ones((2, 2)), np.ones((2, 2)), "the truth must be bool"),
    ],
)
def test_what_cannot_be_compared(map_, truth, match):
    with pytest.raises(InputError, match=match):
        reliability(map_, truth)
