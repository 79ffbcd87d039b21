"""Sections that do not tell their pixel size are seen at the right one all the same."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize

from axolemma.datasets import phantom, phantom_pairs
from axolemma.images import Stack
from axolemma.modelfile import load_model
from axolemma.pixel_size import likely_enlargement
from axolemma.segmentation import likely_size, segment, segment_stack
from axolemma.settings import SegmentSettings, check


@pytest.fixture(scope="module")
def tissue():
    return phantom((1, 768, 768), seed=11).image[0]


def at(section, factor):
    """Return a section as a microscope of other pixels would have it, in 8 bits."""
    sides = [round(side * factor) for side in section.shape]
    found = resize(section, sides, order=1, preserve_range=True, anti_aliasing=factor < 1)
    return np.rint(found).astype(np.uint8)


def looks(section, **options):
    stack = section[None]
    return likely_size(
        lambda box: stack[box.slices], stack.shape, load_model("neurites"), **options
    )


@pytest.mark.parametrize("factor", [0.4, 0.5, 0.6, 1.6, 2, 2.8])
def test_within_a_seventh_of_the_right_one(tissue, factor):
    assert looks(at(tissue, factor)) == pytest.approx(1 / factor, rel=0.15)


@pytest.mark.parametrize(
    "change",
    [
        lambda grey: 255 - grey,
        lambda grey: 80 + grey // 5,
        lambda grey: grey.astype(np.uint16) * 257,
        lambda grey: (grey / 255) ** 2,
    ],
    ids=["bright", "flat", "16 bits", "gamma"],
)
def test_whatever_the_contrast(tissue, change):
    assert looks(change(at(tissue, 0.5))) == pytest.approx(2, rel=0.15)
    assert looks(change(tissue)) == 1


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("factor", [0.5, 1])
def test_a_frame_is_no_membrane(tissue, value, factor):
    section = at(tissue, factor)
    framed = np.pad(section, 100, constant_values=value)
    turned = ndimage.rotate(section, 17, order=1, cval=value)
    expected = pytest.approx(1 / factor, rel=0.15)
    assert looks(framed) == expected
    assert looks(turned) == expected
    assert looks(255 - turned) == expected


@pytest.mark.parametrize("dtype", [np.uint32, np.float64])
def test_whatever_the_offset(tissue, dtype):
    assert looks(at(tissue, 0.5).astype(dtype) + dtype(4e9)) == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("factor", [0.85, 1, 1.2])
def test_about_the_same_is_the_same(tissue, factor):
    assert looks(at(tissue, factor)) == 1


@pytest.mark.parametrize(
    "section",
    [
        np.full((600, 600), 7, np.uint8),
        np.random.default_rng(0).integers(0, 256, (600, 600), np.uint8),
        np.linspace(0, 255, 600 * 600).reshape(600, 600),
        np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8),
    ],
    ids=["blank", "noise", "slope", "tiny"],
)
def test_what_shows_no_membranes_cannot_be_judged(section):
    assert looks(section) is None


def test_sections_that_are_not_finite_are_passed_over(tissue):
    half = at(tissue, 0.5).astype(np.float32)
    lost = np.where(half == half.max(), np.inf, half)
    model = load_model("neurites")
    stack = np.stack([lost, half, lost])
    found = likely_size(lambda box: stack[box.slices], stack.shape, model)
    assert found == pytest.approx(2, rel=0.15)
    assert likely_size(lambda box: lost[None][box.slices], (1, *lost.shape), model) is None


def test_a_model_that_does_not_tell_its_own(tissue):
    model = load_model("neurites")
    mute = replace(model, info=model.info.model_copy(update={"voxel_size": None}))
    stack = at(tissue, 0.5)[None]
    assert likely_size(lambda box: stack[box.slices], stack.shape, mute) == 1


@pytest.mark.parametrize("right", [0.3, 0.5, 2.0])
def test_where_the_share_of_sure_membrane_stops_rising(right):
    """A network that is the surer the larger sections are, up to .48 / .8 of their right size."""

    def map_of(section):
        factor = 1 / np.median(np.diff(section[0]))  # the grey values of a ruler tell it
        sure = min(1.0, factor / (0.6 * right))
        map_ = np.full(section.shape, 0.5, np.float32)
        map_.reshape(-1)[: round(sure * map_.size)] = 1
        return map_

    ruler = np.tile(np.arange(2048.0), (2048, 1))
    assert likely_enlargement(ruler, map_of) == pytest.approx(right, rel=0.1)
    assert likely_enlargement(ruler, np.zeros_like) is None


def test_a_network_that_is_never_sure_is_not_asked():
    """As after some hundred steps of training: its share of sure membrane ends at a third."""

    def map_of(section):
        factor = 1 / np.median(np.diff(section[0]))
        map_ = np.full(section.shape, 0.5, np.float32)
        map_.reshape(-1)[: round(min(0.35, factor) * map_.size)] = 1
        return map_

    assert likely_enlargement(np.tile(np.arange(2048.0), (2048, 1)), map_of) is None


def test_cells_as_if_the_size_had_been_told():
    pairs = phantom_pairs((1, 640, 640), seed=12)
    small = at(pairs.images[0], 0.5)
    told = segment(small, voxel_size=(50, 8, 8))
    guessed = segment(small)
    as_it_is = segment(small, voxel_size=(50, 4, 4))
    assert guessed.enlargement == pytest.approx(2, rel=0.15)
    assert (told.enlargement, as_it_is.enlargement) == (2, 1)
    assert np.abs(guessed.membrane - told.membrane).mean() < 0.03
    assert np.abs(as_it_is.membrane - told.membrane).mean() > 0.1
    assert guessed.cells.max() == pytest.approx(told.cells.max(), rel=0.2)


@pytest.mark.parametrize(
    ("size", "factor", "said"),
    [
        (None, 0.5, "by the look of the membranes it is about 7."),
        (None, 1, "not known and taken for the model's, 4 nm"),
        ((50, 4, 4), 0.5, "pixels of 4 nm were said, but by the look of the membranes they are"),
        ((50, 8, 8), 1, "pixels of 8 nm were said, but by the look of the membranes they are"),
        ((50, 4, 4), 1, ""),
        ((50, 8, 8), 0.5, "were resized by 2 for it"),
        ((50, 4, 6), 1, "pixels are not square, 4 × 6 nm (Y × X), and sections are resized by one"),
    ],
)
def test_it_is_said(tissue, tmp_path, size, factor, said):
    stack = Stack(at(tissue, factor)[None], (0, 255), size, "tissue.tif")
    settings = check(SegmentSettings, {"model": "neurites", "objects": "none"})
    _, record = segment_stack(stack, settings, tmp_path / "out")
    about = " ".join(note for note in record["input"]["notes"] if "pixel" in note)
    assert said in about if said else not about
    assert ("--voxel-size" in about) == (bool(said) and "resized by 2 for it" not in said)
    assert record["voxel_size"] == (None if size is None else list(size))


def test_where_no_membranes_are_seen_no_size_is_doubted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1, 600, 600), np.uint8)
    settings = check(SegmentSettings, {"model": "neurites", "objects": "none"})
    stack = Stack(noise, (0, 255), (50, 8, 8), "noise.tif")
    _, record = segment_stack(stack, settings, tmp_path / "out")
    assert not any("look of the membranes" in note for note in record["input"]["notes"])
