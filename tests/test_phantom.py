"""The phantom: its blocks agree, its truth is closed, its statistics are those of real sections."""

import signal
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.datasets import phantom_tissue
from axolemma.datasets.phantom_tissue import REAL, VOXEL_SIZE, PhantomBlock, phantom
from axolemma.errors import InputError
from axolemma.geometry import Box

SHAPE = (5, 150, 170)
ARRAYS = ("image", "truth", "neurons")


@pytest.fixture(scope="module")
def whole() -> PhantomBlock:
    return phantom(SHAPE, seed=3)


@pytest.fixture(scope="module")
def stack() -> PhantomBlock:
    return phantom((6, 512, 512), seed=1)


def best_overlap(truth: NDArray[np.uint8], following: NDArray[np.uint8]) -> float:
    """Part of the profiles that lies under their best match in the next section."""
    profiles, others = ndimage.label(truth == 0)[0], ndimage.label(following == 0)[0]
    hits = sum(np.bincount(others[where])[1:].max(initial=0) for where in each(profiles))
    return hits / np.count_nonzero(profiles)


def each(labels: NDArray[np.int32]) -> Iterator[NDArray[np.bool_]]:
    return (labels == n for n in range(1, labels.max() + 1))


def assert_is_the_same_block(block: PhantomBlock, whole: PhantomBlock, box: Box) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(block, name), getattr(whole, name)[box.slices], name)


def test_arrays_are_what_they_are_said_to_be(whole: PhantomBlock) -> None:
    assert VOXEL_SIZE == (50.0, 4.0, 4.0)
    assert [getattr(whole, name).dtype for name in ARRAYS] == [np.uint8, np.uint8, np.uint32]
    assert all(getattr(whole, name).shape == SHAPE for name in ARRAYS)
    assert set(np.unique(whole.truth)) == {0, 1}
    np.testing.assert_array_equal(whole.neurons == 0, whole.truth == 1)


def test_same_seed_same_bytes_and_another_seed_others(whole: PhantomBlock) -> None:
    again, other = phantom(SHAPE, seed=3), phantom(SHAPE, seed=4)
    for name in ARRAYS:
        assert getattr(again, name).tobytes() == getattr(whole, name).tobytes()
        assert getattr(other, name).tobytes() != getattr(whole, name).tobytes()


def test_seeds_may_be_any_integer() -> None:
    box = Box((0, 0, 0), (1, 9, 9))
    negative, large = phantom(seed=-1, box=box), phantom(seed=2**80 + 1, box=box)
    assert negative.image.tobytes() != large.image.tobytes()


@pytest.mark.parametrize(
    "box",
    [
        Box((2, 31, 47), (3, 90, 101)),
        Box((0, 0, 0), (5, 1, 170)),
        Box((1, 17, 169), (4, 140, 170)),
        Box((4, 149, 169), (5, 150, 170)),
    ],
    ids=["one section", "one row", "one column", "last voxel"],
)
def test_block_equals_the_same_block_of_the_whole(whole: PhantomBlock, box: Box) -> None:
    assert_is_the_same_block(phantom(SHAPE, seed=3, box=box), whole, box)


@given(data=st.data())
@settings(max_examples=15)
def test_any_block_equals_the_same_block_of_the_whole(
    whole: PhantomBlock, data: st.DataObject
) -> None:
    start = tuple(data.draw(st.integers(0, side - 1)) for side in SHAPE)
    stop = tuple(data.draw(st.integers(a + 1, b)) for a, b in zip(start, SHAPE, strict=True))
    box = Box(start, stop)
    assert_is_the_same_block(phantom(SHAPE, seed=3, box=box), whole, box)


def test_content_does_not_depend_on_the_shape_of_the_whole(whole: PhantomBlock) -> None:
    box = Box((1, 20, 30), (3, 60, 90))
    assert_is_the_same_block(phantom((40_000, 10**6, 10**6), seed=3, box=box), whole, box)


def test_far_corner_of_a_huge_volume_is_tissue_too() -> None:
    shape = (20_000, 200_000, 200_000)
    far = phantom(shape, box=Box((19_999, 199_800, 199_800), shape))
    assert 0.05 < far.truth.mean() < 0.5
    assert len(np.unique(far.neurons)) > 5


def test_neurons_never_touch_without_membrane_between_them(stack: PhantomBlock) -> None:
    neurons = stack.neurons
    for a, b in (
        (neurons[:, 1:], neurons[:, :-1]),
        (neurons[:, :, 1:], neurons[:, :, :-1]),
        (neurons[:, 1:, 1:], neurons[:, :-1, :-1]),
        (neurons[:, 1:, :-1], neurons[:, :-1, 1:]),
    ):
        assert not np.any((a != b) & (a != 0) & (b != 0))


def test_each_profile_belongs_to_one_neuron(stack: PhantomBlock) -> None:
    for truth, neurons in zip(stack.truth, stack.neurons, strict=True):
        profiles, count = ndimage.label(truth == 0)
        index = np.arange(1, count + 1)
        low = ndimage.minimum(neurons, profiles, index)
        np.testing.assert_array_equal(low, ndimage.maximum(neurons, profiles, index))
        assert np.min(low) > 0


def test_neurons_run_through_the_sections(stack: PhantomBlock) -> None:
    first, last = set(np.unique(stack.neurons[0])), set(np.unique(stack.neurons[-1]))
    assert len(first & last) > 0.6 * len(first)
    # ... and cross-sections move, but not out of sight.
    both = (stack.truth[:-1] == 0) & (stack.truth[1:] == 0)
    same = stack.neurons[:-1] == stack.neurons[1:]
    assert 0.75 < np.mean(same[both]) < 0.98


def test_neurons_are_in_one_piece_but_for_crumbs(stack: PhantomBlock) -> None:
    ranks = np.unique(stack.neurons, return_inverse=True)[1].reshape(stack.neurons.shape)
    largest = 0
    for rank, box in enumerate(ndimage.find_objects(ranks), start=1):
        pieces, _ = ndimage.label(ranks[box] == rank, np.ones((3, 3, 3)))
        largest += np.bincount(pieces.ravel())[1:].max()
    assert largest > 0.9 * np.count_nonzero(ranks)


def test_statistics_are_those_of_real_sections(stack: PhantomBlock) -> None:
    image, interior = stack.image, stack.truth == 0
    counts = [ndimage.label(section)[1] for section in interior]
    pairs = list(pairwise(stack.truth))
    made = {
        "membrane fraction": stack.truth.mean(),
        "grey mean": image.mean(),
        "grey deviation": image.std(axis=(1, 2)).mean(),
        "grey of membrane": image[~interior].mean(),
        "grey of interior": image[interior].mean(),
        "gradient": np.hypot(*np.gradient(image.astype(float), axis=(1, 2))).mean(),
        "profiles": np.mean(counts),
        "section overlap": np.mean([best_overlap(a, b) for a, b in pairs]),
    }
    off = {name: value / REAL[name] for name, value in made.items()}
    assert all(0.8 < ratio < 1.25 for ratio in off.values()), off
    assert np.mean((image == 0) | (image == 255)) < 0.02


def test_sections_are_not_registered_nor_exposed_alike(stack: PhantomBlock) -> None:
    assert np.std(stack.image.mean(axis=(1, 2))) > 2
    assert all((a != b).any() for a, b in pairwise(stack.truth))


@pytest.mark.parametrize("shape", [(512, 512), (1, 0, 5), (-1, 5, 5), ()])
def test_shape_must_be_three_positive_sides(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"three sides \(Z, Y, X\) of at least 1"):
        phantom(shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "box",
    [
        Box((0, 0, 0), (6, 10, 10)),
        Box((0, -1, 0), (1, 10, 10)),
        Box((0, 5, 5), (1, 5, 9)),
        Box((0, 0), (9, 9)),
    ],
    ids=["too deep", "before the start", "empty", "two axes"],
)
def test_box_must_lie_in_the_volume(box: Box) -> None:
    with pytest.raises(InputError, match="must be a box of at least one voxel inside the volume"):
        phantom(SHAPE, box=box)


def test_an_interrupt_waits_for_the_section(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def interrupted(seed: int, z: int, window: Box) -> tuple[int, int, int]:
        signal.raise_signal(signal.SIGINT)
        made.append(z)
        return 0, 0, 0

    monkeypatch.setattr(phantom_tissue, "_section", interrupted)
    # Where the tests run in the background nobody may listen.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            phantom((3, 8, 8))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert made == [0]
