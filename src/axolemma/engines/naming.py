"""From the name of an engine, as it is typed, to the engine."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from axolemma.engines.cluster import Dask
from axolemma.engines.cores import cores, gpus
from axolemma.engines.outcomes import Engine
from axolemma.engines.processes import Processes
from axolemma.engines.serial import Serial
from axolemma.errors import SettingsError, nearest

__all__ = ["engine_from"]

NAMES = (
    "serial",
    "processes",
    "processes:4",
    "processes:gpu",
    "dask://",
    "dask://host:8786",
    "dask+file://scheduler.json",
)
#: What may follow a dask engine's name, and what it is.
OPTIONS: dict[str, Callable[[str], Any]] = {
    "workers": int,
    "in_flight": int,
    "patience": float,
    "resource": str,
}


def engine_from(name: str) -> Engine:
    """Return the engine of a name; a context manager.

    Parameters
    ----------
    name
        ``serial``: in this process. ``processes`` or ``processes:4``: as many processes as there
        are cores, or four, each of which sees one graphics processor where there are any: the first
        the first, and so on, in turn. ``processes:gpu``: one process for each of them. ``dask://``:
        dask workers on this machine. ``dask://host:8786``: the workers of the scheduler there.
        ``dask+file://scheduler.json``: of the scheduler that wrote this file; three slashes begin
        an absolute path. The dask engines take options, see `Dask`:
        ``dask://host:8786?patience=3600&resource=GPU``.

    Raises
    ------
    SettingsError
        If there is no such engine, or it cannot be had here.
    EngineError
        If no dask scheduler answers.
    """
    kind, _, rest = name.partition(":")
    if name == "serial":
        return Serial()
    if name == "processes":
        return _processes(cores())
    if name == "processes:gpu":
        if not (found := gpus()):
            raise SettingsError(
                "no CUDA device is to be seen by nvidia-smi or in CUDA_VISIBLE_DEVICES; take the"
                " engine 'processes' without ':gpu'"
            )
        return _processes(len(found))
    if kind == "processes" and rest.isdecimal():
        return _processes(int(rest))
    if kind in ("dask", "dask+file") and rest.startswith("//"):
        return _dask(name)
    raise SettingsError(f"'{name}' is no engine{nearest(name, NAMES)}")


def _processes(workers: int) -> Processes:
    """Return processes to which the graphics processors, if any, are dealt out in turn."""
    found = gpus()
    if not found:
        return Processes(workers)
    shown = [found[worker % len(found)] for worker in range(workers)]
    return Processes(variables=[{"CUDA_VISIBLE_DEVICES": gpu} for gpu in shown])


def _dask(name: str) -> Dask:
    parts = urlsplit(name)
    options = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in OPTIONS:
            raise SettingsError(f"'{name}': there is no option '{key}'{nearest(key, OPTIONS)}")
        try:
            options[key] = OPTIONS[key](value)
        except ValueError as error:
            raise SettingsError(f"'{name}': {key} is a number, not '{value}'") from error
    place = parts.netloc + parts.path
    if parts.scheme == "dask+file":
        if not place:
            raise SettingsError(f"'{name}' names no file; as in dask+file://scheduler.json")
        return Dask(scheduler_file=place, **options)
    if place and "workers" in options:
        raise SettingsError(f"'{name}': the scheduler there has its workers; leave out 'workers'")
    return Dask(f"tcp://{place.rstrip('/')}" if place else None, **options)
