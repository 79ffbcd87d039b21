"""Kill what works on a volume, at random moments: nothing is lost, and little is done twice.

    python bench/kill.py --rounds 20 --seed 0

A job of two passes over 64 blocks is done undisturbed first. Then every round does it anew while
its driver, a worker process, a dask worker or the dask scheduler is killed with SIGKILL up to
three times; the command is repeated until it ends with exit code 0. Then the output must be the
undisturbed one byte for byte, and no more blocks may have been computed than there are and were
in flight at the kills. Further rounds have a store that fails one call in ten, and, where a small
tmpfs can be mounted, a disk that is full.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from axolemma.engines import engine_from
from axolemma.errors import AxolemmaError
from axolemma.images import replacing
from axolemma.volume import Block, Ledger, plan, run

HERE = Path(__file__).parent
WORKERS = 2
#: A target, the engine of its rounds, and how many blocks are in flight at most when it is hit.
TARGETS = {
    "worker process": ("processes", 1),
    "driver of processes": ("processes", WORKERS),
    "dask worker": ("dask", 2 * WORKERS),
    "dask scheduler": ("dask", 2 * WORKERS),
    "driver of dask": ("dask", 2 * WORKERS),
}


# The job: what the driver and its workers do.


@dataclass(frozen=True)
class Job:
    """Where it works, how long a block takes, and how often its store fails."""

    folder: Path
    out: Path
    seconds: float
    errors: float

    def begin(self, name: str, block: Block) -> None:
        """Log that a block is computed, in one write that no other can come between."""
        log = self.folder / "log"
        before = log.read_text().count(f"{name} {block.index} ") if log.exists() else 0
        fails = random.Random(f"{name} {block.index} {before}").random() < self.errors
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, f"{name} {block.index} {'failed' if fails else 'computed'}\n".encode())
        os.close(handle)
        if fails:
            raise OSError(f"the store does not answer for {block}")
        time.sleep(self.seconds)


@dataclass(frozen=True)
class Smooth(Job):
    """Sums over a window, into one memory-mapped file."""

    def __call__(self, block: Block) -> dict[str, NDArray[Any]]:
        """Compute and write a block."""
        self.begin("smooth", block)
        part = np.load(self.folder / "source.npy", mmap_mode="r")[block.read.slices].astype("i8")
        inside = block.write.within(block.read)
        total = np.zeros(block.write.shape, np.int64)
        for axis in range(3):
            for step in (-1, 0, 1):
                total += np.roll(part, step, axis)[inside.slices]
        out = np.load(self.out / "smooth.npy", mmap_mode="r+")
        out[block.write.slices] = total
        out.flush()
        return {"sum": total.sum(keepdims=True).ravel(), "crc": crc(total)}

    def right(self, block: Block, tables: Any) -> bool:
        """Whether what was written is there and right."""
        out = np.load(self.out / "smooth.npy", mmap_mode="r")
        return bool(crc(np.ascontiguousarray(out[block.write.slices])) == tables["crc"])


@dataclass(frozen=True)
class Above(Job):
    """What is above the mean of the first pass, into a file for each block."""

    mean: float

    def __call__(self, block: Block) -> dict[str, NDArray[Any]]:
        """Compute and write a block."""
        self.begin("above", block)
        part = np.load(self.out / "smooth.npy", mmap_mode="r")[block.read.slices]
        above = np.ascontiguousarray((part > self.mean)[block.write.within(block.read).slices])
        # Two may be at the same block for a moment, so the partial file has a name of its own.
        partial = self.out / f".{block.index}.{os.getpid()}"
        try:
            with partial.open("wb") as file:
                file.write(above.tobytes())
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self.out / f"{block.index}.above")
        finally:
            partial.unlink(missing_ok=True)
        return {"crc": crc(above), "where": np.argwhere(above)[:20]}

    def right(self, block: Block, tables: Any) -> bool:
        """Whether what was written is there and right."""
        content = (self.out / f"{block.index}.above").read_bytes()
        return bool(zlib.crc32(content) == tables["crc"][0])


def crc(array: NDArray[Any]) -> NDArray[Any]:
    return np.array([zlib.crc32(array.data)], np.uint32)


def drive(folder: Path, out: Path, ledger: Path, seconds: float, errors: float, name: str) -> None:
    source = np.load(folder / "source.npy", mmap_mode="r")
    out.mkdir(exist_ok=True)
    if not (out / "smooth.npy").exists():
        with replacing(out / "smooth.npy") as partial, partial.open("wb") as file:
            np.save(file, np.zeros(source.shape, np.int64))
    blocks = plan(source.shape, (16, 16, 16), (1, 1, 1))
    job = (folder, out, seconds, errors)
    settings = {"source": crc(source)[0].item(), "blocks": {"shape": blocks.block}}
    with Ledger(ledger, settings) as books, engine_from(name) as engine:
        # One retry, so that with errors some runs end with blocks missing.
        options: dict[str, Any] = {"ledger": books, "engine": engine, "retries": 1}
        smooth = Smooth(*job)
        sums = run("smooth", smooth, blocks, check=smooth.right, **options)
        mean = sum(int(tables["sum"][0]) for tables in sums) / source.size
        above = Above(*job, mean)
        found = run("above", above, blocks, check=above.right, **options)
        with replacing(out / "result.json") as partial:
            listed = [tables["where"].tolist() for tables in found]
            partial.write_text(json.dumps([mean, listed]))


# What kills it.


class Cluster:
    """A dask scheduler and workers, each started again when it ends, as a cluster would."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def engine(self) -> str:
        """Its name for the driver."""
        return f"dask+file://{self._file}?patience=60"

    def tend(self) -> None:
        """Start what does not run."""
        for name in ("scheduler", *(f"worker {number}" for number in range(WORKERS))):
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                self._processes[name] = self._start(name)

    def process(self, kind: str) -> int:
        """Return one of its processes."""
        return random.choice([p.pid for name, p in self._processes.items() if kind in name])

    def end(self) -> None:
        """End everything."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dask", name.split()[0], "--scheduler-file", self._file]
        if name == "scheduler":
            self._file.unlink(missing_ok=True)
            command += ["--port", "0", "--host", "127.0.0.1", "--no-dashboard"]
        else:
            command += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        with (self._folder / "dask.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT, cwd="/")


ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
}


@dataclass(frozen=True)
class Case:
    """Where one round works."""

    folder: Path
    seconds: float
    errors: float = 0.0
    out: Path | None = None
    ledger: Path | None = None

    def start(self, engine: str) -> "subprocess.Popen[bytes]":
        """Start a driver."""
        out = self.out or self.folder / "out"
        ledger = self.ledger or self.folder / "ledger"
        arguments = [self.folder, out, ledger, self.seconds, self.errors, engine]
        with (self.folder / "driver.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", "import kill; kill.driver()", *map(str, arguments)],
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
            )

    def content(self) -> dict[str, bytes]:
        """Return what was written, without the partial files that killed workers left."""
        out = self.out or self.folder / "out"
        return {file.name: file.read_bytes() for file in sorted(out.glob("[!.]*"))}

    def computed(self) -> int:
        """Return how often a block was computed."""
        return (self.folder / "log").read_text().count("computed")


def driver() -> None:
    folder, out, ledger, seconds, errors, engine = sys.argv[1:]
    try:
        drive(Path(folder), Path(out), Path(ledger), float(seconds), float(errors), engine)
    except AxolemmaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def new_case(root: Path, name: str, seconds: float, **more: Any) -> Case:
    folder = root / name.replace(" ", "-")
    folder.mkdir()
    rng = np.random.default_rng(1)
    np.save(folder / "source.npy", rng.integers(0, 255, (62, 64, 50), np.uint8))
    return Case(folder, seconds, **more)


def one_round(
    case: Case,
    target: str,
    kills: int,
    lasts: float,
    rng: random.Random,
    whole: dict[str, bytes],
    blocks: int,
) -> dict[str, Any]:
    """Do the job anew with kills; compare its output and count what was done twice."""
    hits = killed(case, target, kills, lasts, rng)
    extra, allowed = case.computed() - blocks, hits * TARGETS[target][1]
    good = case.content() == whole and 0 <= extra <= allowed
    return {"what": target, "kills": hits, "extra": extra, "allowed": allowed, "good": good}


def failing(root: Path, seconds: float, whole: dict[str, bytes], blocks: int) -> dict[str, Any]:
    """Do the job with a store that fails one call in ten, until it is done."""
    case, codes = new_case(root, "errors", seconds, errors=0.1), [1]
    while codes[-1] == 1 and len(codes) < 20:
        codes.append(case.start("processes:2").wait())
    good = codes[-1] == 0 and case.content() == whole and case.computed() == blocks
    return {"what": "store fails one call in ten", "codes": codes[1:], "good": good}


def killed(case: Case, target: str, kills: int, lasts: float, rng: random.Random) -> int:
    """Run the job until it is done, killing `target` meanwhile; return how many kills hit."""
    name, _ = TARGETS[target]
    cluster = Cluster(case.folder) if name == "dask" else None
    hits = 0
    try:
        for _ in range(kills + 5):
            if cluster:
                cluster.tend()
            job = case.start(cluster.engine if cluster else f"processes:{WORKERS}")
            due = time.monotonic() + rng.uniform(0.3, 0.8 * lasts)
            while job.poll() is None:
                time.sleep(0.02)
                if cluster:
                    cluster.tend()
                if hits < kills and time.monotonic() > due:
                    hits += kill(target, job, cluster)
                    due = time.monotonic() + rng.uniform(0.3, lasts)
            if job.returncode == 0:
                return hits
        raise SystemExit(f"{case.folder}: not done after {kills + 5} runs, see its driver.log")
    finally:
        if cluster:
            cluster.end()


def kill(target: str, job: "subprocess.Popen[bytes]", cluster: Cluster | None) -> bool:
    """Kill one process; whether there was one."""
    if target.startswith("driver"):
        pid = job.pid
    elif cluster:
        pid = cluster.process(target.removeprefix("dask "))
    else:
        children = psutil.Process(job.pid).children()
        workers = [child.pid for child in children if _works(child)]
        if not workers:
            return False
        pid = random.choice(workers)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _works(child: psutil.Process) -> bool:
    """Tell whether a process is a worker that lives."""
    try:
        return "spawn_main" in " ".join(child.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return False


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[bool]:
    """Mount a tmpfs of this size; yield whether that is allowed here."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    allowed = (
        bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode
    )
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", str(place)], check=True)


def full(root: Path, what: str, seconds: float, whole: dict[str, bytes]) -> dict[str, Any] | None:
    """Run with `what` (ledger or out) on a disk that is full half-way, then make room."""
    with small_disk(root / f"small-{what}", "28k" if what == "ledger" else "1680k") as allowed:
        if not allowed:
            return None
        place = root / f"small-{what}"
        case = new_case(root, f"full {what}", seconds, **{what: place / what})
        codes = [case.start("processes:2").wait()]
        said = (case.folder / "driver.log").read_text().strip().splitlines()[-1]
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        codes.append(case.start("processes:2").wait())
        said = said.replace(str(root), "")
        good = codes == [1, 0] and case.content() == whole and "no space left" in said.lower()
        return {"what": f"full disk: {what}", "codes": codes, "said": said, "good": good}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seconds", type=float, default=0.05, help="that a block takes")
    parser.add_argument("--results", type=Path, help="a JSON file to write")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    random.seed(arguments.seed)
    rounds: list[dict[str, Any]] = []
    root = Path(tempfile.mkdtemp(prefix="kill-"))

    def tell(entry: dict[str, Any]) -> None:
        rounds.append(entry)
        print(json.dumps(entry), flush=True)

    case = new_case(root, "undisturbed", arguments.seconds)
    begun = time.monotonic()
    if case.start("processes:2").wait():
        raise SystemExit((case.folder / "driver.log").read_text())
    lasts, whole, blocks = time.monotonic() - begun, case.content(), case.computed()
    for number in range(arguments.rounds):
        target = arguments.targets[number % len(arguments.targets)]
        case = new_case(root, f"{number} {target}", arguments.seconds)
        tell(one_round(case, target, rng.randint(1, 3), lasts, rng, whole, blocks))
    tell(failing(root, arguments.seconds, whole, blocks))
    for what in ("ledger", "out"):
        entry = full(root, what, arguments.seconds, whole)
        if entry:
            tell(entry)
    good = all(entry["good"] for entry in rounds)
    if arguments.results:
        result = {
            "command": f"python bench/kill.py --rounds {arguments.rounds} --seed {arguments.seed}"
        }
        arguments.results.write_text(json.dumps(result | {"rounds": rounds}, indent=1) + "\n")
    if not good:
        raise SystemExit(f"something was lost or too much was redone; see {root}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
