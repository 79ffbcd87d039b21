"""Engines: where work is done, behind one small protocol."""

from axolemma.engines.outcomes import Engine, Outcome
from axolemma.engines.serial import Serial
from axolemma.errors import SettingsError

__all__ = ["Engine", "Outcome", "Serial", "engine_from"]


def engine_from(name: str) -> Engine:
    """Return the engine of a name."""
    if name == "serial":
        return Serial()
    raise SettingsError(f"'{name}' is no engine; known: serial")
