import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axolemma.predict import magnified_shape
from axolemma.sampling import mirrored, resampled, samples

sides = st.integers(1, 60)


def resized(sections, shape):
    axes = [samples(0, new, old, new) for old, new in zip(sections.shape[1:], shape, strict=True)]
    return resampled(sections, *axes)


@given(sides, st.integers(0, 150), st.integers(0, 150))
def test_mirrored_is_what_numpy_pads(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="symmetric")
    np.testing.assert_array_equal(mirrored(-before, size + after, size), expected)


def test_resizing_keeps_corners_means_and_its_size():
    # Two pixels become four, a quarter of a pixel to either side of their centres.
    two = np.array([[[0, 4]]], np.float32)
    assert resized(two, (1, 4)).tolist() == [[[0, 1, 3, 4]]]
    np.testing.assert_array_equal(resized(two, (1, 2)), two)
    noise = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.float32)
    quarter = resized(noise, (16, 16))
    assert quarter.mean() == pytest.approx(noise.mean(), rel=0.02)
    assert quarter.std() < 0.4 * noise.std()
    assert magnified_shape((3, 100, 51), 1.5) == (150, 76)
    assert magnified_shape((1, 1), 0.1) == (1, 1)


@pytest.mark.parametrize("shape", [(60, 96), (17, 16), (9, 130), (40, 64)])
def test_resizing_is_what_torch_does(shape):
    import torch

    sections = np.random.default_rng(1).normal(size=(2, 40, 64)).astype(np.float32)
    found = resized(sections, shape)
    for axis, (old, new) in enumerate(zip((40, 64), shape, strict=True), start=1):
        sides = [40, 64] if axis == 1 else [shape[0], 64]
        sides[axis - 1] = new
        sections = torch.nn.functional.interpolate(
            torch.from_numpy(np.asarray(sections))[None],
            size=tuple(sides),
            mode="bilinear",
            antialias=2 * new < old,
        )[0].numpy()
    np.testing.assert_allclose(found, sections, atol=1e-4)


@given(sides, sides, st.data())
def test_a_part_of_an_axis_is_sampled_as_in_the_whole(old, new, data):
    start = data.draw(st.integers(0, new - 1))
    stop = data.draw(st.integers(start + 1, new))
    whole, part = samples(0, new, old, new), samples(start, stop, old, new)
    np.testing.assert_array_equal(part.places, whole.places[start:stop])
    np.testing.assert_array_equal(part.weights, whole.weights[start:stop])
    assert 0 <= part.span[0] < part.span[1] <= old
    np.testing.assert_allclose(part.weights.sum(axis=1), 1, rtol=1e-6)
