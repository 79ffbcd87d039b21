"""One pass over the blocks of a volume: what is done is skipped, what fails is tried again."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, overload

from numpy.typing import NDArray

from axolemma.engines import Engine
from axolemma.errors import AxolemmaError, ImageError, IncompleteError, InputError
from axolemma.images import replacing
from axolemma.volume.blocks import Block
from axolemma.volume.ledger import Ledger, Pass, Shelf, Tables, pack, unpack

__all__ = ["Progress", "Results", "run"]

#: After so many failures with no success between them the rest is not tried.
GIVE_UP = 100

SHOWN = 5  # failed blocks that a message names
RECENT = 512  # blocks from whose times the rate is taken


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pass is.

    Parameters
    ----------
    name
        Of the pass.
    block
        That was just finished; None at the start.
    done, total
        Blocks, those of earlier runs included.
    failed
        Failures so far; most of these blocks are tried again.
    seconds
        That the block took its worker.
    voxels_per_second
        Of write boxes, by all workers, lately; 0 until something is known.
    seconds_left
        Until the end of the pass at the present rate; None until something is known.
    """

    name: str
    block: Block | None
    done: int
    total: int
    failed: int
    seconds: float
    voxels_per_second: float
    seconds_left: float | None


class Results(Sequence[dict[str, NDArray[Any]]]):
    """The tables of all blocks of a pass, in the blocks' order, read when they are asked for."""

    def __init__(self, blocks: Sequence[Block], books: Pass | Shelf) -> None:
        self._blocks, self._books = blocks, books

    def __len__(self) -> int:
        return len(self._blocks)

    @overload
    def __getitem__(self, position: int) -> dict[str, NDArray[Any]]: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[dict[str, NDArray[Any]], ...]: ...
    def __getitem__(
        self, position: int | slice
    ) -> dict[str, NDArray[Any]] | tuple[dict[str, NDArray[Any]], ...]:
        if isinstance(position, slice):
            chosen = (block.index for block in self._blocks[position])
            return tuple(map(unpack, self._books.packed(chosen)))
        (packed,) = self._books.packed([self._blocks[position].index])
        return unpack(packed)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return map(unpack, self._books.packed(block.index for block in self._blocks))

    def only(self, positions: slice, beginning: str) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield of these blocks' tables the arrays alone whose names begin so, block by block."""
        for packed in self._books.packed(block.index for block in self._blocks[positions]):
            yield unpack(packed, beginning)

    def shared(self) -> "Results":
        """Return the same for the work of a later pass, which can be pickled with it.

        Workers read the tables in the ledger's folder, which they must reach.
        """
        if isinstance(self._books, Shelf):
            return self
        return Results(self._blocks, self._books.shelf())


def run(
    name: str,
    work: Callable[[Block], Tables],
    blocks: Sequence[Block],
    *,
    ledger: Ledger,
    engine: Engine,
    check: Callable[[Block, Tables], bool] | None = None,
    retries: int = 2,
    advance: Callable[[Progress], None] = lambda _: None,
) -> Results:
    """Do a pass over the blocks, all that the ledger does not have yet.

    Parameters
    ----------
    name
        Of the pass; its books in the ledger have this name.
    work
        Called with a block. It reads the block's read box, writes its write box, makes sure that
        what it wrote is safe, and returns small tables. It can be pickled, and gives the same for
        the same block: it may be called again, even while an earlier call, whose worker was lost
        from sight, still runs.
    blocks
        Of the volume, each with an index of its own.
    ledger
        Of the job.
    engine
        Where the work is done.
    check
        Called by the workers with each block that is done according to the ledger, and its
        tables; returns whether the data that it wrote is there and right. Where it does not, or
        raises an `ImageError`, or something else again and again, the block is done again.
    retries
        How often a block that failed is tried again, after all others; its check too.
    advance
        Called at the start, and after each block.

    Returns
    -------
    Results
        The tables of each block; they do not depend on the order in which blocks were finished.
        To be read while the ledger is open.

    Raises
    ------
    IncompleteError
        If blocks still failed after the last retry. All others are done and recorded. After a
        hundred failures in a row the rest is not tried.
    InputError
        If the work raised it: what is wrong for one block is wrong for all. An `ImageError`
        though, a file that is damaged in one place, lets the others go on, and is not retried.
    EngineError
        If the workers were lost.
    AxolemmaError
        If the ledger's disk is full.
    """
    books = ledger.open(name)
    try:
        if check is not None:
            _forget_wrong(check, blocks, books, engine, retries)
        _Run(name, work, blocks, books, engine, advance).all(retries)
    finally:
        books.sync()
    return Results(blocks, books)


@dataclass(frozen=True, slots=True)
class _Packed:
    """The work, its tables made into bytes by the worker, so that the driver need not."""

    work: Callable[[Block], Tables]

    def __call__(self, block: Block) -> bytes:
        return pack(self.work(block))


@dataclass(frozen=True, slots=True)
class _Checked:
    """The check of one block and its packed tables."""

    check: Callable[[Block, Tables], bool]

    def __call__(self, item: tuple[Block, bytes]) -> bool:
        block, packed = item
        return bool(self.check(block, unpack(packed)))


def _forget_wrong(
    check: Callable[[Block, Tables], bool],
    blocks: Sequence[Block],
    books: Pass,
    engine: Engine,
    retries: int,
) -> None:
    """Take the blocks whose data is not right, or cannot be looked at, for not done."""

    def done(some: Sequence[Block]) -> Iterator[Block]:
        return (block for block in some if books.done(block.index))

    todo = blocks
    for _ in range(retries + 1):
        items = zip(done(todo), books.packed(block.index for block in done(todo)), strict=True)
        unknown: list[Block] = []
        with closing(engine.results(_Checked(check), items)) as outcomes:
            for outcome in outcomes:
                block, error = outcome.item[0], outcome.error
                # What a store does not give now is there perhaps, and was dear.
                if error is not None and not isinstance(error, ImageError):
                    unknown.append(block)
                elif not outcome.value:
                    books.forget(block.index)
        todo = unknown
        if not todo:
            return
    for block in todo:
        books.forget(block.index)


class _Run:
    """What a pass keeps while it runs."""

    def __init__(
        self,
        name: str,
        work: Callable[[Block], Tables],
        blocks: Sequence[Block],
        books: Pass,
        engine: Engine,
        advance: Callable[[Progress], None],
    ) -> None:
        self._name, self._work, self._blocks = name, _Packed(work), blocks
        self._books, self._engine, self._advance = books, engine, advance
        self._done = sum(books.done(block.index) for block in blocks)
        self._failed: dict[int, tuple[Block, Exception]] = {}
        self._failures = self._in_a_row = 0
        # When the latest blocks were finished, and their voxels; the first one only dates them.
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], RECENT)

    def all(self, retries: int) -> None:
        """Do all blocks, those that fail some more times, and raise if some are left."""
        self._tell(None, 0.0)
        todo: Iterable[Block] = (b for b in self._blocks if not self._books.done(b.index))
        for _ in range(retries + 1):
            self._round(todo)
            failed = self._failed.values()
            todo = [block for block, error in failed if not isinstance(error, ImageError)]
            if not todo or self._in_a_row >= GIVE_UP:
                break
        self._conclude([self._failed[index] for index in sorted(self._failed)])

    def _round(self, todo: Iterable[Block]) -> None:
        """Do blocks once."""
        self._in_a_row = 0
        with closing(self._engine.results(self._work, todo)) as outcomes:
            for outcome in outcomes:
                block, error = outcome.item, outcome.error
                if error is None:
                    assert outcome.value is not None
                    self._books.record(block.index, outcome.value)
                    self._failed.pop(block.index, None)
                    self._done, self._in_a_row = self._done + 1, 0
                elif isinstance(error, InputError) and not isinstance(error, ImageError):
                    raise error
                else:
                    self._failed[block.index] = (block, error)
                    self._failures, self._in_a_row = self._failures + 1, self._in_a_row + 1
                self._tell(block, outcome.seconds)
                if self._in_a_row >= GIVE_UP:
                    break

    def _tell(self, block: Block | None, seconds: float) -> None:
        if block is not None:
            self._recent.append((time.monotonic(), math.prod(block.write.shape)))
        took = self._recent[-1][0] - self._recent[0][0]
        since = list(self._recent)[1:]
        rate = sum(voxels for _, voxels in since) / took if took > 0 else 0.0
        total = len(self._blocks)
        left = (total - self._done) * took / len(since) if since else None
        self._advance(
            Progress(self._name, block, self._done, total, self._failures, seconds, rate, left)
        )

    def _conclude(self, failed: list[tuple[Block, Exception]]) -> None:
        """Raise if blocks are missing, and leave a list of them beside the ledger."""
        file = self._books.failed_file
        file.unlink(missing_ok=True)
        if not failed:
            return
        # A disk that is full is told by the blocks' own errors.
        with suppress(AxolemmaError), replacing(file) as partial:
            listed = [[block.index, str(block), _told(error)] for block, error in failed]
            partial.write_text(json.dumps(listed, indent=1), encoding="utf-8")
        missing = len(self._blocks) - self._done
        untried = missing - len(failed)
        first = "; ".join(f"{block}: {_told(error)}" for block, error in failed[:SHOWN])
        more = f"; {len(failed) - SHOWN} more are listed in {file}" if len(failed) > SHOWN else ""
        given_up = f"; {untried} were not tried after so many failures" if untried else ""
        raise IncompleteError(
            f"{self._name}: {missing} of {len(self._blocks)} blocks are missing: {first}{more}"
            f"{given_up}; what is done is kept, the same command does just these again",
            failed,
        )


def _told(error: Exception) -> str:
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return f"{kind}{error}"
