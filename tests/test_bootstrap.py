"""Bootstrap intervals over sections."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from axolemma.errors import InputError
from axolemma.metrics.bootstrap import difference, interval

scores = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def ends(found):
    return found.low, found.high


def test_two_sections_by_hand():
    found = interval([0.2, 0.6], level=0.5)
    # The four resamples have means .2, .4, .4, .6; at ranks .75 and 2.25 of 0 … 3 lie
    # .2 + .75·.2 and .4 + .25·.2.
    assert ends(found) == pytest.approx((0.35, 0.45))
    assert (found.mean, found.resamples, found.sections) == (pytest.approx(0.4), 4, 2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.sampled_from([0.5, 0.8, 0.95]))
def test_few_sections_are_enumerated(values, level):
    n = len(values)
    means = [sum(drawn) / n for drawn in product(values, repeat=n)]
    found = interval(values, level=level, seed=1, resamples=7)
    tails = (1 - level) / 2, 1 - (1 - level) / 2
    assert ends(found) == pytest.approx(np.quantile(means, tails), abs=1e-12)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.resamples == n**n


def test_enumeration_agrees_with_drawing_and_needs_no_seed():
    values = [0.91, 0.93, 0.95, 0.96, 0.97, 0.99]
    exact = interval(values)
    assert exact.resamples == 46_656
    assert exact == interval(values, seed=5, resamples=1)
    drawn = np.random.default_rng(0).choice(values, (200_000, 6)).mean(axis=1)
    assert ends(exact) == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=5e-4)


@pytest.mark.parametrize(("n", "level"), [(7, 0.95), (12, 0.9), (30, 0.95)])
def test_drawn_intervals_agree_with_scipy(n, level):
    values = np.random.default_rng(n).beta(20, 2, n)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    # An end of 20,000 draws is sure to some .02 of a standard error of the mean.
    close = 0.1 * values.std() / np.sqrt(n)
    assert ends(interval(values, level=level, resamples=20_000)) == pytest.approx(theirs, abs=close)


@pytest.mark.parametrize("paired", [True, False])
def test_differences_agree_with_scipy(paired):
    rng = np.random.default_rng(1)
    hardness = rng.normal(0, 0.1, 15)
    a = 0.8 + hardness + rng.normal(0, 0.01, 15)
    b = 0.7 + hardness + rng.normal(0, 0.01, 15)
    theirs = stats.bootstrap(
        (a, b),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        paired=paired,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    found = difference(a, b, paired=paired, resamples=20_000)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert ends(found) == pytest.approx(theirs, abs=0.05 * (theirs[1] - theirs[0]))
    # Pairing takes out what is hard for both, and only then is the difference plain.
    assert (found.low > 0.08) == paired
    assert (found.resamples, found.sections, found.note) == (20_000, 15, "")


def test_unpaired_lists_of_a_few_are_enumerated():
    a, b = [0.9, 0.7, 0.8], [0.5, 0.6]
    means = [np.mean(x) - np.mean(y) for x in product(a, repeat=3) for y in product(b, repeat=2)]
    found = difference(a, b, paired=False, level=0.8)
    assert ends(found) == pytest.approx(np.quantile(means, (0.1, 0.9)))
    assert (found.resamples, found.sections) == (27 * 4, 2)


@given(scores)
def test_the_interval_holds_the_mean_and_lies_among_the_scores(values):
    found = interval(values, resamples=500)
    assert min(values) - 1e-12 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= max(values) + 1e-12
    narrow = interval(values, resamples=500, level=0.5)
    assert found.low <= narrow.low <= narrow.high <= found.high


@given(scores, st.floats(-1, 1))
def test_a_constant_difference_is_certain(values, gap):
    found = difference(np.add(values, gap), values, resamples=200)
    assert (found.low, found.mean, found.high) == pytest.approx((gap,) * 3, abs=1e-12)


def test_the_seed_decides_the_draw():
    values = np.random.default_rng(0).random(9)
    assert interval(values, seed=4) == interval(values, seed=4)
    assert ends(interval(values, seed=4)) != ends(interval(values, seed=5))


def test_one_section_has_no_spread():
    found = interval([0.7])
    assert (found.low, found.mean, found.high) == (0.7, 0.7, 0.7)
    assert "single section has no spread" in found.note
    assert "no spread" in difference([0.9] * 9, [0.7], paired=False).note


def test_few_sections_come_with_a_warning():
    # C(2n - 1, n): 126 for 5, 1716 for 7.
    assert "With 5 sections there are only 126 distinct resamples" in interval([0.5] * 5).note
    assert "only 1,716 distinct" in interval(range(7)).note
    assert "this stack only" in difference(range(3), range(3)).note
    assert interval(range(8)).note == ""
    assert "With 5 sections" in difference(range(9), range(5), paired=False).note


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: interval([]), "one score per section"),
        (lambda: interval(0.5), "one score per section"),
        (lambda: interval([[0.5, 0.6]]), "one score per section"),
        (lambda: interval([0.5, float("nan")]), "not finite"),
        (lambda: difference([0.5], [float("inf")]), "not finite"),
        (lambda: difference([0.5, 0.6], [0.5]), "not 2 and 1; give paired=False"),
        (lambda: interval([0.5], level=95), r"between 0 and 1, such as 0\.95, not 95"),
        (lambda: interval([0.5], resamples=0), "at least one resample"),
    ],
)
def test_what_cannot_be_resampled(call, match):
    with pytest.raises(InputError, match=match):
        call()
