"""Engines: where work is done, behind one small protocol."""

from axolemma.engines.naming import engine_from
from axolemma.engines.outcomes import Engine, Outcome
from axolemma.engines.processes import Processes
from axolemma.engines.serial import Serial

__all__ = ["Engine", "Outcome", "Processes", "Serial", "engine_from"]
