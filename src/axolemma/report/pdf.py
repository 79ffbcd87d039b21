"""A page as PDF, printed by a browser that is on the machine."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from axolemma.errors import AxolemmaError, InputError
from axolemma.images import replacing

__all__ = ["find_browser", "write_pdf"]

_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "chrome",
    "microsoft-edge-stable",
    "microsoft-edge",
    "msedge",
)
_PLACES = {
    "darwin": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    ),
    "win32": (
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
        r"C:\Program Files\Microsoft\Edge\Application\msedge.exe",
    ),
}

#: Seconds that a page of many megabytes may take.
_PATIENCE = 180


def find_browser() -> Path:
    """Return the Chromium, Chrome or Edge to print with.

    Returns
    -------
    Path
        What the environment variable ``AXOLEMMA_BROWSER`` names, else the first one found.

    Raises
    ------
    InputError
        If that variable names nothing that runs.
    AxolemmaError
        If there is none.
    """
    named = os.environ.get("AXOLEMMA_BROWSER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise InputError(f"AXOLEMMA_BROWSER names '{named}', which is no program; correct it")
        return Path(found)
    for candidate in (*_NAMES, *_PLACES.get(sys.platform, ())):
        if found := shutil.which(candidate):
            return Path(found)
    raise AxolemmaError(
        "a PDF needs Chromium, Chrome or Edge and none was found; install one, name it in "
        "AXOLEMMA_BROWSER, or print the HTML page from any browser"
    )


def write_pdf(path: str | Path, text: str) -> None:
    """Print a page to a PDF file, whole or not at all.

    Parameters
    ----------
    path
        The file to make or replace.
    text
        The HTML page.

    Raises
    ------
    InputError
        If the place cannot be written.
    AxolemmaError
        If there is no browser, or it fails.
    """
    browser = find_browser()
    # A browser's helpers may still write to its profile when it has ended.
    with tempfile.TemporaryDirectory(prefix="axolemma-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        source, printed = folder / "page.html", folder / "page.pdf"
        source.write_text(text, encoding="utf-8")
        command = [
            str(browser),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={printed}",
            source.as_uri(),
        ]
        try:
            told = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
            said = told.stderr.decode("utf-8", "replace").strip().splitlines()
        except subprocess.TimeoutExpired:
            said = [f"it did not finish within {_PATIENCE} s"]
        except OSError as error:
            said = [error.strerror or str(error)]
        if not printed.is_file():
            reason = said[-1] if said else "it wrote nothing"
            raise AxolemmaError(f"{browser} could not print the page: {reason}")
        with replacing(path) as partial:
            shutil.copyfile(printed, partial)
