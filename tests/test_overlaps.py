"""What neighbouring sections say about a contact that one section leaves in doubt."""

import numpy as np
import pytest
from scipy import ndimage

from axolemma.datasets import phantom
from axolemma.geometry import Box
from axolemma.metrics import evaluate
from axolemma.objects import overlap_block, overlap_halo, pool_overlaps, segment_cells
from axolemma.objects.overlaps import Evidence

SIDE, WALLS = 240, (0, 36, 85, 120, 158, 207)


def sections(levels, *, shift=(0, 0)):
    """Rooms whose walls are 1, but for one wall: of each section as high as told."""
    found = np.zeros((len(levels), SIDE, SIDE), np.float32)
    for z, (section, level) in enumerate(zip(found, levels, strict=True)):
        for wall in WALLS:
            section[wall : wall + 2] = section[:, wall : wall + 2] = 1
        section[87:120, 120:122] = level
        # Rooms that lie open to each other, so that it shows what one cell is like.
        for row in (8, 45, 127, 165, 215):
            section[row : row + 20, 36:38] = section[row : row + 20, 158:160] = 0.05
        if z:
            section[...] = np.roll(section, shift, (0, 1))
    return found


def doubtful(levels, *, shift=(0, 0)):
    """Tell whether the rooms on both sides of that wall are one cell in the middle section."""
    cells = segment_cells(sections(levels, shift=shift), filled=True)
    middle = np.roll(cells[len(levels) // 2], (-shift[0], -shift[1]), (0, 1))
    return middle[100, 105] == middle[100, 140]


def test_neighbours_decide_what_is_in_doubt():
    assert doubtful([0.55])  # alone it is the boundary of 0.6 that decides
    assert not doubtful([0.65])
    assert not doubtful([1, 0.55, 1])
    assert doubtful([0, 0.65, 0])
    assert doubtful([0.65, 0])
    assert not doubtful([0.55, 1])


def test_neighbours_do_not_overrule_what_is_plain():
    assert doubtful([1, 0.1, 1])
    assert not doubtful([0, 0.95, 0])


def test_neighbours_that_disagree_leave_it_as_it_is():
    assert doubtful([1, 0.55, 0])
    assert not doubtful([0, 0.65, 1])


def test_shifted_sections_are_followed():
    assert not doubtful([1, 0.55, 1], shift=(9, -12))


def noisy(seed, *, depth=3):
    truth = phantom((depth, 400, 400), seed=seed).truth
    rng = np.random.default_rng(seed)
    blurred = 1.2 * ndimage.gaussian_filter(truth.astype(np.float32), (0, 1.5, 1.5))
    holes = ndimage.gaussian_filter(rng.normal(size=truth.shape), (0, 3, 3)) > 0.12
    map_ = blurred * np.where(holes, 0.4, 1) + rng.normal(0, 0.05, truth.shape)
    return map_.clip(0, 1).astype(np.float32), truth


def test_sections_of_other_tissue_say_nothing():
    maps = np.stack([noisy(seed)[0][0] for seed in (1, 2, 3)])
    np.testing.assert_array_equal(segment_cells(maps), segment_cells(maps, neighbours=False))


def test_fewer_mistakes_on_synthetic_tissue():
    scores = []
    for neighbours in (False, True):
        rows = []
        for seed in (5, 6):
            map_, truth = noisy(seed, depth=4)
            cells = segment_cells(map_, neighbours=neighbours)
            best = evaluate((cells == 0).astype(np.float32), truth, thresholds=[0.5])
            rows.append([best.v_rand(0.5), best.v_info(0.5)])
        scores.append(np.mean(rows, axis=0))
    assert (scores[1] > scores[0]).all(), scores


def test_counts_by_hand():
    fragments = np.array([[[1, 1, 2, 2]] * 8, [[0, 3, 3, 4]] * 8], np.uint64)
    whole = Box.of(fragments.shape)
    table, last = overlap_block(
        fragments,
        np.zeros(fragments.shape, np.float32),
        read=whole,
        write=whole,
        shape=fragments.shape,
        means=np.zeros(2),
        ways=np.zeros((2, 2, 2), int),
    )
    assert table["over"].tolist() == [[1, 3], [2, 3], [2, 4]]
    assert table["met"].tolist() == [8, 8, 8]
    assert last["over"].shape == (0, 2)
    pooled = pool_overlaps([table, table])
    assert pooled["over"].tolist() == table["over"].tolist()
    assert pooled["met"].tolist() == [16, 16, 16]
    assert not len(pool_overlaps([last, last])["met"])


def test_a_part_whose_overlaps_are_few_is_left_out():
    from scipy.sparse import csr_array

    told = Evidence(csr_array([[30.0, 0], [30, 0], [0, 30], [5, 0]]), 2.0, 0.5)
    odds = told.odds(np.array([[0, 1], [0, 2], [0, 3]]))
    np.testing.assert_allclose(odds[:2], [1, -1])
    assert np.isnan(odds[2])
    again = told.joined(np.array([0, 0, 2, 0]))
    np.testing.assert_allclose(again.odds(np.array([[0, 2]])), [-1])


@pytest.mark.parametrize("largest", [0, 40, 100])
def test_the_halo_covers_what_is_followed(largest):
    assert overlap_halo(largest_shift=largest) >= largest
    assert overlap_halo(largest_shift=largest) % 4 == 0
