"""Pixel scores: counts, the challenge's pixel error, the precision-recall curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from axolemma.errors import InputError
from axolemma.metrics.pixels import (
    PixelCounts,
    average_precision,
    mean_squared_error,
    pixel_counts,
    pixel_error,
    precision_recall,
)

shapes = array_shapes(min_dims=1, max_dims=3, max_side=6)
# Few distinct values, so that ties are frequent.
levels = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])


@st.composite
def maps_and_truths(draw, dtype=np.float32):
    shape = draw(shapes)
    map_ = draw(arrays(dtype, shape, elements=levels.map(dtype)))
    return map_, draw(arrays(bool, shape)), draw(arrays(bool, shape))


def counted(proposal, truth, where):
    """The four counts pixel by pixel."""
    tally = {(p, t): 0 for p in (True, False) for t in (True, False)}
    for p, t, w in zip(proposal.flat, truth.flat, where.flat, strict=True):
        tally[bool(p), bool(t)] += bool(w)
    return tuple(tally[pair] for pair in ((True, True), (True, False), (False, True), (False,) * 2))


def curve(map_, truth):
    """Precision, recall and threshold of every distinct value, each proposal made anew."""
    drawn = np.count_nonzero(truth)
    points = []
    for threshold in sorted(set(map_.ravel().tolist()), reverse=True):
        proposed = map_ >= threshold
        found = np.count_nonzero(proposed & truth)
        points.append((found / proposed.sum(), found / drawn if drawn else 0.0, threshold))
    return points


def area(points):
    total, before = 0.0, 0.0
    for precision, recall, _ in points:
        total += (recall - before) * precision
        before = recall
    return total


def test_counts_by_hand():
    proposal = np.array([[1, 1, 1, 0], [0, 0, 1, 0]], bool)
    truth = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    found = pixel_counts(proposal, truth)
    assert found == PixelCounts(3, 1, 1, 3)
    # 3 of 4 proposed, 3 of 4 drawn, 6 of 8 right, 3 of the 5 in either.
    assert (found.precision, found.recall, found.f1) == (3 / 4, 3 / 4, 3 / 4)
    assert (found.accuracy, found.iou) == (6 / 8, 3 / 5)
    assert pixel_error(found) == 1 / 4
    left = np.zeros((2, 4), bool)
    left[:, :2] = True
    assert pixel_counts(proposal, truth, where=left) == PixelCounts(2, 0, 1, 1)


@settings(max_examples=50)
@given(maps_and_truths(bool))
def test_counts_equal_a_tally(case):
    proposal, truth, where = case
    found = pixel_counts(proposal, truth, where=where)
    assert found == PixelCounts(*counted(proposal, truth, where))
    everywhere = pixel_counts(proposal, truth)
    assert everywhere == found + pixel_counts(proposal, truth, where=~where)
    assert everywhere == pixel_counts(proposal.T, truth.T)


@given(*[st.integers(0, 9)] * 4)
def test_scores_of_counts_agree_with_each_other(tp, fp, fn, tn):
    counts, other_way = PixelCounts(tp, fp, fn, tn), PixelCounts(tp, fn, fp, tn)
    assert counts.precision == other_way.recall
    assert counts.iou == pytest.approx(counts.f1 / (2 - counts.f1))
    precision, recall = counts.precision, counts.recall
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert counts.f1 == pytest.approx(harmonic)
    # Fiji calls precision 1 where no pixel is wrongly proposed, and recall alike: the F is ours.
    fiji_p, fiji_r = tp / (tp + fp) if fp else 1, tp / (tp + fn) if fn else 1
    fiji_f = 2 * fiji_p * fiji_r / (fiji_p + fiji_r) if fiji_p + fiji_r else 0
    assert pixel_error(counts) == pytest.approx(1 - fiji_f)


def test_empty_classes():
    nothing, made_up, missed = PixelCounts(0, 0, 0, 8), PixelCounts(0, 3), PixelCounts(0, 0, 3, 5)
    for score in ("precision", "recall", "f1", "iou"):
        assert getattr(nothing, score) == getattr(PixelCounts(), score) == 1
        assert getattr(made_up, score) == getattr(missed, score) == 0
    assert (PixelCounts().accuracy, made_up.accuracy, missed.accuracy) == (1, 0, 5 / 8)


def test_the_challenges_stack_score_pools_and_takes_the_best_threshold():
    interior = np.array([[[0.9, 0.6, 0.2]], [[0.4, 0.8, 0.1]]])
    truth = np.array([[[1, 1, 0]], [[0, 1, 0]]], bool)
    errors = []
    for threshold in (0.0, 0.3, 0.5, 0.7):
        sections = (pixel_counts(z > threshold, t) for z, t in zip(interior, truth, strict=True))
        errors.append(pixel_error(sum(sections, PixelCounts())))
    # Above 0 all six are interior, 2·3/(6+3); above .3 four; above .5 all right; above .7 one lost.
    assert errors == pytest.approx([1 - 6 / 9, 1 - 6 / 7, 0, 1 - 4 / 5])
    assert min(errors) == 0


def test_mean_squared_error_by_hand():
    interior = np.array([[0.5, 1.0], [0.25, 0.0]], np.float32)
    truth = np.array([[True, True], [False, True]])
    # (.25 + 0 + .0625 + 1) / 4
    assert mean_squared_error(interior, truth) == pytest.approx(0.328125)
    assert mean_squared_error(1 - interior, ~truth) == pytest.approx(0.328125)
    assert mean_squared_error(interior, truth, where=~truth) == pytest.approx(0.0625)
    assert mean_squared_error(interior, truth, where=np.zeros((2, 2), bool)) == 0
    assert mean_squared_error(truth, truth) == 0


@settings(max_examples=50)
@given(maps_and_truths(bool))
def test_mean_squared_error_of_a_binary_map_is_the_share_of_wrong_pixels(case):
    proposal, truth, _ = case
    wrong = 1 - pixel_counts(proposal, truth).accuracy
    assert mean_squared_error(proposal, truth) == pytest.approx(wrong)


def test_average_precision_by_hand():
    # The example of scikit-learn's manual: at .8 1/1 and recall 1/2, at .4 1/2, at .35 2/3 and 1.
    truth = np.array([0, 0, 1, 1], bool)
    map_ = np.array([0.1, 0.4, 0.35, 0.8])
    precision, recall, thresholds = precision_recall(map_, truth)
    assert thresholds.tolist() == [0.8, 0.4, 0.35, 0.1]
    assert precision.tolist() == [1, 1 / 2, 2 / 3, 2 / 4]
    assert recall.tolist() == [1 / 2, 1 / 2, 1, 1]
    assert average_precision(map_, truth) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


@settings(max_examples=50)
@given(maps_and_truths())
def test_the_curve_equals_a_new_proposal_for_every_threshold(case):
    map_, truth, where = case
    expected = curve(map_, truth)
    np.testing.assert_array_equal(np.stack(precision_recall(map_, truth), axis=1), expected)
    assert average_precision(map_, truth) == pytest.approx(area(expected), abs=1e-12)
    if where.any():
        expected = area(curve(map_[where], truth[where]))
        assert average_precision(map_, truth, where=where) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(maps_and_truths())
def test_average_precision_knows_only_the_order_of_values(case):
    map_, truth, _ = case
    plain = average_precision(map_, truth)
    assert average_precision(map_.astype(np.float64) ** 2 / 3, truth) == plain
    assert average_precision(map_.T, truth.T) == plain
    assert average_precision(truth, truth) == (1 if truth.any() else 0)


def test_average_precision_of_special_maps():
    truth = np.array([[1, 0, 0, 0], [0, 0, 1, 0]], bool)
    assert average_precision(np.full((2, 4), 0.5), truth) == 2 / 8
    assert average_precision(np.zeros((2, 4)), np.zeros((2, 4), bool)) == 0
    nowhere = np.zeros((2, 4), bool)
    assert average_precision(np.ones((2, 4)), truth, where=nowhere) == 1
    assert not any(part.size for part in precision_recall(truth, truth, where=nowhere))


@pytest.mark.parametrize("score", [average_precision, mean_squared_error, precision_recall])
@pytest.mark.parametrize(
    ("map_", "match"),
    [
        (np.array([0.0, 1.5]), r"spans 0 to 1\.5"),
        (np.array([-0.5, 1]), r"spans -0\.5 to 1"),
        (np.array([0.0, np.nan]), "spans nan"),
        (np.array([0, 255], np.uint8), "not uint8"),
        (np.zeros(3), r"shape \(3,\) and the truth \(2,\)"),
    ],
)
def test_what_is_no_map_is_refused(score, map_, match):
    with pytest.raises(InputError, match=match):
        score(map_, np.array([True, False]))


def test_what_is_no_mask_is_refused():
    mask, numbers = np.ones((2, 2), bool), np.ones((2, 2), np.uint8)
    with pytest.raises(InputError, match="the proposal must be bool, not uint8"):
        pixel_counts(numbers, mask)
    with pytest.raises(InputError, match="the truth must be bool, not uint8"):
        pixel_counts(mask, numbers)
    with pytest.raises(InputError, match="the where mask must be bool, not uint8"):
        pixel_counts(mask, mask, where=numbers)
    with pytest.raises(InputError, match=r"shape \(2, 2\) and the where mask \(2, 1\)"):
        pixel_counts(mask, mask, where=mask[:, :1])
