"""From files to scores: which sections, which way round, what is counted, what is written."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from skimage.io import imread
from skimage.segmentation import expand_labels

import axolemma
from axolemma.calibration import fit_calibration
from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError
from axolemma.evaluation import (
    compare,
    compare_as_dict,
    evaluate_stacks,
    matching,
    parse_roi,
    read_cells,
    read_proposal,
    write_csv,
    write_mistakes,
)
from axolemma.images import Stack, write_tiff
from axolemma.labels import IGNORED, label_borders, pieces
from axolemma.metrics import (
    SCORE_NAMES,
    SCORES,
    STACK_SCORES,
    evaluate,
    label_cells,
    reliability,
)


@pytest.fixture(scope="module")
def truth():
    return phantom_pairs((6, 96, 96)).truth


@pytest.fixture(scope="module")
def drawn(truth):
    return Stack(truth, (0, 1), (50.0, 4.0, 4.0), "truth.tif")


@pytest.fixture(scope="module")
def noisy(truth):
    """Return a map with errors of every kind."""
    return np.clip(truth + np.random.default_rng(0).normal(0, 0.4, truth.shape), 0, 1)


def stack(array, *, holds=None, info=None):
    return Stack(np.asarray(array), (0, 1), None, "map.tif", holds=holds, info=info or {})


def test_a_folder_of_a_segmentation_is_read(truth, drawn, tmp_path):
    map_ = truth.astype(np.float32)
    info = {"threshold": 0.5, "sections": [0, 5]}
    write_tiff(tmp_path / "membrane.tif", map_, holds="membrane map", info=info)
    for path in (tmp_path, tmp_path / "membrane.tif"):
        found = evaluate_stacks(read_proposal(path), drawn)
        assert found.threshold == 0.5
        assert found.read_as == "binary mask, high = membrane (the file says it holds membrane map)"
        assert found.scores.best().score == 1


def test_the_cells_of_a_segmentation_are_scored_beside_its_map(truth, drawn, noisy, tmp_path):
    info = {"threshold": 0.5, "sections": [0, 5]}
    cells = np.stack([pieces(1 - section) for section in truth]).astype(np.uint16)
    assert read_cells(tmp_path) is None
    write_tiff(tmp_path / "membrane.tif", noisy.astype(np.float32), holds="membrane map", info=info)
    assert read_cells(tmp_path) is None
    write_tiff(tmp_path / "cells.tif", cells, holds="cells", info=info)
    options = {"cells": read_cells(tmp_path), "slices": "2-4", "roi": "0:64,8:96"}
    found = evaluate_stacks(read_proposal(tmp_path), drawn, **options)
    told = found.as_dict()
    assert told["cells"]["v_rand"]["score"] == told["cells"]["v_info"]["score"] == 1
    assert list(told["cells"]["v_rand"]["sections"]) == ["2", "3", "4"]
    assert told["held_out"]["v_rand"]["score"] < 1, "the map is scored as it was"
    assert "cells" not in evaluate_stacks(read_proposal(tmp_path), drawn).as_dict()
    with pytest.raises(InputError, match="they must be of one segmentation"):
        evaluate_stacks(read_proposal(tmp_path), drawn, cells=stack(cells[:2], holds="cells"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, bool])
def test_the_challenges_convention_is_assumed_and_said(truth, drawn, dtype):
    interior = ((1 - truth) * (255 if dtype == np.uint8 else 1)).astype(dtype)
    found = evaluate_stacks(stack(interior), drawn)
    assert found.scores.best().score == 1
    assert found.read_as.startswith("binary mask, high = interior (the file does not say")
    assert found.threshold is None


def test_a_map_with_a_blank_section_is_no_mask(truth, drawn):
    interior = np.random.default_rng(0).integers(0, 256, truth.shape).astype(np.uint8)
    interior[0] = 0
    found = evaluate_stacks(stack(interior), drawn, proposal_is="interior")
    assert found.read_as == "map, high = interior (as asked)"


def test_labels_are_no_map(truth):
    labels = label_cells(truth == 0).astype(np.uint32)
    with pytest.raises(InputError, match=r"uint32 is a type of labels, .* say proposal_is='cells'"):
        axolemma.evaluate(labels, truth)
    assert axolemma.evaluate(labels, truth, proposal_is="cells").best().score == 1


def test_errors_are_written_over_nobodys_files(truth, drawn, tmp_path):
    found = evaluate_stacks(stack((1 - truth).astype(np.float32)), drawn)
    (tmp_path / "section-000.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds other files; choose a new one"):
        write_mistakes(tmp_path, found)
    for _ in range(2):
        write_mistakes(tmp_path / "errors", found)
    assert (tmp_path / "section-000.png").read_bytes() == b"mine"


def test_an_inverted_map_is_refused_with_its_mend(truth, drawn):
    membrane = (255 * truth).astype(np.uint8)
    with pytest.raises(InputError, match=r"other way round.*--proposal-is membrane"):
        evaluate_stacks(stack(membrane), drawn)
    said = evaluate_stacks(stack(membrane), drawn, proposal_is="membrane")
    assert said.scores.best().score == 1
    assert said.read_as == "binary mask, high = membrane (as asked)"


def test_a_mask_has_two_values_whatever_they_are(truth, drawn):
    for low, high in ((0, 1), (0, 255), (3, 200)):
        mask = np.where(truth == 1, low, high).astype(np.uint16)
        assert evaluate_stacks(stack(mask), drawn).scores.best().score == 1


def test_a_map_in_percent_is_refused(truth, drawn):
    noise = np.random.default_rng(0).integers(0, 101, truth.shape).astype(np.uint8)
    with pytest.raises(InputError, match=r"highest value of this map is 100 .* 255"):
        evaluate_stacks(stack(noise), drawn)


def test_maps_of_other_ranges_are_refused_by_name(truth, drawn):
    graded = np.linspace(0, 1, truth.size).reshape(truth.shape)
    for array, match in (
        ((graded * 4095).astype(np.uint16), r"highest value of this map is 4095 .* 65535"),
        (graded * 255, r"spans 0 to 255; rescale it"),
        (np.where(graded == 0, np.nan, graded), r"not finite"),
    ):
        with pytest.raises(InputError, match=rf"proposal.tif: .*{match}"):
            evaluate_stacks(replace(stack(array), source="proposal.tif"), drawn)


def test_labels_are_cells(truth, drawn):
    found = evaluate_stacks(stack((1 - truth) * 5, holds="cells"), drawn)
    assert found.scores.best().score == 1
    assert found.read_as == "labels, 0 = membrane (the file says it holds cells)"
    # Cells that touch are apart all the same, and bad labels are scored, not called inverted.
    touching = np.repeat(np.arange(1, 97), 96).reshape(1, 96, 96).repeat(6, axis=0)
    found = evaluate_stacks(stack(touching, holds="cells"), drawn)
    assert found.scores.best().score < 0.5


def test_sections_that_the_file_does_not_hold(truth, drawn):
    part = stack(truth[2:5].astype(float), holds="membrane map", info={"sections": [2, 4]})
    assert evaluate_stacks(part, drawn, slices="3-4").scores.best().score == 1
    for slices in ("0-1", "4-5"):
        with pytest.raises(InputError, match="it holds the sections 2-4, not all of --slices"):
            evaluate_stacks(part, drawn, slices=slices)


def test_sections_of_a_file_that_was_cut_out(truth, drawn):
    """Its sections are numbered from 0, and the truth of all is longer."""
    part = stack(truth[2:5].astype(float), holds="membrane map", info={"sections": [0, 2]})
    found = evaluate_stacks(part, drawn, slices="2-4")
    assert found.scores.best().score == 1
    assert any("scored against 2-4, as asked" in note for note in found.notes)
    guessed = evaluate_stacks(part, drawn)
    assert guessed.scores.best().score < 1
    assert any("holds the sections 0-2, and it is scored" in note for note in guessed.notes)
    whole = stack(truth.astype(float), holds="membrane map", info={"sections": [0, 5]})
    assert evaluate_stacks(whole, drawn).notes == ()


def test_slices_of_a_part_and_of_the_whole(truth, drawn, noisy):
    expected = evaluate(noisy[2:4], truth[2:4])
    whole = stack(noisy, holds="membrane map")
    part = stack(noisy[2:4], holds="membrane map")
    said = stack(noisy[2:4], holds="membrane map", info={"sections": [2, 3]})
    for proposal, slices in ((whole, "2-3"), (part, "2-3"), (said, None), (said, "2-3")):
        found = evaluate_stacks(proposal, drawn, slices=slices)
        assert found.scores.sections == (2, 3)
        for name in SCORE_NAMES:
            np.testing.assert_array_equal(found.scores.values[name], expected.values[name])


def test_a_threshold_of_ones_own(truth, drawn, noisy):
    found = evaluate_stacks(stack(noisy, holds="membrane map"), drawn, threshold=0.55)
    assert len(found.scores.thresholds) == 12
    cells = evaluate((noisy >= 0.45).astype(float), truth)
    assert found.scores.v_rand(0.55) == pytest.approx(cells.v_rand(0.5))


def test_the_challenges_number_knows_no_other_threshold(truth, drawn):
    """A map that is right at .95 alone."""
    map_ = np.where(truth, 0.06, 0.03)
    proposal = stack(map_, holds="membrane map")
    plain = evaluate_stacks(proposal, drawn)
    told = evaluate_stacks(proposal, drawn, threshold=0.95)
    assert told.scores.v_rand(0.95) == 1
    assert told.best() == plain.best()
    assert told.as_dict()["best"] == plain.as_dict()["best"]
    assert told.as_dict()["held_out"]["v_rand"]["score"] == 1


def test_a_threshold_is_the_challenges_to_the_last_digit(truth, drawn):
    map_ = 1 - np.where(truth, 0.3, 0.9)
    found = evaluate_stacks(stack(map_, holds="membrane map"), drawn, threshold=0.3)
    assert found.suite.mean("v_rand") == found.scores.v_rand(0.3)


def test_labels_have_no_threshold(truth, drawn):
    with pytest.raises(InputError, match=r"map\.tif: labels have no threshold"):
        evaluate_stacks(stack(pieces(1 - truth[0])[None]), drawn, slices="0-0", threshold=0.5)


def test_what_a_map_means_before_and_after_it_is_calibrated(truth, drawn):
    rng = np.random.default_rng(0)
    odds = np.where(truth, 1.0, -1.0) + rng.normal(0, 2, truth.shape)
    map_ = (1 / (1 + np.exp(-(odds + 2)))).astype(np.float32)
    fitted = fit_calibration(map_, truth == 1)
    info = {"threshold": 0.5, "calibration": list(fitted)}
    told = evaluate_stacks(stack(map_, holds="membrane map", info=info), drawn).as_dict()
    expected = reliability(map_, truth == 1)
    assert told["reliability"]["expected_error"] == pytest.approx(expected.expected_error)
    assert told["reliability"]["pixels"] == expected.pixels.tolist()
    assert told["calibrated"]["expected_error"] < 0.1 * expected.expected_error
    assert json.loads(json.dumps(told)) == told
    # What is not annotated does not count.
    where = np.zeros(truth.shape, np.uint8)
    where[:, :20] = 1
    part = evaluate_stacks(
        stack(map_, holds="membrane map", info=info), drawn, ignore=stack(where, holds=None)
    )
    assert part.suite.reliability.pixels.sum() == (where == 0).sum()
    assert part.calibrated.pixels.sum() == (where == 0).sum()
    cells = evaluate_stacks(
        stack(label_cells(truth[0] == 0)[None], holds="cells"), drawn, slices="0"
    )
    assert cells.suite.reliability is cells.calibrated is None
    assert "reliability" not in cells.as_dict()


def test_json_holds_every_score_and_section(truth, drawn):
    found = evaluate_stacks(
        stack(truth.astype(float), holds="membrane map", info={"threshold": 0.5}), drawn
    )
    told = json.loads(json.dumps(found.as_dict()))
    assert told["held_out"]["v_rand"] == {
        "threshold": 0.5,
        "score": 1.0,
        "split": 1.0,
        "merge": 1.0,
        "sections": {str(z): 1.0 for z in range(6)},
    }
    assert set(told["best"]) == {*SCORE_NAMES, "rand_error", "pixel_error", "warping_error"}
    assert set(told["all"]["scores"]) == set(SCORES)
    assert told["all"]["threshold"] == 0.5
    assert told["all"]["scores"]["warping_error"]["mean"] == 0
    assert told["errors"] == []
    assert len(told["curves"]["v_info"]) == len(told["thresholds"]) == 11


@pytest.mark.parametrize(
    ("proposal", "slices", "match"),
    [
        (np.zeros((3, 96, 96)), None, "3 sections and the truth 6; say with --slices"),
        (np.zeros((3, 96, 96)), "1-5", "it holds the sections 0-2, not all of --slices 1-5"),
        (np.zeros((6, 96, 90)), None, r"shape \(6, 96, 90\) and the truth \(6, 96, 96\)"),
        (np.full((6, 96, 96), 2.0), None, "spans 2 to 2"),
        (np.full((6, 96, 96), -1, np.int32), None, "labels are integers from 0 on"),
    ],
)
def test_what_does_not_fit(drawn, proposal, slices, match):
    with pytest.raises(InputError, match=match):
        evaluate_stacks(stack(proposal), drawn, slices=slices)


def test_labels_are_recognised_and_said(truth, drawn):
    cells = np.stack([pieces(section) for section in 1 - truth])
    for array in (cells.astype(np.uint8), cells.astype(np.uint16), cells, cells.astype(float)):
        found = evaluate_stacks(stack(array), drawn)
        assert found.scores.best().score == 1
        assert found.threshold is None
        assert found.suite.threshold is None
        assert found.read_as.startswith("labels, 0 = membrane (flat regions of many values")
    # A map of as many values is none: nothing in it is flat.
    soft = np.random.default_rng(0).integers(0, 255, truth.shape).astype(np.uint8)
    assert evaluate_stacks(stack(soft), drawn).read_as.startswith("map, high = interior")


def test_labels_that_touch_are_scored_as_they_are(truth, drawn):
    # Grown until they touch: no membrane is left, and not one cell is lost.
    cells = np.stack([pieces(section) for section in 1 - truth])
    full = np.stack([expand_labels(section, 50) for section in cells])
    found = evaluate_stacks(stack(full, holds="cells"), drawn)
    assert found.scores.best().score > 0.99
    assert found.suite.mean("cell_recall") > 0.7


def test_a_truth_of_labels_keeps_its_cells(truth):
    cells = np.stack([pieces(section) for section in 1 - truth])
    # Neurons: one number through the stack for whatever overlaps; here simply a tube.
    tube = np.zeros((6, 96, 96), np.int64)
    tube[:, 10:40, 10:40], tube[:, 42:80, 10:40] = 7, 2**33
    labelled = Stack(
        label_borders(tube).astype(np.uint8), (0, 1), (50.0, 4.0, 4.0), "t.tif", labels=tube
    )
    perfect = evaluate_stacks(stack(tube, holds="neurons"), labelled)
    assert set(perfect.suite.stack) == set(STACK_SCORES)
    assert perfect.suite.stack["v_rand_3d"] == 1
    assert perfect.suite.stack["run_length_share"] == 1
    # Every section with numbers of its own: right in 2D, in pieces in 3D.
    apart = np.where(tube > 0, pieces(tube[0]) + 10 * np.arange(6)[:, None, None], 0)
    found = evaluate_stacks(stack(apart, holds="cells"), labelled)
    assert found.scores.best().score == 1
    assert found.suite.stack["voi_cremi_split_3d"] == pytest.approx(np.log2(6))
    assert found.suite.stack["expected_run_length"] < perfect.suite.stack["expected_run_length"]
    # A map is scored against the labels of each section, and has no 3D score.
    map_ = evaluate_stacks(stack(tube == 0, holds="membrane map"), labelled)
    assert map_.scores.best().score == 1
    assert map_.suite.stack == {}
    cells = np.where(cells > 0, cells + 1000 * np.arange(6)[:, None, None], 0)
    flat = Stack(truth, (0, 1), None, "t.tif", labels=cells)
    assert evaluate_stacks(stack(cells, holds="cells"), flat).suite.stack == {}


def test_a_region_is_as_if_cut_out(truth, drawn, noisy):
    part = evaluate_stacks(stack(noisy, holds="membrane map"), drawn, roi="16:80, 8:96")
    cut = Stack(truth[:, 16:80, 8:], (0, 1), None, "truth.tif")
    same = evaluate_stacks(stack(noisy[:, 16:80, 8:], holds="membrane map"), cut)
    for name in SCORES:
        np.testing.assert_array_equal(part.suite.values[name], same.suite.values[name])
    for one, other in zip(part.mistakes, same.mistakes, strict=True):
        y, x = other.position
        assert one.position == (y + 16, x + 8)


@pytest.mark.parametrize(
    "text", ["0:10", "a:b,c:d", "10:10,0:5", "0:97,0:5", "0:5,90:97", "-1:5,0:5"]
)
def test_a_region_that_is_none(text):
    with pytest.raises(InputError, match=r"region '.*': "):
        parse_roi(text, (6, 96, 96))


def test_ignored_pixels_do_not_count(truth, drawn):
    wrong = truth.astype(float)
    wrong[:, 30:60, 30:60] = 0
    mask = np.zeros(truth.shape, np.uint8)
    mask[:, 28:62, 28:62] = 255
    left_out = evaluate_stacks(stack(wrong, holds="membrane map"), drawn, ignore=stack(mask))
    # The cells stay joined through what is ignored; its pixels do not count.
    assert left_out.scores.best("v_rand").merge < 1
    for name in ("f1", "cl_dice", "boundary_f"):
        assert left_out.suite.mean(name) == 1
    for name in ("pixel_error", "warping_error", "betti_0", "betti_1", "squared_error"):
        assert left_out.suite.mean(name) == 0
    with pytest.raises(InputError, match="every pixel of section 0 is ignored"):
        evaluate_stacks(stack(wrong), drawn, ignore=stack(np.ones_like(mask)))
    mask[:], mask[2] = 0, 255
    with pytest.raises(InputError, match="every pixel of section 4 is ignored"):
        evaluate_stacks(stack(wrong[2:6]), drawn, slices="2-5", ignore=stack(mask[[0, 1, 2, 3]]))
    with pytest.raises(InputError, match=r"mask of pixels to ignore has shape \(2, 96, 96\)"):
        evaluate_stacks(stack(wrong), drawn, ignore=stack(mask[:2]))


def test_every_table_and_picture_is_written(truth, drawn, noisy, tmp_path):
    found = evaluate_stacks(stack(noisy, holds="membrane map", info={"threshold": 0.5}), drawn)
    write_csv(tmp_path / "scores.csv", found)
    with (tmp_path / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["section"] for row in rows] == ["0", "1", "2", "3", "4", "5", "mean"]
    assert set(rows[0]) == {"section", "threshold", *SCORES}
    assert float(rows[2]["v_rand"]) == found.suite.values["v_rand"][2]
    assert float(rows[-1]["iou"]) == found.suite.mean("iou")
    files = write_mistakes(tmp_path / "a" / "errors", found)
    assert [file.name for file in files[1:]] == [f"section-{z:03d}.png" for z in range(6)]
    with files[0].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.mistakes) > 0
    assert float(rows[0]["gain"]) == found.mistakes[0].gain
    assert imread(files[1]).shape == (96, 96, 3)
    with pytest.raises(InputError, match="the images have shape"):
        write_mistakes(tmp_path, found, truth[:2])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another folder"):
        write_mistakes(tmp_path / "file", found)


def test_the_images_that_belong_to_the_scored_sections(truth, drawn, noisy):
    found = evaluate_stacks(stack(noisy, holds="membrane map"), drawn, slices="2-3")
    np.testing.assert_array_equal(matching(found, stack(noisy), None), noisy[2:4])
    np.testing.assert_array_equal(matching(found, stack(noisy[:2]), None), noisy[:2])
    np.testing.assert_array_equal(matching(found, stack(noisy), "0:9,1:9"), noisy[2:4, :9, 1:9])
    with pytest.raises(InputError, match="holds 3 sections, not the scored ones 2-3"):
        matching(found, stack(noisy[:3]), None)


def test_two_proposals_are_compared_by_section(truth, drawn, noisy):
    good = evaluate_stacks(stack(truth.astype(float), holds="membrane map"), drawn)
    bad = evaluate_stacks(stack(noisy, holds="membrane map"), drawn)
    paired, differences = compare(good, bad)
    assert paired
    sure = differences["v_rand"]
    assert sure.mean == pytest.approx(1 - bad.suite.mean("v_rand"))
    assert 0 < sure.low <= sure.mean <= sure.high
    other = evaluate_stacks(stack(noisy, holds="membrane map"), drawn, slices="0-2")
    paired, differences = compare(good, other)
    assert not paired
    told = json.loads(json.dumps(compare_as_dict(good, other)))
    assert told["paired"] is False
    assert "distinct resamples" in told["note"]
    assert set(told["scores"]) == set(SCORES)


@pytest.mark.parametrize("kind", ["membrane", "interior", "cells"])
def test_cells_end_where_the_annotation_ends(kind):
    # One cell bends around a wall: within the annotated part it is two.
    drawn = np.zeros((1, 24, 24), np.uint8)
    drawn[:, :16, 11:13] = 1
    partial = drawn.copy()
    partial[:, 12:] = IGNORED
    truth = Stack(partial, (0, 1), None, "t.tif")
    array = {
        "membrane": drawn.astype(np.float32),
        "interior": (1 - drawn) * np.uint8(255),
        "cells": np.where(drawn, 0, 1).astype(np.uint32),
    }[kind]
    proposal = Stack(array, (0, 1), None, "p.tif")
    found = evaluate_stacks(proposal, truth, proposal_is=kind, roi="2:22,0:24")
    assert found.scores.best().score == 1
    assert found.suite.values["cell_f1"][0] == 1
    # What is wrong beyond does not count, what is wrong within does.
    array[:, 12:] = 0 if kind != "membrane" else 1
    assert evaluate_stacks(proposal, truth, proposal_is=kind).scores.best().score == 1
    array[:, :12] = 1 if kind == "cells" else 0 if kind == "membrane" else 255
    assert evaluate_stacks(proposal, truth, proposal_is=kind).scores.best().score < 0.9


def test_sections_without_annotation_are_not_scored():
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[0, 4], truth[1] = 1, IGNORED
    proposal = Stack((truth == 1).astype(np.float32), (0, 1), None, "p.tif")
    with pytest.raises(InputError, match=r"t.tif: nothing is annotated in section 1; score others"):
        evaluate_stacks(proposal, Stack(truth, (0, 1), None, "t.tif"), proposal_is="membrane")
    truth[1, 0, 0] = 0  # all but out of the region
    drawn = Stack(truth, (0, 1), None, "t.tif")
    with pytest.raises(InputError, match=r"every pixel of section 1 is .* out of the region"):
        evaluate_stacks(proposal, drawn, proposal_is="membrane", roi="2:8,0:8")


def test_a_region_of_a_map_of_ours_is_as_good_as_the_whole(truth, drawn):
    """Where no membrane is sure the highest value of 8 bits is low."""
    faint = np.where(truth, 60, 0).astype(np.uint8)
    faint[:, 50:] = np.where(truth[:, 50:], 255, 0)
    for holds in ("membrane map", None):
        proposal = stack(faint if holds else 255 - faint, holds=holds)
        evaluate_stacks(proposal, drawn, roi="0:40,0:96", threshold=0.2)
