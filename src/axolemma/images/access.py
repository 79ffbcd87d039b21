"""Reaching a file: what the system, a parser or a missing package says, in one sentence."""

import difflib
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from axolemma.errors import ImageError, InputError

__all__ = ["access", "extra_package"]


@contextmanager
def access(path: Path) -> Iterator[None]:
    """Turn whatever a foreign parser or the file system raises into one sentence."""
    try:
        yield
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{path}: does not exist{_neighbour(path)}") from error
    except PermissionError as error:
        raise ImageError(f"{path}: may not be read; ask for permission to read it") from error
    except MemoryError as error:
        raise ImageError(f"{path}: does not fit into memory; read fewer sections") from error
    except Exception as error:  # the parsers promise no exception type for a broken file
        raise ImageError(
            f"{path}: cannot be read, the file is cut short or damaged ({error or 'no details'});"
            " copy it again"
        ) from error


def extra_package(name: str, *, extra: str, path: Path | str) -> ModuleType:
    """Import a package that only some formats need.

    Parameters
    ----------
    name
        Of the package.
    extra
        The extra of ours that brings it.
    path
        The file that needs it, for the message.

    Raises
    ------
    ImageError
        If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImageError(
            f"{path}: to read it needs the package {name}; pip install 'axolemma[{extra}]'"
        ) from error


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; neither does the folder {path.parent}"
    names = [p.name for p in path.parent.iterdir() if p.name != path.name]
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"; did you mean '{path.with_name(close[0])}'?" if close else ""
