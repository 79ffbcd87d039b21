"""One section of a proposal beside its truth: what the scores share, each made once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from axolemma.labels import label_borders, pieces
from axolemma.metrics.contingency import Contingency, contingency
from axolemma.metrics.pixels import PixelCounts, pixel_counts
from axolemma.metrics.thinning import label_cells, thin

__all__ = ["Section", "section_of_labels", "section_of_map"]


@dataclass(frozen=True)
class Section:
    """A binary or labelled proposal and its truth; all arrays are (Y, X).

    Parameters
    ----------
    membrane
        The proposal's, True = membrane.
    cells
        The proposal's labels, 0 = membrane.
    true_membrane, true_cells
        The same of the truth.
    where
        The pixels to count; all where None.
    """

    membrane: NDArray[np.bool_]
    cells: NDArray[np.integer]
    true_membrane: NDArray[np.bool_]
    true_cells: NDArray[np.integer]
    where: NDArray[np.bool_] | None = None

    @cached_property
    def interior_counts(self) -> PixelCounts:
        """Pixels right and wrong, with interior as the positive class."""
        return pixel_counts(~self.membrane, ~self.true_membrane, where=self.where)

    @cached_property
    def thinned(self) -> NDArray[np.int32]:
        """The proposal's cells after border thinning."""
        return thin(self.cells)

    @cached_property
    def table(self) -> Contingency:
        """Overlaps of the cells as they are."""
        return contingency(self.cells, self.true_cells, where=self.where)

    @cached_property
    def thinned_table(self) -> Contingency:
        """Overlaps of the thinned cells."""
        return contingency(self.thinned, self.true_cells, where=self.where)


def section_of_map(
    interior: NDArray[np.float64],
    threshold: float,
    true_membrane: NDArray[np.bool_],
    true_cells: NDArray[np.integer],
    where: NDArray[np.bool_] | None = None,
) -> Section:
    """Cut a map of the interior at a threshold; its cells are the 4-connected components."""
    inside = interior > threshold
    return Section(~inside, label_cells(inside), true_membrane, true_cells, where)


def section_of_labels(
    labels: NDArray[np.integer],
    true_membrane: NDArray[np.bool_],
    true_cells: NDArray[np.integer],
    where: NDArray[np.bool_] | None = None,
) -> Section:
    """Take each 4-connected piece of a label for a cell, and for membrane what is between."""
    return Section(label_borders(labels), pieces(labels), true_membrane, true_cells, where)
