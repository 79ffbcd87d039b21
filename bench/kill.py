"""Kill what segments a volume, at random moments: nothing is lost, and little is done twice.

    python bench/kill.py --rounds 20 --seed 1

`axolemma segment phantom.zarr -o out.zarr --objects neurons` is done undisturbed first. Then every
round does it anew while its driver, a worker process, a dask worker or the dask scheduler is
killed with SIGKILL up to three times; the command is repeated until it ends with exit code 0. Then
every file of out.zarr must be that of the undisturbed run, byte for byte, and the record too, but
for times and the place in it; and no more blocks may have been computed than there are and were
in flight at the kills. Further rounds have a store of which one call in ten fails, on disk and
behind a server, and, where a small tmpfs can be mounted, a disk that is full. Writes
``docs/results/kill.json``.

What is computed is counted in the workers: their processes load `watched/sitecustomize.py`.
"""

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from axolemma.datasets import phantom
from axolemma.geometry import Box
from axolemma.images import create_zarr
from measuring import RESULTS

WORKERS = 2
#: A target, the engine of its rounds, and how many blocks are in flight at most when it is hit.
TARGETS = {
    "worker process": ("processes", 1),
    "driver of processes": ("processes", WORKERS),
    "dask worker": ("dask", 2 * WORKERS),
    "dask scheduler": ("dask", 2 * WORKERS),
    "driver of dask": ("dask", 2 * WORKERS),
}
#: Of the volume, and how it is cut; large enough for a second level.
SHAPE, BLOCK = (4, 400, 520), "1,256,256"
#: Of the record only these may differ: when it was, how long it took, and where it wrote.
MAY_DIFFER = ("finished", "seconds", "output")
MOST_RUNS = 40
WATCHED = Path(__file__).parent / "watched"


@dataclass(frozen=True)
class Case:
    """Where one round works: a folder, and perhaps other places for output and ledger."""

    folder: Path
    out: str
    ledger: Path
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls, root: Path, name: str, *, out: str = "", ledger: Path | None = None) -> "Case":
        """Make a folder for a round."""
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        return cls(folder, out or f"{folder}/out.zarr", ledger or folder / "ledger")

    @property
    def environment(self) -> dict[str, str]:
        """Of all processes of the round."""
        path = [str(WATCHED), os.environ.get("PYTHONPATH", "")]
        mine = {"PYTHONPATH": os.pathsep.join(path), "KILL_LOG": str(self.folder / "log")}
        return {**os.environ, **mine, **self.variables}

    def start(self, engine: str) -> "subprocess.Popen[bytes]":
        """Start the command."""
        command = [
            *(sys.executable, "-m", "axolemma", "segment", self.folder.parent / "phantom.zarr"),
            *("-o", self.out, "--ledger", self.ledger, "--block", BLOCK, "--engine", engine),
            *("--objects", "neurons", "--average", "none"),
        ]
        with (self.folder / "driver.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)

    def said(self) -> str:
        """Return the last line that the command said."""
        return (self.folder / "driver.log").read_text("utf-8").strip().splitlines()[-1]

    def content(self) -> dict[str, bytes]:
        """Return every file of the output, and the record."""
        out = Path(self.out)
        files = {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()}
        return files | {"record": self.record()}

    def record(self) -> bytes:
        """Return what the run tells of itself, without what may differ."""
        told = json.loads((self.ledger / "run.json").read_text("utf-8"))
        return json.dumps({k: v for k, v in told.items() if k not in MAY_DIFFER}).encode()

    def count(self, what: str) -> int:
        """Return how often something stands in the log: blocks begun or done, calls that failed."""
        log = self.folder / "log"
        if not log.exists():
            return 0
        return sum(line.startswith(what) for line in log.read_text("utf-8").splitlines())


@dataclass(frozen=True)
class Whole:
    """The undisturbed run: what it wrote, how long it took, and how many blocks it computed."""

    content: dict[str, bytes]
    seconds: float
    blocks: int


class Cluster:
    """A dask scheduler and workers, each started again when it ends, as a cluster would."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._file = case.folder / "scheduler.json"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def engine(self) -> str:
        """Its name for the driver."""
        return f"dask+file://{self._file}?patience=120"

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
        with (self._case.folder / "dask.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env=self._case.environment, cwd="/"
            )


def prepare(root: Path) -> Whole:
    """Make the volume and segment it undisturbed."""
    volume, *_ = create_zarr(
        root / "phantom.zarr", SHAPE, np.uint8, voxel_size=(50, 4, 4), block=(1, 256, 256)
    )
    volume.write(Box.of(SHAPE), phantom(SHAPE, seed=3).image)
    case = Case.new(root, "undisturbed")
    begun = time.monotonic()
    if case.start(f"processes:{WORKERS}").wait():
        raise SystemExit((case.folder / "driver.log").read_text("utf-8"))
    return Whole(case.content(), time.monotonic() - begun, case.count("begun"))


def one_round(
    root: Path, name: str, target: str, kills: int, rng: random.Random, whole: Whole
) -> dict[str, Any]:
    """Segment anew with kills; compare what came out and count what was done twice."""
    hits = tries = 0
    while not hits:  # now and then the command is faster than all that would kill it
        case = Case.new(root, f"{name} {tries}")
        hits, runs = killed(case, target, kills, rng, whole)
        tries += 1
    extra, allowed = case.count("begun") - whole.blocks, hits * TARGETS[target][1]
    same = case.content() == whole.content
    return {
        "what": target,
        "kills": hits,
        "runs": runs,
        "extra": extra,
        "allowed": allowed,
        "good": same and 0 <= extra <= allowed,
    }


class Moment:
    """A random one: in the first half of a run's time, or, twice as often, among its blocks."""

    def __init__(self, case: Case, whole: Whole, rng: random.Random) -> None:
        begun = case.count("begun")
        by_time = rng.random() < 1 / 3 or begun >= whole.blocks
        self._case, self._wait = case, rng.uniform(0, whole.seconds / 2 if by_time else 0.2)
        self._blocks = 0 if by_time else rng.randint(begun + 1, whole.blocks)
        self._due: float | None = None

    def has_come(self) -> bool:
        """Whether it is over."""
        if self._due is None and self._case.count("begun") >= self._blocks:
            self._due = time.monotonic() + self._wait
        return self._due is not None and time.monotonic() >= self._due


def killed(
    case: Case, target: str, kills: int, rng: random.Random, whole: Whole
) -> tuple[int, int]:
    """Segment until it is done, killing `target` meanwhile; return kills that hit, and runs."""
    cluster = Cluster(case) if TARGETS[target][0] == "dask" else None
    hits = 0
    try:
        for runs in range(1, kills + 6):
            if cluster:
                cluster.tend()
            job = case.start(cluster.engine if cluster else f"processes:{WORKERS}")
            due = Moment(case, whole, rng)
            while job.poll() is None:
                time.sleep(0.02)
                if cluster:
                    cluster.tend()
                if hits < kills and due.has_come():
                    hits += kill(target, job, cluster)
                    due = Moment(case, whole, rng)
            if job.returncode == 0:
                return hits, runs
        raise SystemExit(f"{case.folder}: not done after {runs} runs, see its driver.log")
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
        workers = [child.pid for child in psutil.Process(job.pid).children() if _works(child)]
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


def repeated(case: Case) -> list[int]:
    """Segment until it is done or the input is to blame; return the exit codes."""
    codes = [1]
    while codes[-1] == 1 and len(codes) <= MOST_RUNS:
        codes.append(case.start(f"processes:{WORKERS}").wait())
    return codes[1:]


def failing_disk(root: Path, whole: Whole) -> dict[str, Any]:
    """Segment with arrays of which one call in ten fails, for driver and workers."""
    case = Case.new(root, "failing disk")
    case.variables["KILL_ERRORS"] = "0.1"
    codes = repeated(case)
    # Blocks that could not be looked at, three times in a row, are done anew.
    extra, allowed = case.count("done") - whole.blocks, case.count("unread") // 3
    same = codes[-1] == 0 and case.content() == whole.content
    return {
        "what": "one call in ten of a file fails",
        "failed": case.count("failed"),
        "codes": codes,
        "extra": extra,
        "allowed": allowed,
        "good": same and 0 <= extra <= allowed,
    }


def failing_server(root: Path, whole: Whole) -> dict[str, Any] | None:
    """Segment into an object store that says 503 to one request in ten."""
    try:
        server = FailingStore(0.1)
    except ImportError:
        return None
    case = Case.new(root, "failing server", out="s3://bucket/out.zarr")
    case.variables.update(server.variables)
    with server:
        codes = repeated(case)
        refused, found = server.refused, server.content("out.zarr")
    same = codes[-1] == 0 and found | {"record": case.record()} == whole.content
    extra = case.count("begun") - whole.blocks
    return {
        "what": "one request in ten of an object store fails",
        "failed": refused,
        "codes": codes,
        "extra": extra,
        "allowed": 0,
        "good": same and not extra,
    }


class FailingStore:
    """An S3 server on this machine, with an empty bucket, that refuses some of the requests."""

    def __init__(self, share: float) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        inner, rng = DomainDispatcherApplication(create_backend_app), random.Random(1)
        self.refused = 0
        self._share = 0.0

        def answer(environ: dict[str, Any], respond: Callable[..., Any]) -> Any:
            if rng.random() < self._share:
                self.refused += 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                respond("503 Slow Down", [("Content-Length", "0")])
                return [b""]
            return inner(environ, respond)

        self._server = make_server("127.0.0.1", 0, answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread.start()
        self._ask("bucket", "PUT")
        self._share = share

    @property
    def variables(self) -> dict[str, str]:
        """What clients need to know."""
        return {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._address,
        }

    def content(self, folder: str) -> dict[str, bytes]:
        """Return all objects below a folder."""
        import boto3

        self._share = 0.0
        client = boto3.client(
            "s3",
            endpoint_url=self._address,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="us-east-1",
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {
            key.removeprefix(f"{folder}/"): client.get_object(Bucket="bucket", Key=key)[
                "Body"
            ].read()
            for key in keys
        }

    def __enter__(self) -> "FailingStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _ask(self, path: str, method: str) -> None:
        request = urllib.request.Request(f"{self._address}/{path}", method=method)
        urllib.request.urlopen(request).close()


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[bool]:
    """Mount a tmpfs of this size; yield whether that is allowed here."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    allowed = (
        bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode
    )
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", str(place)], check=True)


def full(root: Path, what: str, share: float, whole: Whole) -> dict[str, Any] | None:
    """Segment with `what` (ledger or out) on a disk for a share of it, then make room."""
    undisturbed = root / "undisturbed" / ("ledger" if what == "ledger" else "out.zarr")
    kilobytes = int(share * sum(4 * -(-f.stat().st_size // 4096) for f in undisturbed.rglob("*")))
    place = root / f"small {what} {share}"
    with small_disk(place, kilobytes) as allowed:
        if not allowed:
            return None
        where = {"ledger": place / "ledger"} if what == "ledger" else {"out": f"{place}/out.zarr"}
        case = Case.new(root, f"full {what} {share}", **where)
        codes = [case.start(f"processes:{WORKERS}").wait()]
        said = case.said().replace(str(root), "")
        subprocess.run(["mount", "-o", "remount,size=256m", str(place)], check=True)
        codes.append(case.start(f"processes:{WORKERS}").wait())
        same = codes == [1, 0] and case.content() == whole.content
        good = same and "no space left" in said.lower()
        return {"what": f"full disk: {what}", "codes": codes, "said": said, "good": good}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--no-stores", action="store_true", help="kills only")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    random.seed(arguments.seed)
    rounds: list[dict[str, Any]] = []
    root = Path(tempfile.mkdtemp(prefix="kill-"))

    def tell(entry: dict[str, Any] | None) -> None:
        if entry is not None:
            rounds.append(entry)
            print(json.dumps(entry), flush=True)

    whole = prepare(root)
    for number in range(arguments.rounds):
        target = arguments.targets[number % len(arguments.targets)]
        tell(one_round(root, f"{number} {target}", target, rng.randint(1, 3), rng, whole))
    if not arguments.no_stores:
        tell(failing_disk(root, whole))
        tell(failing_server(root, whole))
        for what in ("ledger", "out"):
            for share in (0.3, 0.7):
                tell(full(root, what, share, whole))
    result = {
        "command": " ".join(["python", "bench/kill.py", *sys.argv[1:]]),
        "blocks": whole.blocks,
        "files": len(whole.content) - 1,
        "seconds": round(whole.seconds, 1),
        "rounds": rounds,
    }
    (RESULTS / "kill.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if not all(entry["good"] for entry in rounds):
        raise SystemExit(f"something was lost or too much was redone; see {root}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
