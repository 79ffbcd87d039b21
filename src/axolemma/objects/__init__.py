"""From membrane maps to cells, from cells to neurons: labels out."""

from axolemma.objects.cells import BOUNDARIES, Method, fragments, merge, segment_cells
from axolemma.objects.contacts import Contacts, contacts
from axolemma.objects.neurons import link_cells
from axolemma.objects.solvers import multicut
from axolemma.objects.threshold import threshold_cells

__all__ = [
    "BOUNDARIES",
    "Contacts",
    "Method",
    "contacts",
    "fragments",
    "link_cells",
    "merge",
    "multicut",
    "segment_cells",
    "threshold_cells",
]
