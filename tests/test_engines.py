"""One contract for all engines, and what is special to processes and to dask."""

import os
import signal
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest
import yaml

import volume_toys as toys
from axolemma.engines import Dask, Processes, Serial, cluster, engine_from
from axolemma.errors import EngineError, SettingsError
from axolemma.volume import Ledger, plan, run

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")


@pytest.fixture(scope="module", autouse=True)
def no_long_waits():
    """Seconds, where dask would look for half a minute for a worker that has been killed."""
    with dask.config.set({"distributed.comm.timeouts.connect": "5s"}):
        yield


@pytest.fixture(scope="module")
def engines(no_long_waits):
    with Serial() as serial, Processes(2) as processes, Dask(workers=2) as far:
        yield {"serial": serial, "processes": processes, "dask": far}


@pytest.fixture(params=["serial", "processes", "dask"])
def engine(request, engines):
    return engines[request.param]


@pytest.fixture(params=["processes", "dask"])
def several(request, engines):
    return engines[request.param]


def values(engine, work, items):
    return sorted(outcome.value for outcome in engine.results(work, items))


def test_every_item_comes_back_once(engine):
    found = {outcome.item: outcome.value for outcome in engine.results(toys.square, range(50))}
    assert found == {number: number**2 for number in range(50)}
    assert list(engine.results(toys.square, [])) == []


def test_what_work_raises_comes_back(engine):
    found = {outcome.item: outcome for outcome in engine.results(toys.picky, range(6))}
    assert isinstance(found[3].error, SettingsError)
    assert "volume_toys.py" in found[3].error.__notes__[0]
    assert str(found[4].error) == "LocalError: four"
    assert [found[item].value for item in (0, 1, 2, 5)] == [0, 1, 2, 5]
    assert all(outcome.seconds >= 0 for outcome in found.values())


def test_items_are_taken_as_they_are_needed(engine):
    taken = count()
    with_end = engine.results(toys.square, taken)
    assert len(list(islice(with_end, 20))) == 20
    with_end.close()
    assert next(taken) <= 20 + 3 * engine.workers
    assert values(engine, toys.square, range(3)) == [0, 1, 4]


def test_values_that_cannot_travel_are_errors(several):
    (outcome,) = several.results(toys.unpicklable, [0])
    assert "pickle" in str(outcome.error)


def test_each_worker_loads_its_model_once(several, tmp_path):
    for _ in range(2):
        items = [(tmp_path / "log", number) for number in range(20)]
        used = {outcome.value for outcome in several.results(toys.with_model, items)}
    loaded = (tmp_path / "log").read_text().split()
    assert len(loaded) == len(set(loaded)) <= 2
    assert used <= set(map(int, loaded))
    assert os.getpid() not in used


def test_a_worker_that_is_killed_is_replaced(several, tmp_path):
    items = [tmp_path / str(number) for number in range(4)]
    outcomes = list(several.results(toys.kill_self_once, items))
    lost = [outcome.item for outcome in outcomes if outcome.error]
    # dask gives an item to another worker itself, a few times.
    assert all(isinstance(o.error, EngineError) for o in outcomes if o.error)
    assert len(lost) == (4 if isinstance(several, Processes) else 0)
    assert values(several, toys.kill_self_once, items) == [1] * 4


def test_an_item_that_kills_its_workers_costs_itself_alone(several):
    outcomes = {outcome.item: outcome for outcome in several.results(toys.kill_self, range(8))}
    assert outcomes.keys() == set(range(8))
    assert isinstance(outcomes[3].error, EngineError)
    if isinstance(several, Processes):
        assert "ended by SIGKILL, perhaps for want of memory" in str(outcomes[3].error)
        assert [o.item for o in outcomes.values() if o.error] == [3]


def test_leaving_early_cancels_what_is_in_flight(several):
    outcomes = several.results(toys.slow, range(100))
    next(outcomes)
    outcomes.close()
    assert values(several, toys.square, range(4)) == [0, 1, 4, 9]


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("axolemma.engines.cores.cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    with Processes(2) as engine:
        found = [o.value for o in engine.results(toys.environment, ["OMP_NUM_THREADS"])]
        found += [o.value for o in engine.results(toys.environment, ["MKL_NUM_THREADS"])]
    assert found == ["3", "5"]
    assert "OMP_NUM_THREADS" not in os.environ


def test_dask_workers_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("axolemma.engines.cores.cores", lambda: 3)
    with engine_from("dask://?workers=1") as engine:
        assert values(engine, toys.environment, ["OMP_NUM_THREADS"]) == ["3"]
        assert engine.dashboard.startswith("http://127.0.0.1:")


def test_every_process_sees_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-7")
    with engine_from("processes:gpu") as engine:
        items = ["CUDA_VISIBLE_DEVICES"] * 20
        assert set(values(engine, toys.environment, items)) <= {"2", "GPU-7"}
        assert engine.workers == 2
    with engine_from("processes:3") as engine:
        assert [own["CUDA_VISIBLE_DEVICES"] for own in engine._free] == ["2", "GPU-7", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" not in engine_from("processes")._free[0]
    with pytest.raises(SettingsError, match="no CUDA device"):
        engine_from("processes:gpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("subprocess.check_output", lambda *_, **__: "0\n1\n")
    assert engine_from("processes:gpu").workers == 2


def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import volume_toys\nfrom axolemma.engines import Processes\n"
        "with Processes(1) as engine:\n    list(engine.results(volume_toys.square, [1]))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    told = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=60,
    )
    assert told.returncode == 1
    assert "does its work under if __name__ == '__main__':" in told.stderr


def test_names_of_engines():
    assert isinstance(engine_from("serial"), Serial)
    assert engine_from("processes:3").workers == 3
    assert engine_from("processes").workers >= 1
    for name, told in {
        "proceses": "did you mean 'processes'",
        "processes:many": "is no engine",
        "processes:0": "1 worker process or more, not 0",
        "dask": "did you mean 'dask://'",
        "dask://host:1?worker=2": "no option 'worker'; did you mean 'workers'",
        "dask://host:1?workers=2": "leave out 'workers'",
        "dask://?workers=0": "at least 1 worker",
        "dask://?in_flight=x": "in_flight is a number, not 'x'",
        "dask+file://": "names no file",
    }.items():
        with pytest.raises(SettingsError, match=told.replace("+", r"\+").replace("?", r"\?")):
            engine_from(name)


def test_without_dask_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"pip install 'axolemma\[dask\]'"):
        engine_from("dask://")


def test_no_scheduler_is_not_waited_for_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "CONNECT", 1.0)
    with pytest.raises(EngineError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"):
        engine_from("dask://127.0.0.1:9")
    with pytest.raises(EngineError, match=r"at the address in .*none\.json"):
        engine_from(f"dask+file://{tmp_path}/none.json")


class Cluster:
    """The commands of a cluster's script, on this machine."""

    def __init__(self, folder):
        self.file = folder / "scheduler.json"
        self._processes = []

    def start(self, kind, *arguments):
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", self.file, *arguments]
        self._processes.append(
            subprocess.Popen(
                [*command, "--no-dashboard"],
                env=os.environ | {"PYTHONPATH": path},
                stderr=subprocess.DEVNULL,
            )
        )
        return self._processes[-1]

    def scheduler(self):
        self.file.unlink(missing_ok=True)
        return self.start("scheduler", "--host", "127.0.0.1", "--port", "0")

    def worker(self, *arguments):
        return self.start("worker", "--nthreads", "1", "--no-nanny", *arguments)

    def end(self):
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def far(tmp_path):
    there = Cluster(tmp_path)
    yield there
    there.end()


def test_a_scheduler_file_and_a_scheduler_that_is_lost(far):
    first = [far.scheduler(), far.worker("--resources", "GPU=1")]
    found = []
    with engine_from(f"dask+file://{far.file}?patience=30&resource=GPU&in_flight=2") as engine:
        for outcome in engine.results(toys.slow, range(8)):
            found.append(outcome.value)
            if len(found) == 3:
                for process in first:
                    process.kill()
                    process.wait()
                far.scheduler()
                far.worker("--resources", "GPU=1")
    assert sorted(found) == list(range(8))


def test_a_scheduler_that_stays_away_ends_the_run(far, monkeypatch):
    scheduler, _ = far.scheduler(), far.worker()
    with engine_from(f"dask+file://{far.file}?patience=1") as engine:
        outcomes = engine.results(toys.slow, range(8))
        next(outcomes)
        scheduler.kill()
        with pytest.raises(EngineError, match=r"no dask scheduler answers .*what is done is kept"):
            list(outcomes)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGSTOP is of POSIX systems")
def test_a_scheduler_that_falls_silent_ends_the_run(far):
    scheduler, _ = far.scheduler(), far.worker()
    with engine_from(f"dask+file://{far.file}?patience=1") as engine:
        outcomes = engine.results(toys.slow, range(8))
        next(outcomes)
        scheduler.send_signal(signal.SIGSTOP)
        with pytest.raises(EngineError, match="no dask scheduler answers"):
            list(outcomes)


def test_a_scheduler_without_workers_ends_the_run(far):
    far.scheduler()
    with (
        engine_from(f"dask+file://{far.file}?patience=1") as engine,
        pytest.raises(EngineError, match="has had no worker for 1 s"),
    ):
        list(engine.results(toys.square, range(3)))


def test_the_result_is_the_same_for_all_engines_and_numbers_of_workers(engines, tmp_path):
    blocks = plan((30, 20, 20), (7, 9, 10), (1, 2, 3))
    found = {}
    with Processes(3) as three:
        for name, engine in {**engines, "three": three}.items():
            folder = tmp_path / name
            folder.mkdir()
            with Ledger(folder / "ledger", {}) as ledger:
                work = toys.Copy(folder, failing=(5, 11), times=1)
                results = run("copy", work, blocks, ledger=ledger, engine=engine)
                tables = [{key: table.tolist() for key, table in t.items()} for t in results]
            files = {file.name: file.read_text() for file in folder.glob("*.out")}
            found[name] = (tables, files)
    assert all(one == found["serial"] for one in found.values())
    assert len(found["serial"][1]) == len(blocks)


def test_ctrl_c_ends_the_workers(tmp_path):
    def press(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    def interrupted():
        work, blocks = toys.Copy(tmp_path), plan((99,), (1,), (0,))
        with Ledger(tmp_path / "ledger", {}) as ledger, Processes(2) as engine:
            run("copy", work, blocks, ledger=ledger, engine=engine, advance=press)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(toys.Copy(tmp_path).calls()) < 10


CLUSTER_FILES = Path(__file__).parent.parent / "docs" / "cluster"

DRIVER = """
import sys
import volume_toys
from axolemma.engines import engine_from
assert sys.argv[1:3] == ["--objects", "--engine"], sys.argv
with engine_from(sys.argv[3]) as engine:
    print(sorted(outcome.value for outcome in engine.results(volume_toys.square, range(9))))
"""

#: Starts its command twice, as srun would on two nodes.
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
trap 'kill $(jobs -p)' TERM
"$@" & "$@" & wait
"""


@pytest.mark.skipif(os.name != "posix", reason="a script of bash")
def test_the_script_for_slurm(tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    dask = tmp_path / "dask"
    dask.write_text(f'#!/bin/bash\nexec {sys.executable} -m dask "$@"\n')
    dask.chmod(0o755)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    told = subprocess.run(
        ["bash", CLUSTER_FILES / "slurm.sh", sys.executable, "driver.py", "--objects"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=120,
    )
    assert told.stdout == f"{[number**2 for number in range(9)]}\n"
    assert told.returncode == 0
    assert not list(tmp_path.glob("scheduler*"))


def test_the_files_for_kubernetes_call_dask_by_flags_that_it_has():
    from distributed.cli import dask_scheduler, dask_worker

    cluster_file, job = yaml.safe_load_all((CLUSTER_FILES / "kubernetes.yaml").read_text())
    for part, command in {"worker": dask_worker, "scheduler": dask_scheduler}.items():
        (container,) = cluster_file["spec"][part]["spec"]["containers"]
        dask, verb, *arguments = container["args"]
        assert (dask, verb) == ("dask", part)
        known = {flag for option in command.main.params for flag in option.opts}
        known |= {flag for option in command.main.params for flag in option.secondary_opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= known
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert f"dask://{cluster_file['metadata']['name']}-scheduler:8786" in container["args"][-1]
