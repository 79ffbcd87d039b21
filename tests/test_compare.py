"""A comparison: cells in processes, what survives a kill, and the ranking."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from axolemma import terminal
from axolemma.compare import Cell, compare, held_out, load, running, worker
from axolemma.datasets import Pairs, phantom_pairs
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.images import read, write_tiff
from axolemma.labels import IGNORED
from axolemma.metrics import SCORES
from axolemma.modelfile import load_model, state_hash
from axolemma.settings import CompareSettings, TrainSettings, check

TINY = {"width": 4, "depth": 2}
TRAINING = {"crop": 64, "batch": 2, "precision": "fp32"}
OPTIONS = {
    "models": ["resunet", "unet"],
    "seeds": 1,
    "steps": 2,
    "arguments": {"resunet": TINY, "unet": TINY},
    "training": TRAINING,
    "devices": ["cpu"],
}
ONE = OPTIONS | {"models": ["resunet"], "arguments": {"resunet": TINY}}

#: What may differ between two runs of the same cell.
OWN = ("training_seconds", "prediction_seconds", "memory_mib", "resumed")


@pytest.fixture(scope="module")
def pairs():
    return phantom_pairs((8, 96, 96))


@pytest.fixture
def inline(monkeypatch):
    """Run the cells in this process, which has torch already, and list them."""
    cells = []

    def run(task, board):
        cells.append(task.cell.key)
        return worker.attempt(task, lambda what, done: board.tell(task.cell, what, done))

    monkeypatch.setattr(running, "in_process", run)
    return cells


@pytest.fixture
def invented(monkeypatch):
    """Finish cells at once, with a score that model, seed and section decide; list the tasks."""
    tasks = []

    def run(task, board):
        tasks.append(task)
        model, seed = task.cell.model, task.cell.seed
        if model == "cenet":
            return "the network is out of order"
        good = {"resunet": 0.9, "unet": 0.5, "unetplusplus": 0.7}[model] + 0.02 * seed
        numbers = range(task.cell.first, task.cell.last + 1)
        found = asdict(task.cell) | {
            "sections": list(numbers),
            "scores": {name: [good + 0.001 * z for z in numbers] for name in SCORES},
            "best": {"v_rand": good + 0.05, "v_info": good + 0.06},
            "training_seconds": 60.0 + seed,
            "prediction_seconds": 0.5 * len(numbers),
            "steps": 100,
            "memory_mib": 500.0 + seed,
            "device_memory_mib": None,
            "parameters": 1234,
            "gflop_per_megapixel": 5.0,
            "arguments": TINY,
            "machine": "abacus",
            "device": task.settings["device"],
            "precision": "fp32",
            "versions": {"axolemma": "0"},
            "jobs": task.jobs,
        }
        (task.folder / "result.json").write_text(json.dumps(found))
        return None

    monkeypatch.setattr(running, "in_process", run)
    return tasks


def results(out):
    return sorted(Path(out).glob("cells/*/result.json"))


def plain(cells):
    return [{key: cell[key] for key in cell if key not in OWN} for cell in cells]


def children(process):
    """Return the ids of a process's children, from any of its threads."""
    assert process.poll() is None
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what):
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_it_goes_on_and_ends_alike(pairs, tmp_path, inline):
    np.savez(tmp_path / "data.npz", images=pairs.images, truth=pairs.truth)
    # Read from standard input, as notebooks and pipes do: there is no file to run again.
    script = (
        "import numpy as np\n"
        "from axolemma.compare import compare\n"
        "from axolemma.datasets import Pairs\n"
        f"data = np.load({str(tmp_path / 'data.npz')!r})\n"
        "data = Pairs('phantom', data['images'], data['truth'], (50.0, 4.0, 4.0))\n"
        "def report(p): print(p.cell.model, p.what, p.done, p.finished, p.count)\n"
        f"compare(data, out={str(tmp_path / 'killed')!r}, report=report, **{OPTIONS!r})\n"
    )
    with (tmp_path / "said.txt").open("w") as said:
        command = [sys.executable, "-u", "-"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, text=True)
        process.stdin.write(script)
        process.stdin.close()
        wait_for(lambda: children(process))
        before = children(process)
        wait_for(lambda: children(process) not in (before, []))
        (orphan,) = children(process)
        (first,) = results(tmp_path / "killed")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert re.fullmatch(r"resunet step 2, loss \d\.\d{4} 1\.0 0 2", lines[-3])
    assert lines[-2:] == ["resunet predicting and scoring 1.0 0 2", "resunet finished 1.0 1 2"]
    # Nobody goes on in the folder behind the back of the next one.
    wait_for(lambda: not alive(orphan))
    times = {file: file.stat().st_mtime_ns for file in first.parent.rglob("*")}

    said = []
    found = compare(pairs, out=tmp_path / "killed", report=said.append, **OPTIONS)
    assert len(inline) == 1
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert (said[0].what, said[0].cell.model) == ("finished already", "resunet")
    assert (said[-1].what, said[-1].finished, said[-1].count) == ("finished", 2, 2)
    undisturbed = compare(pairs, out=tmp_path / "whole", **OPTIONS)
    assert plain(found.cells) == plain(undisturbed.cells)
    assert found.verdict == undisturbed.verdict
    assert all(cell["memory_mib"] > 100 for cell in found.cells)


def test_a_cell_leaves_its_story(pairs, tmp_path, inline):
    found = compare(pairs, out=tmp_path / "out", **ONE)
    key = "resunet-bce_dice-axolemma-seed0-test7-7"
    assert inline == [key]
    (cell,) = found.cells
    folder = tmp_path / "out" / "cells" / key
    names = {"run", "membrane.tif", "result.json"}
    assert {file.name for file in folder.iterdir()} == names
    # Of 8 sections the last sixth, one, tests; of the other seven the last one validates.
    assert cell["sections"] == [7]
    assert cell["learned_from"] == list(range(7))
    assert cell["validated_on"] == [6]
    model = load_model(folder / "run")
    assert cell["threshold"] == model.info.threshold
    assert cell["weights_sha256"] == state_hash(model.network)
    assert cell["parameters"] == sum(p.numel() for p in model.network.parameters()) > 0
    assert cell["arguments"] == model.info.arguments
    assert (cell["steps"], cell["device"], cell["precision"]) == (2, "cpu", "fp32")
    assert set(cell["scores"]) == set(SCORES)
    assert cell["best"]["v_rand"] >= cell["scores"]["v_rand"][0]
    membrane = read(folder / "membrane.tif")
    assert membrane.array.shape == (1, 96, 96)
    assert membrane.info == {"threshold": cell["threshold"], "sections": [7, 7]}
    assert (found.failed, found.missing, found.notes) == ({}, (), ())
    assert load(tmp_path / "out") == found
    assert found.rows[0].name == "resunet"


def test_what_is_finished_stays_and_more_extends_it(pairs, tmp_path, inline):
    out = tmp_path / "out"
    compare(pairs, out=out, **ONE)
    before = {file: file.stat().st_mtime_ns for file in out.glob("cells/*/*")}
    assert len(inline) == 1
    compare(pairs, out=out, **ONE)
    assert len(inline) == 1
    # One seed more; a network and a loss that are refused each in its own cell; and it goes on.
    arguments = {"resunet": TINY, "unet": {"width": 0}}
    more = ONE | {"models": "resunet,unet", "losses": "bce_dice,nonsense", "arguments": arguments}
    found = compare(pairs, out=out, **more)
    assert len(inline) == 4
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert [row.name for row in found.rows] == ["resunet, bce_dice"]
    assert "unknown loss 'nonsense'" in found.failed["resunet-nonsense-axolemma-seed0-test7-7"]
    assert (
        "model 'unet': width is a whole number"
        in found.failed["unet-bce_dice-axolemma-seed0-test7-7"]
    )
    assert "3 cells failed and 0 were not run yet" in found.notes[0]
    with pytest.raises(
        AxolemmaError, match="3 of 4 cells failed, the first of them resunet-nonsense"
    ) as failure:
        found.check()
    assert failure.value.exit_code == 1
    # What never worked may be named otherwise or left out, and what failed is tried again.
    found = compare(pairs, out=out, **ONE | {"seeds": [0, 4]})
    assert inline[4:] == ["resunet-bce_dice-axolemma-seed4-test7-7"]
    found.check()
    assert (found.rows[0].seeds, len(found.cells)) == (2, 2)


def test_test_sections_choose_nothing(pairs, tmp_path, inline):
    images, truth = pairs.images.copy(), pairs.truth.copy()
    images[7], truth[7] = images[7, ::-1], 1 - truth[7]
    (one,) = compare(pairs, out=tmp_path / "a", **ONE).cells
    (other,) = compare(replace(pairs, images=images, truth=truth), out=tmp_path / "b", **ONE).cells
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["threshold"] == other["threshold"]
    assert one["scores"]["v_rand"] != other["scores"]["v_rand"]


def test_what_nobody_annotated_counts_in_no_score(pairs, tmp_path, inline):
    """What an undecided expert drew below the ignored value is gone."""
    drawn = pairs.truth.astype(np.uint8)
    drawn[:, :, 48:] = 128
    for name, (interior, membrane) in {"a": (255, 0), "b": (0, 255)}.items():
        (tmp_path / name).mkdir()
        values = np.array([interior, membrane] + 127 * [128], np.uint8)
        write_tiff(tmp_path / name / "s.tif", pairs.images)
        write_tiff(tmp_path / name / "s-labels.tif", values[drawn])
        way = {"truth_is": "interior" if interior else "membrane", "ignore_value": 128}
        compare(tmp_path / name, out=tmp_path / f"of-{name}", **ONE, **way)
    one, other = (load(tmp_path / f"of-{name}").rows[0] for name in "ab")
    assert one.scores == other.scores


@pytest.mark.parametrize(
    ("folds", "count", "blocks"),
    [
        ("seed", 30, [(25, 29)]),
        ("seed", 8, [(7, 7)]),
        ("seed", 13, [(11, 12)]),
        (6, 30, [(0, 4), (5, 9), (10, 14), (15, 19), (20, 24), (25, 29)]),
        (3, 8, [(0, 2), (3, 5), (6, 7)]),
        (2, 4, [(0, 1), (2, 3)]),
    ],
)
def test_folds(folds, count, blocks):
    assert [(block[0], block[-1]) for block in held_out(folds, count)] == blocks


def test_two_do_not_compare_in_one_folder(pairs, tmp_path, invented):
    options = {"models": "resunet", "seeds": 1, "steps": 1}

    def again(_):
        with pytest.raises(InputError, match="another run is at work here"):
            compare(pairs, out=tmp_path, **options)

    found = compare(pairs, out=tmp_path, report=again, **options)
    assert len(found.rows) == 1
    assert len(compare(pairs, out=tmp_path, **options).rows) == 1


def test_what_nobody_annotated_is_not_to_be_tested(pairs, tmp_path, invented):
    truth = pairs.truth.copy()
    truth[7] = IGNORED
    with pytest.raises(InputError, match="nothing is annotated in section 7, which is to be test"):
        compare(replace(pairs, truth=truth), out=tmp_path / "out", models="resunet", steps=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("folds", "count"), [("seed", 2), (2, 3), (9, 8)])
def test_too_few_sections_for_folds(folds, count):
    with pytest.raises(InputError, match=r"give more sections or more folds|give 2 to 8"):
        held_out(folds, count)


def test_folds_test_every_section_once(tmp_path, invented):
    images = np.arange(8, dtype=np.uint8)[:, None, None] * np.ones((8, 4, 4), np.uint8)
    data = Pairs("numbered", images, images % 2)
    compare(data, out=tmp_path, models="unet", seeds="2", folds="3", steps=1)
    tested = [number for task in invented for number in task.test.images[:, 0, 0]]
    assert tested == [*range(8), *range(8)]
    for task in invented:
        learned = task.learn.images[:, 0, 0].tolist()
        assert learned == list(task.numbers)
        assert sorted([*learned, *task.test.images[:, 0, 0]]) == list(range(8))
        assert (task.learn.truth == task.learn.images % 2).all()
        assert task.settings["seed"] == task.cell.seed
    names = [task.learn.name for task in invented[:3]]
    # A model file counts the sections it learned from 0 on; where that is not so it says more.
    assert names == ["numbered without sections 0-2", "numbered without sections 3-5", "numbered"]
    # One seed after the other and fold by fold: what stops early can be compared.
    assert [(task.cell.seed, task.cell.first) for task in invented] == [
        *((0, 0), (0, 3), (0, 6)),
        *((1, 0), (1, 3), (1, 6)),
    ]


def test_the_best_comes_first(pairs, tmp_path, invented):
    models = ["unet", "cenet", "resunet", "unetplusplus"]
    options = {"models": models, "presets": ["keras"], "seeds": [0, 5], "folds": 4, "steps": 9}
    found = compare(pairs, out=tmp_path / "out", **options)
    assert [row.name for row in found.rows] == ["resunet", "unetplusplus", "unet"]
    best = found.rows[0]
    assert (best.model, best.loss, best.preset) == ("resunet", "bce_dice", "keras")
    # Seeds 0 and 5 give .9 and 1.0, sections 0 … 7 add .001 each: .95 + .0035.
    assert best.scores["v_rand"] == pytest.approx(0.9535)
    assert best.interval.mean == pytest.approx(0.9535)
    assert best.interval.low < 0.9535 < best.interval.high
    assert best.over_seeds == pytest.approx(0.1 / np.sqrt(2))
    assert best.over_sections == pytest.approx(0.001 * np.std(range(8), ddof=1))
    assert best.best == pytest.approx({"v_rand": 1.0, "v_info": 1.01})
    assert (best.seeds, best.sections, best.rank) == (2, 8, 1)
    assert (best.training_seconds, best.prediction_seconds) == (62.5, 0.5)
    assert (best.memory_mib, best.device_memory_mib) == (505, None)
    assert found.sections == tuple(range(8))
    # Every section ranks alike: 12 · 8 / (3 · 4) · (1 + 4 + 9 - 12) = 16; 2 / 2⁸ for all pairs.
    assert found.friedman[0] == pytest.approx(16)
    assert [(pair.one, pair.other, pair.p) for pair in found.pairs] == [
        *((0, 1, 2**-7), (0, 2, 2**-7), (1, 2, 2**-7)),
    ]
    # 2.343 · √(12 / 48) = 1.17: neighbours cannot be told apart by their ranks.
    assert found.cliques == ((0, 1), (1, 2))
    assert "averaged over 2 seeds first" in found.verdict[0]
    assert len(found.failed) == 8

    values = json.loads(json.dumps(found.as_dict()))
    assert values["pairs"][0]["one"] == "resunet"
    assert values["cliques"] == [["resunet", "unetplusplus"], ["unetplusplus", "unet"]]
    assert values["rows"][2]["interval"]["mean"] == pytest.approx(0.5535)
    assert {cell["key"] for cell in values["cells"]} == {
        file.parent.name for file in results(tmp_path / "out")
    }
    found.write_csv(tmp_path / "ranking.csv")
    with (tmp_path / "ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["resunet", "unetplusplus", "unet"]
    assert float(rows[0]["v_rand"]) == best.scores["v_rand"]
    assert float(rows[0]["best_v_info"]) == best.best["v_info"]
    assert rows[0]["over_seeds"] == str(best.over_seeds)
    assert found.picture().count('stroke-width="4"') == 2
    console = Console(width=120, file=io.StringIO())
    for part in terminal.ranking(found):
        console.print(part)
    shown = console.file.getvalue()
    for words in ("1. resunet", "0.9535", "cannot separate resunet", "the network is out of order"):
        assert words in shown


def test_what_is_compared_so_far(pairs, tmp_path, invented):
    options = {"steps": 1, "folds": 2, "seeds": 1}
    compare(pairs, out=tmp_path, models="unet,resunet", **options)
    for file in tmp_path.glob("cells/unet-*-test4-7/result.json"):
        file.unlink()
    found = load(tmp_path)
    # The second half was tested with one of the two only: the ranking is over the first.
    assert found.sections == (0, 1, 2, 3)
    assert found.missing == ("unet-bce_dice-axolemma-seed0-test4-7",)
    assert found.rows[0].scores["v_rand"] == pytest.approx(0.9 + 0.0015)
    assert "over the 4 sections that every method in it was tested on" in found.notes[0]
    for file in tmp_path.glob("cells/unet-*/result.json"):
        file.unlink()
    for file in tmp_path.glob("cells/resunet-*/result.json"):
        file.unlink()
    assert load(tmp_path).verdict == ("No section was tested with every method yet.",)
    (said,) = terminal.ranking(load(tmp_path))
    assert said.plain == load(tmp_path).verdict[0]


def test_cells_from_before_there_was_a_score_still_rank(pairs, tmp_path, invented):
    compare(pairs, out=tmp_path, models="unet,resunet", steps=1, folds=2, seeds=1)
    for file in results(tmp_path):
        cell = json.loads(file.read_text())
        del cell["scores"]["calibration_error"]
        file.write_text(json.dumps(cell))
    best = load(tmp_path).rows[0]
    assert best.model == "resunet"
    assert np.isnan(best.scores["calibration_error"])


def test_jobs_take_the_devices_in_turn(pairs, tmp_path, invented, monkeypatch):
    at_once = threading.Barrier(2, timeout=60)
    finish = running.in_process

    def together(task, board):
        at_once.wait()
        return finish(task, board)

    monkeypatch.setattr(running, "in_process", together)
    monkeypatch.setattr(running, "choose_device", lambda _: None)  # they are not here
    options = {"models": "resunet,unet", "seeds": 2, "budget": "20s"}
    found = compare(pairs, out=tmp_path, jobs=2, devices=["cuda:0", "cuda:1"], **options)
    pairs_of = zip(invented[::2], invented[1::2], strict=True)
    for two in pairs_of:
        assert {task.settings["device"] for task in two} == {"cuda:0", "cuda:1"}
        assert {task.jobs for task in two} == {2}
        assert check(TrainSettings, two[0].settings).budget == pytest.approx(1 / 3)
    assert "cells ran with different devices: cuda:0; cuda:1" in found.notes
    assert "times are no measure of speed" in found.notes[-1]


def test_a_crash_ends_its_cell_alone(pairs, tmp_path, monkeypatch):
    program = tmp_path / "program"
    for line, reason in (
        ("kill -9 $$", "ended by signal 9, perhaps for want of memory"),
        ("exit 3", r"ended with code 3; .*log\.txt may say why"),
    ):
        program.write_text(f"#!/bin/sh\necho oh dear >&2\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        found = compare(pairs, out=tmp_path / "out", **OPTIONS)
        assert len(found.failed) == 2
        with pytest.raises(AxolemmaError, match=reason):
            found.check()
    log = tmp_path / "out" / "cells" / "unet-bce_dice-axolemma-seed0-test7-7" / "log.txt"
    assert log.read_text() == "oh dear\noh dear\n"


def test_stopped_from_outside_nothing_is_recorded(tmp_path, monkeypatch):
    pairs = phantom_pairs((3, 8, 8))  # so small that a pipe holds it: the program reads nothing
    # Ctrl-C reaches the first process in any of its waits, a report's for instance.
    program = tmp_path / "program"
    line = '{"what": "step 1", "done": 0.1}'
    program.write_text(f"#!/bin/sh\necho hello\necho '{line}'\nexec sleep 100\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(pairs, out=tmp_path / "out", report=interrupt, **OPTIONS)
    assert not list((tmp_path / "out").rglob("failed.json"))
    assert len(load(tmp_path / "out").missing) == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"steps": 3}, "has steps = 1, this one 3; repeat its settings"),
        ({"folds": 2}, "has folds = 'seed', this one 2"),
        ({"average": "none"}, "has average = 'dihedral', this one 'none'"),
        ({"training": {"crop": 64}}, "has training = {}, this one {'crop': 64}"),
        ({"arguments": {"unet": TINY}}, "has arguments = {}, this one {'unet'"),
        ({"models": ["resunet"]}, "has models unet too; name them as well"),
        ({"seeds": [1, 2]}, "has seeds 0 too"),
        ({"losses": ["dice"]}, "has losses bce_dice too"),
    ],
)
def test_other_settings_are_refused(pairs, tmp_path, invented, change, match):
    options = {"models": ["resunet", "unet"], "seeds": 1, "steps": 1}
    compare(pairs, out=tmp_path, **options)
    before = (tmp_path / "comparison.json").read_bytes()
    with pytest.raises(SettingsError, match=match):
        compare(pairs, out=tmp_path, **options | change)
    assert (tmp_path / "comparison.json").read_bytes() == before
    compare(replace(pairs, name="elsewhere"), out=tmp_path, **options)
    with pytest.raises(SettingsError, match="has data_sha256 = "):
        compare(replace(pairs, truth=1 - pairs.truth), out=tmp_path, **options)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({}, "'models' is missing"),
        ({"models": "a/b"}, "setting 'models.0'"),
        ({"models": []}, "setting 'models'"),
        ({"models": "unet", "seeds": 0}, "setting 'seeds'"),
        ({"models": "unet", "seeds": 10**12}, "setting 'seeds'"),
        ({"models": "unet", "seeds": "0,-1"}, r"setting 'seeds\.1'"),
        ({"models": "unet", "folds": "sead"}, "folds are 'seed' or a number from 2 on"),
        ({"models": "unet", "folds": 1}, "folds are 'seed' or a number from 2 on"),
        ({"models": "unet", "budget": "4m", "steps": 3}, "not both"),
        ({"models": "unet", "arguments": {"resunet": TINY}}, "'resunet' is not among the models"),
        ({"models": "unet", "training": {"crop": 1}}, "setting 'crop'"),
        ({"models": "unet", "training": {"corp": 64}}, "did you mean 'crop'"),
        ({"models": "unet", "training": {"seed": 1}}, "'seed' is for the comparison to set"),
        (
            {"models": "unet", "losses": "bce,focal", "training": {"dice": 1}},
            "for the loss bce_dice",
        ),
        ({"models": "unet", "training": {"context": 1}, "folds": 3}, "take folds 'seed' or 2"),
        ({"models": "unet", "modles": 1}, "did you mean 'models'"),
        ({"models": "unet", "devices": ["cpu", "cpux"]}, "unknown device 'cpux'"),
    ],
)
def test_settings_that_cannot_be(pairs, tmp_path, values, match):
    with pytest.raises(SettingsError, match=match):
        compare(pairs, out=tmp_path / "out", **values)
    assert not (tmp_path / "out").exists()


def test_ways_to_write_settings():
    one = check(
        CompareSettings,
        {"data": "d", "models": "a, b,a", "seeds": "3", "folds": "6", "budget": "90s"},
    )
    other = check(
        CompareSettings,
        {"data": "d", "models": ["a", "b"], "seeds": [0, 1, 2], "folds": 6, "budget": 1.5},
    )
    assert one == other
    assert check(CompareSettings, {"data": "d", "models": "a", "seeds": "5,7"}).seeds == (5, 7)
    assert Cell("a", "b", "c", 3, 0, 4).key == "a-b-c-seed3-test0-4"


def test_folders_that_are_no_comparison(pairs, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        compare(pairs, out=tmp_path, **ONE)
    with pytest.raises(InputError, match="cannot be made"):
        compare(pairs, out=tmp_path / "notes.txt", **ONE)
    with pytest.raises(InputError, match=r"comparison\.json: .*no such file"):
        load(tmp_path)
    for text in ("[]", "{", "{}", '{"settings": {"folds": 2}}'):
        (tmp_path / "comparison.json").write_text(text)
        with pytest.raises(InputError, match=r"cannot be read|no comparison's settings"):
            load(tmp_path)
    with pytest.raises(SettingsError, match="1 job and 1 device or more"):
        compare(pairs, out=tmp_path / "x", jobs=0, **ONE)


def test_other_defaults_than_those_it_began_with_are_refused(pairs, tmp_path, inline):
    out = tmp_path / "out"
    compare(pairs, out=out, **ONE)
    told = json.loads((out / "comparison.json").read_text())
    told["settings"]["trained_with"]["averaging"] = 0.5
    (out / "comparison.json").write_text(json.dumps(told))
    with pytest.raises(SettingsError, match="the comparison there has trained_with = "):
        compare(pairs, out=out, **ONE)


def test_the_weight_of_dice_is_for_the_loss_that_has_it(pairs, tmp_path, inline):
    out = tmp_path / "out"
    compare(pairs, out=out, **ONE | {"losses": "bce,bce_dice", "training": {"dice": 0.25}}).check()
    used = [load_model(run).info.training["settings"] for run in sorted(out.glob("cells/*/run"))]
    assert [(run["loss"], run["dice"]) for run in used] == [("bce", 0.5), ("bce_dice", 0.25)]


def test_arguments_of_a_training_that_was_killed_stay(pairs, tmp_path, inline):
    out = tmp_path / "out"
    more = ONE | {"models": "resunet,unet", "arguments": {"resunet": TINY, "unet": {"width": 0}}}
    compare(pairs, out=out, **more)
    other = more | {"arguments": {"resunet": TINY, "unet": TINY}}
    begun = next((out / "cells").glob("unet-*")) / "run"
    begun.mkdir()
    (begun / "settings.json").write_text("{}")
    with pytest.raises(SettingsError, match="the comparison there has arguments = "):
        compare(pairs, out=out, **other)
    (begun / "settings.json").unlink()
    begun.rmdir()
    compare(pairs, out=out, **other).check()
