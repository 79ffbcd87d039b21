"""Two numbers that make a map's values come true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axolemma.calibration import Calibration, fit_calibration
from axolemma.errors import InputError
from axolemma.metrics import reliability


def sure_of_itself(seed=0, size=200):
    """Return a map whose true probability has half its log-odds less one, and a truth."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 3, (3, size, size))
    truth = rng.random(odds.shape) < 1 / (1 + np.exp(-(0.5 * odds - 1)))
    return (1 / (1 + np.exp(-odds))).astype(np.float32), truth


def test_by_hand():
    # Log-odds of .9 are log 9; half of it log 3, and log 3 - log 3 is a half.
    assert Calibration(0.5, -np.log(3))(np.array([0.9, 0.5])).tolist() == pytest.approx([0.5, 0.25])
    assert Calibration(1.0, 0.0)(np.array([0.2, 0.7])).tolist() == pytest.approx([0.2, 0.7])


def test_it_finds_what_was_bent():
    map_, truth = sure_of_itself()
    found = fit_calibration(map_, truth)
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert found.shift == pytest.approx(-1, abs=0.03)
    before = reliability(map_, truth).expected_error
    assert before > 0.1
    other, drawn = sure_of_itself(seed=1)
    assert reliability(found(other), drawn).expected_error < 0.01


def test_what_is_not_counted_has_no_part():
    map_, truth = sure_of_itself()
    where = np.zeros_like(truth)
    where[:, :100] = True
    wrong = np.where(where, truth, True)
    expected = fit_calibration(map_[:, :100], truth[:, :100])
    assert fit_calibration(map_, wrong, where=where) == pytest.approx(expected)


def test_ends_stay_finite_and_rise():
    perfect = np.zeros((1, 20, 20), bool)
    perfect[:, 5:9] = True
    for map_, truth in (
        (perfect.astype(np.float32), perfect),
        (1 - perfect.astype(np.float32), perfect),  # the wrong way round
        (np.full(perfect.shape, 0.5, np.float32), np.ones_like(perfect)),
        (np.zeros((1, 0, 5), np.float32), np.zeros((1, 0, 5), bool)),
    ):
        found = fit_calibration(map_, truth)
        assert np.isfinite(found).all()
        assert found.slope > 0
        assert np.isfinite(found(np.array([0.0, 0.5, 1.0]))).all()


@settings(max_examples=100)
@given(
    st.floats(0.05, 5),
    st.floats(-4, 4),
    st.floats(0.01, 0.99),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_a_threshold_moves_along(slope, shift, threshold, values):
    calibration = Calibration(slope, shift)
    map_ = np.array([v for v in values if abs(1 - v - threshold) > 1e-4], np.float64)
    moved = calibration(map_)
    assert ((moved >= 0) & (moved <= 1)).all()
    assert (np.diff(moved[np.argsort(map_, kind="stable")]) >= 0).all()
    beyond = calibration.threshold(threshold)
    apart = np.abs(1 - moved.astype(float) - beyond) > 1e-6
    assert ((1 - moved > beyond) == (1 - map_ > threshold))[apart].all()


def test_shapes_that_differ():
    with pytest.raises(InputError, match="must be the same"):
        fit_calibration(np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 3), bool))
