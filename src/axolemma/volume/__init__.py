"""A volume block by block: what is done is written down, and a run that was killed goes on.

Knows no network and no file format: the work is a function of a block.
"""

from axolemma.volume.blocks import Block, Plan, plan
from axolemma.volume.ledger import Ledger, Tables
from axolemma.volume.run import Progress, Results, run

__all__ = ["Block", "Ledger", "Plan", "Progress", "Results", "Tables", "plan", "run"]
