"""What a job will take, before it starts: seconds, memory, disk; and whether that is there.

Pure functions of sizes, and of one tile that was timed. Memory is counted array by array, as they
lie beside one another at the worst moment; `bench/scale.py` holds the counts against what was
measured.
"""

import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from axolemma.errors import InputError

__all__ = [
    "Estimate",
    "free_disk",
    "memory",
    "memory_in_use",
    "of_segmenting",
    "of_training",
    "refuse_what_cannot_fit",
    "spoken_size",
    "spoken_time",
    "timed",
]

#: Interpreter, torch and the other packages, with a network: bytes that every job begins with.
BASE = 420e6

#: Bytes per pixel of a tile while the network runs on it: the finest level's maps, their copies in
#: another type or layout, and the sum over poses; and per channel of `WIDTH` at a 16th of them.
TILE_BYTES = {"fp32": 66.0, "bf16": 50.0}

#: Bytes per pixel while the cells of one section are found.
CELLS_BYTES = 82.0

#: Seconds per pixel of what follows the network: cells in a section, links to the next.
CELLS_SECONDS, NEURONS_SECONDS, WRITE_SECONDS = 4.5e-7, 4e-7, 3e-8

#: What files of labels shrink to by compression; of membrane maps little.
SHRUNK = {"membrane32": 0.85, "membrane8": 0.5, "labels": 0.08}

#: Beside the tile a training step keeps every layer's result for the way back.
STEP_BYTES = {"fp32": 1500.0, "bf16": 1000.0}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take.

    Parameters
    ----------
    seconds
        On the clock.
    memory
        Bytes at the worst moment, the program itself included.
    disk
        Bytes of what is written.
    """

    seconds: float
    memory: float
    disk: float

    def __str__(self) -> str:
        return (
            f"about {spoken_time(self.seconds)}, {spoken_size(self.memory)} of memory,"
            f" {spoken_size(self.disk)} on disk"
        )
