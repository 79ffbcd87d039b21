import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axolemma import augment_keras
from axolemma.augment_keras import README_SETTINGS, REPORT_SETTINGS, Parameters, apply, draw
from axolemma.errors import InputError

#: Changes nothing.
PLAIN = Parameters((5, 5), 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, False, False)
IMAGE = np.arange(25, dtype=np.float32).reshape(5, 5) + 1
NO_TRUTH = np.zeros((5, 5), np.uint8)


def moved(parameters, image=IMAGE, fill="black"):
    return apply(image, np.zeros(image.shape, np.uint8), parameters, fill=fill)[0]


# --- against Keras itself, where it is installed


def keras_cases():
    rng = np.random.default_rng(5)
    for shape in [(16, 16), (13, 21), (30, 12)]:
        image = rng.random(shape, np.float32)
        for _ in range(6):
            yield image, draw(rng, shape, rotation=180, shear=40, shift=0.5, zoom=0.6)
        yield image, draw(rng, shape)
        yield image, replace(PLAIN, size=shape)


def by_keras(module, image, parameters, fill_mode):
    generator = module.ImageDataGenerator(fill_mode=fill_mode, cval=0, data_format="channels_last")
    given_ = {key: value for key, value in asdict(parameters).items() if key != "size"}
    return generator.apply_transform(image[..., None], given_)[..., 0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_equals_keras():
    pytest.importorskip("keras")
    module = pytest.importorskip("keras.src.legacy.preprocessing.image")
    for image, parameters in keras_cases():
        for fill, mode in (("black", "constant"), ("mirror", "reflect")):
            expected = by_keras(module, image, parameters, mode)
            np.testing.assert_array_equal(moved(parameters, image, fill), expected)


# --- against the definition


def product(a, b):
    return [[sum(a[i][k] * b[k][j] for k in range(3)) for j in range(3)] for i in range(3)]


def oracle(image, parameters):
    """Sample bilinearly where the definition's matrices point to; NaN within 1e-9 of the border."""
    height, width = image.shape
    turn, shear = math.radians(parameters.theta), math.radians(parameters.shear)
    a, b = height / 2 - 0.5, width / 2 - 0.5  # Keras centres x by the height and y by the width
    matrix = [[1, 0, a], [0, 1, b], [0, 0, 1]]
    for step in (
        [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]],
        [[1, 0, parameters.tx], [0, 1, parameters.ty], [0, 0, 1]],
        [[1, -math.sin(shear), 0], [0, math.cos(shear), 0], [0, 0, 1]],
        [[parameters.zx, 0, 0], [0, parameters.zy, 0], [0, 0, 1]],
        [[1, 0, -a], [0, 1, -b], [0, 0, 1]],
    ):
        matrix = product(matrix, step)
    result = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            x, y, _ = (row[0] * j + row[1] * i + row[2] for row in matrix)
            if any(abs(d) < 1e-9 for d in (x, y, width - 1 - x, height - 1 - y)):
                result[i, j] = np.nan
            elif 0 < x < width - 1 and 0 < y < height - 1:
                result[i, j] = sum(
                    image[p, q] * (1 - abs(y - p)) * (1 - abs(x - q))
                    for p in (math.floor(y), math.floor(y) + 1)
                    for q in (math.floor(x), math.floor(x) + 1)
                )
    if parameters.flip_horizontal:
        result = result[:, ::-1]
    return result[::-1] if parameters.flip_vertical else result


@given(st.integers(0, 2**32), st.integers(3, 12), st.integers(3, 12))
def test_image_and_truth_are_the_definitions(seed, height, width):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width)).astype(np.uint8)
    truth = (rng.random(image.shape) < 0.3).astype(np.uint8)
    parameters = draw(rng, image.shape, rotation=180, shear=40, shift=0.4, zoom=0.6)
    got, drawn = apply(image, truth, parameters)
    expected, interior = oracle(image, parameters), oracle(1 - truth, parameters)
    sure = ~np.isnan(expected)
    assert (np.abs(got - expected)[sure] <= 0.5 + 1e-6).all()
    sure &= np.abs(interior - 0.5) > 1e-6
    np.testing.assert_array_equal(drawn[sure], interior[sure] <= 0.5)
    exact, _ = apply(image.astype(np.float32), truth, parameters)
    np.testing.assert_array_equal(got, np.floor(exact.astype(float) + 0.5))


# --- by hand


def test_nothing_drawn_changes_nothing():
    truth = (IMAGE % 2).astype(np.uint8)
    for fill in ("black", "mirror"):
        got, drawn = apply(IMAGE, truth, PLAIN, fill=fill)
        np.testing.assert_array_equal(got, IMAGE)
        np.testing.assert_array_equal(drawn, truth)


def test_a_quarter_turn():
    turned = np.rot90(IMAGE)
    # cos 90° is 6e-17, so a border pixel may come from just beyond the border, in Keras as well.
    got = moved(replace(PLAIN, theta=90.0))
    np.testing.assert_allclose(got[1:-1, 1:-1], turned[1:-1, 1:-1], rtol=1e-6)
    np.testing.assert_allclose(moved(replace(PLAIN, theta=90.0), fill="mirror"), turned, rtol=1e-6)


def test_shifts_by_whole_pixels():
    expected = np.zeros((5, 5))
    expected[:, :3] = IMAGE[:, 2:]  # tx = 2: column j shows column j + 2
    np.testing.assert_array_equal(moved(replace(PLAIN, tx=2.0)), expected)
    expected = np.zeros((5, 5))
    expected[1:] = IMAGE[:-1]  # ty = -1: row i shows row i - 1
    np.testing.assert_array_equal(moved(replace(PLAIN, ty=-1.0)), expected)
    mirrored = moved(replace(PLAIN, tx=2.0), fill="mirror")
    np.testing.assert_array_equal(mirrored[0], [3, 4, 5, 5, 4])


def test_zoom_above_one_shrinks():
    # Columns 0 … 4 about 2, by 2: column j shows column 2 j - 2, which is -2, 0, 2, 4, 6.
    expected = np.zeros((5, 5))
    expected[:, 1:4] = IMAGE[:, ::2]
    np.testing.assert_array_equal(moved(replace(PLAIN, zx=2.0)), expected)
    np.testing.assert_array_equal(moved(replace(PLAIN, zy=2.0), IMAGE.T.copy()), expected.T)
    # By one half: column j shows column (j + 2) / 2.
    np.testing.assert_array_equal(moved(replace(PLAIN, zx=0.5))[0], [2, 2.5, 3, 3.5, 4])


def test_shear_is_in_degrees():
    # sin 30° = 1/2 of the rows from the middle; cos 30° of them is where the row comes from.
    columns = np.tile(np.arange(1.0, 6.0, dtype=np.float32), (5, 1))
    got = moved(replace(PLAIN, shear=30.0), columns)
    # Row 1 is 1 above the middle: column j shows column j + 1/2. Row 4: column j - 1.
    np.testing.assert_allclose(got[1], [1.5, 2.5, 3.5, 4.5, 0])
    np.testing.assert_allclose(got[4], [0, 1, 2, 3, 4])
    # So the README's 0.2 moves the first row of a section of 512 by 255.5 · sin 0.2° = 0.89 pixels.
    ramp = np.tile(np.arange(512, dtype=np.float32), (512, 1))
    sheared = moved(replace(PLAIN, size=(512, 512), shear=0.2), ramp)
    assert sheared[1, 100] - 100 == pytest.approx(254.5 * math.sin(math.radians(0.2)), abs=1e-4)


def test_a_shift_is_turned_with_the_section():
    # Rotation · Shift: by a quarter turn, two columns to the side become two rows.
    both = moved(replace(PLAIN, theta=90.0, tx=2.0), fill="mirror")
    shifted_rows = np.concatenate([np.rot90(IMAGE)[:, 2:], np.rot90(IMAGE)[:, :2:-1]], axis=1)
    np.testing.assert_allclose(both, shifted_rows, rtol=1e-6)


def test_flips_come_last():
    np.testing.assert_array_equal(moved(replace(PLAIN, flip_horizontal=True)), IMAGE[:, ::-1])
    np.testing.assert_array_equal(moved(replace(PLAIN, flip_vertical=True)), IMAGE[::-1])
    shifted = replace(PLAIN, tx=2.0)
    flipped = moved(replace(shifted, flip_horizontal=True))
    np.testing.assert_array_equal(flipped, moved(shifted)[:, ::-1])


def test_a_truth_is_cut_at_half_and_a_tie_is_membrane():
    truth = np.zeros((5, 5), np.uint8)
    truth[:, 2] = 1
    for tx, columns in [(0.4, [2]), (0.5, [1, 2]), (0.6, [1])]:
        _, drawn = apply(IMAGE, truth, replace(PLAIN, tx=tx))
        assert np.flatnonzero(drawn[0, :4]).tolist() == columns


def test_the_wedge_is_black_and_membrane_unless_mirrored():
    got, drawn = apply(IMAGE, NO_TRUTH, replace(PLAIN, zx=2.0, zy=2.0))
    inside = np.zeros((5, 5), bool)
    inside[1:4, 1:4] = True
    np.testing.assert_array_equal(got > 0, inside)
    np.testing.assert_array_equal(drawn == 0, inside)
    got, drawn = apply(IMAGE, NO_TRUTH, replace(PLAIN, zx=2.0, zy=2.0), fill="mirror")
    assert got.min() == 1
    assert drawn.max() == 0


def test_grey_values_are_rounded_not_cut():
    image = np.array([[0, 10, 21], [0, 10, 21], [0, 10, 21]], np.uint8)
    parameters = replace(PLAIN, size=(3, 3), tx=0.5)  # 5, 15.5, and beyond the border
    np.testing.assert_array_equal(moved(parameters, image)[0], [5, 16, 0])


def test_golden_values_of_keras():
    # Written by ImageDataGenerator.apply_transform of Keras 3.15.1.
    image = np.arange(24, dtype=np.float32).reshape(4, 6) ** 2
    parameters = Parameters((4, 6), -15.0, 0.7, -0.4, 10.0, 0.9, 1.1, True, False)
    np.testing.assert_allclose(moved(parameters, image), GOLDEN, rtol=1e-6)


GOLDEN = [
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 16.904778, 24.334978, 28.382511],
    [0, 87.073715, 92.44429, 108.67334, 121.51973, 130.98344],
    [0, 249.4299, 267.1153, 288.76053, 307.0231, 321.90298],
]


def test_one_seed_draws_the_same_for_ever():
    parameters = draw(np.random.default_rng(0), (5, 5))
    expected = (5.478467, -0.460427, -0.918053, -0.193389, 1.125308, 1.165102, False, False)
    assert tuple(asdict(parameters).values())[1:] == pytest.approx(expected, abs=1e-6)


# --- what is drawn


@given(st.integers(0, 2**32))
def test_drawn_values_keep_to_their_ranges(seed):
    parameters = draw(np.random.default_rng(seed), (50, 80))
    assert parameters == draw(np.random.default_rng(seed), (50, 80), **README_SETTINGS)
    assert parameters.size == (50, 80)
    assert abs(parameters.theta) <= 20
    assert abs(parameters.tx) <= 10  # 0.2 · 50: the height, though it moves columns
    assert abs(parameters.ty) <= 16
    assert abs(parameters.shear) <= 0.2
    assert 0.8 <= parameters.zx <= 1.2
    assert 0.8 <= parameters.zy <= 1.2
    report = draw(np.random.default_rng(seed), (50, 80), **REPORT_SETTINGS)
    assert (report.tx, report.ty) == (0, 0)
    assert abs(report.shear) <= 0.1
    assert 0.9 <= min(report.zx, report.zy) <= max(report.zx, report.zy) <= 1.1
    pixels = draw(np.random.default_rng(seed), (50, 80), shift=3, flips=False)
    assert max(abs(pixels.tx), abs(pixels.ty)) <= 3
    assert not pixels.flip_horizontal
    assert not pixels.flip_vertical


def test_drawn_values_fill_their_ranges():
    rng = np.random.default_rng(1)
    drawn = [draw(rng, (10, 10)) for _ in range(2000)]
    for name, low, high in [
        ("theta", -20, 20), ("tx", -2, 2), ("ty", -2, 2), ("shear", -0.2, 0.2), ("zx", 0.8, 1.2),
        ("zy", 0.8, 1.2),
    ]:  # fmt: skip
        values = np.array([getattr(p, name) for p in drawn])
        # Uniform: quarters lie at quarters. With 2,000 values they stray by 1 % of the range.
        np.testing.assert_allclose(
            np.quantile(values, [0.25, 0.5, 0.75]),
            low + (high - low) * np.array([0.25, 0.5, 0.75]),
            atol=0.05 * (high - low),
        )
    zooms = np.array([(p.zx, p.zy) for p in drawn])
    assert abs(np.corrcoef(zooms.T)[0, 1]) < 0.1  # the two are independent
    flips = np.array([(p.flip_horizontal, p.flip_vertical) for p in drawn])
    np.testing.assert_allclose(flips.mean(axis=0), 0.5, atol=0.05)


# --- what cannot be


@pytest.mark.parametrize(
    ("ranges", "match"),
    [
        ({"rotation": -1}, "rotation must be at least 0, not -1"),
        ({"shift": math.nan}, "shift must be at least 0, not nan"),
        ({"shear": math.inf}, "shear must be at least 0, not inf"),
        ({"zoom": 1.0}, r"zoom must be at least 0 and below 1, not 1\.0"),
    ],
)
def test_ranges_that_cannot_be(ranges, match):
    with pytest.raises(InputError, match=match):
        draw(np.random.default_rng(0), (8, 8), **ranges)


def test_what_does_not_belong_together():
    with pytest.raises(InputError, match=r"of \(5, 5\) and parameters for \(4, 5\) do not"):
        apply(IMAGE, NO_TRUTH, replace(PLAIN, size=(4, 5)))
    with pytest.raises(InputError, match=r"a truth of \(4, 5\) and"):
        apply(IMAGE, NO_TRUTH[1:], PLAIN)
    with pytest.raises(InputError, match="uint8 or float32 here, not float64"):
        apply(IMAGE.astype(float), NO_TRUTH, PLAIN)
    with pytest.raises(InputError, match="unknown fill 'mirrored'; did you mean 'mirror'"):
        apply(IMAGE, NO_TRUTH, PLAIN, fill="mirrored")


def test_a_view_is_as_good_as_a_copy():
    turned = IMAGE.T
    assert not turned.flags.c_contiguous
    parameters = draw(np.random.default_rng(2), (5, 5))
    np.testing.assert_array_equal(moved(parameters, turned), moved(parameters, turned.copy()))
    assert augment_keras.apply(turned, NO_TRUTH, parameters)[0].flags.c_contiguous
