"""Workers of dask.distributed: on this machine, or wherever a scheduler's workers are.

Futures are used, never dask's graphs: of millions of items only a few are known to the scheduler
at any time. A dask worker with one thread is one process, as a pass wants it.
"""

import json
import logging
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from axolemma.engines.cores import cores, threads_each
from axolemma.engines.outcomes import Engine, Outcome, attempt_packed
from axolemma.errors import EngineError, SettingsError

__all__ = ["Dask"]

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_IN_FLIGHT = 4096
CONNECT = 30.0  # seconds that a scheduler may take to answer at the start
PULSE = 2.0  # seconds between two looks at the scheduler


class Dask(Engine):
    """Work in the workers of dask.distributed.

    A worker that is lost is dask's to replace: it gives the item to another, some times, then the
    item has failed. When the scheduler is lost, the engine waits for it, at the same address or at
    the one that the scheduler file then holds, and submits again what was in flight.

    Parameters
    ----------
    address
        Of a scheduler, ``host:port``. Without it and a scheduler file, workers are started on
        this machine.
    scheduler_file
        That ``dask scheduler --scheduler-file`` wrote.
    workers
        To be started on this machine; one per core where None.
    in_flight
        Most items that are submitted at once; twice the workers' threads where None.
    patience
        Seconds to wait for a scheduler that was lost, and for workers where there are none.
    resource
        That an item needs one of, such as ``GPU``; see ``dask worker --resources``.

    Raises
    ------
    SettingsError
        If dask is not installed, or an argument makes no sense.
    EngineError
        If no scheduler answers.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        scheduler_file: str | Path | None = None,
        workers: int | None = None,
        in_flight: int | None = None,
        patience: float = 600.0,
        resource: str | None = None,
    ) -> None:
        if (workers is not None and workers < 1) or (in_flight is not None and in_flight < 1):
            raise SettingsError("the engine 'dask' needs at least 1 worker and 1 item in flight")
        self._distributed = _distributed()
        self._file = None if scheduler_file is None else Path(scheduler_file)
        self._in_flight, self._patience = in_flight, patience
        self._resources = {resource: 1} if resource else None
        self._cluster: Any = None
        if address is None and self._file is None:
            self._cluster = _local_cluster(self._distributed, workers or cores())
            address = self._cluster.scheduler_address
        self._address = address
        self._place = address or f"the address in {self._file}"
        self._threads = 0
        self._client: Any = None
        try:
            self._connect(CONNECT)
        except BaseException:
            self.__exit__()
            raise

    @property
    def workers(self) -> int:
        """Threads of all workers, when last seen."""
        return self._threads

    @property
    def dashboard(self) -> str:
        """Where a browser sees the scheduler at work."""
        return str(self._client.dashboard_link)

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            _Aside(self._client.close, 10.0)
        if self._cluster is not None:
            self._cluster.close(timeout=30)

    def results(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """See `Engine.results`."""
        packed, source = pickle.dumps(work), iter(items)
        flight = _Flight(self._distributed, self._client, packed, self._resources)
        watch = _Watch(self._client, self._patience, self._place)
        pause = 0.001
        try:
            while True:
                self._threads = watch.threads or self._threads
                # Something, even where no worker has come yet: some start when there is work.
                room = self._in_flight or min(max(2 * self._threads, 2), MOST_IN_FLIGHT)
                flight.submit(list(islice(source, max(room - len(flight), 0))))
                if not flight:
                    return
                pause = min(2 * pause, 0.05)
                for outcome in flight.landed():
                    pause = 0.001
                    yield outcome
                if flight.lost or watch.lost():
                    self._connect(self._patience)
                    flight.again(self._client)
                    watch = _Watch(self._client, self._patience, self._place)
                time.sleep(pause)
        finally:
            flight.cancel()

    def _connect(self, patience: float) -> None:
        """Connect, or connect anew: the scheduler may have moved."""
        if self._client is not None:
            _Aside(self._client.close, 10.0)
        deadline = time.monotonic() + patience
        while True:
            left = max(1.0, min(10.0, deadline - time.monotonic()))
            # Aside: of a scheduler that takes a call and says nothing dask waits for ever.
            call = _Aside(partial(self._call, left), left)
            if call.done:
                self._client, self._threads = call.value
                return
            # A scheduler file that is just being written is no JSON yet.
            if not isinstance(call.error, OSError | ValueError | TypeError | KeyError | None):
                raise call.error
            if time.monotonic() > deadline:
                raise EngineError(
                    f"no dask scheduler answers at {self._place}, waited {patience:.0f} s;"
                    " start one (dask scheduler) and repeat the command, what is done is kept"
                ) from call.error
            time.sleep(0.5)

    def _call(self, seconds: float) -> tuple[Any, int]:
        """Return a client and how many threads its scheduler's workers have."""
        client = self._distributed.Client(
            self._address or _address_in(self._file), timeout=seconds, set_as_default=False
        )
        return client, sum(client.nthreads().values())


class _Flight:
    """The items that are submitted and not back yet."""

    def __init__(self, distributed: Any, client: Any, work: bytes, resources: Any) -> None:
        self._distributed, self._work, self._resources = distributed, work, resources
        self._aboard: dict[Any, Any] = {}
        self._waiting: deque[Any] = deque()
        self.again(client)

    def __len__(self) -> int:
        return len(self._aboard)

    @property
    def lost(self) -> bool:
        """Whether the way to the scheduler was lost, even if it is there again."""
        return bool(self._waiting) or self._client.scheduler_comm is not self._way

    def submit(self, items: list[Any]) -> None:
        """Submit items."""
        if not items:
            return
        futures = self._client.map(
            attempt_packed,
            [self._work] * len(items),
            [pickle.dumps(item) for item in items],
            pure=False,
            resources=self._resources,
        )
        self._aboard.update(zip(futures, items, strict=True))
        self._landing.update(futures)

    def again(self, client: Any) -> None:
        """Submit everything anew, by another client."""
        self._client, self._way = client, client.scheduler_comm
        self._landing = self._distributed.as_completed(
            with_results=True, raise_errors=False, loop=client.loop
        )
        items = [*self._waiting, *self._aboard.values()]
        self._waiting.clear()
        self._aboard.clear()
        self.submit(items)

    def landed(self) -> Generator[Outcome[Any, Any], None, None]:
        """Yield what has come back, without waiting."""
        for future, said in self._landing.next_batch(block=False):
            if future not in self._aboard:
                continue
            item = self._aboard.pop(future)
            if isinstance(said, bytes):
                yield Outcome(item, *pickle.loads(said))
            elif getattr(said, "reason", "") == "scheduler-connection-lost":
                self._waiting.append(item)
            else:
                error = said[1] if isinstance(said, tuple) else said
                yield Outcome(item, None, _explained(error), 0.0)

    def cancel(self) -> None:
        """Take back what is submitted."""
        if self._aboard:
            futures = list(self._aboard)
            _Aside(lambda: self._client.cancel(futures), 10.0)
            self._aboard.clear()


class _Watch:
    """Looks at the scheduler now and then, never waiting for its answer."""

    def __init__(self, client: Any, patience: float, place: str) -> None:
        self._client, self._patience, self._place = client, patience, place
        self.threads = 0
        self._manned = time.monotonic()
        self._look = _Aside(client.nthreads)

    def lost(self) -> bool:
        """Whether the scheduler is lost.

        Raises
        ------
        EngineError
            If it has had no worker for too long.
        """
        now = time.monotonic()
        if self._look.error or self._client.status != "running":
            return True
        if not self._look.done:
            return now - self._look.begun > self._patience
        self.threads = sum(self._look.value.values())
        if self.threads:
            self._manned = now
        if now - self._look.begun > PULSE:
            self._look = _Aside(self._client.nthreads)
        if now - self._manned > self._patience:
            raise EngineError(
                f"the dask scheduler at {self._place} has had no worker for {self._patience:.0f} s;"
                " start workers (dask worker) and repeat the command, what is done is kept"
            )
        return False


class _Aside:
    """A call in a thread of its own, which may hang without hanging the caller."""

    def __init__(self, call: Callable[[], Any], wait: float = 0.0) -> None:
        self.begun = time.monotonic()
        self.done = False
        self.value: Any = None
        self.error: Exception | None = None

        def run() -> None:
            try:
                self.value = call()
                self.done = True
            except Exception as error:
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        if wait:
            self._thread.join(wait)


def _address_in(file: Path | None) -> str:
    """Return what a scheduler file says; dask itself would wait for the file for ever."""
    assert file is not None
    return str(json.loads(file.read_text(encoding="utf-8"))["address"])


def _explained(error: BaseException) -> Exception:
    """Return why an item failed that its work says nothing of."""
    if type(error).__name__ == "KilledWorker":
        return EngineError("the dask workers that had it were lost one after the other")
    return error if isinstance(error, Exception) else EngineError(f"dask took it back: {error}")


def _local_cluster(distributed: Any, workers: int) -> Any:
    import dask

    # Set before a worker's process begins: its libraries look at them when they are loaded.
    threads = {
        f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in threads_each(workers).items()
    }
    with dask.config.set(threads):
        return distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            # Blocks are as large as the user wants them; a paused worker would only wait for ever.
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise SettingsError(
            "the engine 'dask' needs the package distributed; pip install 'axolemma[dask]'"
        ) from error
    return distributed
