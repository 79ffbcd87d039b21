import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axolemma.errors import InputError
from axolemma.tiles import tiles


@given(
    shape=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    size=st.integers(200, 400),
    margin=st.integers(0, 40),
    ramp=st.one_of(st.none(), st.integers(0, 40)),
    multiple=st.sampled_from([1, 8, 16]),
)
def test_weights_add_up_to_one(shape, size, margin, ramp, multiple):
    total = np.zeros(shape)
    for tile in tiles(shape, size=size, margin=margin, ramp=ramp, multiple=multiple):
        assert max(tile.box.shape) <= size
        assert all(start % multiple == 0 for start in tile.box.start)
        assert (len(tile.rows), len(tile.columns)) == tile.box.shape
        assert min(tile.rows.min(), tile.columns.min()) >= 0
        total[tile.box.slices] += np.outer(tile.rows, tile.columns)
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_inner_margins_count_nothing_and_outer_edges_count_fully():
    first, *_, last = tiles((1, 1000), size=400, margin=50)
    assert (first.columns[-50:] == 0).all()
    assert (first.columns[:50] == 1).all()
    assert (last.columns[:50] == 0).all()
    assert (last.columns[-50:] == 1).all()


@pytest.mark.parametrize(("side", "count"), [(1008, 1), (1009, 2), (1808, 2), (1809, 3)])
def test_no_more_tiles_than_needed_and_evenly_spread(side, count):
    # Neighbours share 3 · 64 + 16 = 208 pixels, so every tile but the first adds 800.
    found = list(tiles((16, side), size=1008, margin=64, multiple=16))
    assert len(found) == count
    widths = {tile.box.shape[1] for tile in found}
    assert max(widths) - min(widths) <= 16


def test_a_section_that_fits_is_one_tile():
    (tile,) = tiles((30, 40), size=64, margin=16, multiple=16)
    assert tile.box.shape == (30, 40)
    assert (tile.rows == 1).all()
    assert (tile.columns == 1).all()


def test_tiles_of_margins_only():
    with pytest.raises(InputError, match="too small for a margin of 64; take at least 224"):
        list(tiles((999, 999), size=200, margin=64, multiple=16))
