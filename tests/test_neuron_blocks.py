"""Neurons block by block: the same labels, bit for bit, as of the whole stack."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axolemma.datasets import phantom
from axolemma.geometry import Box, grid
from axolemma.objects import (
    join_cells,
    link_block,
    link_cells,
    link_halo,
    pool_links,
    ways_of,
)
from axolemma.objects.alignment import shift
from axolemma.objects.tables import looked_up

SIDES = (600, 500)


@pytest.fixture(scope="module")
def tissue():
    """Cells of a stack of which a section is shifted and one is blank, and its membrane map."""
    truth = phantom((6, *SIDES), seed=8)
    cells, membrane = truth.neurons.astype(np.int64), truth.truth.astype(np.float32)
    for stack in (cells, membrane):
        stack[2] = np.roll(stack[2], (9, -13), (0, 1))
    cells[4], membrane[4] = 0, 1
    for z, section in enumerate(cells):  # no number in two sections
        section[section > 0] += 10_000 * (z + 1)
    rng = np.random.default_rng(0)
    noisy = (membrane + rng.normal(0, 0.2, membrane.shape)).clip(0, 1)
    return cells, (np.rint(noisy * 255) / 255).astype(np.float32)


def tables_of(cells, membrane, block):
    shape, whole = cells.shape, Box.of(cells.shape)
    shown = (cells == 0).astype(np.float32) if membrane is None else membrane
    ways, means = ways_of(lambda box: shown[:, *box.slices], shape[1:], sections=shape[0])
    halo = link_halo()
    found = {z: [] for z in range(shape[0])}
    for write in grid(shape, block):
        read = write.grow((2, halo, halo)).clip(whole)
        read = Box((write.start[0], *read.start[1:]), read.stop)
        seen = None if membrane is None else membrane[read.slices]
        tables = link_block(
            cells[read.slices], seen, read=read, write=write, shape=shape, means=means, ways=ways
        )
        for z, table in enumerate(tables, start=write.start[0]):
            found[z].append(table)
    return found


@pytest.mark.parametrize("block", [(2, 256, 256), (4, 600, 136), (1, 304, 500)])
@pytest.mark.parametrize("known", [True, False])
def test_blockwise_equals_whole(tissue, block, known):
    cells, membrane = tissue
    membrane = membrane if known else None
    found = tables_of(cells, membrane, block)
    ids, neurons = join_cells(pool_links(tables) for tables in found.values())
    whole = link_cells(cells, membrane=membrane)
    assert 80 < whole.max() < len(ids) / 3
    np.testing.assert_array_equal(looked_up(cells, ids, neurons), whole)


@settings(max_examples=5)
@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_tables_add_up_in_any_order_and_grouping(tissue, random, cut):
    cells, membrane = (stack[:3, :300, :290] for stack in tissue)
    tables = tables_of(cells, membrane, (1, 100, 152))[0]
    once = pool_links(tables)
    random.shuffle(tables)
    twice = pool_links([pool_links(tables[:cut]), pool_links(tables[cut:])])
    assert once.keys() == twice.keys()
    for name, array in once.items():
        np.testing.assert_array_equal(array, twice[name], err_msg=name)


def test_large_sections_are_shifted_by_what_is_left_of_them_when_shrunk():
    section = phantom((1, 256, 256), seed=1).truth[0].astype(np.float32)
    large = np.tile(section, (1, 9))[:, :2100]
    large[:, :40] = 0
    moved = np.roll(large, (8, -12), (0, 1))
    both = np.stack((large, moved))
    ways, means = ways_of(lambda box: both[:, *box.slices], large.shape, sections=2)
    assert ways.tolist() == [[[8, -12], [0, 0]], [[0, 0], [0, 0]]]
    assert means == pytest.approx(both.mean(axis=(1, 2)))
    assert shift(large, moved) == (8, -12)
