"""The command line as a user meets it: results, and one sentence for each mistake."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile

import axolemma
from axolemma import cli, models
from axolemma.datasets import phantom_pairs
from axolemma.images import read, read_truth, write_png, write_tiff


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of pairs and the run of a small training on it."""
    folder = tmp_path_factory.mktemp("files")
    pairs = phantom_pairs((4, 96, 96))
    data = folder / "data"
    data.mkdir()
    write_tiff(data / "train-volume.tif", pairs.images, voxel_size=(50, 4, 4))
    write_tiff(data / "train-labels.tif", (1 - pairs.truth) * np.uint8(255))
    settings = {"width": 4, "depth": 2, "crop": 64, "batch": 2, "steps": 3}
    axolemma.train(data, run=folder / "run", slices="0-2", **settings)
    return folder


def test_train_segment_evaluate(call, files, tmp_path):
    code, out, err = call(
        *("train", "--data", files / "data", "--slices", "0-2", "--steps", 2, "--width", 4),
        *("--crop", 64, "--batch", 1, "-o", "run"),
    )
    assert code == 0, err
    assert "sections 0-2, of which 2-2 are held out" in err
    assert "validation, averaged over dihedral: V_rand" in out
    volume, labels = files / "data" / "train-volume.tif", files / "data" / "train-labels.tif"
    code, out, err = call(
        "segment", volume, "--model", "run", "--slices", "3", "-o", "out", "--json"
    )
    assert code == 0, err
    record = json.loads(out)
    assert record["input"]["sections"] == [3, 3]
    assert read(tmp_path / "out" / "cells.tif").array.shape == (1, 96, 96)
    code, out, err = call("evaluate", "out", labels)
    assert code == 0, err
    assert "chosen elsewhere" in out
    assert "mean" in out
    code, out, _ = call("evaluate", "out", labels, "--json")
    told = json.loads(out)
    assert told["held_out"]["v_rand"]["threshold"] == record["threshold"]
    assert list(told["held_out"]["v_rand"]["sections"]) == ["3"]


def test_evaluate_writes_tables_and_pictures(call, files, tmp_path):
    volume, labels = files / "data" / "train-volume.tif", files / "data" / "train-labels.tif"
    code, out, err = call(
        *("evaluate", labels, labels, "--slices", "1-2", "--roi", "0:64,0:80", "--tolerance", 3),
        *("--csv", "scores.csv", "--errors", "errors", "--image", volume, "--against", labels),
    )
    assert code == 0, err
    assert "read as binary mask, high = interior" in out
    for words in ("boundary F, 3 px", "Topological errors", "this against the other", "paired"):
        assert words in out
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 4
    assert sorted(file.name for file in (tmp_path / "errors").iterdir()) == [
        "errors.csv",
        "section-001.png",
        "section-002.png",
    ]
    code, out, _ = call("evaluate", labels, labels, "--against", labels, "--json")
    assert json.loads(out)["difference"]["scores"]["v_rand"]["mean"] == 0


def test_what_is_said_of_a_proposal_holds_for_the_other_too(call, files, tmp_path):
    labels = files / "data" / "train-labels.tif"
    membrane = read_truth(labels).array.astype(np.float32)
    tifffile.imwrite(tmp_path / "map.tif", membrane, photometric="minisblack")
    write_tiff(tmp_path / "told.tif", membrane, holds="membrane map")
    tifffile.imwrite(tmp_path / "interior.tif", 1 - membrane, photometric="minisblack")
    for other in ("map.tif", "told.tif"):
        command = ("evaluate", "map.tif", labels, "--against", other, "--json")
        code, out, err = call(*command, "--proposal-is", "membrane")
        assert code == 0, err
        assert json.loads(out)["difference"]["scores"]["v_rand"]["mean"] == 0
    command = ("evaluate", "interior.tif", labels, "--proposal-is", "interior")
    code, out, err = call(*command, "--against", "told.tif", "--json")
    assert code == 0, err
    assert json.loads(out)["difference"]["scores"]["v_rand"]["mean"] == 0


@pytest.mark.parametrize(
    "command",
    [
        ("check", "mine.tif", "-o", "other.tif"),
        ("measure", "mine.tif", "--voxel-size", "50,4,4", "-o", "other.tif"),
        ("suggest", "mine.tif", "-o", "other.tif"),
        ("suggest", "mine.tif", "--picture", "other.tif"),
    ],
)
def test_a_table_replaces_no_stack(call, tmp_path, command):
    write_tiff(tmp_path / "other.tif", np.zeros((2, 16, 16), np.uint8))
    before = (tmp_path / "other.tif").read_bytes()
    code, _, err = call(*command)
    assert code == 2
    assert "other.tif: name a file that ends in ." in err
    assert (tmp_path / "other.tif").read_bytes() == before


def test_what_is_about_a_truth_needs_one(call, files):
    for words in (("--slices", "0-1"), ("--truth-is", "labels"), ("--ignore-value", 128)):
        code, _, err = call("report", files / "run", *words, "-o", "page.html")
        assert (code, err) == (2, f"axolemma: {words[0]} is about a truth; name it with --truth\n")


def test_pictures_of_errors_are_those_of_the_call(call, files, tmp_path):
    labels = files / "data" / "train-labels.tif"
    for slices, names in (("1-2", ["001", "002"]), ("0-0", ["000"])):
        code, _, err = call("evaluate", labels, labels, "--slices", slices, "--errors", "errors")
        assert code == 0, err
        found = sorted(file.name for file in (tmp_path / "errors").glob("*.png"))
        assert found == [f"section-{name}.png" for name in names]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "letter.txt").touch()
    code, out, err = call("evaluate", labels, labels, "--errors", "own")
    assert (code, out) == (2, "")
    assert "own: this folder holds other files" in err


def test_augment_writes_pairs_that_train_reads(call, files, tmp_path):
    command = ("augment", "--data", files / "data", "--slices", "0-2", "--count", 6)
    code, out, err = call(*command, "--preset", "keras", "--workers", 1, "-o", "more")
    assert code == 0, err
    assert "6 pairs: more" in out
    code, out, err = call("train", "--data", "more", "--steps", 1, "--width", 4, "--crop", 64)
    assert code == 0, err
    code, _, err = call(*command, "--preset", "kears", "-o", "other")
    assert code == 2
    assert "did you mean 'keras'?" in err
    assert not (tmp_path / "other").exists()


def test_a_page_of_a_run_and_of_an_evaluation(call, files, tmp_path):
    volume, labels = files / "data" / "train-volume.tif", files / "data" / "train-labels.tif"
    code, out, err = call("report", files / "run", "-o", "run.html")
    assert code == 0, err
    assert "run.html" in out
    assert "<svg" in (tmp_path / "run.html").read_text()
    code, _, err = call("evaluate", labels, labels, "--report", "page.html", "--image", volume)
    assert code == 0, err
    assert "data:image" in (tmp_path / "page.html").read_text()


def test_suggested_windows_are_learned_from(call, files, tmp_path):
    """The whole round: suggest, annotate the windows, go on from the model, score them."""
    volume, labels = files / "data" / "train-volume.tif", files / "data" / "train-labels.tif"
    code, out, err = call(
        *("suggest", volume, "--model", files / "run", "--count", 4, "--size", 48, "--json"),
        *("-o", "windows.csv", "--picture", "windows.png"),
    )
    assert code == 0, err
    windows = json.loads(out)["windows"]
    assert len((tmp_path / "windows.csv").read_text().splitlines()) == 1 + len(windows)
    assert (tmp_path / "windows.png").stat().st_size > 0
    truth = read(labels).array
    drawn = np.full_like(truth, 128)
    for window in windows:
        rows = slice(window["y"], window["y"] + 48)
        columns = slice(window["x"], window["x"] + 48)
        drawn[window["section"], rows, columns] = truth[window["section"], rows, columns]
    (tmp_path / "windows").mkdir()
    write_tiff(tmp_path / "windows" / "a.tif", read(volume).array)
    write_tiff(tmp_path / "windows" / "a-labels.tif", drawn)
    code, _, err = call("train", "--data", "windows", "--from", files / "run", "-o", "run")
    assert code == 2
    assert "--ignore-value 128" in err
    code, out, err = call(
        *("train", "--data", "windows", "--ignore-value", 128, "--from", files / "run"),
        *("--validate", "none", "--steps", 2, "--crop", 64, "--batch", 1, "-o", "run", "--json"),
    )
    assert code == 0, err
    assert "value 128, is not annotated" in err
    told = json.loads(out)
    assert told["training"]["settings"]["from"] == str(files / "run")
    assert told["arguments"]["width"] == 4
    code, out, err = call("suggest", volume, "--model", "run", "--size", 32, "--slices", "2-3")
    assert code == 0, err
    assert "uncertainty" in out
    # What is scored is what is annotated: the truth itself is perfect there.
    partly = ("windows/a-labels.tif", "--ignore-value", 128)
    kept = sorted({window["section"] for window in windows})
    for z in kept:
        code, out, err = call("evaluate", labels, *partly, "--slices", z, "--json")
        assert code == 0, err
        assert json.loads(out)["best"]["v_rand"]["score"] == 1
    for z in set(range(4)) - set(kept):
        code, _, err = call("evaluate", labels, *partly, "--slices", z)
        assert code == 2
        assert f"nothing is annotated in section {z}" in err


def test_suggestions_know_a_pixel_size_without_a_thickness(call, files, tmp_path):
    section = read(files / "data" / "train-volume.tif").array[0]
    tifffile.imwrite("plain.tif", section)
    tifffile.imwrite("told.tif", section, resolution=(1.25e6, 1.25e6), resolutionunit=3)  # 8 nm
    ask = ("--model", files / "run", "--size", 16, "--count", 3, "--json")
    found = {}
    for name, more in (
        ("told.tif", ()),
        ("plain.tif", ("--voxel-size", "50,8,8")),
        ("plain.tif", ("--voxel-size", "50,4,4")),
    ):
        code, out, err = call("suggest", name, *ask, *more)
        assert code == 0, err
        found[name, more] = json.loads(out)["windows"]
    told, same, other = found.values()
    assert told == same
    assert told != other


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--size", "200"), "hold no window of 200"),
        (("--count", "0"), "0 windows"),
        (("--slices", "2-9"), "4 sections"),
        (("--size", "9", "--model", "nowhere"), "no model file or model named 'nowhere'"),
        (("--voxel-size", "4"), "three lengths Z,Y,X in nm"),
        (("--size", "48", "--picture", "no/a.png"), "no/a.png"),
    ],
)
def test_suggestions_that_cannot_be(call, files, tmp_path, arguments, match):
    volume = files / "data" / "train-volume.tif"
    arguments = arguments if "--model" in arguments else ("--model", files / "run", *arguments)
    refused(call, tmp_path, match, "suggest", volume, *arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("report", "nowhere"), "nowhere"),
        (("report", "data/train-labels.tif"), "truth"),
        (("compare", "--data", "phantom", "--models", "resnet"), "did you mean 'resunet'?"),
        (("compare", "--data", "phantom", "--models", "unet", "--losses", "bec"), "'bce'?"),
        (("compare", "--data", "phantom", "--models", "unet", "--seeds", "x"), "seeds"),
        (("augment", "--data", "data", "--count", "0", "-o", "a"), "count"),
        (("augment", "--data", "phantom", "--truth-is", "x", "-o", "a"), "--truth-is is one of"),
        (
            ("augment", "--data", "phantom", "--truth-is", "labels", "-o", "a"),
            "leave --truth-is out",
        ),
        (
            ("augment", "--data", "phantom", "--ignore-value", "128", "-o", "a"),
            "leave --ignore-value out",
        ),
        (
            ("train", "--data", "phantom", "--loss", "bce", "--dice", "0.5", "-o", "a"),
            "axolemma: loss 'bce' has no option 'dice'",
        ),
        (
            ("report", "data", "--truth", "data/train-labels.tif", "--truth-is", "x"),
            "--truth-is is one of",
        ),
        (("measure", "data/train-volume.tif", "-o", "a.csv"), "looks like grey values"),
    ],
)
def test_pages_and_comparisons_that_cannot_be(call, files, tmp_path, arguments, match):
    (tmp_path / "data").symlink_to(files / "data")
    refused(call, tmp_path, match, *arguments)


def test_what_it_will_take_is_said_before(call, files, monkeypatch):
    small = ["--width", 4, "--depth", 2, "--crop", 64, "--batch", 1, "--steps", 1]
    job = ["train", "--data", files / "data", *small, "-o", "run"]
    code, _, told = call(*job, "--profile")
    assert code == 0
    assert re.match(r"about \d+ s, \d+ MB of memory, \d+ MB on disk\n", told)
    for part in ("crops", "forward", "backward", "optimizer", "averaging", "validation"):
        assert part in told
    code, _, told = call(
        "segment", files / "data" / "train-volume.tif", "--model", "run", "-o", "out"
    )
    assert code == 0
    assert "MB of memory" in told
    monkeypatch.setattr("axolemma.estimate.free_memory", lambda: 1e6)
    code, _, told = call(
        "segment", files / "data" / "train-volume.tif", "--model", "run", "-o", "more"
    )
    assert code == 2
    assert "1 MB are free; take a smaller --tile, --objects none" in told
    code, _, told = call("train", "--data", files / "data", *small, "-o", "other")
    assert code == 2
    assert "take a smaller --batch, a smaller --crop" in told


def test_a_yaml_file_gives_way_to_flags(call, files, tmp_path):
    text = f"data: {files / 'data'}\nsteps: 1\nwidth: 4\ncrop: 64\nseed: 5\nvalidate: 3-3\n"
    (tmp_path / "settings.yaml").write_text(text)
    code, out, err = call("train", "--config", "settings.yaml", "--seed", 7, "-o", "run", "--json")
    assert code == 0, err
    used = json.loads(out)["training"]["settings"]
    assert (used["seed"], used["steps"], used["validate"]) == (7, 1, "3-3")


def test_flags_win_over_the_other_kind_of_budget(call, files, tmp_path):
    text = f"data: {files / 'data'}\nbudget: 10m\nwidth: 4\ncrop: 64\nslices: 0-2\nvalidate: 2\n"
    (tmp_path / "settings.yaml").write_text(text)
    code, out, err = call("train", "--config", "settings.yaml", "--steps", 1, "-o", "r", "--json")
    assert code == 0, err
    assert json.loads(out)["training"]["steps"] == 1


def test_odd_names_are_printed_as_they_are(call, files):
    volume = files / "data" / "train-volume.tif"
    code, out, _ = call("segment", volume, "--model", files / "run", "-o", "w[red]x")
    assert code == 0
    assert out.endswith("results: w[red]x\n")


def test_only_the_chosen_sections_must_be_sound(call, files, tmp_path):
    source = constant(tmp_path)
    assert call("segment", source, "--model", files / "run", "--slices", "2", "-o", "a")[0] == 0
    code, _, err = call("segment", source, "--model", files / "run", "--slices", "1-2", "-o", "b")
    assert code == 2
    assert "section 1 is constant" in err


def test_objects_lie_in_the_sections_of_the_image(call, tmp_path):
    cells = np.repeat(np.repeat(np.eye(2, dtype=np.uint16) * 3, 8, 0), 8, 1)[None].repeat(2, 0)
    about = {"voxel_size": (50, 4, 4), "info": {"sections": [5, 6]}}
    for kind, columns in (("cells", ["section"]), ("neurons", ["first_section", "last_section"])):
        write_tiff(tmp_path / "a.tif", cells, holds=kind, **about)
        code, out, err = call("measure", "a.tif", "-o", "a.csv", "--json")
        assert code == 0, err
        rows = json.loads(out)["objects"]
        assert [rows[0][columns[0]], rows[-1][columns[-1]]] == [5, 6]


def test_models_and_info(call, files):
    code, out, _ = call("models", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(models.MODELS)
    assert "parameters" in call("models")[1]
    code, out, _ = call("info", files / "run", "--json")
    told = json.loads(out)
    assert told["architecture"] == "resunet"
    assert told["voxel_size"] == [50, 4, 4]
    assert re.search(r"^ threshold +0\.\d+ *$", call("info", files / "run")[1], re.MULTILINE)


def test_version_and_help(call):
    assert call("--version")[1].strip() == axolemma.__version__
    for verb in ("demo", "train", "segment", "evaluate", "suggest", "models", "info"):
        code, out, _ = call(verb, "--help")
        assert code == 0
        assert f"axolemma {verb}" in " ".join(out.split())
        assert "Example" in out


def test_python_m_axolemma():
    command = [sys.executable, "-m", "axolemma", "evaluate", "nowhere.tif", "nowhere.tif"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("axolemma: nowhere.tif")
    assert "Traceback" not in found.stderr


def stack(tmp_path, array, name="stack.tif"):
    tifffile.imwrite(tmp_path / name, array, photometric="minisblack")
    return name


def noise(*shape):
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def truncated(tmp_path):
    stack(tmp_path, noise(3, 64, 64), "whole.tif")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:9000])
    (tmp_path / "whole.tif").unlink()
    return "cut.tif"


def text(tmp_path):
    (tmp_path / "text.tif").write_text("this is no image")
    return "text.tif"


def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return "empty"


def coloured(tmp_path):
    write_png(tmp_path / "colour.png", noise(20, 20, 3))
    return "colour.png"


def constant(tmp_path):
    array = noise(3, 20, 20)
    array[1] = 9
    return stack(tmp_path, array)


def not_finite(tmp_path):
    array = noise(2, 20, 20).astype(np.float32)
    array[1, 2, 3] = np.nan
    return stack(tmp_path, array)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (truncated, "cut.tif: "),
        (text, "text.tif: "),
        (empty, "empty: the folder holds no image"),
        (coloured, "colour.png: "),
        (constant, "section 1 is constant"),
        (not_finite, "NaN or infinite, the first at ZYX (1, 2, 3)"),
        (lambda _: "nothing.tif", "nothing.tif: does not exist"),
    ],
)
def test_images_that_cannot_be_segmented(call, files, tmp_path, make, match):
    source = make(tmp_path)
    refused(call, tmp_path, match, "segment", source, "--model", files / "run", "-o", "out")


def test_shapes_that_differ(call, tmp_path):
    (tmp_path / "pairs").mkdir()
    stack(tmp_path, noise(3, 20, 20), "pairs/a.tif")
    stack(tmp_path, (noise(3, 20, 24) > 60) * np.uint8(255), "pairs/a-labels.tif")
    match = "the truth has the shape (3, 20, 24) but its image"
    refused(call, tmp_path, match, "train", "--data", "pairs", "-o", "out")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--model", "text.safetensors"), "text.safetensors: this is not a model file"),
        (("--model", "nowhere"), "no model file or model named 'nowhere'"),
        (("--polarity", "inverted"), "'polarity': "),
        (("--model", "RUN", "--slices", "2-9"), "4 sections"),
        (("--model", "RUN", "--device", "tpu"), "unknown device 'tpu'"),
        (("--model", "RUN", "--voxel-size", "4,4"), "three lengths Z,Y,X in nm"),
        (("--model", "RUN", "--voxel-size", "-1,4,4", "-o", "a/b/c"), "three lengths Z,Y,X in nm"),
        (("--model", "RUN", "-o", "x" * 300), "name too long"),
        (("--model", "RUN", "-o", "text.safetensors/out"), "text.safetensors/out"),
        (("--model", "RUN", "--sliecs", "1"), "No such option: --sliecs"),
    ],
)
def test_segmentations_that_cannot_be(call, files, tmp_path, arguments, match):
    (tmp_path / "text.safetensors").write_text("no model")
    arguments = [files / "run" if a == "RUN" else a for a in arguments]
    source = files / "data" / "train-volume.tif"
    refused(call, tmp_path, match, "segment", source, *arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--model", "resnet"), "unknown model 'resnet'; did you mean 'resunet'?"),
        (("--config", "wrong.yaml"), "unknown setting 'seeed'; did you mean 'seed'?"),
        (("--data", "isbi2021"), "no dataset or folder named 'isbi2021'; did you mean 'isbi2012'?"),
        (("--slices", "0,3"), "'0,3'"),
        (("--slices", "9" * 5000), "expected a-b or a"),
        (("--device", "tpu", "-o", "a/b"), "unknown device 'tpu'"),
        (("--seed", 2**40), "'seed': "),
        (("--slices", "0-9"), "4 sections"),
        (("--budget", "soon"), "'soon' is no duration"),
        (("--from", "nowhere"), "no model file or model named 'nowhere'"),
        (("--from", "neurites", "--width", "3"), "leave width out"),
        (("--data", "phantom", "--ignore-value", "128"), "leave --ignore-value out"),
        (("--budget", "5m", "--steps", "3"), "not both"),
        (("--steps", "1", "-o", "wrong.yaml/run"), "wrong.yaml/run"),
    ],
)
def test_trainings_that_cannot_be(call, files, tmp_path, arguments, match):
    (tmp_path / "wrong.yaml").write_text("seeed: 3\n")
    data = () if "--data" in arguments else ("--data", files / "data")
    refused(call, tmp_path, match, "train", *data, *arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("data/train-labels.tif", "data/nothing.tif"), "nothing.tif: does not exist"),
        (("data/train-labels.tif", "data/train-labels.tif", "--slices", "9"), "4 sections"),
        (
            ("data/train-labels.tif", "data/train-labels.tif", "--threshold", "nan"),
            "0 and 1, not nan",
        ),
        (("data/train-labels.tif", "data/train-labels.tif", "--truth-is", "x"), "--truth-is is"),
        (("data/train-volume.tif", "data/train-labels.tif", "--proposal-is", "y"), "not 'y'"),
        (("data/train-labels.tif", "data/train-labels.tif", "--roi", "5"), "region '5'"),
        (("data/train-labels.tif", "data/train-labels.tif", "--image", "x.tif"), "say --errors or"),
        (("data/train-labels.tif", "data/train-labels.tif", "--ignore", "x.tif"), "x.tif: does"),
        (("data/train-labels.tif", "data/train-labels.tif", "--csv", "no/a.csv"), "no/a.csv"),
    ],
)
def test_evaluations_that_cannot_be(call, files, tmp_path, arguments, match):
    (tmp_path / "data").symlink_to(files / "data")
    refused(call, tmp_path, match, "evaluate", *arguments)


def refused(call, folder, match, *arguments):
    """Check exit code 2, one sentence that says `match`, and that nothing was written."""
    before = sorted(folder.rglob("*"))
    code, out, err = call(*arguments)
    assert code == 2, err
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("axolemma: ")
    # What the work will take is said before all of the input is looked at.
    assert all(line.startswith(("note: ", "about ")) for line in err.splitlines()[:-1])
    assert match in last
    assert sorted(folder.rglob("*")) == before


def test_an_unexpected_error_is_short_unless_debugged(call, monkeypatch):
    def broken(*_):
        raise RuntimeError("broken pipework")

    monkeypatch.setattr("axolemma.modelfile.load_model", broken)
    code, _, err = call("info", "x")
    assert code == 1
    assert err == "axolemma: RuntimeError: broken pipework (--debug shows where)\n"
    monkeypatch.setattr(sys, "argv", ["axolemma", "--debug", "info", "x"])
    with pytest.raises(RuntimeError, match="broken pipework"):
        cli.main()


def test_an_interrupt_says_how_to_go_on(call, monkeypatch):
    def stop(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("axolemma.datasets.load", stop)
    code, _, err = call("train", "--data", "mine")
    assert code == 130
    assert err == "axolemma: stopped; the training goes on when its command is repeated\n"
    code, _, err = call("augment", "--data", "mine", "-o", "more")
    assert (code, err) == (130, "axolemma: stopped\n")


@pytest.mark.parametrize(
    "command",
    [
        ("check", "in.tif", "-o", "in.tif"),
        ("suggest", "in.tif", "-o", "./in.tif"),
        ("suggest", "in.tif", "--picture", "in.tif"),
        ("measure", "in.tif", "-o", "in.tif"),
        ("evaluate", "in.tif", "truth.tif", "--csv", "truth.tif"),
        ("evaluate", "in.tif", "truth.tif", "--report", "in.tif"),
        ("report", "sub", "--truth", "truth.tif", "-o", "truth.tif"),
        ("compare", "--data", "truth.tif", "--models", "unet", "--csv", "truth.tif", "-o", "c"),
        ("augment", "--data", "in.tif", "-o", "in.tif", "--overwrite"),
        ("convert", "in.tif", "sub/../in.tif"),
    ],
    ids=" ".join,
)
def test_no_result_replaces_an_input(call, tmp_path, command):
    (tmp_path / "sub").mkdir()
    for name in ("in.tif", "truth.tif"):
        write_tiff(tmp_path / name, phantom_pairs((1, 64, 64)).images, voxel_size=(50, 4, 4))
    before = [(tmp_path / name).read_bytes() for name in ("in.tif", "truth.tif")]
    code, out, err = call(*command)
    assert (code, out) == (2, "")
    assert "is the input itself; choose another name" in err
    assert [(tmp_path / name).read_bytes() for name in ("in.tif", "truth.tif")] == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("suggest", "in.tif", "-o", "a.csv", "--picture", "no/a.png"), "no does not exist"),
        (("measure", "in.tif", "-o", "a.csv", "--skeletons", "in.tif"), "this is a file"),
        (
            ("evaluate", "in.tif", "in.tif", "--csv", "a.csv", "--report", "no/a.html"),
            "no does not",
        ),
        (("check", "in.tif", "-o", "."), "this is a folder; name a file"),
        (("report", "sub", "-o", "run.json"), "name a file that ends in .html"),
        (("compare", "--data", "sub", "--models", "unet", "--csv", "a.json", "-o", "c"), "in .csv"),
        (("suggest", "in.tif", "-o", "a.csv", "--picture", "a.csv"), "name two files"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_places_are_looked_at_before_anything_is_written(call, tmp_path, command, said):
    write_tiff(tmp_path / "in.tif", phantom_pairs((1, 64, 64)).images, voxel_size=(50, 4, 4))
    code, _, err = call(*command)
    assert code == 2
    assert said in err
    assert [file.name for file in tmp_path.iterdir()] == ["in.tif"]


def test_a_mask_is_not_measured(call, tmp_path):
    mask = np.zeros((2, 64, 64), np.uint8)
    mask[:, 10:30, 10:30] = mask[:, 40:60, 40:60] = 255
    write_tiff(tmp_path / "mask.tif", mask, voxel_size=(50, 4, 4))
    code, _, err = call("measure", "mask.tif", "-o", "a.csv")
    assert code == 2
    assert "it holds 0 and 255 alone, a mask" in err
