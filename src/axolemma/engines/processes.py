"""Processes on this machine, each with a pipe of its own.

`concurrent.futures` has such a pool, but there the death of one process, as the system's want of
memory brings it, breaks the pool and takes the work of all others with it, and does not tell
whose work it was. Here a process shares nothing with the others, so its death is the end of its
pipe, costs the one item that it had, and another takes its place.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from axolemma.engines.cores import cores, environment, threads_each
from axolemma.engines.outcomes import Engine, Outcome, attempt_packed
from axolemma.errors import EngineError, SettingsError

__all__ = ["Processes"]

Item = TypeVar("Item")
Result = TypeVar("Result")

#: So many processes in a row may be killed before they begin.
STARTS = 3


class Processes(Engine):
    """Work in processes on this machine.

    They are started afresh (``spawn``), on every system alike; so a script that uses them does
    its work under ``if __name__ == "__main__":``.

    Parameters
    ----------
    workers
        How many; one per core where None.
    variables
        Environment variables of each worker, one mapping per worker; they decide how many there
        are. So each can be given its own graphics processor.

    Raises
    ------
    SettingsError
        If there would be no worker.
    """

    def __init__(
        self, workers: int | None = None, *, variables: Sequence[Mapping[str, str]] | None = None
    ) -> None:
        if variables is None:
            variables = [{}] * (cores() if workers is None else workers)
        if not variables:
            raise SettingsError("the engine needs 1 worker process or more, not 0")
        threads = threads_each(len(variables))
        self._count = len(variables)
        self._free: list[Mapping[str, str]] = [{**threads, **own} for own in reversed(variables)]
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, Any] = {}
        self._lost_starts = 0

    @property
    def workers(self) -> int:
        """How many processes there may be."""
        return self._count

    def __exit__(self, *_: object) -> None:
        for worker in (*self._busy, *self._idle):
            worker.kill()
        self._busy.clear()
        self._idle.clear()

    def results(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """See `Engine.results`."""
        packed, source = pickle.dumps(work), iter(items)
        try:
            while self._hand_out(packed, source):
                for worker in self._heard():
                    if not worker.ready:
                        self._begin(worker, packed)
                        continue
                    item, said = self._busy.pop(worker), worker.hear()
                    if said is None:
                        self._free.append(worker.variables)
                        yield Outcome(item, None, EngineError(worker.epitaph()), 0.0)
                    else:
                        self._idle.append(worker)
                        yield Outcome(item, *said)
        finally:
            for worker in self._busy:
                worker.kill()
                self._free.append(worker.variables)
            self._busy.clear()

    def _hand_out(self, packed: bytes, source: Iterator[Any]) -> bool:
        """Give items to workers, new ones if need be; return whether any of them is busy."""
        while self._idle or self._free:
            try:
                item = next(source)
            except StopIteration:
                break
            while self._idle:
                worker = self._idle.pop()
                if worker.tell(packed, item):
                    break
                self._free.append(worker.variables)  # it was killed while it had nothing to do
            else:
                worker = _Worker(self._free.pop())
            self._busy[worker] = item
        return bool(self._busy)

    def _heard(self) -> list["_Worker"]:
        """Wait until workers have something to say or are dead."""
        signs: dict[Any, _Worker] = {}
        for worker in self._busy:
            signs[worker.pipe] = signs[worker.process.sentinel] = worker
        return list(dict.fromkeys(signs[sign] for sign in wait(list(signs))))

    def _begin(self, worker: "_Worker", packed: bytes) -> None:
        """Give a worker that has just started its item; put another in its place if it has not."""
        item = self._busy[worker]
        worker.ready = worker.hear() is not None and worker.tell(packed, item)
        if worker.ready:
            self._lost_starts = 0
            return
        del self._busy[worker]
        self._free.append(worker.variables)
        self._lost_starts += 1
        why, code = worker.epitaph(), worker.code
        if code > 0:
            raise EngineError(
                f"the worker processes do not start: {why} before it began; a script that uses"
                " them does its work under if __name__ == '__main__':"
            )
        if self._lost_starts >= STARTS:
            raise EngineError(f"the worker processes do not start: {why} before it began")
        self._busy[_Worker(self._free.pop())] = item


class _Worker:
    """One process and this end of its pipe."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.variables = variables
        self.ready = False
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        # Set while the process starts: its libraries look at them when they are loaded, which a
        # script's own imports do before any function of ours is called.
        with environment(variables):
            self.process.start()
        theirs.close()
        self._knows: bytes | None = None

    @property
    def code(self) -> int:
        """The exit code of a process that has ended; negative for a signal."""
        self.process.join()
        return self.process.exitcode or 0

    def tell(self, packed: bytes, item: object) -> bool:
        """Send work, where it is new, and an item; return whether the process still listens."""
        try:
            self.pipe.send((None if self._knows is packed else packed, pickle.dumps(item)))
        except OSError:
            self.kill()
            return False
        self._knows = packed
        return True

    def hear(self) -> tuple[Any, Exception | None, float] | None:
        """Return value, error and seconds of an item; None where the process is dead."""
        try:
            # Where only the end of the process was noticed, nothing may come any more.
            if self.pipe.poll() or self.process.is_alive():
                said: tuple[Any, Exception | None, float] = self.pipe.recv()
                return said
        except (OSError, EOFError):
            pass
        self.kill()
        return None

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def epitaph(self) -> str:
        """Return how the process ended."""
        if self.code < 0:
            name = signal.Signals(-self.code).name
            reason = ", perhaps for want of memory" if name == "SIGKILL" else ""
            return f"its worker process was ended by {name}{reason}"
        return f"its worker process ended with code {self.code}"


def _serve(pipe: Connection) -> None:
    """Work until the pipe ends: what a worker process does."""
    # Ctrl-C reaches all processes of a terminal; what ends the workers is for the driver to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    pipe.send((None, None, 0.0))
    work = b""
    while True:
        try:
            packed, item = pipe.recv()
        except (EOFError, OSError):
            return
        if packed is not None:
            work = packed
        try:
            pipe.send_bytes(attempt_packed(work, item))
        except OSError:
            return


def _follow(parent: int) -> None:
    """End this process as soon as its parent is gone: its work would go on unseen."""
    wait([parent])
    os._exit(1)
