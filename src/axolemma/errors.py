"""The exceptions that Axolemma raises on purpose.

::

    AxolemmaError            the work failed                          exit code 1
    ├── InputError           what was given cannot be used            exit code 2
    │   ├── ImageError       a file or array that is no usable image
    │   ├── SettingsError    an unknown or contradictory setting
    │   └── ModelFileError   a model that is unknown or unreadable
    ├── DownloadError        a dataset could not be fetched whole
    ├── EngineError          workers could not be started, or were lost
    └── IncompleteError      some blocks of a volume could not be done

Every message is one sentence or two: what is wrong, where, and how to mend it. The command line
prints it without a traceback.
"""

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "AxolemmaError",
    "DownloadError",
    "EngineError",
    "ImageError",
    "IncompleteError",
    "InputError",
    "ModelFileError",
    "SettingsError",
    "nearest",
]


class AxolemmaError(Exception):
    """Root of every exception that Axolemma raises on purpose."""

    exit_code = 1


class InputError(AxolemmaError, ValueError):
    """What the caller gave cannot be used as it is."""

    exit_code = 2


class ImageError(InputError):
    """A file, folder or array is not a usable image, stack or truth."""


class SettingsError(InputError):
    """A setting is unknown, out of range or contradicts another one."""


class ModelFileError(InputError):
    """A model name is unknown, or a file is not an Axolemma model."""


class DownloadError(AxolemmaError):
    """A dataset could not be fetched, or what came is not what was expected."""


class EngineError(AxolemmaError):
    """A worker, a scheduler or the way to it was lost, or could not be had."""


class IncompleteError(AxolemmaError):
    """Some blocks of a volume could not be done; what could be done is kept.

    Parameters
    ----------
    message
        How many, which first, why, and what to do.
    failed
        Each block that failed, with its error.
    """

    def __init__(
        self, message: str, failed: Sequence[tuple[object, BaseException | str]] = ()
    ) -> None:
        super().__init__(message)
        self.failed = tuple(failed)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word nearest to `word`, else the list.

    Parameters
    ----------
    word
        What was typed.
    known
        Every word that would have been right.

    Returns
    -------
    str
        A clause to append to an error message.
    """
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(options)}"
