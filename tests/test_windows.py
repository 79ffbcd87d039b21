import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axolemma.errors import InputError
from axolemma.windows import choose_windows, window_means


def places(windows):
    return [(w.section, w.y, w.x) for w in windows]


def planted(*corners, shape=(3, 128, 128), size=32):
    """Uncertainty that is 0 but for windows, each a little less than the one before."""
    values = np.zeros(shape, np.float32)
    for number, (z, y, x) in enumerate(corners):
        values[z, y : y + size, x : x + size] = 0.5 - 0.01 * number
    return values


def test_planted_windows_are_found_in_order():
    corners = [(1, 64, 32), (0, 0, 96), (2, 8, 0)]
    windows = choose_windows(planted(*corners), count=3, size=32)
    assert places(windows) == corners
    assert [w.score for w in windows] == pytest.approx([0.5, 0.49, 0.48])
    assert {w.size for w in windows} == {32}


def test_windows_of_a_section_do_not_overlap_and_reach_its_edges():
    windows = choose_windows(np.ones((1, 70, 50)), count=99, size=20)
    assert len(windows) >= 5
    for a in windows:
        assert a.y + 20 <= 70
        assert a.x + 20 <= 50
        for b in windows:
            assert a is b or abs(a.y - b.y) >= 20 or abs(a.x - b.x) >= 20
    edge = planted((0, 50, 30), shape=(1, 70, 50), size=20)
    assert places(choose_windows(edge, count=1, size=20)) == [(0, 50, 30)]


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_first_windows_stay_when_more_are_asked_for(seed, count):
    values = np.random.default_rng(seed).random((3, 40, 44))
    more = choose_windows(values, count=12, size=11)
    assert choose_windows(values, count=count, size=11) == more[:count]
    assert len(set(places(more))) == len(more)


def test_windows_spread_over_sections():
    # One section is a third more unsure than the others, everywhere.
    values = np.ones((4, 64, 64))
    values[2] = 1.3
    windows = choose_windows(values, count=4, size=16)
    assert windows[0].section == 2
    assert {w.section for w in windows} == {0, 1, 2, 3}


def test_a_neighbouring_section_shows_the_same():
    # The same place in the next section is worth half, so a lesser place comes first.
    values = planted((0, 0, 0), (1, 0, 0), (2, 64, 64))
    values[2] *= 0.6
    assert places(choose_windows(values, count=3, size=32)) == [(0, 0, 0), (2, 64, 64), (1, 0, 0)]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 65}, "sections of 64 × 80 pixels hold no window of 65; give a smaller --size"),
        ({"count": 0}, "0 windows of 128 pixels cannot be chosen"),
        ({"size": 0}, "10 windows of 0 pixels cannot be chosen"),
    ],
)
def test_windows_that_cannot_be(options, match):
    with pytest.raises(InputError, match=match):
        choose_windows(np.zeros((2, 64, 80)), **options)


def test_window_means_equal_the_slow_ones():
    values = np.random.default_rng(0).random((2, 9, 11))
    found = window_means(values, [0, 2, 5], [1, 7], 4)
    for r, y in enumerate([0, 2, 5]):
        for c, x in enumerate([1, 7]):
            slow = values[:, y : y + 4, x : x + 4].mean(axis=(1, 2))
            np.testing.assert_allclose(found[:, r, c], slow)
