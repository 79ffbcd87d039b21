"""What every process of bench/kill.py loads when it starts: it tells what is computed.

KILL_LOG is the file for its lines: of each block and pass that is begun and done, of a store's
calls that failed, and of blocks that could not be looked at for that. KILL_ERRORS is the share of
the calls of a store that fail.
"""

import errno
import os
import random
from collections.abc import Callable
from typing import Any

import zarr

from axolemma.volume.run import _Checked, _Packed


def tell(line: str) -> None:
    """Append a line to the log in one write, which no other can come between."""
    handle = os.open(os.environ["KILL_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def watched(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Tell of each block that is computed."""

    def call(self: Any, block: Any) -> Any:
        name = f"{type(self.work).__name__} {block.index}"
        tell(f"begun {name}")
        found = compute(self, block)
        tell(f"done {name}")
        return found

    return call


def looked_at(check: Callable[..., Any]) -> Callable[..., Any]:
    """Tell of each done block that could not be looked at."""

    def call(self: Any, item: Any) -> Any:
        try:
            return check(self, item)
        except Exception:
            tell(f"unread {item[0].index}")
            raise

    return call


def failing(ask: Callable[..., Any], share: float) -> Callable[..., Any]:
    """Let some calls of a store fail."""

    def call(self: Any, *arguments: Any) -> Any:
        if random.random() < share:
            tell("failed")
            raise OSError(errno.EIO, "the store does not answer")
        return ask(self, *arguments)

    return call


if "KILL_LOG" in os.environ:
    _Packed.__call__ = watched(_Packed.__call__)  # type: ignore[method-assign]
    _Checked.__call__ = looked_at(_Checked.__call__)  # type: ignore[method-assign]
    if share := float(os.environ.get("KILL_ERRORS", 0)):
        zarr.Array.__getitem__ = failing(zarr.Array.__getitem__, share)  # type: ignore[method-assign]
        zarr.Array.__setitem__ = failing(zarr.Array.__setitem__, share)  # type: ignore[method-assign]
