"""Cells in processes, each in its own, and what the threads that wait for them share."""

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from axolemma.compare.cells import Cell, CellProgress, Task


class Board:
    """What several threads share: the report and the processes that run."""

    def __init__(self, report: Callable[[CellProgress], None], count: int) -> None:
        self._report, self._count, self._ended = report, count, 0
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.stopped = False

    def tell(self, cell: Cell, what: str, done: float, *, ended: bool = False) -> None:
        """Pass on what a cell says."""
        with self._lock:
            self._ended += ended
            if not self.stopped:
                self._report(CellProgress(cell, what, done, self._ended, self._count))

    def admit(self, process: "subprocess.Popen[bytes]") -> None:
        """Note a process that must end when all is stopped."""
        with self._lock:
            self._processes.append(process)
            if self.stopped:
                process.kill()

    def stop(self) -> None:
        """End all processes, those too that were just starting."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.kill()


def in_process(task: Task, board: Board) -> str | None:
    """Run a cell in a fresh process and return why it failed, None where it did not.

    Not with multiprocessing, which runs the caller's script again in every process: a script
    without a guard, or one that is read from standard input, does not survive that.
    """
    log_file, failed = task.folder / "log.txt", None
    command = [sys.executable, "-P", "-c", "from axolemma.compare.worker import main; main()"]
    here = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    with (
        log_file.open("ab") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"PYTHONPATH": paths},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        board.admit(process)
        try:
            with suppress(BrokenPipeError):  # how it ended so early is explained below
                process.stdin.write(pickle.dumps(task))
                process.stdin.flush()
            # Standard input stays open: where it closes, this process is gone and so is the cell.
            for line in process.stdout:
                if not line.startswith(b"{"):
                    continue  # what Python or a package prints before the cell gets hold of it
                said = json.loads(line)
                if "failed" in said:
                    failed = str(said["failed"])
                else:
                    board.tell(task.cell, said["what"], said["done"])
            code = process.wait()
        finally:
            process.kill()
            with suppress(OSError):
                process.stdin.close()
    if failed is None and code < 0:
        return f"its process was ended by signal {-code}, perhaps for want of memory"
    if failed is None and code > 0:
        return f"its process ended with code {code}; {log_file} may say why"
    return failed
