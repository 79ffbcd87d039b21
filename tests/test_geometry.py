import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axolemma.errors import InputError, nearest
from axolemma.geometry import Box, grid

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def test_a_box_cuts_and_moves():
    box = Box((1, 2), (4, 9))
    assert box.shape == (3, 7)
    assert np.zeros((10, 10))[box.slices].shape == (3, 7)
    assert box.grow((1, 2)) == Box((0, 0), (5, 11))
    assert box.clip(Box.of((3, 20))) == Box((1, 2), (3, 9))
    assert box.within(Box((1, 1), (5, 5))) == Box((0, 1), (3, 8))


def test_boxes_that_do_not_meet_clip_to_nothing():
    assert Box((5,), (9,)).clip(Box((0,), (3,))).shape == (0,)
    assert Box((0,), (3,)).clip(Box((5,), (9,))).shape == (0,)


@given(st.data())
def test_a_grid_covers_every_pixel_once(data):
    shape = data.draw(shapes)
    block = data.draw(st.tuples(*[st.integers(1, 5)] * len(shape)))
    count = np.zeros(shape, int)
    for box in grid(shape, block):
        count[box.slices] += 1
    assert (count == 1).all()


def test_wrong_boxes():
    with pytest.raises(InputError, match="as many starts as stops"):
        Box((0,), (1, 2))
    with pytest.raises(InputError, match="stop before it starts"):
        Box((3,), (1,))
    with pytest.raises(InputError, match="at least 1 pixel"):
        list(grid((4,), (0,)))


def test_nearest_names_one_word_or_all():
    assert nearest("resnet", ["resunet", "unet"]) == "; did you mean 'resunet'?"
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"
