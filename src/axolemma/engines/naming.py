"""From the name of an engine, as it is typed, to the engine."""

from axolemma.engines.cores import gpus
from axolemma.engines.outcomes import Engine
from axolemma.engines.processes import Processes
from axolemma.engines.serial import Serial
from axolemma.errors import SettingsError, nearest

__all__ = ["engine_from"]

NAMES = ("serial", "processes", "processes:4", "processes:gpu")


def engine_from(name: str) -> Engine:
    """Return the engine of a name; a context manager.

    Parameters
    ----------
    name
        ``serial``: in this process. ``processes`` or ``processes:4``: as many processes as there
        are cores, or four. ``processes:gpu``: one process for each graphics processor, which sees
        no other.

    Raises
    ------
    SettingsError
        If there is no such engine.
    """
    kind, _, rest = name.partition(":")
    if name == "serial":
        return Serial()
    if name == "processes":
        return Processes()
    if name == "processes:gpu":
        return Processes(variables=[{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus()])
    if kind == "processes" and rest.isdecimal():
        return Processes(int(rest))
    raise SettingsError(f"'{name}' is no engine{nearest(name, NAMES)}")
