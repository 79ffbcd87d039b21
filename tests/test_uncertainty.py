"""Measures of how unsure maps are, by hand; where they are high."""

import numpy as np

from axolemma.uncertainty import entropy, uncertainty_halo, uncertainty_map


def test_entropy_by_hand():
    found = entropy(np.array([0.0, 0.5, 1.0, 0.25], np.float32))
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(found, [0, np.log(2), 0, quarter], atol=1e-9)


def test_an_undecided_place_is_less_sure_than_the_bank_of_a_membrane():
    section = np.zeros((60, 60), np.float32)
    section[:, 20:26] = 1
    section[:, (19, 26)] = 0.5
    section[20:32, 38:50] = 0.4
    found = uncertainty_map(section, smoothing=2)
    assert found.dtype == np.float32
    assert found.shape == section.shape
    assert 0 <= found.min() <= found.max() <= np.log(2)
    assert found[26, 44] > 2 * found[:, 16:30].max()


def test_it_keeps_the_mean_and_knows_no_edge():
    section = np.full((20, 30), 0.5, np.float32)
    np.testing.assert_allclose(uncertainty_map(section, smoothing=3), np.log(2), rtol=1e-6)


def test_no_farther_than_the_halo_does_a_pixel_say_anything():
    section = np.random.default_rng(0).random((60, 60), np.float32)
    halo = uncertainty_halo(smoothing=1.7)
    found = uncertainty_map(section, smoothing=1.7)[20:40, 20:40]
    for more, same in ((0, True), (-1, False)):
        far = halo + more
        cut = section[20 - far : 40 + far, 20 - far : 40 + far]
        part = uncertainty_map(cut, smoothing=1.7)[far:-far, far:-far]
        assert (part == found).all() == same
