"""Scores of cells as objects: matching, detection, average precision, panoptic quality."""

from collections import Counter
from functools import reduce
from itertools import permutations
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from axolemma.errors import InputError
from axolemma.metrics.contingency import Contingency, contingency
from axolemma.metrics.instances import (
    IOU_THRESHOLDS,
    Detection,
    Matches,
    PanopticQuality,
    cell_average_precision,
    detection,
    match,
    panoptic_quality,
)

# Two truth cells of 10 and 4 pixels. The first is found with 8 of its pixels and 2 of background
# (IoU 8/12), the second as a cell of 3 (IoU 3/4); a third cell is made up.
TRUTH = np.array([1] * 10 + [0] * 4 + [2] * 4 + [0] * 4)
PROPOSAL = np.array([0] * 2 + [5] * 10 + [0] * 2 + [7] * 3 + [0] * 3 + [9] * 2)


@st.composite
def label_pairs(draw, top=4):
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=5))
    labels = arrays(np.int32, shape, elements=st.integers(0, top))
    return draw(labels), draw(labels)


def table_of(proposal, truth):
    """A table counted pixel by pixel."""
    pairs = Counter(zip(truth.ravel().tolist(), proposal.ravel().tolist(), strict=True))
    truth_ids, proposal_ids = np.array(list(pairs), np.int64).T
    return Contingency(truth_ids, proposal_ids, np.array(list(pairs.values())))


def cells_of(labels):
    return sorted(set(labels.ravel().tolist()) - {0})


def ious(proposal, truth):
    """IoU of every pair of cells from their masks, by (truth, proposal)."""
    found = {}
    for t in cells_of(truth):
        for p in cells_of(proposal):
            both = np.count_nonzero((truth == t) & (proposal == p))
            found[t, p] = both / np.count_nonzero((truth == t) | (proposal == p))
    return found


def greedy(proposal, truth):
    """The matching as its description reads: the best pair left, again and again."""
    left = {pair: iou for pair, iou in ious(proposal, truth).items() if iou > 0}
    taken = []
    while left:
        best = min(left, key=lambda pair: (-left[pair], *pair))
        taken.append(left[best])
        left = {pair: i for pair, i in left.items() if pair[0] != best[0] and pair[1] != best[1]}
    return taken


def most_matches(proposal, truth, iou):
    """The largest one-to-one matching at an IoU, all assignments tried."""
    table, true, mine = ious(proposal, truth), cells_of(truth), cells_of(proposal)
    if len(true) > len(mine):
        table, true, mine = {(p, t): i for (t, p), i in table.items()}, mine, true
    return max(
        sum(table[pair] >= iou for pair in zip(true, order, strict=False))
        for order in permutations(mine)
    )


def scores(cells):
    return detection(cells), cell_average_precision(cells), panoptic_quality(cells)


def test_scores_by_hand():
    table = contingency(PROPOSAL, TRUTH)
    matches = match(table)
    assert sorted(matches.iou) == pytest.approx([8 / 12, 3 / 4])
    assert (matches.truth_cells, matches.proposal_cells) == (2, 3)
    # Found 2 of 2, made up 1 of 3: F1 = 4/5.
    assert detection(table) == Detection(2 / 3, 1.0, 4 / 5, 2, 1, 0)
    # Above 8/12 only the second is found: 1 of 3 and 1 of 2.
    assert detection(table, iou=0.7) == Detection(1 / 3, 1 / 2, 2 / 5, 1, 2, 1)
    # .5 .55 .6 .65: 2/(2+1+0); .7 .75: 1/(1+2+1); then none.
    precision = cell_average_precision(table)
    assert precision.values == pytest.approx([2 / 3] * 4 + [1 / 4] * 2 + [0] * 4)
    assert precision.mean == pytest.approx((8 / 3 + 2 / 4) / 10)
    quality = panoptic_quality(table)
    assert quality.quality == pytest.approx((8 / 12 + 3 / 4) / (2 + 1 / 2))
    assert quality.recognition == 4 / 5
    assert quality.segmentation == pytest.approx((8 / 12 + 3 / 4) / 2)


def test_thresholds_are_the_decimals():
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@pytest.mark.parametrize("twentieths", range(10, 20))
def test_an_iou_equal_to_a_threshold_counts_there(twentieths):
    truth = np.ones(20, int)
    proposal = (np.arange(20) < twentieths).astype(int)
    table = contingency(proposal, truth)
    assert sum(cell_average_precision(table).values) == twentieths - 9
    assert detection(table, iou=0.05 * twentieths).true_positive == 1  # 0.05 * 12 > 12 / 20


def test_panoptic_quality_wants_more_than_half():
    half = contingency(np.array([1, 0]), np.array([1, 1]))
    assert detection(half).true_positive == 1
    assert panoptic_quality(half) == PanopticQuality(0.0, 0.0, 0.0)


def test_ties_go_to_the_lowest_ids():
    # Truth 1 meets two proposals and truth 2 one of them, each pair with IoU 1/3. The proposal
    # that both meet goes first where its number is lower, and then nothing is left to match.
    truth = np.array([1, 1, 2, 0, 2])
    for both, other, found in ((3, 4, [1 / 3]), (5, 4, [1 / 3, 1 / 3])):
        proposal = np.array([both, other, both, other, 0])
        assert ious(proposal, truth)[1, both] == ious(proposal, truth)[2, both] == 1 / 3
        assert match(table_of(proposal, truth)).iou.tolist() == found


@settings(max_examples=60)
@given(label_pairs())
def test_matching_equals_its_description(pair):
    proposal, truth = pair
    matches = match(table_of(proposal, truth))
    assert sorted(matches.iou) == pytest.approx(sorted(greedy(proposal, truth)), abs=1e-12)
    assert matches.truth_cells == len(cells_of(truth))
    assert matches.proposal_cells == len(cells_of(proposal))


@settings(max_examples=60)
@given(label_pairs(), st.sampled_from(IOU_THRESHOLDS))
def test_no_other_matching_finds_more_from_half_on(pair, iou):
    proposal, truth = pair
    found = detection(table_of(proposal, truth), iou=iou)
    assert found.true_positive == most_matches(proposal, truth, iou)
    assert found.true_positive + found.false_negative == len(cells_of(truth))
    assert found.true_positive + found.false_positive == len(cells_of(proposal))


@settings(max_examples=60)
@given(label_pairs())
def test_panoptic_quality_from_all_pairs(pair):
    proposal, truth = pair
    sure = [iou for iou in ious(proposal, truth).values() if iou > 0.5]
    cells = len(cells_of(truth)) + len(cells_of(proposal))
    quality = panoptic_quality(table_of(proposal, truth))
    # TP + FP/2 + FN/2 = (cells on both sides) / 2
    assert quality.quality == pytest.approx(2 * sum(sure) / cells if cells else 1)
    assert quality.quality == pytest.approx(quality.recognition * quality.segmentation)


@settings(max_examples=60)
@given(label_pairs(), st.permutations([7, 2**32 - 1, 3, 2**40]))
def test_scores_do_not_depend_on_pixel_order_nor_from_half_on_on_numbers(pair, names):
    proposal, truth = pair
    plain = scores(table_of(proposal, truth))
    assert scores(table_of(proposal.T, truth.T)) == plain
    new = scores(table_of(np.array([0, *names])[proposal], truth))
    assert new[:2] == plain[:2]
    assert new[2].quality == pytest.approx(plain[2].quality)


@settings(max_examples=60)
@given(label_pairs())
def test_the_other_way_round_precision_is_recall(pair):
    proposal, truth = pair
    one, other = scores(table_of(proposal, truth)), scores(table_of(truth, proposal))
    assert (one[0].precision, one[0].recall) == (other[0].recall, other[0].precision)
    assert one[1] == other[1]
    assert one[2].quality == pytest.approx(other[2].quality)


@settings(max_examples=60)
@given(label_pairs())
def test_identity_is_perfect(pair):
    found, precision, quality = scores(table_of(pair[0], pair[0]))
    assert (found.precision, found.recall, found.f1) == (1, 1, 1)
    assert precision.mean == 1
    assert quality == PanopticQuality(1.0, 1.0, 1.0)


@settings(max_examples=60)
@given(st.lists(label_pairs(), min_size=1, max_size=3))
def test_pooled_sections_score_like_one_section_of_all_their_cells(sections):
    pooled = reduce(add, (match(table_of(*pair)) for pair in sections))
    # Side by side, with numbers of their own so that no cell is in two sections.
    shifted = [
        [np.where(labels, labels + 10 * z, 0).ravel() for labels in pair]
        for z, pair in enumerate(sections)
    ]
    together = table_of(*(np.concatenate(side) for side in zip(*shifted, strict=True)))
    assert scores(pooled)[:2] == scores(together)[:2]
    expected = panoptic_quality(together).quality
    assert panoptic_quality(pooled).quality == pytest.approx(expected)


def test_sections_without_cells():
    nothing, something = np.zeros((3, 3), int), np.eye(3, dtype=int)
    for empty in (contingency(nothing, nothing), Matches(np.empty(0), 0, 0)):
        found, precision, quality = scores(empty)
        assert found == Detection(1.0, 1.0, 1.0, 0, 0, 0)
        assert (precision.mean, quality) == (1, PanopticQuality(1.0, 1.0, 1.0))
    made_up, missed = contingency(something, nothing), contingency(nothing, something)
    assert detection(made_up) == Detection(0.0, 0.0, 0.0, 0, 1, 0)
    assert detection(missed) == Detection(0.0, 0.0, 0.0, 0, 0, 1)
    for table in (made_up, missed):
        assert cell_average_precision(table).mean == 0
        assert panoptic_quality(table) == PanopticQuality(0.0, 0.0, 0.0)


@pytest.mark.parametrize("iou", [0, -0.5, 1.01, float("nan")])
def test_an_iou_that_is_none(iou):
    with pytest.raises(InputError, match="above 0 and up to 1"):
        detection(Matches(np.empty(0), 0, 0), iou=iou)
