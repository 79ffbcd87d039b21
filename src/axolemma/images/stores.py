"""Object stores: addresses that are URLs, how they are opened, and what goes wrong with them.

Credentials and endpoints come from the environment, by the names that each store's own tools use:
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``;
``GOOGLE_APPLICATION_CREDENTIALS``; ``AZURE_STORAGE_ACCOUNT_NAME``, ``AZURE_STORAGE_ACCOUNT_KEY``.
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from axolemma.errors import AxolemmaError, ImageError, InputError
from axolemma.images.access import extra_package

__all__ = ["address_text", "endpoint", "from_store", "is_remote", "object_store", "store_trouble"]

_REMOTE = re.compile(r"((?:n5|precomputed)://)?(s3|gs|az|https?):[/\\]+(.*)", re.DOTALL)

#: A store that is busy or restarts is asked again, for half a minute at most.
RETRY: dict[str, Any] = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=8),
        "base": 2,
    },
}


def address_text(address: str | Path) -> str:
    """Return an address as text without a slash at its end.

    Examples
    --------
    >>> address_text(Path("s3://bucket/a.zarr"))
    's3://bucket/a.zarr'
    """
    text = str(address)
    if match := _REMOTE.fullmatch(text):
        # A Path has made one slash of two, and may have turned them round.
        form, scheme, rest = match.groups()
        return f"{form or ''}{scheme}://" + rest.replace("\\", "/").rstrip("/")
    return text.rstrip("/")


def is_remote(address: str | Path) -> bool:
    """Tell whether an address is one of an object store or a web server."""
    return _REMOTE.fullmatch(str(address)) is not None


def endpoint() -> str | None:
    """Return the S3 server that the environment names, None for Amazon's own."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def object_store(address: str) -> Any:
    """Open the store of an URL.

    Raises
    ------
    ImageError
        If obstore is not installed.
    InputError
        If the URL names no bucket or host.
    """
    stores = extra_package("obstore.store", extra="remote", path=address)
    options: dict[str, Any] = {"retry_config": RETRY}
    if address.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    if address.startswith("s3://") and (server := endpoint()):
        options |= {"endpoint": server, "client_options": {"allow_http": True}}
    try:
        return stores.from_url(address, **options)
    except Exception as error:
        raise InputError(
            f"{address}: is no usable address, {_first_line(error)}; expected for example"
            " s3://bucket/folder/volume.zarr"
        ) from error


def from_store(error: BaseException) -> bool:
    """Tell whether an exception is one of an object store or the file system."""
    return isinstance(error, OSError) or type(error).__module__.startswith("obstore")


def store_trouble(address: str, error: BaseException) -> AxolemmaError:
    """Return what a store or a file system raised as one sentence."""
    text, name = str(error), type(error).__name__
    if "NoSuchBucket" in text:
        return ImageError(f"{address}: the bucket does not exist; make it, or correct its name")
    if name in ("PermissionDeniedError", "UnauthenticatedError") or "credential" in text.lower():
        return ImageError(
            f"{address}: access is refused; set the store's credentials in the environment, for"
            " example AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, FileNotFoundError) and is_remote(address):
        return ImageError(f"{address}: nothing is there; check the bucket and the path")
    if isinstance(error, OSError):
        reason = (error.strerror or text or name).lower()
        return AxolemmaError(f"{address}: cannot be reached or written, {reason}")
    return AxolemmaError(
        f"{address}: the store does not answer ({_first_line(error)}); check the network and the"
        " endpoint (AWS_ENDPOINT_URL), and repeat the command"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
