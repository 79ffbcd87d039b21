"""A volume through a model, block by block, to membranes, cells and neurons: any size, resumable.

Each pass reads what the one before has written. What a pass cannot know from its block alone, it
returns as small tables; what all blocks told is added up after the pass, by the workers of a later
one or by the driver, and is the same in whatever order, and by however many workers, they were
done::

    image ─▶ survey ─▶ membrane ─▶ fragments ─▶ overlaps      cells ─▶ links ─▶ neurons ─▶ levels
              │ contrast,           │ contacts   │ sections   ▲         │        ▲
              ╰─ findings           ╰────────────┴──▶ joins ──╯         ╰────────╯ multicut

`joins` has a block for each layer of blocks, and finds the cells of its sections.

In memory (`segmentation.segment`) the same functions see the whole volume as one block.
"""

from axolemma.pipeline.job import BLOCK
from axolemma.pipeline.outlook import Outlook, outlook
from axolemma.pipeline.passes import segment_volume

__all__ = ["BLOCK", "Outlook", "outlook", "segment_volume"]
