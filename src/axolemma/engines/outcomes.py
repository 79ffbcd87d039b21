"""What all engines share: one item of work tried, here or in a worker, and what came of it."""

import pickle
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from axolemma.errors import AxolemmaError

__all__ = ["Engine", "Outcome", "attempt", "attempt_packed"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """What came of one item.

    Parameters
    ----------
    item
        The item that was given.
    value
        What the work returned; None where it failed.
    error
        Why it failed; None where it did not. An `EngineError` where its worker was lost.
    seconds
        That the work took.
    """

    item: Item
    value: Result | None
    error: Exception | None
    seconds: float


class Engine(AbstractContextManager["Engine"], Protocol):
    """Where work is done: here, in processes, or on a cluster.

    An engine is a context manager; leaving it ends its workers. Workers live as long as the
    engine, from one call of `results` to the next, so that what the work keeps in a
    `functools.cache`, such as a network, is loaded once by each of them.
    """

    @property
    def workers(self) -> int:
        """How many items are worked on at once, as far as is known."""

    def results(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """Do `work` on every item and yield the outcomes as they come, in any order.

        Parameters
        ----------
        work
            Called with one item. It and the items can be pickled. It may be called twice for an
            item, even at the same time, where a worker or the way to it is lost.
        items
            Taken only as fast as they are worked on.

        Yields
        ------
        Outcome
            One for every item. What the work raises, and a worker that dies, is an outcome. When
            the iteration is left early, what is in flight is cancelled.

        Raises
        ------
        EngineError
            If there are no workers, or they are lost and do not come back.
        """


def attempt(work: Callable[[Item], Result], item: Item) -> Outcome[Item, Result]:
    """Do `work` on `item`; an exception becomes an outcome that can be pickled."""
    begun = time.perf_counter()
    value: Result | None = None
    failed: Exception | None = None
    try:
        value = work(item)
    except Exception as error:
        failed = _portable(error)
    return Outcome(item, value, failed, time.perf_counter() - begun)


def attempt_packed(work: bytes, item: bytes) -> bytes:
    """Do pickled work on a pickled item; return value, error and seconds, pickled."""
    outcome = attempt(_call, (work, item))
    try:
        return pickle.dumps((outcome.value, outcome.error, outcome.seconds))
    except Exception as error:  # whatever a value's own pickling raises
        return pickle.dumps((None, _portable(error), outcome.seconds))


def _call(packed: tuple[bytes, bytes]) -> Any:
    work, item = packed
    return _loaded(work)(pickle.loads(item))


@lru_cache(maxsize=1)
def _loaded(work: bytes) -> Any:
    """Return the work of a pass, unpickled once."""
    return pickle.loads(work)


def _portable(error: Exception) -> Exception:
    """Return an exception as it is, with its traceback as a note, if it survives pickling."""
    story = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a foreign exception's own constructor makes of it
        error = AxolemmaError(f"{type(error).__name__}: {error}")
    error.add_note(story)
    return error
