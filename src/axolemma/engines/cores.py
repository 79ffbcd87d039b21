"""The machine's cores and graphics processors, shared out among workers."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["THREADS", "cores", "environment", "gpus", "threads_each"]

#: What tells the libraries under numpy, torch and numba how many threads to start.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(workers: int) -> dict[str, str]:
    """Return the variables that give each of some workers its share of the cores' threads.

    What the user has set stays as it is.
    """
    share = str(max(1, cores() // workers))
    return {name: share for name in THREADS if name not in os.environ}


def gpus() -> list[str]:
    """Return the graphics processors that this process may use, as CUDA numbers or names them."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        try:
            shown = ",".join(subprocess.check_output(command, text=True, timeout=60).split())
        except (OSError, subprocess.SubprocessError):
            shown = ""
    return [name.strip() for name in shown.split(",") if name.strip()]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
