import json

import numpy as np
import pytest

from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError
from axolemma.evaluation import evaluate_stacks, read_proposal
from axolemma.images import Stack, write_tiff
from axolemma.metrics import SCORE_NAMES, evaluate


@pytest.fixture(scope="module")
def truth():
    return phantom_pairs((6, 96, 96)).truth


def stack(array, *, holds=None, info=None):
    return Stack(np.asarray(array), (0, 1), None, "map.tif", holds=holds, info=info or {})


def test_a_folder_of_a_segmentation_is_read(truth, tmp_path):
    map_ = truth.astype(np.float32)
    info = {"threshold": 0.5, "sections": [0, 5]}
    write_tiff(tmp_path / "membrane.tif", map_, holds="membrane map", info=info)
    for path in (tmp_path, tmp_path / "membrane.tif"):
        found = evaluate_stacks(read_proposal(path), truth)
        assert found.threshold == 0.5
        assert found.notes == ()
        assert found.scores.best().score == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, bool])
def test_the_challenges_convention_is_assumed_and_said(truth, dtype):
    interior = ((1 - truth) * (255 if dtype == np.uint8 else 1)).astype(dtype)
    found = evaluate_stacks(stack(interior), truth)
    assert found.scores.best().score == 1
    assert "interior, the challenge's convention" in found.notes[0]
    assert found.threshold is None


def test_an_inverted_map_is_refused_with_its_mend(truth):
    membrane = (255 * truth).astype(np.uint8)
    with pytest.raises(InputError, match=r"other way round.*--proposal-is membrane"):
        evaluate_stacks(stack(membrane), truth)
    said = evaluate_stacks(stack(membrane), truth, proposal_is="membrane")
    assert said.scores.best().score == 1
    assert said.notes == ()


def test_labels_are_cells(truth):
    found = evaluate_stacks(stack((1 - truth) * 5, holds="cells"), truth)
    assert found.scores.best().score == 1
    assert "labels" in found.notes[0]
    # Cells that touch are apart all the same, and bad labels are scored, not called inverted.
    touching = np.repeat(np.arange(1, 97), 96).reshape(1, 96, 96).repeat(6, axis=0)
    found = evaluate_stacks(stack(touching, holds="cells"), truth)
    assert found.scores.best().score < 0.5


def test_sections_that_the_file_does_not_hold(truth):
    part = stack(truth[2:5].astype(float), holds="membrane map", info={"sections": [2, 4]})
    assert evaluate_stacks(part, truth, slices="3-4").scores.best().score == 1
    for slices in ("0-2", "0-1", "4-5"):
        with pytest.raises(InputError, match="it holds the sections 2-4, not all of --slices"):
            evaluate_stacks(part, truth, slices=slices)


def test_slices_of_a_part_and_of_the_whole(truth):
    noisy = np.clip(truth + np.random.default_rng(0).normal(0, 0.4, truth.shape), 0, 1)
    expected = evaluate(noisy[2:4], truth[2:4])
    whole = stack(noisy, holds="membrane map")
    part = stack(noisy[2:4], holds="membrane map")
    said = stack(noisy[2:4], holds="membrane map", info={"sections": [2, 3]})
    for proposal, slices in ((whole, "2-3"), (part, "2-3"), (said, None), (said, "2-3")):
        found = evaluate_stacks(proposal, truth, slices=slices)
        assert found.scores.sections == (2, 3)
        for name in SCORE_NAMES:
            np.testing.assert_array_equal(found.scores.values[name], expected.values[name])


def test_a_threshold_of_ones_own(truth):
    noisy = np.clip(truth + np.random.default_rng(0).normal(0, 0.4, truth.shape), 0, 1)
    found = evaluate_stacks(stack(noisy, holds="membrane map"), truth, threshold=0.55)
    assert len(found.scores.thresholds) == 12
    cells = evaluate((noisy >= 0.45).astype(float), truth)
    assert found.scores.v_rand(0.55) == pytest.approx(cells.v_rand(0.5))


def test_json_holds_every_score_and_section(truth):
    found = evaluate_stacks(
        stack(truth.astype(float), holds="membrane map", info={"threshold": 0.5}), truth
    )
    told = json.loads(json.dumps(found.as_dict()))
    assert told["held_out"]["v_rand"] == {
        "threshold": 0.5,
        "score": 1.0,
        "split": 1.0,
        "merge": 1.0,
        "sections": {str(z): 1.0 for z in range(6)},
    }
    assert set(told["best"]) == set(SCORE_NAMES)
    assert len(told["curves"]["v_info"]) == len(told["thresholds"]) == 11


@pytest.mark.parametrize(
    ("proposal", "slices", "match"),
    [
        (np.zeros((3, 96, 96)), None, "3 sections and the truth 6; say with --slices"),
        (np.zeros((3, 96, 96)), "1-5", "it holds the sections 0-2, not all of --slices 1-5"),
        (np.zeros((6, 96, 90)), None, r"shape \(6, 96, 90\) and the truth \(6, 96, 96\)"),
        (np.full((6, 96, 96), 2.0), None, "spans 2 to 2"),
        (np.zeros((6, 96, 96), np.int32), None, "not int32"),
    ],
)
def test_what_does_not_fit(truth, proposal, slices, match):
    with pytest.raises(InputError, match=match):
        evaluate_stacks(stack(proposal), truth, slices=slices)
