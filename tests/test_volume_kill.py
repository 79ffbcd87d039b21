"""What is killed with SIGKILL, and what is lost: nothing.

The slow ones are rounds of bench/kill.py, which kills the whole command.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from axolemma.engines import engine_from
from axolemma.volume import Ledger, plan, run
from volume_toys import Copy

psutil = pytest.importorskip("psutil")
if os.name != "posix":
    pytest.skip("SIGKILL is of POSIX systems", allow_module_level=True)

BLOCKS, WORKERS = plan((400,), (1,), (0,)), 2


def drive(folder: Path) -> list[int]:
    """Copy all blocks; return the tables."""
    work = Copy(folder)
    with Ledger(folder / "ledger", {}) as ledger, engine_from(f"processes:{WORKERS}") as engine:
        found = run("copy", work, BLOCKS, ledger=ledger, engine=engine, check=work.right)
        return [tables["index"].item() for tables in found]


def started(folder: Path) -> "subprocess.Popen[bytes]":
    """Start a driver; return it when it is half-way."""
    code = "import sys, pathlib, test_volume_kill as t; t.drive(pathlib.Path(sys.argv[1]))"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder], env=os.environ | {"PYTHONPATH": path}
    )
    while process.poll() is None and len(Copy(folder).calls()) < len(BLOCKS) // 4:
        time.sleep(0.001)
    return process


def test_a_driver_is_killed(tmp_path):
    process = started(tmp_path)
    workers = psutil.Process(process.pid).children()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    psutil.wait_procs(workers, timeout=30)
    assert drive(tmp_path) == list(range(400))
    assert len(BLOCKS) <= len(Copy(tmp_path).calls()) <= len(BLOCKS) + WORKERS
    assert len(list(tmp_path.glob("*.out"))) == len(BLOCKS)


def test_a_worker_is_killed(tmp_path):
    process = started(tmp_path)
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]
    workers[0].kill()
    assert process.wait() == 0
    assert len(Copy(tmp_path).calls()) - len(BLOCKS) in (0, 1)
    assert len(list(tmp_path.glob("*.out"))) == len(BLOCKS)


@pytest.fixture(scope="module")
def bench():
    pytest.importorskip("zarr")
    sys.path.append(str(Path(__file__).parent.parent / "bench"))
    import kill

    return kill


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("kill")


@pytest.fixture(scope="module")
def whole(bench, root):
    return bench.prepare(root)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    ["worker process", "driver of processes", "dask worker", "dask scheduler", "driver of dask"],
)
def test_the_command_is_killed(target, bench, root, whole):
    if "dask" in target:
        pytest.importorskip("distributed")
    entry = bench.one_round(root, target, target, 2, random.Random(3), whole)
    assert entry["good"], entry


@pytest.mark.slow
@pytest.mark.parametrize("store", ["failing_disk", "failing_server"])
def test_one_call_in_ten_of_a_store_fails(store, bench, root, whole):
    entry = getattr(bench, store)(root, whole)
    if entry is None:
        pytest.skip("there is no server")
    assert entry["good"], entry


@pytest.mark.slow
@pytest.mark.parametrize("what", ["ledger", "out"])
def test_the_disk_is_full(what, bench, root, whole):
    entry = bench.full(root, what, 0.5, whole)
    if entry is None:
        pytest.skip("no small disk may be mounted here")
    assert entry["good"], entry
