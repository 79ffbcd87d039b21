import math
from pathlib import Path

import pytest
import torch

from axolemma import estimate, models
from axolemma.errors import InputError
from axolemma.estimate import Estimate, Tile, of_segmenting, of_training, refuse_what_cannot_fit
from axolemma.settings import SegmentSettings, TrainSettings, check

TILE = Tile(seconds=1e-7, largest=6, kept=60, weights=6e6)


def segmenting(shape=(10, 4096, 4096), seen=TILE, **values):
    return of_segmenting(shape, check(SegmentSettings, values), seen)


def test_more_work_takes_more():
    some = segmenting()
    assert segmenting((20, 4096, 4096)).seconds == pytest.approx(2 * some.seconds)
    assert segmenting((20, 4096, 4096)).disk == pytest.approx(2 * some.disk, rel=0.1)
    assert segmenting(average="dihedral").seconds > 1.5 * some.seconds
    for less in ({"tile": 512}, {"objects": "none"}, {"average": "none"}):
        assert segmenting(**less).memory <= some.memory
    assert segmenting(objects="none", tile=512).memory < segmenting(objects="none").memory
    assert segmenting(objects="neurons").memory > some.memory
    assert segmenting(bits=8).disk < some.disk / 2
    assert segmenting(uncertainty=True).disk > 1.5 * some.disk
    assert segmenting(uncertainty=True).memory > some.memory
    wide = Tile(seconds=1e-7, largest=800, kept=900, weights=6e6)
    assert segmenting(seen=wide).memory > some.memory


def test_memory_is_bounded_by_the_tile_and_linear_in_the_stack():
    one = segmenting((1, 16384, 16384), objects="none", average="none").memory
    # What is held of a section: grey values twice, its map twice.
    assert one < 11 * 16384**2 + 800e6


def test_training():
    settings = check(TrainSettings, {"data": "phantom", "steps": 1000})
    some = of_training((30, 512, 512), settings, TILE, minutes=10, enough=10**9)
    more = settings.model_copy(update={"batch": 8})
    assert of_training((30, 512, 512), more, TILE, minutes=10, enough=10**9).memory > some.memory
    assert some.seconds > 1000 * 4 * 256**2 * 1e-7
    timed = settings.model_copy(update={"steps": None})
    assert of_training((30, 512, 512), timed, TILE, minutes=10, enough=10**9).seconds == 600
    early = of_training((30, 512, 512), timed, TILE, minutes=10, enough=1000)
    assert early.seconds == some.seconds < 600


def test_it_is_said_in_one_line():
    assert str(Estimate(40, 1.2e9, 30e6)) == "about 40 s, 1.2 GB of memory, 30 MB on disk"
    assert str(Estimate(0.1, 3e8, 10)) == "about 1 s, 300 MB of memory, 1 MB on disk"
    assert str(Estimate(7300, 64e9, 2e12)).startswith("about 2 hours, 64 GB of memory, 2000 GB")


def test_what_cannot_fit_is_refused():
    job = Estimate(40, 4e9, 2e9)

    def held_against(memory, disk, ways=("a smaller --tile", "--objects none")):
        refuse_what_cannot_fit(
            job,
            memory=memory,
            disk=disk,
            where=Path("out"),
            less_memory=ways,
            less_disk=["--bits 8"],
        )

    held_against(8e9, 3e9)
    held_against(math.inf, math.inf)
    match = "4.0 GB of memory and 2.0 GB are free; take a smaller --tile or --objects none"
    with pytest.raises(InputError, match=match):
        held_against(2e9, 3e9)
    with pytest.raises(
        InputError, match=r"out: this writes about 2.0 GB and 1.0 GB are free there"
    ):
        held_against(8e9, 1e9)
    with pytest.raises(InputError, match="free; take fewer --slices"):
        held_against(2e9, 3e9, ["fewer --slices"])


def test_a_tile_is_timed_and_weighed():
    small, wide = (models.build("unet", width=width, depth=2) for width in (4, 8))
    state = {key: value.clone() for key, value in wide.state_dict().items()}
    one, two = (
        estimate.tile_of(network, precision="fp32", device="cpu", shape=(1, 64, 64))
        for network in (small, wide)
    )
    assert one.seconds > 0
    # The layer that takes most: both halves of the decoder's input in, half as much out.
    assert one.largest == (8 + 4) * 4
    assert two.largest == 2 * one.largest
    assert two.kept == pytest.approx(2 * one.kept, rel=0.1)
    assert one.weights == 4 * models.parameters(models.fused(small))
    assert wide.training
    assert all(torch.equal(value, state[key]) for key, value in wide.state_dict().items())
    learning = estimate.tile_of(small, device="cpu", shape=(2, 64, 64), learning=True)
    assert learning.seconds > 0
    assert all(p.grad is None for p in small.parameters())


def test_free_memory_and_disk(tmp_path):
    assert estimate.free_memory() > 0
    assert 0 < estimate.free_disk(tmp_path / "not" / "there") < math.inf


def test_control_groups(tmp_path):
    mine = tmp_path / "cgroup"
    mine.write_text("0::/user/job\n")
    root = tmp_path / "fs"
    (root / "user" / "job").mkdir(parents=True)
    for folder, most, used in (("user", "4096", "1024"), ("user/job", "max", "512")):
        (root / folder / "memory.max").write_text(f"{most}\n")
        (root / folder / "memory.current").write_text(f"{used}\n")
    assert estimate._groups(root, mine) == [(4096, 1024)]
    assert estimate._groups(root, tmp_path / "none") == []
    mine.write_text("4:memory:/job\n3:cpu:/job\n")
    (root / "memory" / "job").mkdir(parents=True)
    (root / "memory" / "job" / "memory.limit_in_bytes").write_text("2048")
    (root / "memory" / "job" / "memory.usage_in_bytes").write_text("1")
    assert estimate._groups(root, mine) == [(2048, 1)]
