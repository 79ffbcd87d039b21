"""The frame of one value that stitching and aligning leave around tissue."""

import numpy as np
import pytest
from scipy import ndimage

from axolemma import quality
from axolemma.datasets import phantom_pairs
from axolemma.geometry import Box, grid
from axolemma.images import Stack
from axolemma.metrics import evaluate
from axolemma.padding import padded
from axolemma.quality import normalise
from axolemma.segmentation import segment, segment_stack
from axolemma.settings import SegmentSettings, check

SIZE = (50.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def tissue():
    return phantom_pairs((2, 320, 320), seed=12)


def framed(images, width, value):
    return np.pad(images, [(0, 0), (width, width), (width, width)], constant_values=value)


def score(found, truth, **how):
    return evaluate(found, truth, unthinned=False, **how).at(0.5, "v_rand").score


def test_padding_is_of_one_piece_with_the_edge():
    section = np.random.default_rng(0).integers(1, 255, (100, 120), np.uint8)
    expected = np.zeros(section.shape, bool)
    expected[:10] = expected[:, 100:] = expected[10:20, 40:60] = True
    section[expected] = 0
    section[50:60, 50:60] = 0  # a hole in the tissue
    section[30, 0] = 0  # a dark pixel at the edge
    np.testing.assert_array_equal(padded(section, [0.0]), expected)
    assert padded(section, [255.0]) is None
    assert padded(section, []) is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_part_is_told_what_the_whole_is(dtype):
    """Of a slanted frame, and two holes in the tissue, of which parts see no end."""
    y, x = np.mgrid[:300, :420]
    section = np.random.default_rng(0).integers(1, 200, (300, 420)).astype(dtype)
    section[(x + 0.3 * y < 90) | (x - 0.2 * y > 350)] = 0
    section[100:200, 150:300], section[20:60, 130:280] = 0, 200
    by = quality.contrast_of(section)
    table = quality.block_statistics(
        section[None], read=Box.of((1, 300, 420)), write=Box.of((1, 300, 420)), shape=(1, 300, 420)
    )
    assert quality.contrast(quality.pool([table])) == by
    assert by.padding == (0, 200)
    expected = padded(section, by.padding)
    assert not expected[100:200, 150:300].any()
    assert not expected[20:60, 130:280].any()
    for part in grid(section.shape, (64, 100)):
        near = part.grow((32, 32)).clip(Box.of(section.shape))
        found = padded(section[near.slices], by.padding, frame=by.frame, box=near)
        inner = np.zeros(part.shape, bool) if found is None else found[part.within(near).slices]
        np.testing.assert_array_equal(inner, expected[part.slices])


def test_two_kinds_of_padding():
    section = np.full((64, 64), 7.0)
    section[:, :16], section[:, 48:] = 0, 9
    found = padded(section, (0.0, 9.0))
    assert found[:, :16].all()
    assert found[:, 48:].all()
    assert not found[:, 16:48].any()


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_frame_does_not_count(tissue, value, dtype):
    section = tissue.images[0].clip(1, 254).astype(dtype)
    framed_section = framed(section[None], 40, value)[0]
    found = quality.contrast(quality.grey_sums(framed_section))
    assert found[:2] == pytest.approx((section.mean(), section.std()), rel=1e-5)
    assert found.padding == (value,)
    seen = normalise(framed_section)
    np.testing.assert_allclose(seen[40:-40, 40:-40], normalise(section), atol=1e-4)
    assert (seen[:40] == 0).all()


def test_a_drawing_of_two_values_is_no_frame():
    drawing = np.zeros((64, 64), np.uint8)
    drawing[:, 20:] = 255
    found = quality.contrast(quality.grey_sums(drawing))
    assert found == (drawing.mean(), drawing.std(), (), None)


@pytest.mark.parametrize(
    ("width", "value", "inverted"), [(48, 0, False), (48, 255, False), (48, 0, True), (5, 0, False)]
)
def test_a_frame_changes_next_to_nothing(tissue, width, value, inverted):
    images = 255 - tissue.images if inverted else tissue.images
    inner = np.s_[:, width : width + 320, width : width + 320]
    found = segment(framed(images, width, value), voxel_size=SIZE)
    plain = segment(images, voxel_size=SIZE)
    assert found.polarity == ("bright" if inverted else "dark")
    assert score(found.membrane[inner], tissue.truth) > score(plain.membrane, tissue.truth) - 0.03
    cells = [score(c, tissue.truth, proposal_is="cells") for c in (found.cells[inner], plain.cells)]
    assert cells[0] > cells[1] - 0.01
    outside = np.ones(found.cells.shape, bool)
    outside[inner] = False
    assert (found.membrane[outside] == 1).all()
    if width > 31:
        assert not found.cells[outside].any()


def test_a_slanted_frame(tissue):
    """As after an alignment that turned the section."""
    turned = [ndimage.rotate(s, 12, order=0, cval=0) for s in tissue.images]
    there = ndimage.rotate(np.ones((320, 320), np.uint8), 12, order=0, cval=0) > 0
    truth = np.stack([ndimage.rotate(s, 12, order=0, cval=1) for s in tissue.truth])
    found = segment(np.stack(turned), voxel_size=SIZE)
    assert (found.membrane[:, ~there] == 1).mean() > 0.99
    cells = np.where(there, found.cells, 0)
    assert (
        evaluate(cells, truth, proposal_is="cells", where=np.stack([there] * 2), unthinned=False)
        .at(0.5, "v_rand")
        .score
        > 0.95
    )


def test_a_frame_is_told(tissue, tmp_path):
    for name, images in (("framed", framed(tissue.images, 40, 0)), ("plain", tissue.images)):
        stack = Stack(images, (0, 255), SIZE, name)
        settings = check(SegmentSettings, {"objects": "none"})
        _, record = segment_stack(stack, settings, tmp_path / name)
        told = [note for note in record["input"]["notes"] if "a frame around the tissue" in note]
        assert len(told) == (name == "framed")
        assert not told or "in sections 0, 1:" in told[0]


def test_small_and_sparse_sections_have_no_frame(tmp_path):
    """Nothing but their own pixels tells it: every fourth of them would show one value."""
    rng = np.random.default_rng(0)
    section = np.full((1, 128, 128), 100, np.uint8)
    section[:, 1::4] = rng.integers(1, 200, (1, 32, 128))
    for name, images in (("sparse", section), ("small", rng.integers(1, 99, (1, 3, 3), np.uint8))):
        settings = check(SegmentSettings, {"objects": "none"})
        segment_stack(Stack(images, (0, 255), SIZE, name), settings, tmp_path / name)
        assert (tmp_path / name / "run.json").is_file()
