import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, safe_open
from torch import nn

import distributed_runs
from axolemma import models
from axolemma.datasets import phantom_pairs
from axolemma.distributed import ALONE, Team, joined
from axolemma.errors import SettingsError
from axolemma.images import write_tiff

TORCHRUN = [sys.executable, "-W", "error", "-m", "torch.distributed.run", "--nproc-per-node=2"]
TORCHRUN += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]  # a port that is free

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="this build of torch has no gloo"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold what one process and what two have made of the same settings."""
    place = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        (place / name).mkdir()
    script = Path(distributed_runs.__file__)
    command = [*TORCHRUN, script, place / "two"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        distributed_runs.main(place / "one")
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    return place


def weights(run):
    return load_file(run / "model.safetensors")


@pytest.mark.parametrize("case", distributed_runs.CASES)
def test_two_processes_learn_what_one_does(folder, case):
    one, two = weights(folder / "one" / case), weights(folder / "two" / case)
    assert one.keys() == two.keys()
    off = np.concatenate([(two[key] - one[key]).ravel() for key in one])
    # Sums are added in another order; of small gradients Adam makes steps as large as of others.
    # Statistics of each share alone would be 1e-3 off, a gradient too small by half 2e-4.
    assert np.sqrt((off**2).mean()) < (1e-4 if case == "heads" else 2e-6)
    last = [
        json.loads((folder / name / case / "metrics.jsonl").read_text().splitlines()[-1])
        for name in ("one", "two")
    ]
    assert last[1]["v_rand"] == pytest.approx(last[0]["v_rand"], abs=0.01)


def test_the_weights_have_moved_far_beyond_that(folder):
    torch.manual_seed(distributed_runs.settings().seed)
    network = models.build("resunet", width=4, depth=2)
    now = weights(folder / "two" / "residual")
    moved = [
        np.abs(value.numpy() - now[key]).max()
        for key, value in network.state_dict().items()
        if value.ndim == 4
    ]
    assert min(moved) > 2e-3


def test_what_was_stopped_goes_on_bit_for_bit(folder):
    whole, again = weights(folder / "two" / "residual"), weights(folder / "two" / "again")
    for key in whole:
        np.testing.assert_array_equal(whole[key], again[key])


def test_one_process_writes(folder):
    lines = (folder / "two" / "residual" / "metrics.jsonl").read_text().splitlines()
    shares = [json.loads(line)["done"] for line in lines if "v_rand" in line]
    assert shares == sorted(shares)
    assert shares.count(1.0) == 2  # of the last step, and of the end
    assert {f.name for f in (folder / "two" / "again").iterdir()} == {
        "settings.json",
        "metrics.jsonl",
        "model.safetensors",
    }


def test_one_clock_decides(folder):
    steps = [int((folder / "two" / f"steps-{rank}.txt").read_text()) for rank in (0, 1)]
    assert steps[0] == steps[1] > 0


def test_all_are_told(folder):
    told = [(folder / "two" / f"told-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert told[0] == told[1]
    assert told[0][0].startswith("a batch of 3 crops cannot be shared out evenly among 2")
    assert "holds other files" in told[0][1]
    assert not (folder / "two" / "odd").exists()


def test_shares():
    assert [*Team(rank=1, size=3).share(6)] == [2, 3]
    assert [*ALONE.share(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(SettingsError, match="take a multiple of 4: batch"):
        Team(rank=0, size=4).share(6)


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as team:
        assert team == ALONE
    x = torch.ones(2, 1, 3, 3)
    assert team.whole(x) is x
    assert team.agreed(0.25) == 0.25
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    before = list(network)
    team.learner(network, torch.device("cpu"))
    assert list(network) == before
    done = []
    team.led(lambda: done.append(1))
    assert done == [1]


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    team = Team(rank=3, size=4, place=1, here=2)
    assert team.device(torch.device("cuda")) == torch.device("cuda", 1)
    assert taken == [1]
    assert team.device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(SettingsError, match="would be that of all 4 processes; take cuda"):
        team.device(torch.device("cuda:1"))
    with pytest.raises(SettingsError, match="3 processes have only 2 GPUs"):
        Team(rank=2, size=3, place=2, here=3).device(torch.device("cuda"))


def test_killed_on_the_command_line_it_goes_on(tmp_path):
    made = phantom_pairs((3, 128, 128))
    data, run = tmp_path / "pairs", tmp_path / "run"
    data.mkdir()
    write_tiff(data / "a.tif", made.images, voxel_size=(50, 4, 4))
    write_tiff(data / "a-labels.tif", (1 - made.truth) * np.uint8(255))
    flags = [f"--{key}={value}" for key, value in distributed_runs.SMALL.items()]
    command = [*TORCHRUN, "-m", "axolemma", "train", "--data", data, *flags, "--steps=100"]
    command += ["--save-every=0", "--validate=2", "-o", run]

    def begin():
        return subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )

    process, deadline = begin(), time.monotonic() + 300
    state = run / "state.safetensors"
    try:
        while not state.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.terminate()  # and with it torchrun ends the two
        process.communicate(timeout=60)
    assert not (run / "model.safetensors").exists()
    with safe_open(state, framework="numpy") as file:
        stopped = json.loads(file.metadata()["state"])["step"]
    found, said = begin().communicate(timeout=300)
    assert said.count("going on in") == 1, said
    assert f"from step {stopped}" in said
    assert found.count("model: ") == 1
    assert (run / "model.safetensors").is_file()
