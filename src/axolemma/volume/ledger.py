"""The ledger: which blocks are done, and the tables that they returned.

::

    FOLDER/
        settings.json       what was asked for; a run with other settings is refused
        lock                who is at work here
        PASS.jsonl          one line per finished block: [index, offset, bytes, crc32]
        PASS.tables         the tables of all blocks, one after the other, each an .npz
        PASS.failed.json    the blocks that could not be done, until they are
        PASS.index.npy      where the tables of each block lie, for workers that read them

All tables of a pass lie in one file that only grows, because a million small files are more than
many file systems bear, and a database would not survive two of the network file systems that
clusters have. Of a block the ledger holds some 40 bytes and its tables.

A block's tables are written first, then its line; both are given to the system at once, so that
the death of this process costs nothing that was recorded. They are forced to the disk at least
once for every `WINDOW` seconds in which blocks were recorded, the tables before the lines, and at
the end: a power cut costs the blocks of the last window, which are done again. A last line that
is torn, lines that point beyond the tables, and tables whose checksum differs are taken for not
done when a pass is opened.

Only the driver, which holds the lock, writes here. What a pass has told, the blocks of a later one
may read by themselves, wherever they are done: see `Pass.shelf`.

The data that a block writes itself is not the ledger's: the work must return only when it is
safe, and `run` can check it.
"""

import errno
import io
import json
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from axolemma._version import __version__
from axolemma.errors import AxolemmaError, InputError, SettingsError
from axolemma.images import replacing
from axolemma.lock import Lock

__all__ = ["WINDOW", "Ledger", "Pass", "Shelf", "Tables", "pack", "unpack"]

#: What a block returns: small arrays by name.
Tables = Mapping[str, NDArray[Any]]

#: Seconds within which what was recorded need not be on the disk yet.
WINDOW = 1.0

DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
LINES_AT_ONCE = 10_000


class Ledger:
    """The books of one job over a volume; a context manager.

    Parameters
    ----------
    folder
        On a local or shared file system; made where it does not exist.
    settings
        All that the result depends on, as JSON has it.
    afresh
        Forget what is noted there, of whatever job. Called first, when nobody else is at work, to
        remove the results.

    Raises
    ------
    SettingsError
        If the folder is of a job with other settings; the message names the first that differs.
    InputError
        If another process is at work there, it holds something else, or it cannot be made.
    AxolemmaError
        If the disk is full.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: Mapping[str, Any],
        *,
        afresh: Callable[[], object] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._passes: dict[str, Pass] = {}
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            names = {found.name for found in self.folder.iterdir() if found.name[0] != "."}
            if names - {"lock"} and not {"lock", "settings.json"} <= names:
                raise InputError(f"{folder}: this folder holds other files; choose a new one")
            self._lock = Lock(self.folder / "lock")
        try:
            if afresh is not None:
                afresh()
                _forget(self.folder)
            _settle(self.folder, settings)
        except BaseException:
            self._lock.release()
            raise

    def open(self, name: str) -> "Pass":
        """Return the books of one pass, read from the disk when first asked for.

        Parameters
        ----------
        name
            Of the pass: letters, digits, ``-`` and ``_``.
        """
        if not re.fullmatch(r"[\w-]+", name) or name == "settings":
            raise InputError(f"'{name}' cannot name a pass; use letters, digits, - and _")
        if name not in self._passes:
            self._passes[name] = Pass(self.folder, name)
        return self._passes[name]

    def close(self) -> None:
        """Force everything to the disk and let others in."""
        try:
            for books in self._passes.values():
                books.close()
        finally:
            self._passes.clear()
            self._lock.release()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Pass:
    """The books of one pass over the blocks; see `Ledger.open`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        self.failed_file = folder / f"{name}.failed.json"
        self._tables_file = folder / f"{name}.tables"
        self._lines_file = folder / f"{name}.jsonl"
        # Offset, bytes and crc32 of the tables of each block; offset -1 where it is not done.
        self._entries = np.full((0, 3), -1, np.int64)
        with _writing(self._lines_file):
            self._tables = self._tables_file.open("ab", buffering=0)
            self._lines = self._lines_file.open("ab", buffering=0)
            self._load()
            self._sync()

    def done(self, index: int) -> bool:
        """Whether a block is done."""
        return index < len(self._entries) and bool(self._entries[index, 0] >= 0)

    def record(self, index: int, packed: bytes) -> None:
        """Note that a block is done.

        Parameters
        ----------
        index
            Of the block.
        packed
            What `pack` made of its tables.

        Raises
        ------
        AxolemmaError
            If the disk is full; what was recorded before stays.
        """
        entry = (self._end, len(packed), zlib.crc32(packed))
        with _writing(self._lines_file):
            _write(self._tables, packed)
            _write(self._lines, json.dumps([index, *entry]).encode() + b"\n")
            self._end += len(packed)
            self._set(index, entry)
            if time.monotonic() - self._synced >= WINDOW:
                self._sync()

    def forget(self, index: int) -> None:
        """Take a block for not done after all; recording it again replaces what was there."""
        self._entries[index, 0] = -1

    def packed(self, indices: Iterable[int]) -> Iterator[bytes]:
        """Yield the packed tables of blocks that are done, one after the other.

        Raises
        ------
        AxolemmaError
            If they cannot be read or were damaged since they were written.
        """
        return _packed(self._tables_file, self._entries, indices)

    def shelf(self) -> "Shelf":
        """Return what is recorded so far for other processes to read; it is on the disk then.

        Raises
        ------
        AxolemmaError
            If the disk is full.
        """
        self.sync()
        shelf = Shelf(self._folder.absolute(), self.name)
        last = np.flatnonzero(self._entries[:, 0] >= 0).max(initial=-1)
        with replacing(shelf.index_file) as partial, partial.open("wb") as file:
            np.save(file, self._entries[: last + 1])
            file.flush()
            os.fsync(file.fileno())
        return shelf

    def sync(self) -> None:
        """Force to the disk what was recorded."""
        with _writing(self._lines_file):
            self._sync()

    def close(self) -> None:
        """Force to the disk what was recorded, and close the files."""
        try:
            self.sync()
        finally:
            self._tables.close()
            self._lines.close()

    def _sync(self) -> None:
        os.fsync(self._tables.fileno())
        os.fsync(self._lines.fileno())
        self._synced = time.monotonic()

    def _set(self, index: int, entry: tuple[int, int, int]) -> None:
        if index >= len(self._entries):
            more = np.full((max(index + 1, 2 * len(self._entries), 64), 3), -1, np.int64)
            more[: len(self._entries)] = self._entries
            self._entries = more
        self._entries[index] = entry

    def _load(self) -> None:
        """Read the lines, check the tables, and cut off what a kill has left behind."""
        size = self._tables_file.stat().st_size
        whole = 0
        for lines in _batches(self._lines_file):
            whole += sum(map(len, lines))
            for index, *entry in _parsed(lines):
                if entry[0] + entry[1] <= size:
                    self._set(index, (entry[0], entry[1], entry[2]))
        os.truncate(self._lines_file, whole)
        kept = np.flatnonzero(self._entries[:, 0] >= 0)
        self._end = int(self._entries[kept, :2].sum(axis=1).max(initial=0))
        os.truncate(self._tables_file, self._end)
        with self._tables_file.open("rb") as file:
            # In the order in which they lie.
            for index in kept[np.argsort(self._entries[kept, 0])]:
                if _read(file, self._entries[index]) is None:
                    self.forget(int(index))


@dataclass(frozen=True, slots=True)
class Shelf:
    """The tables of a pass to be read, by any process that reaches the folder; see `Pass.shelf`.

    It can be pickled, takes no lock, and holds no file open.

    Parameters
    ----------
    folder
        Of the ledger, from the root of the file system on.
    name
        Of the pass.
    """

    folder: Path
    name: str

    @property
    def index_file(self) -> Path:
        """Where it stands where the tables lie."""
        return self.folder / f"{self.name}.index.npy"

    def packed(self, indices: Iterable[int]) -> Iterator[bytes]:
        """Yield the packed tables of blocks that were done when it was made.

        Raises
        ------
        AxolemmaError
            If they cannot be read here or were damaged since they were written.
        """
        try:
            # Mapped, not read: a block needs a small part.
            entries = np.load(self.index_file, mmap_mode="r")
            yield from _packed(self.folder / f"{self.name}.tables", entries, indices)
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise AxolemmaError(
                f"{self.folder}: what {self.name} has told cannot be read here, {reason.lower()};"
                " all workers must reach the ledger's folder, choose one with --ledger"
            ) from error


def pack(tables: Tables) -> bytes:
    """Return arrays as the bytes of an ``.npz``; nothing, where there are none.

    The same arrays give the same bytes. Arrays of objects are refused.
    """
    if not tables:
        return b""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, table in tables.items():
            array = io.BytesIO()
            np.lib.format.write_array(array, np.asanyarray(table), allow_pickle=False)
            # The date is fixed: the default is that of today.
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, array.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)
    return packed.getvalue()


def unpack(packed: bytes, beginning: str = "") -> dict[str, NDArray[Any]]:
    """Return the arrays that `pack` was given, those alone whose names begin so."""
    if not packed:
        return {}
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith(beginning)}


def _packed(tables: Path, entries: NDArray[np.int64], indices: Iterable[int]) -> Iterator[bytes]:
    """Yield the packed tables of blocks; see `Pass.packed`."""
    with tables.open("rb") as file:
        for index in indices:
            packed = _read(file, entries[index])
            if packed is None:
                raise AxolemmaError(
                    f"{tables}: the tables of block {index} are damaged;"
                    " repeat the command, it does this block again"
                )
            yield packed


def _read(file: BinaryIO, entry: NDArray[np.int64]) -> bytes | None:
    """Return the tables of a block; None where the checksum differs."""
    offset, size, checksum = map(int, entry)
    file.seek(offset)
    packed = file.read(size)
    return packed if zlib.crc32(packed) == checksum else None


def _forget(folder: Path) -> None:
    """Remove all but the lock, on which others may be waiting; last what says whose it was."""
    for found in sorted(folder.iterdir(), key=lambda file: file.name == "settings.json"):
        if found.is_dir():
            shutil.rmtree(found)
        elif found.name != "lock":
            found.unlink()


def _settle(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings, or compare them with those that are there."""
    file = folder / "settings.json"
    asked = json.loads(json.dumps(settings))
    if not file.is_file():
        with replacing(file) as partial, partial.open("w", encoding="utf-8") as written:
            json.dump({"axolemma": __version__, "settings": asked}, written, indent=2)
            written.flush()
            os.fsync(written.fileno())
        return
    try:
        there = json.loads(file.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{file}: this is no job's settings file; choose another folder"
        ) from error
    for key, old, new in _differences(there, asked):
        raise SettingsError(
            f"{folder}: the job there has {key} = {old}, this one {new}; repeat its settings to go"
            " on, choose another folder, or begin anew: --overwrite"
        )


def _differences(there: Any, asked: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the dotted path of each setting that differs, and both its values."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in sorted(there.keys() | asked.keys()):
            below = f"{path}.{key}" if path else key
            if key in there and key in asked:
                yield from _differences(there[key], asked[key], below)
            else:
                old, new = (
                    json.dumps(side[key]) if key in side else "nothing" for side in (there, asked)
                )
                yield below, old, new
    elif there != asked:
        yield path, json.dumps(there), json.dumps(asked)


def _batches(file: Path) -> Iterator[list[bytes]]:
    """Yield the whole lines of a file, many at a time; a last one that is torn is left out."""
    with file.open("rb") as lines:
        while batch := [line for _, line in zip(range(LINES_AT_ONCE), lines, strict=False)]:
            if not batch[-1].endswith(b"\n"):
                batch.pop()
            yield batch


def _parsed(lines: list[bytes]) -> Iterator[list[int]]:
    """Yield what lines of the ledger say; those that say nothing sensible are passed over."""
    try:
        found = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        found = []
        for line in lines:
            with suppress(ValueError):
                found.append(json.loads(line))
    for entry in found:
        if (
            isinstance(entry, list)
            and len(entry) == 4
            and all(type(number) is int and number >= 0 for number in entry)
        ):
            yield entry


def _write(file: io.FileIO, content: bytes) -> None:
    """Write all of it: the system may take less at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in DISK_TROUBLE:
            raise AxolemmaError(
                f"{path}: the ledger cannot be written, {reason}; make room and repeat the command,"
                " what is done is kept"
            ) from error
        raise InputError(
            f"{path}: the ledger cannot be written, {reason}; choose another folder"
        ) from error
