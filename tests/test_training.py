import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, safe_open

import axolemma
from axolemma import augment_keras, training
from axolemma.datasets import Pairs, isbi2012, phantom_pairs
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.images import write_tiff
from axolemma.metrics import evaluate
from axolemma.modelfile import load_model, state_hash
from axolemma.objects import BOUNDARIES
from axolemma.segmentation import segment
from axolemma.settings import TrainSettings, check
from axolemma.training import fit, split

SMALL = {"width": 4, "depth": 2, "crop": 64, "batch": 2, "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def pairs():
    return phantom_pairs((5, 128, 128))


def settings(**values):
    return check(TrainSettings, {"data": "made", **SMALL, **values})


def test_a_run_leaves_a_model_and_its_story(pairs, tmp_path):
    reports = []
    model = fit(pairs, settings(steps=12), tmp_path / "run", report=reports.append)
    run = tmp_path / "run"
    assert {f.name for f in run.iterdir()} == {
        "settings.json",
        "metrics.jsonl",
        "model.safetensors",
    }
    assert reports[-1].done == 1
    assert reports[-1].step == 12
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert sum("v_rand" in line for line in lines) >= 5
    assert set(model.info.thresholds) == {"none", "flips", "dihedral"}
    assert model.info.boundary in BOUNDARIES
    assert 0 <= model.info.training["validation_cells"]["v_rand"] <= 1
    assert model.info.training["slices"] == "0-4"
    assert model.info.training["validated_on"] == "4-4"
    assert model.info.training["weights_sha256"] == state_hash(model.network)
    assert model.info.voxel_size == (50, 4, 4)
    assert model.info.magnification == 1
    # All arguments, defaults too: the file must outlive a change of defaults.
    defaults = {"in_channels": 1, "out_channels": 1, "unshuffle": 4}
    assert model.info.arguments == {"width": 4, "depth": 2, **defaults}


def test_a_finished_run_is_not_repeated(pairs, tmp_path):
    first = fit(pairs, settings(steps=3), tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    again = fit(pairs, settings(steps=3), tmp_path / "run")
    assert state_hash(again.network) == state_hash(first.network)
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "cl_dice"},
        {"loss": "weight_map_bce"},
        {"preset": "keras"},
        {"preset": "keras", "context": 1, "crop": 256},
        {"preset": "none", "context": 1, "crop": 150},
        {"model": "unetplusplus", "depth": 3},
        {"model": "cenet", "depth": None, "loss": "iou"},
        {"arguments": {"width": 2, "depth": 3}, "width": None, "depth": None},
        {"recipe": "seed-unet", "crop": 64},
        {"recipe": "seed-unetplusplus", "crop": 64},
    ],
    ids=str,
)
def test_every_loss_preset_and_network_trains(pairs, tmp_path, values):
    small = {"steps": 2, **values}
    if "recipe" in values:
        small = {"model": None, **small}
    model = fit(pairs, settings(**small), tmp_path / "run")
    told = model.info.training["settings"]
    assert {name: told[name] for name in values} == values


def test_keras_wedges_are_as_black_as_the_file(pairs):
    image = training._prepare(pairs, 0)[:1]
    level = -float(pairs.images[0].mean() / pairs.images[0].std())
    moves = augment_keras.draw(np.random.default_rng(3), pairs.truth.shape[1:])
    moved, drawn = training._as_keras(image, pairs.truth[0], moves, [level])
    assert moved.min() == pytest.approx(level, abs=1e-4)
    assert drawn[moved[0] == moved.min()].mean() > 0.9


def test_crops_are_cut_or_mirrored(pairs):
    image, truth = training._prepare(pairs, 0)[:1], pairs.truth[0]
    crop, drawn = training._cut(image, truth, (7, 0), (64, 200))
    assert crop.shape == (1, 64, 200)
    np.testing.assert_array_equal(drawn[:, 128:], drawn[:, 127:55:-1])
    np.testing.assert_array_equal(crop[0, :, :128], image[0, 7:71])
    np.testing.assert_array_equal(drawn[:, :128], truth[7:71])


def test_it_learns_what_is_dark(tmp_path):
    # Membranes drawn as dark lines in noise: easy enough for a minute network.
    rng = np.random.default_rng(0)
    truth = np.zeros((4, 96, 96), np.uint8)
    truth[:, 23:26] = truth[:, 70:73] = truth[:, :, 47:50] = 1
    images = (150 - 90 * truth + rng.normal(0, 12, truth.shape)).astype(np.uint8)
    data = Pairs("lines", images, truth)
    model = fit(data, settings(steps=80, learning_rate=1e-2), tmp_path / "run")
    result = axolemma.segment(images[:1], model=model, precision="fp32")
    assert axolemma.evaluate(result.membrane, truth[:1]).best().score > 0.95
    assert result.cells.max() == 6


def test_seed_decides_everything_but_the_data(pairs, tmp_path):
    hashes = [
        state_hash(fit(pairs, settings(steps=2, seed=seed), tmp_path / name).network)
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_all_sections_can_be_learned_from(pairs, tmp_path):
    said = []
    chosen = settings(steps=2, slices="1-3", validate="none")
    assert split(chosen, len(pairs)) == (range(1, 4), range(1, 1))
    model = fit(pairs, chosen, tmp_path / "run", say=said.append)
    assert "sections 1-3, of which none are held out" in said[0]
    assert model.info.training["validated_on"] == "none"
    assert set(model.info.thresholds) == {"none", "flips", "dihedral"}
    one = fit(pairs, settings(steps=1, slices="0", validate="none"), tmp_path / "one")
    assert one.info.training["slices"] == "0-0"


def test_neighbouring_sections(pairs, tmp_path):
    model = fit(pairs, settings(steps=2, context=1), tmp_path / "run")
    assert model.network.stem.in_channels == 16 * 3
    assert axolemma.segment(pairs.images, model=model).membrane.shape == pairs.images.shape


def test_a_budget_in_minutes_is_kept(pairs, tmp_path):
    started = time.monotonic()
    model = fit(pairs, settings(budget="6s"), tmp_path / "run")
    assert model.info.training["steps"] > 3
    # Generous: the machine may be busy. What matters is that it ends by itself.
    assert time.monotonic() - started < 60


@pytest.fixture
def folder(pairs, tmp_path):
    place = tmp_path / "pairs"
    place.mkdir()
    write_tiff(place / "a.tif", pairs.images, voxel_size=(50, 4, 4))
    write_tiff(place / "a-labels.tif", (1 - pairs.truth) * np.uint8(255))
    return place


def start(folder, run, *more):
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "axolemma", "train", "--data", str(folder), *flags]
    command += ["--steps=60", "--save-every=0", "-o", str(run), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def finish(process):
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def test_killed_twice_it_ends_bit_identical(folder, tmp_path):
    finish(start(folder, tmp_path / "whole"))
    state = tmp_path / "killed" / "state.safetensors"
    for least in (8, 30):
        process = start(folder, tmp_path / "killed")
        deadline = time.monotonic() + 120
        while step_of(state) < least:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        story = metrics(tmp_path / "killed", up_to=step_of(state))
        assert not (tmp_path / "killed" / "model.safetensors").exists()
    finish(start(folder, tmp_path / "killed"))
    # It went on: what was told before the last kill, times included, is still there to the letter.
    assert story
    assert metrics(tmp_path / "killed", up_to=60)[: len(story)] == story
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(steps)
    infos = [load_model(tmp_path / name).info for name in ("whole", "killed")]
    assert infos[0].thresholds == infos[1].thresholds


def metrics(run, *, up_to):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= up_to]


def step_of(state):
    if not state.exists():
        return -1
    with safe_open(state, framework="numpy") as file:
        return json.loads(file.metadata()["state"])["step"]


def test_a_run_of_other_settings_is_not_continued(pairs, tmp_path):
    fit(pairs, settings(steps=1), tmp_path / "run")
    with pytest.raises(SettingsError, match="has seed = 0, this one 3"):
        fit(pairs, settings(steps=1, seed=3), tmp_path / "run")
    other = Pairs("made", 255 - pairs.images, pairs.truth)
    with pytest.raises(SettingsError, match="has data_sha256"):
        fit(other, settings(steps=1), tmp_path / "run")


def test_a_folder_of_other_things_is_left_alone(pairs, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        fit(pairs, settings(steps=1), tmp_path)
    with pytest.raises(InputError, match="cannot be made"):
        fit(pairs, settings(steps=1), tmp_path / "notes.txt" / "run")
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_state_is_named(pairs, tmp_path):
    run = tmp_path / "run"
    fit(pairs, settings(steps=1), run)
    (run / "model.safetensors").rename(run / "state.safetensors")
    with pytest.raises(InputError, match=r"state\.safetensors: the run's state cannot be read"):
        fit(pairs, settings(steps=1), run)


@pytest.mark.parametrize("rate", [1e30, 1e6])
def test_an_exploding_training_stops(pairs, tmp_path, rate):
    with pytest.raises(AxolemmaError, match="try a lower learning_rate"):
        fit(pairs, settings(steps=30, learning_rate=rate), tmp_path / "run")


@pytest.mark.parametrize(
    "values",
    [
        {"model": "unet"},
        {"context": 1},
        {"precision": "bf16"},
        {"recipe": "seed-unetplusplus", "model": None},
        {"model": "unet", "arguments": {"unshuffle": 2}},
    ],
    ids=["dropout", "neighbours", "bf16", "recipe", "unshuffle"],
)
def test_every_kind_of_run_resumes_bit_for_bit(pairs, tmp_path, values, monkeypatch):
    chosen = settings(steps=6, save_every=0, **values)
    whole = fit(pairs, chosen, tmp_path / "whole")

    class StopError(Exception):
        pass

    save = training.save_state

    def save_and_stop(run, state, *rest):
        save(run, state, *rest)
        if state.step == 3:
            raise StopError

    monkeypatch.setattr(training, "save_state", save_and_stop)
    with pytest.raises(StopError):
        fit(pairs, chosen, tmp_path / "stopped")
    monkeypatch.setattr(training, "save_state", save)
    said = []
    again = fit(pairs, chosen, tmp_path / "stopped", say=said.append)
    assert "from step 3" in said[-1]
    assert state_hash(again.network) == state_hash(whole.network)


def test_what_lies_outside_the_slices_is_never_seen(pairs, tmp_path):
    other = Pairs("made", pairs.images.copy(), pairs.truth.copy())
    other.images[4] = 9  # constant: it could not even be normalised
    hashes = {
        state_hash(fit(p, settings(steps=2, context=1, slices="0-3"), tmp_path / n).network)
        for n, p in (("a", pairs), ("b", other))
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"device": "tpu"}, "unknown device"),
        ({"depth": 7, "crop": 64, "batch": 1}, "one value at the network's deepest level"),
        ({"arguments": {"width": 3}}, "'width' is set elsewhere; leave it out"),
        ({"arguments": {"out_channels": 3}}, "'out_channels' is set elsewhere"),
        ({"arguments": {"dropuot": 0.1}, "model": "unet"}, "no argument 'dropuot'; did you mean"),
    ],
)
def test_what_cannot_start_leaves_no_folder(pairs, tmp_path, values, match):
    with pytest.raises(SettingsError, match=match):
        fit(pairs, settings(steps=1, **values), tmp_path / "deep" / "run")
    assert not (tmp_path / "deep").exists()


def test_schedules_by_hand():
    cosine = [training.schedule(done, 0) for done in (0, 0.025, 0.05, 0.525, 1)]
    assert cosine == pytest.approx([0.01, 0.5, 1, 0.5, 0])
    # 5e-4 in epochs 0 and 1, then 1e-4; from epoch 10 on multiplied by exp(-0.05) every epoch.
    steps = [0, 599, 600, 2999, 3000, 3300]
    earlier = [5e-4 * training.schedule(0.3, step, "step") for step in steps]
    expected = [5e-4, 5e-4, 1e-4, 1e-4, 1e-4 * np.exp(-0.05), 1e-4 * np.exp(-0.1)]
    assert earlier == pytest.approx(expected)


def test_a_recipe_steps_with_adam_at_its_own_rates(pairs, tmp_path, monkeypatch):
    seen = []

    class Spy(torch.optim.Adam):
        def step(self):
            seen.append((self.param_groups[0]["lr"], self.param_groups[0]["weight_decay"]))
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    monkeypatch.setattr(training, "EPOCH", 1)
    small = settings(recipe="seed-unetplusplus", model=None, crop=64, steps=12)
    fit(pairs, small, tmp_path / "run")
    rates = [5e-4] * 2 + [1e-4] * 8 + [1e-4 * np.exp(-0.05), 1e-4 * np.exp(-0.1)]
    assert [rate for rate, _ in seen] == pytest.approx(rates)
    assert {decay for _, decay in seen} == {2e-4}


def test_voxel_size_of_data_that_does_not_tell(pairs, tmp_path):
    silent = Pairs("made", pairs.images, pairs.truth)
    model = fit(silent, settings(steps=1, voxel_size="50,5,5"), tmp_path / "run")
    assert model.info.voxel_size == (50, 5, 5)


def test_what_is_validated_is_what_segment_gives(pairs, tmp_path):
    chosen = settings(steps=4, magnification=1.4, validate="3-4")
    model = fit(pairs, chosen, tmp_path / "run")
    maps = segment(pairs.images[3:], model=model, average="flips").membrane
    scores = evaluate(maps, pairs.truth[3:])
    found = model.info.training["validation"]["flips"]
    assert scores.v_rand(found["threshold"]) == pytest.approx(found["v_rand"], abs=1e-12)
    wrong = (1 - maps > found["threshold"]) != (pairs.truth[3:] == 0)
    assert found["accuracy"] == pytest.approx(1 - wrong.mean(), abs=1e-12)


def test_without_averaging_the_network_itself_is_kept(pairs, tmp_path, monkeypatch):
    moved = []

    def move(average, network, share):
        real(average, network, share)
        moved.append(state_hash(average) == state_hash(network))

    real = training._move_average
    monkeypatch.setattr(training, "_move_average", move)
    fit(pairs, settings(steps=3, averaging=0), tmp_path / "run")
    assert moved == [True] * 3


@pytest.mark.parametrize("text", ["[]", '{"settings": 3}', "{", "\udcff"])
def test_a_damaged_settings_file_is_named(pairs, tmp_path, text):
    (tmp_path / "settings.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="no run's settings file"):
        fit(pairs, settings(steps=1), tmp_path)


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ({}, 30, (range(30), range(27, 30))),
        ({"slices": "0-24"}, 30, (range(25), range(22, 25))),
        ({"slices": "0-24", "validate": "3-5"}, 30, (range(25), range(3, 6))),
        ({}, 2, (range(2), range(1, 2))),
    ],
)
def test_split(values, count, expected):
    assert split(settings(**values), count) == expected


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"slices": "0-4", "validate": "4-6"}, "4-6 must lie within the sections 0-4"),
        ({"slices": "3", "validate": "3"}, "leaves none to learn from"),
        ({"slices": "9"}, "leaves none to learn from"),
        ({"slices": "28-40"}, "30"),
    ],
)
def test_impossible_splits(values, match):
    with pytest.raises(InputError, match=match):
        split(settings(**values), 30)


@pytest.mark.slow
def test_real_sections_are_learned_in_few_steps(isbi2012_folder, tmp_path):
    pairs = isbi2012.load(folder=isbi2012_folder)
    chosen = check(TrainSettings, {"data": "isbi2012", "slices": "0-24", "steps": 300})
    model = fit(pairs, chosen, tmp_path / "run")
    result = axolemma.segment(pairs.images[25:], model=model)
    scores = axolemma.evaluate(result.membrane, pairs.truth[25:])
    assert scores.v_rand(result.threshold) > 0.9
    assert scores.v_info(result.threshold) > 0.95


def test_public_train_takes_arrays(pairs, tmp_path):
    model = axolemma.train((pairs.images, pairs.truth), run=tmp_path / "run", steps=1, **SMALL)
    assert model.info.training["data"] == "arrays"
    with pytest.raises(InputError, match="other values than 0"):
        axolemma.train((pairs.images, pairs.truth * 255), run=tmp_path / "b", steps=1)
    with pytest.raises(SettingsError, match="did you mean 'steps'"):
        axolemma.train("phantom", run=tmp_path / "c", step=1)
