"""Methods under one protocol: train and score each on the same folds, then rank them.

A method is a network, a loss and an augmentation; a cell is one method with one seed on one fold.
A comparison is a folder::

    comparison.json          settings, the folds' sections and the hash of the data
    cells/MODEL-LOSS-PRESET-seed0-test25-29/
        run/                 the training, see `runs`; a killed one goes on
        membrane.tif         what it predicts for the fold's test sections
        log.txt              what the cell's process printed
        failed.json          why it failed, where it did; the next call tries it again
        result.json          written last: a cell that has it never runs again

Every cell runs in a process of its own, started anew also where they run one after the other, so
that time and memory are its own and a crash ends that cell alone. It gets the pixels it may learn
from and, apart from them, those it is tested on; threshold and weights come from validation
sections among the former.
"""

from axolemma.compare.cells import Cell, CellProgress, held_out
from axolemma.compare.comparison import Comparison, Row
from axolemma.compare.running import compare, load, run_comparison

__all__ = [
    "Cell",
    "CellProgress",
    "Comparison",
    "Row",
    "compare",
    "held_out",
    "load",
    "run_comparison",
]
