"""From membrane maps to cells, from cells to neurons: labels out."""

from axolemma.objects.cells import BOUNDARIES, merge, number_cells, paint_cells, segment_cells
from axolemma.objects.contacts import Contacts, contacts
from axolemma.objects.fragments import (
    DEPTH,
    cut_block,
    fragment_halo,
    fragments,
    pool_fragments,
)
from axolemma.objects.joining import (
    BOUNDARY,
    MULTICUT_BOUNDARY,
    Method,
    join,
    join_fragments,
    join_stack,
)
from axolemma.objects.linking import (
    GAP,
    GROWTH,
    link_block,
    link_halo,
    pool_links,
    ways_of,
)
from axolemma.objects.neurons import join_cells, link_cells
from axolemma.objects.overlaps import overlap_block, overlap_halo, pool_overlaps
from axolemma.objects.solvers import multicut
from axolemma.objects.tables import Tables, looked_up, subset

__all__ = [
    "BOUNDARIES",
    "BOUNDARY",
    "DEPTH",
    "GAP",
    "GROWTH",
    "MULTICUT_BOUNDARY",
    "Contacts",
    "Method",
    "Tables",
    "contacts",
    "cut_block",
    "fragment_halo",
    "fragments",
    "join",
    "join_cells",
    "join_fragments",
    "join_stack",
    "link_block",
    "link_cells",
    "link_halo",
    "looked_up",
    "merge",
    "multicut",
    "number_cells",
    "overlap_block",
    "overlap_halo",
    "paint_cells",
    "pool_fragments",
    "pool_links",
    "pool_overlaps",
    "segment_cells",
    "subset",
    "ways_of",
]
