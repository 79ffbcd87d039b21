"""The official scores: golden values, oracles, properties."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.measure import shannon_entropy
from skimage.metrics import variation_of_information

import oracles
from axolemma.errors import InputError
from axolemma.metrics import (
    SCORE_NAMES,
    THRESHOLDS,
    TOLERANCE,
    USUAL_THRESHOLD,
    Scores,
    contingency,
    evaluate,
    interior_map,
    label_cells,
    thin,
    v_info,
    v_rand,
)

GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_scores.json").read_text())

small_masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def both_scores(cells, true_cells):
    table = contingency(cells, true_cells)
    rand, info = v_rand(table), v_info(table)
    return {
        "v_rand": rand.score,
        "v_rand_split": rand.split,
        "v_rand_merge": rand.merge,
        "v_info": info.score,
        "v_info_split": info.split,
        "v_info_merge": info.merge,
    }


@pytest.mark.parametrize("case", GOLDEN["binary_cases"], ids=lambda case: case["name"])
@pytest.mark.parametrize(
    ("kind", "cells_of"),
    [("thinned", lambda interior: thin(label_cells(interior))), ("unthinned", label_cells)],
)
def test_golden_binary_case(case, kind, cells_of):
    truth = np.array(case["truth_interior"], bool)
    proposal = np.array(case["proposal_interior"], bool)
    found = both_scores(cells_of(proposal), label_cells(truth))
    assert found == pytest.approx(case[kind], abs=1e-12)


@pytest.mark.parametrize("case", GOLDEN["label_cases"], ids=lambda case: case["name"])
def test_golden_label_case(case):
    found = both_scores(np.array(case["proposal_labels"]), np.array(case["truth_labels"]))
    expected = {name: case[name] for name in found}
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("case", GOLDEN["isbi2012_train_label_cases"], ids=lambda c: c["name"])
def test_golden_real_labels(case, isbi2012_folder):
    interior = tifffile.imread(isbi2012_folder / "train-labels.tif") > 0
    cross = ndimage.generate_binary_structure(2, 1)
    change = {
        "next slice copied": lambda k: interior[k + 1],
        "membrane grown by 2": lambda k: ndimage.binary_erosion(
            interior[k], cross, 2, border_value=1
        ),
        "membrane shrunk by 1": lambda k: ndimage.binary_dilation(interior[k], cross, 1),
        "all interior": lambda k: np.ones_like(interior[k]),
        "shifted 3 rows down": lambda k: np.roll(interior[k], 3, axis=0),
    }[case["name"].split(" (")[0]]
    proposal = np.stack([change(k) for k in case["slices"]])
    scores = evaluate(proposal, ~interior[case["slices"]], proposal_is="interior")
    for name, key in (
        ("v_rand", "v_rand_thinned"),
        ("v_info", "v_info_thinned"),
        ("v_rand_unthinned", "v_rand_unthinned"),
    ):
        assert scores.sections_at(0.5, name)[:, 0] == pytest.approx(case[key], abs=1e-12)


def test_thresholds_are_the_challenges():
    assert len(THRESHOLDS) == 11
    assert THRESHOLDS[3] == 0.1 + 0.1 + 0.1
    assert THRESHOLDS[-1] == 0.9999999999999999


@given(small_masks)
def test_labels_equal_a_flood_fill(interior):
    np.testing.assert_array_equal(label_cells(interior), oracles.components(interior))


@given(small_masks)
def test_thinning_equals_its_description(interior):
    labels = label_cells(interior)
    np.testing.assert_array_equal(thin(labels), oracles.thin(labels))


@given(small_masks)
def test_thinning_keeps_cells_and_fills_what_separates_nothing(interior):
    labels = label_cells(interior)
    thinned = thin(labels)
    np.testing.assert_array_equal(thinned[interior], labels[interior])
    if labels.max() <= 1:
        assert (thinned == 1).all()


def test_thinning_of_a_cross_by_hand():
    # Four cells of one pixel; every arm of the cross touches two different cells and stays.
    labels = np.array([[1, 0, 2], [0, 0, 0], [3, 0, 4]], np.int32)
    np.testing.assert_array_equal(thin(labels), labels)


def test_thinning_takes_one_section():
    with pytest.raises(InputError, match=r"one section \(Y, X\)"):
        thin(np.ones((2, 3, 3), np.int32))


@settings(max_examples=200)
@given(st.data())
def test_scores_equal_their_formulas(data):
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, max_side=6))
    labels = arrays(np.int32, shape, elements=st.integers(0, 4))
    proposal, truth = data.draw(labels), data.draw(labels)
    table = contingency(proposal, truth)
    expected = oracles.v_rand_v_info(proposal, truth)
    assert (v_rand(table).score, v_info(table).score) == pytest.approx(expected, abs=1e-12)


@given(arrays(np.int64, (2, 6, 7), elements=st.integers(1, 4)))
def test_v_info_agrees_with_scikit_image(labels):
    # Without zeros: V_info = 1 - VOI / (H(S) + H(T)), all of it from scikit-image, in bits.
    proposal, truth = labels
    entropies = shannon_entropy(proposal) + shannon_entropy(truth)
    if shannon_entropy(proposal) > 0 and shannon_entropy(truth) > 0:
        expected = 1 - variation_of_information(truth, proposal).sum() / entropies
        assert v_info(contingency(proposal, truth)).score == pytest.approx(expected, abs=1e-9)


@given(st.data())
def test_scores_do_not_depend_on_numbers_or_pixel_order(data):
    labels = arrays(np.int64, (5, 6), elements=st.integers(0, 5))
    proposal, truth = data.draw(labels), data.draw(labels)
    names = np.array([0, *data.draw(st.permutations([7, 2**32 - 1, 3, 2**40, 11]))])
    plain = both_scores(proposal, truth)
    assert both_scores(names[proposal], truth) == pytest.approx(plain, abs=1e-12)
    assert both_scores(proposal, names[truth]) == pytest.approx(plain, abs=1e-12)
    assert both_scores(proposal.T, truth.T) == pytest.approx(plain, abs=1e-12)


def test_a_huge_table_is_counted_by_sorting():
    # 3000 × 3000 labels in a line: the full table would be 70 times the image.
    labels = np.arange(1, 3001).repeat(20)
    table = contingency(np.roll(labels, 10), labels)
    assert len(table.overlaps) == 6000
    assert table.overlaps.sum() == table.pixels == 60000
    assert v_rand(table).score == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [np.uint64, ">i4", bool, np.uint8])
def test_contingency_of_every_integer(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 9, 9)).astype(dtype)
    assert contingency(a, b).pixels == np.count_nonzero(b)
    many = rng.permutation(90000).astype(np.uint64)
    assert len(contingency(many, many).overlaps) == 89999


def test_labels_that_are_none():
    for wrong in (np.array([[-1, 2]]), np.array([[0.5, 1]])):
        with pytest.raises(InputError, match="labels are integers from 0 on"):
            contingency(wrong, wrong)
    with pytest.raises(InputError, match=r"from 0 to 2\*\*31 - 1"):
        thin(np.array([[2**32 + 5, 0]]))


def test_contingency_of_different_shapes():
    with pytest.raises(InputError, match=r"\(2, 3\) and the truth \(3, 2\)"):
        contingency(np.ones((2, 3), int), np.ones((3, 2), int))


@given(arrays(np.uint8, (2, 5, 7)), arrays(bool, (2, 5, 7)))
def test_8_bit_maps_are_divided_by_255(map_, truth):
    whole = evaluate(map_, truth, proposal_is="interior")
    divided = evaluate(map_ / 255, truth, proposal_is="interior")
    flipped = evaluate(255 - map_, truth)
    for name in SCORE_NAMES:
        np.testing.assert_array_equal(whole.values[name], divided.values[name])
        np.testing.assert_array_equal(whole.values[name], flipped.values[name])


def test_evaluate_finds_thresholds_and_sections():
    truth = np.zeros((2, 8, 9), bool)
    truth[:, :, 4] = True
    map_ = np.where(truth, 0.75, 0.05)
    map_[1, 3, 4] = 0.45  # a faint spot in the second section's membrane: a gap above .55
    scores = evaluate(map_, truth, sections=[7, 8])
    assert scores.sections == (7, 8)
    # Membrane .75 is interior below .25; the faint spot is membrane only where interior > .55.
    assert scores.v_rand(0.5) == pytest.approx((1 + scores.sections_at(0.5)[1, 0]) / 2)
    assert scores.sections_at(0.5)[1, 0] < 0.8
    assert scores.v_rand(0.6) == scores.best().score == 1
    assert scores.best_threshold() == pytest.approx(0.7)  # the middle of .6, .7, .8, .9
    with pytest.raises(InputError, match=r"threshold 0\.25 was not evaluated"):
        scores.at(0.25)


def test_the_threshold_to_use_elsewhere_is_no_lucky_one():
    curve = np.array([0, 0.1, 0.2, 0.3, 0.5, 0.92, 0.9, 0.91, 0.8, 0.5, 0.1])
    values = {name: np.broadcast_to(curve[:, None, None], (11, 1, 3)) for name in SCORE_NAMES}
    scores = Scores(THRESHOLDS, (0,), values, {})
    assert scores.best_threshold() == pytest.approx(0.5)
    # Smoothed once .5: (.5 + 2·.92 + .9)/4 = .81; .6: (.92 + 2·.9 + .91)/4 = .9075; .7: .88;
    # .4: .555, .8: .7525; twice .5: .77, .6: .876, .7: .855; three times .6: .845, .7: .825
    assert scores.choose_threshold() == pytest.approx(0.6)
    # The usual one, if it is nearly as good.
    for slope, chosen in ((TOLERANCE / 5, USUAL_THRESHOLD), (TOLERANCE, 0.9), (-TOLERANCE, 0.1)):
        curve[:] = 0.9 + slope * np.arange(11)
        assert scores.choose_threshold() == pytest.approx(chosen)
    # On a plateau its middle is taken, far from both cliffs.
    curve[4:9] = 0.92
    curve[9:] = curve[3::-1][:2]
    assert scores.choose_threshold() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("map_", "match"),
    [
        (np.array([[0.0, 1.5]]), "spans 0 to 1.5"),
        (np.array([[0.0, np.nan]]), "spans nan"),
        (np.array([[1, 2]]), "not int64"),
    ],
)
def test_what_is_no_map_is_refused(map_, match):
    with pytest.raises(InputError, match=match):
        interior_map(map_)


def test_arrays_of_any_kind_are_scored():
    truth = np.zeros((2, 6, 9), bool)
    truth[:, :, 4] = True
    found = 0.8 * truth.astype(np.float32)
    found[0, 3, 4] = 0.2
    exact = evaluate(found, truth).values["v_rand"]
    assert exact.min() < 1
    np.testing.assert_array_equal(evaluate(found.tolist(), truth.tolist()).values["v_rand"], exact)
    where = np.ones(truth.shape, np.uint8)
    where[0, 3] = 0
    masked = evaluate(found, truth, where=where != 0).values["v_rand"]
    np.testing.assert_array_equal(evaluate(found, truth, where=where).values["v_rand"], masked)


@pytest.mark.parametrize("proposal", [None, "map.tif", np.zeros((2, 2), complex)])
def test_what_holds_no_numbers_is_refused(proposal):
    with pytest.raises(InputError, match="the proposal is an array of real numbers, not"):
        evaluate(proposal, np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"truth_is": "labels"}, "truth_is is membrane, .* or cells, .* not 'labels'"),
        (
            {"proposal_is": "labels"},
            "proposal_is is one of membrane, interior, cells, not 'labels'",
        ),
    ],
)
def test_words_that_mean_nothing_are_refused(words, match):
    with pytest.raises(InputError, match=match):
        evaluate(np.zeros((4, 9)), np.zeros((4, 9), int), **words)


def test_a_number_for_each_section_and_a_threshold():
    map_ = np.zeros((2, 4, 9))
    for options in ({"sections": [7]}, {"thresholds": ()}):
        with pytest.raises(
            InputError, match="give a threshold or more, and a number for each section"
        ):
            evaluate(map_, map_ > 0, **options)


def test_a_truth_that_says_where_nobody_annotated_is_no_mask():
    truth = np.zeros((6, 9), np.uint8)
    truth[:, 4], truth[:, 5:] = 1, 2
    perfect = (truth == 1).astype(float)
    with pytest.raises(InputError, match="give where=truth != 2"):
        evaluate(perfect, truth)
    assert evaluate(perfect, truth, where=truth != 2).best().score == 1


def test_evaluate_of_different_shapes():
    with pytest.raises(InputError, match="must be the same sections"):
        evaluate(np.zeros((3, 4)), np.zeros((3, 5)))


def test_a_picture_does_not_tell_which_of_its_values_is_membrane():
    truth = np.zeros((16, 16), bool)
    truth[:, 8] = True
    drawn = np.where(truth, 0, 255).astype(np.uint8)
    with pytest.raises(InputError, match="truth == 0 where it is drawn black"):
        evaluate(truth.astype(float), drawn)
    assert evaluate(truth.astype(float), drawn == 0).best("v_rand").score == 1
