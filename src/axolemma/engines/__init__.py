"""Engines: where work is done, behind one small protocol."""

from axolemma.engines.cluster import Dask
from axolemma.engines.naming import engine_from
from axolemma.engines.outcomes import Engine, Outcome
from axolemma.engines.processes import Processes
from axolemma.engines.serial import Serial

__all__ = ["Dask", "Engine", "Outcome", "Processes", "Serial", "engine_from"]
