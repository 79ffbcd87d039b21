"""A job whose processes are killed with SIGKILL, and what is lost: nothing.

The long version is bench/kill.py, twenty rounds at random moments.
"""

import os
import random
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("psutil")
if os.name != "posix":
    pytest.skip("SIGKILL is of POSIX systems", allow_module_level=True)
sys.path.append(str(Path(__file__).parent.parent / "bench"))
import kill

SECONDS = 0.01


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """How long the job lasts, what it writes, and how many blocks it computes."""
    case = kill.new_case(tmp_path_factory.mktemp("kill"), "undisturbed", SECONDS)
    begun = time.monotonic()
    assert case.start("processes:2").wait() == 0
    return time.monotonic() - begun, case.content(), case.computed()


def check(target, undisturbed, folder, kills):
    lasts, whole, blocks = undisturbed
    case = kill.new_case(folder, "case", SECONDS)
    entry = kill.one_round(case, target, kills, lasts, random.Random(3), whole, blocks)
    assert entry["good"], entry


def test_a_driver_is_killed(undisturbed, tmp_path):
    check("driver of processes", undisturbed, tmp_path, 1)


def test_a_worker_is_killed(undisturbed, tmp_path):
    check("worker process", undisturbed, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["dask worker", "dask scheduler", "driver of dask"])
def test_parts_of_a_cluster_are_killed(target, undisturbed, tmp_path):
    check(target, undisturbed, tmp_path, 2)


@pytest.mark.slow
def test_a_store_fails_one_call_in_ten(undisturbed, tmp_path):
    _, whole, blocks = undisturbed
    entry = kill.failing(tmp_path, SECONDS, whole, blocks)
    assert entry["good"], entry


@pytest.mark.slow
@pytest.mark.parametrize("what", ["ledger", "out"])
def test_the_disk_is_full(what, undisturbed, tmp_path):
    entry = kill.full(tmp_path, what, SECONDS, undisturbed[1])
    if entry is None:
        pytest.skip("no small disk may be mounted here")
    assert entry["good"], entry
