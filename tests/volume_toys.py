"""Small work for engines and passes; workers import it from here."""

import functools
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from axolemma.errors import SettingsError
from axolemma.volume import Block, Results


def square(number: int) -> int:
    return number * number


def picky(number: int) -> int:
    if number == 3:
        raise SettingsError("three is not wanted")
    if number == 4:
        raise LocalError("four")
    return number


class LocalError(Exception):
    """One of those that cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.again = lambda: self


def unpicklable(_: int):
    return lambda: 0


def slow(number: int) -> int:
    time.sleep(0.2)
    return number


def environment(name: str) -> str | None:
    return os.environ.get(name)


def kill_self_once(marker: Path) -> int:
    """Be killed at the first call for a marker."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def kill_self(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@functools.cache
def model(log: Path) -> int:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return os.getpid()


def with_model(item: tuple[Path, int]) -> int:
    return model(item[0])


@dataclass(frozen=True)
class Copy:
    """Copies blocks, logs each call, and fails as it is told."""

    folder: Path
    failing: tuple[int, ...] = ()
    times: int = 100
    error: type[Exception] = OSError

    def calls(self) -> list[int]:
        log = self.folder / "log"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def __call__(self, block: Block) -> dict[str, np.ndarray]:
        with (self.folder / "log").open("a") as file:
            file.write(f"{block.index}\n")
        if block.index in self.failing and self.calls().count(block.index) <= self.times:
            raise self.error(f"no luck with {block.index}")
        (self.folder / f"{block.index}.out").write_text(str(block.read))
        return {"index": np.array([block.index]), "start": np.array(block.write.start)}

    def right(self, block: Block, tables) -> bool:
        assert tables["index"] == block.index
        return (self.folder / f"{block.index}.out").read_text() == str(block.read)


@dataclass(frozen=True)
class Gather:
    """Puts together what all blocks of an earlier pass have told."""

    found: Results

    def __call__(self, block: Block) -> dict[str, np.ndarray]:
        indices = [tables["index"].item() for tables in self.found]
        return {"index": np.array(indices), "pid": np.array(os.getpid())}
