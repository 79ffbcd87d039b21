"""Every score at one threshold: complete, perfect where all is right, worse where it is not."""

import numpy as np
import pytest
from scipy import ndimage

from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError
from axolemma.labels import label_borders, pieces
from axolemma.metrics import SCORES, STACK_SCORES, evaluate, score_suite


@pytest.fixture(scope="module")
def truth():
    return phantom_pairs((2, 128, 128)).truth.astype(bool)


@pytest.fixture(scope="module")
def perfect(truth):
    return score_suite(truth.astype(np.float32), truth)


@pytest.fixture(scope="module")
def wrong(truth):
    """Return suites of a noisy map, of specks and walls, of filled cells and of no membrane."""
    rng = np.random.default_rng(0)
    map_ = ndimage.gaussian_filter(truth.astype(float), (0, 2, 2))
    map_ += ndimage.gaussian_filter(rng.normal(0, 1, truth.shape), (0, 2, 2))
    specks = truth ^ (rng.random(truth.shape) < 0.03)
    specks[:, ::20] = True
    filled = truth.copy()
    for section in filled:
        cells = pieces(~section)
        section[cells % 2 == 0] = True
    speckled = truth.copy()
    speckled[:, 40:90, 40:90] = rng.random((2, 50, 50)) < 0.5
    proposals = (np.clip(map_, 0, 1), specks, filled, speckled, np.zeros_like(truth))
    return [score_suite(proposal, truth) for proposal in proposals]


def test_a_perfect_proposal_is_perfect_by_every_score(perfect):
    for name, score in SCORES.items():
        best = 1 if score.better == "high" else 0
        assert perfect.values[name].tolist() == pytest.approx([best, best], abs=1e-12), name


@pytest.mark.parametrize("name", SCORES)
def test_every_score_notices(perfect, wrong, name):
    if name == "warping_missing_holes":
        pytest.skip("the truth has no hole in a cell that could be missing")
    found = [suite.mean(name) for suite in wrong]
    if SCORES[name].better == "high":
        assert min(found) < perfect.mean(name)
    else:
        assert max(found) > perfect.mean(name)


def test_every_score_keeps_its_span(wrong):
    for suite in wrong:
        for name, score in SCORES.items():
            assert (suite.values[name] >= 0).all(), name
            if score.span == "0 … 1":
                assert (suite.values[name] <= 1 + 1e-12).all(), name


def test_it_agrees_with_the_sweep(truth):
    map_ = np.clip(truth + np.random.default_rng(0).normal(0, 0.4, truth.shape), 0, 1)
    suite, scores = score_suite(map_, truth, threshold=0.6), evaluate(map_, truth)
    for name in ("v_rand", "v_info", "v_rand_unthinned", "v_info_unthinned"):
        np.testing.assert_allclose(suite.values[name], scores.sections_at(0.6, name)[:, 0])
    np.testing.assert_allclose(suite.values["v_rand_split"], scores.sections_at(0.6)[:, 1])
    assert suite.warping_best <= suite.mean("warping_error")
    assert 0 <= suite.warping_threshold < 0.95


def test_one_section_pools_to_its_own_errors(truth):
    map_ = np.clip(truth[0] + np.random.default_rng(0).normal(0, 0.4, truth[0].shape), 0, 1)
    suite, scores = score_suite(map_, truth[0], threshold=0.5), evaluate(map_, truth[0])
    for name in ("rand_error", "pixel_error"):
        assert scores.pooled[name][5] == pytest.approx(suite.mean(name))


def test_the_challenge_pools_counts_over_the_stack():
    # Section 0: four pixels in one cell, all found. Section 1: two cells of two pixels, joined.
    truth = np.array([[[0, 0, 0, 0, 1]], [[0, 0, 1, 0, 0]]])
    proposal = np.array([[[0, 0, 0, 0, 1.0]], [[0, 0, 0, 0, 0.0]]])
    scores = evaluate(proposal, truth, thresholds=(0.5,))
    # Pairs of the truth 16 + 8, of the proposal 16 + 16, of both 16 + 8.
    assert scores.pooled["rand_error"] == pytest.approx(1 - 2 * 24 / (24 + 32))
    # Interior: 8 right, 1 too many.
    assert scores.pooled["pixel_error"] == pytest.approx(1 - 2 * 8 / (2 * 8 + 1))
    # The mean over sections is another number.
    suite = score_suite(proposal, truth)
    assert suite.mean("rand_error") == pytest.approx((0 + 1 - 2 * 8 / (8 + 16)) / 2)


def test_labels_have_no_threshold(truth):
    labels = np.stack([pieces(section) for section in 1 - truth.astype(int)])
    suite = score_suite(labels, truth, proposal_is="cells")
    assert suite.threshold is suite.warping_threshold is None
    assert suite.mean("v_rand") == suite.mean("f1") == 1
    assert suite.warping_best == 0
    assert suite.stack == {}


def test_stacks_of_labels_have_3d_scores():
    truth = np.zeros((4, 20, 20), np.int64)
    truth[:, 2:9, 2:18], truth[:, 10:18, 2:18] = 1, 2
    joined = np.where(truth > 0, 5, 0)
    options = {"proposal_is": "cells", "truth_is": "cells", "voxel_size": (50.0, 4.0, 4.0)}
    perfect = score_suite(truth, truth, **options)
    assert set(perfect.stack) == set(STACK_SCORES)
    assert perfect.stack["voi_cremi_merge_3d"] == 0
    assert perfect.stack["run_length_share"] == 1
    merged = score_suite(joined, truth, **options)
    # Two cells of 448 and 512 voxels in one segment: that many bits are lost.
    p = np.array((448, 512)) / 960
    assert merged.stack["voi_cremi_merge_3d"] == pytest.approx(-(p * np.log2(p)).sum())
    assert merged.stack["expected_run_length"] == 0
    no_size = score_suite(truth, truth, proposal_is="cells", truth_is="cells")
    assert "expected_run_length" not in no_size.stack
    nowhere = score_suite(truth, truth, where=truth > 9, **options)
    assert "expected_run_length" not in nowhere.stack


def test_the_same_turned_and_renumbered(truth):
    # Borders are drawn on one side of a contact and skeletons thinned in scan order: those scores
    # and the thinned ones may change by pixels.
    labels = np.stack([pieces(section) for section in 1 - truth.astype(int)])
    labels[0][labels[0] == 2] = 1
    exact = [n for n in SCORES if n.startswith(("voi", "are", "cremi", "cell", "panoptic"))]
    here = score_suite(labels, truth, proposal_is="cells")
    numbers = np.where(labels > 0, labels * 7 + 3, 0)
    there = score_suite(numbers.swapaxes(1, 2), truth.swapaxes(1, 2), proposal_is="cells")
    for name in exact:
        np.testing.assert_allclose(here.values[name], there.values[name], atol=1e-12)


def test_labels_that_touch():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 1, 3]])
    assert label_borders(labels).tolist() == [
        [False, True, False, False],
        [False, True, True, True],
        [False, False, True, False],
    ]
    # The 1 in the corner below is one piece with the others; a 1 apart is not.
    apart = np.array([[1, 0, 1], [2, 2, 2]])
    assert pieces(apart).tolist() == [[1, 0, 2], [3, 3, 3]]


@pytest.mark.parametrize(
    ("proposal", "truth", "options", "match"),
    [
        (np.zeros((4, 4)), np.zeros((4, 5)), {}, r"shape \(4, 4\) and the truth \(4, 5\)"),
        (np.zeros((4, 4)), np.zeros((4, 4)), {"proposal_is": "cells"}, "proposal's labels are int"),
        (np.zeros((4, 4)), np.zeros((4, 4)), {"truth_is": "cells"}, "the truth's labels are int"),
        (np.full((4, 4), -1), np.zeros((4, 4)), {"proposal_is": "cells"}, "from 0 on"),
        (np.zeros((4, 4)), np.zeros((4, 4)), {"threshold": 2.0}, "between 0 and 1, not 2"),
        (np.full((4, 4), 3.0), np.zeros((4, 4)), {}, "spans 3 to 3"),
        (np.zeros((4, 4)), np.zeros((4, 4)), {"where": np.ones((2, 2), bool)}, "pixels to count"),
    ],
)
def test_what_cannot_be_scored(proposal, truth, options, match):
    with pytest.raises(InputError, match=match):
        score_suite(proposal, truth, **options)
