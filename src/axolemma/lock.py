"""One at a time: a lock on a folder that dies with the process that holds it.

The system's own locks are used (``flock``, on Windows a locked byte): they are gone when their
process is, however it ended, and network file systems pass them on to other machines. Where a
file system has none, the process number and the machine that stand in the file decide: a process
of this machine that lives no more has left a stale lock; of other machines nothing is known, and
the user is asked. That second way is only as safe as two starts in the same instant are rare.
"""

import errno
import json
import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from axolemma.errors import InputError

__all__ = ["Lock"]

#: What a file system says that has no locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class Lock:
    """Hold `file` until `release`, the end of a ``with`` block or that of this process.

    Raises
    ------
    InputError
        If another process holds it.
    OSError
        If the file cannot be made.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others in."""
        os.ftruncate(self._handle, 0)
        os.close(self._handle)

    def _take(self) -> None:
        holder = self._holder()
        try:
            free = _lock(self._handle)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            free = holder is None or (holder[0] == socket.gethostname() and not _lives(holder[1]))
        if not free:
            host, pid, since = holder or ("an unknown machine", 0, "just now")
            raise InputError(
                f"{self._file.parent}: another run is at work here, process {pid} on {host}, since"
                f" {since}; wait for it or stop it (if there is none, remove {self._file})"
            )
        who = [socket.gethostname(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds")]
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, json.dumps(who).encode())

    def _holder(self) -> tuple[str, int, str] | None:
        """Return who took it last and did not give it back."""
        try:
            host, pid, since = json.loads(os.read(self._handle, 1000))
            return str(host), int(pid), str(since)
        except (ValueError, TypeError):
            return None


def _lock(handle: int) -> bool:
    """Take the system's lock on a file; return whether it was free."""
    if sys.platform == "win32":
        import msvcrt

        # Beyond what the file holds: a locked byte cannot be read by others.
        os.lseek(handle, 1 << 20, os.SEEK_SET)
        free = False
        with suppress(OSError):
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            free = True
        return free
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there and belongs to somebody else
    return True
