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
from axolemma.objects.joining import Method, join, join_fragments
from axolemma.objects.neurons import link_cells
from axolemma.objects.solvers import multicut
from axolemma.objects.tables import Tables, subset

__all__ = [
    "BOUNDARIES",
    "DEPTH",
    "Contacts",
    "Method",
    "Tables",
    "contacts",
    "cut_block",
    "fragment_halo",
    "fragments",
    "join",
    "join_fragments",
    "link_cells",
    "merge",
    "multicut",
    "number_cells",
    "paint_cells",
    "pool_fragments",
    "segment_cells",
    "subset",
]
