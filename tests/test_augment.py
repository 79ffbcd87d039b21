from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from axolemma.augment import PRESETS, Parameters, apply, draw
from axolemma.errors import InputError
from axolemma.labels import IGNORED

PLAIN = Parameters(
    size=(16, 16),
    centre=(8.0, 8.0),
    matrix=((1.0, 0.0), (0.0, 1.0)),
    elastic=np.zeros((2, 0, 0)),
    gain=1.0,
    offset=0.0,
    gamma=1.0,
    blur=0.0,
    noise=0.0,
    noise_seed=0,
    shifts=((0.0, 0.0),),
    missing=(False,),
    shading=np.empty((2, 0, 0)),
    bands=np.empty((0, 6)),
    blots=np.empty((0, 4)),
)


def as_grey_as_they_were(parameters):
    """Return parameters that only move what they are applied to."""
    kept = {name: getattr(PLAIN, name) for name in ("shading", "bands", "blots")}
    return replace(parameters, gain=1.0, offset=0.0, gamma=1.0, blur=0.0, noise=0.0, **kept)


@pytest.fixture
def pair(rng):
    image = rng.standard_normal((1, 40, 48)).astype(np.float32)
    return image, (ndimage.gaussian_filter(image[0], 2) > 0).astype(np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_plain_parameters_cut_the_crop(pair):
    image, truth = pair
    crop, drawn = apply(image, truth, PLAIN)
    np.testing.assert_allclose(crop, image[:, :16, :16], atol=1e-6)
    np.testing.assert_array_equal(drawn, truth[:16, :16])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (((0, -1), (1, 0)), lambda a: np.rot90(a, -1)),
        (((0, 1), (-1, 0)), np.rot90),
        (((-1, 0), (0, -1)), lambda a: a[::-1, ::-1]),
        (((-1, 0), (0, 1)), lambda a: a[::-1]),
    ],
)
def test_turns_and_flips_keep_every_pixel(pair, matrix, expected):
    image, truth = (part[..., :16, :16].copy() for part in pair)
    crop, drawn = apply(image, truth, replace(PLAIN, matrix=matrix))
    np.testing.assert_allclose(crop[0], expected(image[0]), atol=1e-5)
    np.testing.assert_array_equal(drawn, expected(truth))


def test_beyond_the_border_lies_a_mirror(pair):
    image, truth = pair
    crop, drawn = apply(image, truth, replace(PLAIN, centre=(0.0, 8.0)))
    np.testing.assert_allclose(crop[0, :8], crop[0, 8:][::-1], atol=1e-6)
    np.testing.assert_array_equal(drawn[:8], drawn[8:][::-1])


def test_free_geometry_equals_scipys_interpolation(pair, rng):
    image, truth = pair
    parameters = replace(
        PLAIN, matrix=((0.8, -0.5), (0.6, 0.9)), elastic=rng.normal(0, 2, (2, 3, 3))
    )
    crop, _ = apply(image, truth, parameters)
    # The control points' spline from its definition: a sum of cubic bumps at the points.
    position = np.linspace(0, 2, 16)
    knots = np.arange(-2, 6)

    def bump(t):
        t = np.abs(t)
        near, far = 2 / 3 - t**2 + t**3 / 2, (2 - np.minimum(t, 2)) ** 3 / 6
        return np.where(t < 1, near, far)

    weights = np.zeros((16, 3))
    for knot in knots:
        weights[:, np.clip(knot, 0, 2)] += bump(position - knot)
    field = weights @ parameters.elastic @ weights.T
    offsets = np.mgrid[:16, :16] - 7.5 + field
    places = np.tensordot(np.array(parameters.matrix), offsets, 1) + 7.5
    expected = ndimage.map_coordinates(image[0].astype(float), places, order=1, mode="reflect")
    np.testing.assert_allclose(crop[0], expected, atol=1e-5)


@given(
    seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]), preset=st.sampled_from([*PRESETS])
)
def test_drawn_crops_are_sound_and_repeatable(seed, channels, preset):
    rng = np.random.default_rng(1)
    image = rng.standard_normal((channels, 30, 50)).astype(np.float32)
    truth = (rng.random((30, 50)) > 0.8).astype(np.uint8)
    ranges = PRESETS[preset]
    parameters = draw(np.random.default_rng(seed), image.shape, (24, 32), **ranges)
    crop, drawn = apply(image, truth, parameters)
    assert crop.shape == (channels, 24, 32)
    assert crop.dtype == np.float32
    assert np.isfinite(crop).all()
    assert drawn.shape == (24, 32)
    assert set(np.unique(drawn)) <= {0, 1}
    repeated = draw(np.random.default_rng(seed), image.shape, (24, 32), **ranges)
    again = apply(image, truth, repeated)
    np.testing.assert_array_equal(crop, again[0])
    np.testing.assert_array_equal(drawn, again[1])
    assert parameters.shifts[channels // 2] == (0, 0)
    assert not parameters.missing[channels // 2]


def test_image_and_truth_move_alike(rng):
    # With the truth as image, the crop must show the drawn truth wherever it is sure of itself.
    truth = (ndimage.gaussian_filter(rng.standard_normal((80, 80)), 4) > 0).astype(np.uint8)
    for seed in range(20):
        parameters = draw(np.random.default_rng(seed), (1, 80, 80), (48, 48), **PRESETS["robust"])
        plain = as_grey_as_they_were(parameters)
        crop, drawn = apply(truth[None].astype(np.float32), truth, plain)
        np.testing.assert_array_equal(crop[0] >= 0.5, drawn)


def test_grey_values_follow_their_parameters(pair):
    image, truth = pair
    change = replace(PLAIN, gain=2.0, offset=-1.0)
    crop, _ = apply(image, truth, change)
    np.testing.assert_allclose(crop, 2 * image[:, :16, :16] - 1, atol=1e-5)
    curved, _ = apply(image, truth, replace(PLAIN, gamma=1.5))
    order = np.argsort(image[0, :16, :16].ravel())
    assert (np.diff(curved[0].ravel()[order]) >= -1e-6).all()
    noisy, _ = apply(image, truth, replace(PLAIN, noise=0.5, noise_seed=3))
    assert (noisy - image[:, :16, :16]).std() == pytest.approx(0.5, rel=0.15)
    blurred, _ = apply(image, truth, replace(PLAIN, blur=1.0))
    assert blurred.std() < 0.5 * image.std()


def test_a_shading_is_a_gain_and_an_offset_that_change_slowly(pair):
    image, truth = pair
    # Points that are all alike make a field that is the same everywhere.
    even = np.stack([np.full((3, 3), 1.5), np.full((3, 3), -0.5)])
    crop, drawn = apply(image, truth, replace(PLAIN, shading=even))
    np.testing.assert_allclose(crop, 1.5 * image[:, :16, :16] - 0.5, atol=1e-5)
    np.testing.assert_array_equal(drawn, truth[:16, :16])
    slope = np.stack([np.ones((3, 3)), np.repeat([[0.0], [1.0], [2.0]], 3, axis=1)])
    added = apply(image, truth, replace(PLAIN, shading=slope))[0] - image[:, :16, :16]
    assert (np.diff(added[0], axis=0) > 0).all()
    np.testing.assert_allclose(np.diff(added[0], axis=1), 0, atol=1e-5)


def test_bands_and_blots_lie_where_they_should(pair):
    image, truth = pair
    plain = image[0, :16, :16]
    # Rows 10 and 11 of 16: their middles lie 2.5 and 3.5 px below the crop's.
    band = np.array([[1.0, 0.0, 2.0, 4.0, 0.5, 3.0]])
    crop, drawn = apply(image, truth, replace(PLAIN, bands=band))
    expected = plain.copy()
    expected[10:12] = 0.5 * expected[10:12] + 3
    np.testing.assert_allclose(crop[0], expected, atol=1e-5)
    np.testing.assert_array_equal(drawn, truth[:16, :16])
    blots = np.array([[0.0, -4.0, 2.1, 7.0], [8.0, 8.0, 1.0, -7.0]])
    crop, drawn = apply(image, truth, replace(PLAIN, blots=blots))
    y, x = np.mgrid[:16, :16] + 0.5
    expected = np.where((y - 8) ** 2 + (x - 4) ** 2 < 2.1**2, 7, plain)
    expected[15, 15] = -7  # in the corner, half of it outside
    np.testing.assert_allclose(crop[0], expected, atol=1e-5)
    np.testing.assert_array_equal(drawn, truth[:16, :16])


def test_bands_with_one_edge_end_beyond_crops_of_any_shape():
    for size in ((64, 1024), (1024, 64), (32, 32)):
        y, x = np.mgrid[: size[0], : size[1]] + 0.5
        one_edge = 0
        for seed in range(40):
            drawn = draw(np.random.default_rng(seed), (1, *size), size, bands=1)
            for down, across, start, stop, *_ in drawn.bands:
                along = (y - size[0] / 2) * down + (x - size[1] / 2) * across
                if stop - start > 64:
                    one_edge += 1
                    assert (along < stop).all()
        assert 20 < one_edge < 60


def test_all_input_sections_share_what_lies_over_them(rng):
    image = rng.standard_normal((3, 40, 48)).astype(np.float32)
    truth = np.zeros((40, 48), np.uint8)
    over = {
        "shading": np.stack([np.full((3, 3), 2.0), np.zeros((3, 3))]),
        "bands": np.array([[1.0, 0.0, 2.0, 4.0, 1.0, 3.0]]),
        "blots": np.array([[-6.0, -6.0, 1.5, 9.0]]),
    }
    three = replace(PLAIN, shifts=((0.0, 0.0),) * 3, missing=(False,) * 3, **over)
    crop, _ = apply(image, truth, three)
    expected = 2 * image[:, :16, :16]
    expected[:, 10:12] += 3
    expected[:, 1:3, 1:3] = 9
    np.testing.assert_allclose(crop, expected, atol=1e-5)


def test_what_is_not_asked_for_is_not_drawn():
    for seed in range(20):
        drawn = draw(np.random.default_rng(seed), (1, 90, 90), (64, 64))
        assert not drawn.shading.size
        assert not drawn.bands.size
        assert not drawn.blots.size
    drawn = draw(np.random.default_rng(1), (1, 90, 90), (64, 80), shading=1, bands=1, blots=1)
    assert drawn.shading.shape == (2, 2, 2)
    assert drawn.bands.shape == (2, 6)
    assert 1 <= len(drawn.blots) <= 20


def test_neighbours_slip_and_go_missing(rng):
    image = rng.standard_normal((3, 40, 40)).astype(np.float32)
    truth = np.zeros((40, 40), np.uint8)
    parameters = replace(
        PLAIN,
        centre=(20.0, 20.0),
        shifts=((2.0, -3.0), (0.0, 0.0), (0.0, 0.0)),
        missing=(False, False, True),
    )
    crop, _ = apply(image, truth, parameters)
    np.testing.assert_allclose(crop[0], image[0, 14:30, 9:25], atol=1e-5)
    np.testing.assert_allclose(crop[1], image[1, 12:28, 12:28], atol=1e-5)
    assert (crop[2] == 0).all()


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda array: array[..., ::-1][..., ::-1]])
def test_any_layout_in_memory_will_do(pair, layout):
    parameters = draw(np.random.default_rng(1), (1, 40, 48), (32, 32))
    expected = apply(*pair, parameters)
    found = apply(*map(layout, pair), parameters)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_crop_is_put_in_its_place(pair):
    parameters = draw(np.random.default_rng(1), (1, 40, 48), (32, 32))
    expected = apply(*pair, parameters)
    crops, masks = np.zeros((2, 1, 32, 32), np.float32), np.zeros((2, 32, 32), np.uint8)
    apply(*pair, parameters, out=(crops[1], masks[1]))
    np.testing.assert_array_equal(crops, np.stack([0 * expected[0], expected[0]]))
    np.testing.assert_array_equal(masks, np.stack([0 * expected[1], expected[1]]))


def test_what_does_not_belong_together(pair):
    image, truth = pair
    with pytest.raises(InputError, match="does not fit a truth"):
        apply(image, truth[1:], PLAIN)
    with pytest.raises(InputError, match="drawn for 1 sections, not 3"):
        apply(np.repeat(image, 3, axis=0), truth, PLAIN)
    with pytest.raises(InputError, match="1 × 9 pixels"):
        draw(np.random.default_rng(0), (1, 1, 9), (8, 8))


@pytest.mark.parametrize("blur", [0.3, 1.3, 2.0, 6.0])
def test_blur_equals_scipys_gaussian(pair, blur):
    image, truth = pair
    crop, _ = apply(image, truth, replace(PLAIN, blur=blur))
    expected = ndimage.gaussian_filter(image[0, :16, :16], blur, truncate=3)
    np.testing.assert_allclose(crop[0], expected, atol=1e-5)


def test_noise_is_white_and_of_unit_variance():
    image, truth = np.zeros((1, 300, 300), np.float32), np.zeros((300, 300), np.uint8)
    noisy = replace(PLAIN, size=(300, 300), centre=(150.0, 150.0), noise=1.0, noise_seed=5)
    crop = apply(image, truth, noisy)[0][0]
    assert abs(crop.mean()) < 0.01
    assert crop.std() == pytest.approx(1, abs=0.01)
    for neighbour in (crop[1:], crop[:, 1:]):
        there = crop[: neighbour.shape[0], : neighbour.shape[1]]
        assert abs((there * neighbour).mean()) < 0.01
    other = apply(image, truth, replace(noisy, noise_seed=6))[0][0]
    assert abs((crop * other).mean()) < 0.01


def test_what_is_not_annotated_moves_with_the_image(rng):
    image = np.zeros((1, 40, 48), np.float32)
    truth = np.zeros((40, 48), np.uint8)
    truth[10:30, 12:40] = IGNORED
    image[0][truth == IGNORED] = 1
    plain = replace(PLAIN, size=(40, 48), centre=(20.0, 24.0))
    np.testing.assert_array_equal(apply(image, truth, plain)[1], truth)
    for _ in range(10):
        drawn = as_grey_as_they_were(draw(rng, (1, 40, 48), (32, 32)))
        crop, moved = apply(image, truth, drawn)
        np.testing.assert_array_equal(moved == IGNORED, crop[0] > 1e-6)


def test_what_lies_under_what_is_not_annotated_does_not_show(pair, rng):
    image, truth = pair
    hidden = np.zeros(truth.shape, bool)
    hidden[5:20, 5:30] = True
    for _ in range(10):
        drawn = draw(rng, (1, 40, 48), (32, 32))
        whole = apply(image, truth, drawn)[1]
        moved = apply(image, np.where(hidden, np.uint8(IGNORED), truth), drawn)[1]
        np.testing.assert_array_equal(moved[moved != IGNORED], whole[moved != IGNORED])
