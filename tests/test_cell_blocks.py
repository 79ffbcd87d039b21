"""Cells block by block: the same labels, bit for bit, as of the whole section."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from axolemma.datasets import phantom
from axolemma.errors import InputError
from axolemma.geometry import Box, grid
from axolemma.objects import (
    cut_block,
    fragment_halo,
    join_fragments,
    join_stack,
    number_cells,
    overlap_block,
    overlap_halo,
    paint_cells,
    pool_fragments,
    pool_overlaps,
    segment_cells,
    subset,
)
from axolemma.objects.linking import ways_of

METHODS = ("multicut", "mean", "threshold")


@pytest.fixture(scope="module")
def membrane():
    """A noisy membrane map of three sections, in steps of an 8-bit file."""
    truth = phantom((3, 500, 430), seed=4).truth.astype(np.float32)
    rng = np.random.default_rng(0)
    noisy = 1.3 * ndimage.gaussian_filter(truth, (0, 1, 1)) + rng.normal(0, 0.1, truth.shape)
    return (np.rint(noisy.clip(0, 1) * 255) / np.float32(255)).astype(np.float32)


def blockwise(
    membrane, block, *, method="multicut", filled=False, halo=None, shuffle=None, layer=None
):
    """Do what a volume's passes do, on blocks of one section depth each."""
    halo = fragment_halo() if halo is None else halo
    whole, shape = Box.of(membrane.shape), membrane.shape
    fragments = np.zeros(shape, np.uint64)
    tables = {z: [] for z in range(len(membrane))}
    for write in grid(shape, (1, *block)):
        read = write.grow((0, halo, halo)).clip(whole)
        fragments[write.slices], (table,) = cut_block(
            membrane[read.slices], read=read, write=write, shape=shape, method=method
        )
        tables[write.start[0]].append(table)
    ways, means = ways_of(
        lambda box: membrane[:, *box.slices], membrane.shape[1:], sections=len(membrane)
    )
    over = {z: [] for z in range(len(membrane))}
    for write in grid(shape, (2, *block)):
        read = write.grow((1, overlap_halo(), overlap_halo())).clip(whole)
        read = Box((write.start[0], *read.start[1:]), read.stop)
        found = overlap_block(
            fragments[read.slices],
            membrane[read.slices],
            read=read,
            write=write,
            shape=shape,
            means=means,
            ways=ways,
        )
        for z, table in enumerate(found, start=write.start[0]):
            over[z].append(table)
    if shuffle is not None:
        for found in (*tables.values(), *over.values()):
            shuffle.shuffle(found)
    pooled = [pool_fragments(found) for found in tables.values()]
    if method == "threshold":
        joined = (join_fragments(table, shape[2], method=method) for table in pooled)
    else:
        both = list(zip(pooled, map(pool_overlaps, over.values()), strict=True))
        joined = []
        for first in range(0, len(both), layer or len(both)):
            last = min(first + (layer or len(both)), len(both))
            beyond = first > 0, last < len(both)
            seen = both[first - beyond[0] : last + beyond[1]]
            joined += join_stack(seen, shape[2], method=method, beyond=beyond)
    ids, numbers = number_cells(joined)
    cells = np.zeros(shape, numbers.dtype)
    for write in grid(shape, (1, *block)):
        seen = Box(write.start, tuple(stop + 1 for stop in write.stop)).clip(whole)
        labels = fragments[seen.slices]
        cells[write.slices] = paint_cells(
            labels, *subset(ids, numbers, labels), shape=write.shape, filled=filled
        )
    return cells


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("block", [(130, 200), (257, 64), (500, 301)])
def test_blockwise_equals_whole(membrane, block, method, filled):
    whole = segment_cells(membrane, method=method, filled=filled)
    assert whole.max() > 50
    if method != "threshold":  # that the others are asked for what they say makes a difference
        alone = segment_cells(membrane, method=method, filled=filled, neighbours=False)
        assert (whole != alone).any()
    found = blockwise(membrane, block, method=method, filled=filled)
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("method", ["multicut", "mean"])
@pytest.mark.parametrize("layer", [1, 2])
def test_a_layer_needs_one_section_more_on_both_sides(membrane, layer, method):
    expected = segment_cells(membrane, method=method)
    found = blockwise(membrane, (257, 301), method=method, layer=layer)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=5)
@given(st.randoms(use_true_random=False))
def test_the_order_of_blocks_does_not_matter(membrane, random):
    part = membrane[:1, :260, :260]
    expected = blockwise(part, (90, 130))
    np.testing.assert_array_equal(blockwise(part, (90, 130), shuffle=random), expected)


@settings(max_examples=10)
@given(st.integers(1, 3))
def test_tables_add_up_in_any_grouping(membrane, cut):
    shape = (1, 200, 200)
    part, whole = membrane[:1, :200, :200], Box.of(shape)
    tables = []
    for write in grid(shape, (1, 100, 100)):
        read = write.grow((0, 99, 99)).clip(whole)
        tables += cut_block(part[read.slices], read=read, write=write, shape=shape)[1]
    once = pool_fragments(tables)
    twice = pool_fragments([pool_fragments(tables[:cut]), pool_fragments(tables[cut:])])
    assert once.keys() == twice.keys()
    for name, array in once.items():
        np.testing.assert_array_equal(array, twice[name], err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_larger_than_any_halo_is_one(method):
    section = np.zeros((1, 400, 400), np.float32)
    section[0, 190:193, :250] = 1
    section[0, 100:300, 330] = 1
    found = blockwise(section, (64, 64), method=method, halo=40, filled=True)
    assert found.max() == segment_cells(section, method=method, filled=True).max() == 1


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_membrane_or_interior(level, method):
    section = np.full((1, 150, 140), level, np.float32)
    found = blockwise(section, (64, 64), method=method)
    np.testing.assert_array_equal(found, segment_cells(section, method=method))
    assert found.max() == 1 - level


def test_names_beyond_32_bits():
    shape = (3, 100_000, 100_000)
    write = Box((2, 99_900, 99_900), (3, 100_000, 100_000))
    read = Box((2, 99_800, 99_800), (3, 100_000, 100_000))
    labels, _ = cut_block(np.zeros(read.shape, np.float32), read=read, write=write, shape=shape)
    assert labels.dtype == np.uint64
    assert 2**34 < labels.min() <= labels.max() <= np.prod(shape)


@pytest.mark.parametrize(
    ("read", "write", "match"),
    [
        (Box((0, 0, 0), (1, 90, 100)), Box((0, 0, 0), (1, 100, 100)), "does not fit a map"),
        (Box((0, 90, 0), (1, 190, 100)), Box((0, 100, 0), (1, 190, 100)), "at least 25 px"),
    ],
)
def test_boxes_that_do_not_fit(read, write, match):
    with pytest.raises(InputError, match=match):
        cut_block(np.zeros((1, 100, 100)), read=read, write=write, shape=(1, 300, 100))


@pytest.mark.parametrize("method", METHODS)
def test_cells_at_opposite_borders_do_not_touch(method):
    section = np.zeros((1, 120, 90), np.float32)
    section[0, :, 44:47] = 1
    found = blockwise(section, (60, 90), method=method)
    assert found.max() == 2
    np.testing.assert_array_equal(found, segment_cells(section, method=method))


def test_cells_whose_seeds_lie_beyond_the_halo():
    y, x = np.indices((120, 500))
    # The middle one widens all the way to the right, the others to the left.
    wedges = (np.abs(np.abs(y - 60) - 5 - 0.06 * x) < 2).astype(np.float32)[None]
    whole = segment_cells(wedges, filled=True)
    assert whole.max() == 3
    for block in ((50, 60), (70, 120)):
        found = blockwise(wedges, block, halo=40, filled=True)
        np.testing.assert_array_equal(found[wedges == 0], whole[wedges == 0])
