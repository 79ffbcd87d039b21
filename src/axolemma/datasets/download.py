"""Fetch one file over HTTP, from where the last attempt stopped."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from axolemma.errors import DownloadError, InputError

__all__ = ["fetch"]

CHUNK = 1 << 16
NETWORK_TROUBLE = (
    urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError,
)  # fmt: skip
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP answers that a second attempt may not get


def fetch(
    url: str, target: Path, *, attempts: int = 5, pause: float = 1.0, timeout: float = 30.0
) -> None:
    """Fetch `url` into `target`, whole or not at all.

    What has come is kept as ``.NAME.partial`` beside `target`, and the next attempt, in this call
    or a later one, asks for the rest only. Progress goes to standard error.

    Parameters
    ----------
    url
        An http or https address.
    target
        The file to make; its folder must exist.
    attempts
        How often to try.
    pause
        Seconds before the second attempt; each further pause is twice as long.
    timeout
        Seconds without a byte after which an attempt is given up.

    Raises
    ------
    InputError
        If `url` is no http or https address.
    DownloadError
        If every attempt failed, or `target` cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: is no http or https address")
    partial = target.with_name(f".{target.name}.partial")
    reason = ""
    for attempt in range(attempts):
        time.sleep(pause * 2 ** (attempt - 1) if attempt else 0)
        try:
            _fetch_rest(url, partial, timeout)
            partial.replace(target)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            error.close()
            if error.code == 416:  # what we have is longer than the file there: begin anew
                partial.unlink(missing_ok=True)
            elif error.code not in PASSING:
                break
        except NETWORK_TROUBLE as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        except OSError as error:
            raise DownloadError(f"{target}: cannot be written, {error.strerror}") from error
        else:
            return
    raise DownloadError(f"{url}: cannot be fetched ({reason})")


def _fetch_rest(url: str, partial: Path, timeout: float) -> None:
    """Append to `partial` what is missing of it; raise one of `NETWORK_TROUBLE` if it stays so."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        if not (answer.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
            have = 0  # the server sends the whole file whatever we ask for
        length = answer.headers["Content-Length"]
        total = have + int(length) if length else None
        with partial.open("ab" if have else "wb") as file, _progress(url, have, total) as advance:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                advance(have)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


@contextmanager
def _progress(url: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and a line for every fifth elsewhere."""
    console = Console(stderr=True, soft_wrap=True)
    name = url.rsplit("/", 1)[-1]
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(name, total=total, completed=have)
            yield lambda done: bar.update(task, completed=done)
        return
    console.print(f"fetching {url}" + (f" from byte {have}" if have else ""), highlight=False)
    told = 5 * have // total if total else 0

    def advance(done: int) -> None:
        nonlocal told
        if total and 5 * done // total > told:
            told = 5 * done // total
            console.print(f"{name}: {done} of {total} bytes", highlight=False)

    yield advance
