"""From membrane maps to cells, from cells to neurons: labels out."""

from axolemma.objects.neurons import link_cells
from axolemma.objects.solvers import multicut
from axolemma.objects.threshold import threshold_cells

__all__ = ["link_cells", "multicut", "threshold_cells"]
