import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, safe_open

import axolemma
from axolemma import augment_keras, losses, training
from axolemma.datasets import Pairs, isbi2012, phantom_pairs
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.images import write_tiff
from axolemma.labels import IGNORED
from axolemma.metrics import evaluate
from axolemma.modelfile import load_model, state_hash
from axolemma.objects import BOUNDARIES, BOUNDARY
from axolemma.runs import LOCK, State
from axolemma.segmentation import segment
from axolemma.settings import TrainSettings, check
from axolemma.training import fit, split

SMALL = {"width": 4, "depth": 2, "crop": 64, "batch": 2, "precision": "fp32", "device": "cpu"}

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


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
    assert 0 < model.info.threshold < 1
    assert model.info.calibration.slope > 0
    assert model.info.boundary in BOUNDARIES
    assert 0 <= model.info.training["validation_cells"]["v_rand"] <= 1
    assert model.info.training["slices"] == "0-4"
    assert model.info.training["validated_on"] == "4-4"
    assert model.info.training["weights_sha256"] == state_hash(model.network)
    assert model.info.voxel_size == (50, 4, 4)
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
    image = training._prepare(pairs, 0)[0][:1]
    level = -float(pairs.images[0].mean() / pairs.images[0].std())
    moves = augment_keras.draw(np.random.default_rng(3), pairs.truth.shape[1:])
    moved, drawn = training._as_keras(image, pairs.truth[0], moves, [level])
    assert moved.min() == pytest.approx(level, abs=1e-4)
    assert drawn[moved[0] == moved.min()].mean() > 0.9


@pytest.mark.parametrize("preset", ["axolemma", "robust", "keras"])
def test_any_layout_in_memory_and_half_floats_will_do(pairs, tmp_path, preset):
    images = pairs.images.astype(np.float16)
    hashes = set()
    for name, layout in (("c", np.ascontiguousarray), ("f", np.asfortranarray)):
        given = Pairs("made", layout(images), layout(pairs.truth))
        chosen = settings(steps=3, preset=preset)
        hashes.add(state_hash(fit(given, chosen, tmp_path / name).network))
    assert len(hashes) == 1


def test_truths_that_nobody_has_drawn_yet(pairs, tmp_path):
    truth = pairs.truth.copy()
    truth[-1] = 0
    given, said = Pairs("made", pairs.images, truth), []
    last = len(truth) - 1
    with pytest.raises(InputError, match=rf"sections {last}, held out .* interior alone"):
        fit(given, settings(steps=2, validate=str(last)), tmp_path / "no")
    fit(given, settings(steps=2, validate="0"), tmp_path / "run", say=said.append)
    assert any(f"the truth of sections {last} shows membrane or interior alone" in s for s in said)


def test_crops_are_cut_or_mirrored(pairs):
    image, truth = training._prepare(pairs, 0)[0][:1], pairs.truth[0]
    crop, drawn = np.empty((1, 64, 200), np.float32), np.empty((64, 200), np.uint8)
    training._cut(image, truth, (7, 0), (crop, drawn))
    np.testing.assert_array_equal(drawn[:, 128:], drawn[:, 127:55:-1])
    np.testing.assert_array_equal(crop[0, :, :128], image[0, 7:71])
    np.testing.assert_array_equal(drawn[:, :128], truth[7:71])


def lines():
    """Membranes drawn as dark lines in noise: easy enough for a minute network."""
    rng = np.random.default_rng(0)
    truth = np.zeros((4, 96, 96), np.uint8)
    truth[:, 23:26] = truth[:, 70:73] = truth[:, :, 47:50] = 1
    return (150 - 90 * truth + rng.normal(0, 12, truth.shape)).astype(np.uint8), truth


def test_it_learns_what_is_dark(tmp_path):
    images, truth = lines()
    model = fit(
        Pairs("lines", images, truth), settings(steps=80, learning_rate=1e-2), tmp_path / "run"
    )
    result = axolemma.segment(images[:1], model=model, precision="fp32")
    assert axolemma.evaluate(result.membrane, truth[:1]).best().score > 0.95
    assert result.cells.max() == 6


def test_a_first_step_promises_nothing(monkeypatch):
    """It compiles: a thousand like it would take hours."""
    now = 0.0
    monkeypatch.setattr(training.time, "monotonic", lambda: now)
    clock = training._Clock(settings(steps=101), State(), ending=0, boundaries=0, enough=500)
    now = 30.0
    assert clock.seconds_left(State(step=1)) is None
    now = 31.0
    assert clock.seconds_left(State(step=11)) == pytest.approx(9)
    again = training._Clock(settings(steps=101), State(step=51), ending=0, boundaries=0, enough=500)
    assert again.seconds_left(State(step=52)) is None


def test_a_budget_ends_early_where_more_gains_nothing(monkeypatch):
    now = 0.0
    monkeypatch.setattr(training.time, "monotonic", lambda: now)
    timed = settings(steps=None, budget=1)
    assert training.enough_steps(timed, 10) == training.LEAST_STEPS
    many = 8 * training.LEAST_STEPS * timed.batch * timed.crop**2
    assert training.enough_steps(timed, many) == 8 * training.LEAST_STEPS * training.PASSES
    clock = training._Clock(timed, State(), ending=0, boundaries=0, enough=100)
    assert clock.seconds_left(State(step=1)) == 60
    now = 10.0
    assert clock.done(State(step=51)) == 0.51
    assert clock.seconds_left(State(step=51)) == pytest.approx(10 / 50 * 49)
    assert clock.done(State(step=100)) == 1
    now = 45.0
    assert clock.done(State(step=51)) == 0.75
    assert clock.seconds_left(State(step=51)) == 15


def test_seed_decides_everything_but_the_data(pairs, tmp_path):
    hashes = [
        state_hash(fit(pairs, settings(steps=2, seed=seed), tmp_path / name).network)
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(("validate", "threshold"), [("none", 0.6), ("3-3", 0.3)])
def test_learned_sections_choose_no_low_threshold(
    pairs, tmp_path, monkeypatch, validate, threshold
):
    monkeypatch.setattr("axolemma.metrics.Scores.choose_threshold", lambda _: 0.3)
    chosen = settings(steps=2, slices="0-3", validate=validate)
    model = fit(pairs, chosen, tmp_path / "run")
    assert model.info.threshold == threshold
    found = model.info.training["validation"]
    assert [found[average]["threshold"] for average in ("dihedral", "half-turn")] == 2 * [threshold]


def test_all_sections_can_be_learned_from(pairs, tmp_path):
    said = []
    chosen = settings(steps=2, slices="1-3", validate="none")
    assert split(chosen, len(pairs)) == (range(1, 4), range(1, 1))
    model = fit(pairs, chosen, tmp_path / "run", say=said.append)
    assert "sections 1-3, of which none are held out" in said[0]
    assert model.info.training["validated_on"] == "none"
    assert 0 < model.info.threshold < 1
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
    assert infos[0].threshold == infos[1].threshold


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
    other = Pairs("made", np.roll(pairs.images, 1, axis=2), pairs.truth)
    with pytest.raises(SettingsError, match="has data_sha256"):
        fit(other, settings(steps=1), tmp_path / "run")


def test_bright_membranes_are_learned_as_dark_ones(pairs, tmp_path):
    said = []
    dark = fit(pairs, settings(steps=2), tmp_path / "dark", say=said.append)
    assert not any("bright" in line for line in said)
    mixed = pairs.images.copy()
    mixed[[1, 4]] = 255 - mixed[[1, 4]]
    other = Pairs("made", mixed, pairs.truth, pairs.voxel_size)
    bright = fit(other, settings(steps=2), tmp_path / "bright", say=said.append)
    assert any("membranes are bright in sections 1, 4: their grey values" in line for line in said)
    for one, same in zip(dark.network.parameters(), bright.network.parameters(), strict=True):
        torch.testing.assert_close(one, same, atol=1e-4, rtol=1e-3)


def test_a_section_that_does_not_tell_its_polarity_goes_with_the_others(pairs, tmp_path):
    truth = pairs.truth.copy()
    truth[0] = IGNORED
    said = []
    fit(
        Pairs("made", 255 - pairs.images, truth, pairs.voxel_size),
        settings(steps=1),
        tmp_path / "run",
        say=said.append,
    )
    assert any("bright in sections 0, 1, 2, 3, 4" in line for line in said)


def test_pixels_of_another_size_than_the_start_had_are_told(pairs, tmp_path):
    start = fit(pairs, settings(steps=1), tmp_path / "start")
    said = []
    changed = Pairs("made", pairs.images, pairs.truth, (50.0, 8.0, 8.0))
    again = settings(steps=1, start=str(tmp_path / "start"))
    fit(changed, again, tmp_path / "run", say=said.append)
    assert start.info.voxel_size == (50, 4, 4)
    assert any("learned at 4 nm and these sections have 8 nm" in line for line in said)


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


class StopError(Exception):
    """Ends a training in the middle."""


def stop_after_three(monkeypatch, pairs, chosen, run):
    """Train, and stop right after the state of step 3 is saved."""
    save = training.save_state

    def save_and_stop(run, state, *rest):
        save(run, state, *rest)
        if state.step == 3:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_state", save_and_stop)
        with pytest.raises(StopError):
            fit(pairs, chosen, run)


@pytest.mark.parametrize(
    "values",
    [
        {"model": "unet"},
        {"context": 1},
        {"precision": "bf16"},
        {"recipe": "seed-unetplusplus", "model": None},
        {"model": "unet", "arguments": {"unshuffle": 2}},
        pytest.param({"device": "cuda"}, marks=ON_GPU),
        pytest.param({"device": "cuda", "model": "unet", "precision": "bf16"}, marks=ON_GPU),
    ],
    ids=["dropout", "neighbours", "bf16", "recipe", "unshuffle", "gpu", "gpu, dropout"],
)
def test_every_kind_of_run_resumes_bit_for_bit(pairs, tmp_path, values, monkeypatch):
    chosen = settings(steps=6, save_every=0, **values)
    whole = fit(pairs, chosen, tmp_path / "whole")
    stop_after_three(monkeypatch, pairs, chosen, tmp_path / "stopped")
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
    chosen = settings(steps=4, validate="3-4")
    model = fit(pairs, chosen, tmp_path / "run")
    # In the precision it was validated in: some machines would take bfloat16.
    maps = segment(pairs.images[3:], model=model, precision="fp32").membrane
    scores = evaluate(maps, pairs.truth[3:])
    found = model.info.training["validation"]["half-turn"]
    assert scores.v_rand(found["threshold"]) == pytest.approx(found["v_rand"], abs=1e-12)
    wrong = (1 - maps > found["threshold"]) != (pairs.truth[3:] == 0)
    assert found["accuracy"] == pytest.approx(1 - wrong.mean(), abs=1e-12)


def test_without_averaging_the_network_itself_is_kept(pairs, tmp_path, monkeypatch):
    moved = []

    def mover(average, network):
        def move(share):
            really(share)
            moved.append(state_hash(average) == state_hash(network))

        really = real(average, network)
        return move

    real = training._mover
    monkeypatch.setattr(training, "_mover", mover)
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


# --- weights to start from


@pytest.fixture(scope="module")
def begun(pairs, tmp_path_factory):
    """The folder of a small finished run with terms."""
    run = tmp_path_factory.mktemp("begun") / "run"
    made = Pairs("first", pairs.images, pairs.truth, terms="cite the first")
    fit(made, settings(steps=3, slices="0-2"), run)
    return run


#: Settings that say nothing of the network.
BARE = {"width": None, "depth": None}


def test_a_start_gives_weights_architecture_and_terms(pairs, tmp_path, begun):
    said = []
    first = load_model(begun)
    made = Pairs("second", pairs.images, pairs.truth, terms="cite the second")
    # A rate so small that the weights hardly move: they are the start's.
    chosen = settings(steps=1, start=str(begun), learning_rate=1e-12, weight_decay=0, **BARE)
    model = fit(made, chosen, tmp_path / "run", say=said.append)
    assert model.info.arguments == first.info.arguments
    for key, value in first.network.state_dict().items():
        if "weight" in key:
            torch.testing.assert_close(model.network.state_dict()[key], value)
    told = model.info.training["start"]
    assert told["weights_sha256"] == state_hash(first.network)
    assert (told["data"], told["slices"]) == ("first", "0-2")
    assert model.info.licence == "cite the second\ncite the first"
    assert any("which has learned from sections 0-2 of first" in line for line in said)
    again = fit(made, settings(steps=1, start=str(tmp_path / "run"), **BARE), tmp_path / "again")
    assert again.info.licence == model.info.licence
    assert again.info.training["start"]["start"]["data"] == "first"


def test_a_start_that_training_makes_worse_is_kept(pairs, tmp_path, begun, monkeypatch):
    scores = iter([0.9, *[0.1] * 20])

    def worse(*arguments, **options):
        found = real(*arguments, **options)
        for name in ("v_rand", "v_info"):
            found.values[name][:] = next(scores) if name == "v_rand" else 0.5
        return found

    real = training.evaluate
    monkeypatch.setattr(training, "evaluate", worse)
    chosen = settings(steps=2, start=str(begun), validate="4", **BARE)
    monkeypatch.setattr(training, "_choose_boundary", lambda *_: (0.8, {}))
    model = fit(pairs, chosen, tmp_path / "run")
    assert state_hash(model.network) == state_hash(load_model(begun).network)


def test_the_boundary_of_cells_is_the_usual_one_unless_another_is_clearly_better(pairs):
    truth = pairs.truth[:2]
    # A map that is right parts cells at any boundary, a faint one only at a low boundary.
    sure, of_sure = training._choose_boundary(truth.astype(np.float32), truth, [0], 0.5)
    faint, of_faint = training._choose_boundary(truth * np.float32(0.3), truth, [0], 0.8)
    assert sure == BOUNDARY
    assert faint <= 0.3
    assert of_sure["v_rand"] > 0.98
    assert abs(of_faint["v_rand"] - of_sure["v_rand"]) < 0.01


def test_a_run_with_a_start_resumes_bit_for_bit(pairs, tmp_path, begun, monkeypatch):
    chosen = settings(steps=6, save_every=0, start=str(begun), **BARE)
    whole = fit(pairs, chosen, tmp_path / "whole")
    stop_after_three(monkeypatch, pairs, chosen, tmp_path / "stopped")
    # The same weights from elsewhere are the same start; others are not.
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((begun / "model.safetensors").read_bytes())
    other = fit(pairs, settings(steps=1), tmp_path / "other")
    with pytest.raises(SettingsError, match="has start_sha256 = "):
        fit(pairs, chosen.model_copy(update={"start": other.source}), tmp_path / "stopped")
    again = fit(pairs, chosen.model_copy(update={"start": str(copy)}), tmp_path / "stopped")
    assert state_hash(again.network) == state_hash(whole.network)
    steps = [line["step"] for line in story(tmp_path / "stopped")]
    assert steps == sorted(steps)
    assert steps.count(0) == 1


def story(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_without_a_start_refuses_one(pairs, tmp_path, begun):
    fit(pairs, settings(steps=1), tmp_path / "run")
    chosen = settings(steps=1, start=str(begun))
    with pytest.raises(SettingsError, match="has start_sha256 = None"):
        fit(pairs, chosen, tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"model": "unet"}, r"weights of .* are of model = 'resunet', not 'unet'; leave model out"),
        ({"width": 8}, "are of width = 4, not 8; leave width out"),
        ({"context": 1}, "are of context = 0, not 1"),
        ({"arguments": {"unshuffle": 2}}, "are of unshuffle = 4, not 2"),
        ({"arguments": {"unshufle": 2}}, "no argument 'unshufle'; did you mean 'unshuffle'"),
        ({"start": "neurits"}, "no model file or model named 'neurits'; did you mean 'neurites'"),
    ],
)
def test_starts_that_do_not_fit(pairs, tmp_path, begun, values, match):
    with pytest.raises(InputError, match=match):
        fit(pairs, settings(steps=1, **{"start": str(begun), **BARE, **values}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- truths of which a part is annotated


@pytest.fixture(scope="module")
def partial(pairs):
    """Two windows in sections 0 and 2, half of section 4, nothing of the others."""
    truth = np.full_like(pairs.truth, IGNORED)
    for window in (np.s_[0, 10:60, 20:70], np.s_[2, 64:, :50], np.s_[4, :, :64]):
        truth[window] = pairs.truth[window]
    return Pairs("partial", pairs.images, truth)


@pytest.mark.parametrize(
    "values",
    [{"loss": "cl_dice"}, {"preset": "none"}, {"context": 1, "crop": 150}, {"thicken": 0}],
    ids=str,
)
def test_a_part_is_learned_from(partial, tmp_path, values):
    said = []
    model = fit(partial, settings(steps=2, **values), tmp_path / "run", say=said.append)
    assert "nothing is annotated in 2 of these sections" in said[-1]
    assert 0 < model.info.threshold < 1


def test_what_is_not_annotated_does_not_influence_the_weights(partial, tmp_path, monkeypatch):
    """Whatever the loss is told of ignored pixels, the weights are the same."""
    build, seen = losses.build, []

    def telling(value):
        def built(name, **options):
            loss = build(name, **options)

            def told(logits, truth, where):
                seen.append(float((where == 0).float().mean()))
                return loss(logits, torch.where(where == 0, value, truth), where)

            return told

        return built

    hashes = set()
    for value in (0.0, 1.0):
        monkeypatch.setattr(losses, "build", telling(value))
        model = fit(partial, settings(steps=4), tmp_path / f"{value}")
        hashes.add((state_hash(model.network), model.info.boundary, model.info.threshold))
    assert len(hashes) == 1
    assert 0.1 < np.mean(seen) < 0.95


def test_two_truths_that_differ_where_nothing_counts_give_the_same_run(partial, tmp_path):
    """From files: what an undecided expert drew below the ignored value is gone."""
    hashes = set()
    for name, invert in (("a", False), ("b", True)):
        place = tmp_path / name
        place.mkdir()
        drawn = np.where(partial.truth == 1, 0, 255).astype(np.uint8)
        drawn = 255 - drawn if invert else drawn
        drawn[partial.truth == IGNORED] = 128
        write_tiff(place / "s.tif", partial.images)
        write_tiff(place / "s-labels.tif", drawn)
        model = axolemma.train(
            place,
            run=tmp_path / f"run-{name}",
            steps=2,
            ignore_value=128,
            truth_is="membrane" if invert else "interior",
            **SMALL,
        )
        hashes.add(state_hash(model.network))
    assert len(hashes) == 1


def test_two_do_not_train_in_one_folder(pairs, tmp_path):
    asked = []

    def again(_):
        if not asked:
            asked.append(1)
            with pytest.raises(InputError, match=r"run: another run is at work here, process \d+"):
                fit(pairs, settings(steps=2), tmp_path / "run")

    fit(pairs, settings(steps=2), tmp_path / "run", say=again, report=again)
    assert asked
    assert not (tmp_path / "run" / LOCK).exists()


def test_crops_hold_what_is_annotated(partial, monkeypatch, tmp_path):
    shares = []

    def noted(*arguments, **options):
        crops, drawn = real(*arguments, **options)
        shares.extend((drawn != IGNORED).float().mean((1, 2, 3)).tolist())
        return crops, drawn

    real = training._batch
    monkeypatch.setattr(training, "_batch", noted)
    fit(partial, settings(steps=40, crop=32), tmp_path / "run")
    assert np.mean(np.array(shares) > 0) > 0.95
    assert np.mean(shares) > 0.4


@pytest.mark.parametrize("many", [1, 3])
def test_the_next_batches_are_cut_while_this_one_is_learned_from(many):
    begun = [threading.Event() for _ in range(2 + many + 3)]

    def cut(step):
        begun[step].set()
        return step, threading.get_ident()

    batches = training._ahead(cut, 2, many)
    assert next(batches)[0] == 2
    # Nobody has asked for them yet.
    assert all(event.wait(30) for event in begun[3 : 3 + many])
    assert not begun[3 + many].is_set()
    step, thread = next(batches)
    assert step == 3
    assert thread != threading.get_ident()
    batches.close()


def test_only_what_is_annotated_is_validated(partial, pairs, tmp_path):
    model = fit(partial, settings(steps=4, validate="4"), tmp_path / "run")
    found = model.info.training["validation"]["half-turn"]
    result = segment(partial.images[4:], model=model, precision="fp32")
    maps = result.membrane[:, :, :64]
    wrong = (1 - maps > found["threshold"]) != (pairs.truth[4:, :, :64] == 0)
    assert found["accuracy"] == pytest.approx(1 - wrong.mean(), abs=1e-12)


def test_thickening_stays_within_what_is_annotated():
    truth = np.array([[[0, 0, 1, 2, 0, 2, 2, 0]]], np.uint8)
    expected = [[[0, 1, 1, 2, 0, 2, 2, 0]]]
    np.testing.assert_array_equal(training._thickened(truth, 1), expected)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"validate": "3"}, r"nothing is annotated in section 3, .* annotated ones \(0, 2, 4\)"),
        ({"slices": "1-2", "validate": "2"}, "in the sections to learn from; annotate a part"),
        ({"slices": "3", "validate": "none"}, "in the sections to learn from; annotate a part"),
        ({"preset": "keras"}, "preset 'keras' .* cannot leave pixels out; take preset axolemma"),
    ],
)
def test_too_little_annotated(partial, tmp_path, values, match):
    with pytest.raises(InputError, match=match):
        fit(partial, settings(steps=1, **values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_windows_teach_the_whole_section(tmp_path):
    images, truth = lines()
    windows = np.full_like(truth, IGNORED)
    windows[:, :48, :48] = truth[:, :48, :48]
    chosen = settings(steps=80, learning_rate=1e-2)
    model = fit(Pairs("windows", images, windows), chosen, tmp_path / "run")
    result = axolemma.segment(images[:1], model=model, precision="fp32")
    assert axolemma.evaluate(result.membrane, truth[:1]).best().score > 0.95
