"""The engine that needs nothing: one item after the other, in this process."""

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from axolemma.engines.outcomes import Engine, Outcome, attempt

__all__ = ["Serial"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Serial(Engine):
    """Work in this process, in order; for small volumes, and for the debugger."""

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def __exit__(self, *_: object) -> None:
        return None

    def results(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """See `Engine.results`."""
        for item in items:
            yield attempt(work, item)
