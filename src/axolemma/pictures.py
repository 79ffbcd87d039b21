"""Pictures to look at: membranes and cells over the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.labels import colours

__all__ = [
    "ERROR_COLOURS",
    "cells_over",
    "colours",
    "errors_over",
    "grey",
    "membrane_over",
    "preview",
    "side_by_side",
]

#: Splits and false membrane in blues, mergers and missing membrane in reds and yellows, which no
#: kind of colour vision confuses (after Okabe and Ito). The keys are those of an error map.
ERROR_COLOURS = {1: (0, 114, 178), 2: (213, 54, 0), 3: (240, 190, 20), 4: (110, 195, 245)}

#: Orange stands out from grey tissue for every kind of colour vision.
MEMBRANE_COLOUR = (255, 140, 0)


def grey(section: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch a section (Y, X) between its 0.5 and 99.5 percentile to 0 … 255."""
    low, high = np.percentile(section, (0.5, 99.5))
    scaled = (section.astype(np.float64) - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(scaled, 0, 1) * 255, np.uint8)


def membrane_over(section: NDArray[Any], membrane: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Lay a membrane map (Y, X) over its section (Y, X) in orange, (Y, X, 3)."""
    return _blend(grey(section), np.array(MEMBRANE_COLOUR), 0.85 * membrane)


def cells_over(section: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Lay coloured cells (Y, X) over their section (Y, X), (Y, X, 3)."""
    return _blend(grey(section), colours(labels), np.where(labels == 0, 0.0, 0.45))


def errors_over(
    section: NDArray[Any],
    kinds: NDArray[np.uint8],
    positions: Sequence[tuple[int, int]] = (),
    *,
    radius: int = 14,
) -> NDArray[np.uint8]:
    """Lay an error map (Y, X) over its section (Y, X) in four colours, (Y, X, 3).

    Parameters
    ----------
    section
        Image, or truth.
    kinds
        0, 1 split, 2 merge, 3 missing, 4 false membrane.
    positions
        Where to draw a ring, in the colour of what is there, so that small errors are found.
    radius
        Of the rings, in pixels.
    """
    shown = np.where(kinds > 2, kinds, 0)
    for kind in (1, 2):  # what costs most lies on top, and broad enough to be seen
        shown[ndimage.binary_dilation(kinds == kind)] = kind
    rows, columns = np.ogrid[: kinds.shape[0], : kinds.shape[1]]
    for y, x in positions:
        shown[np.abs(np.hypot(rows - y, columns - x) - radius) < 1] = kinds[y, x]
    palette = np.zeros((5, 3))
    for kind, colour in ERROR_COLOURS.items():
        palette[kind] = colour
    return _blend(grey(section), palette[shown], np.where(shown == 0, 0.0, 1.0))


def side_by_side(*panels: NDArray[np.uint8], gap: int = 8) -> NDArray[np.uint8]:
    """Put pictures of equal height, grey or RGB, in a row with white gaps."""
    height = panels[0].shape[0]
    row: list[NDArray[np.uint8]] = []
    for panel in panels:
        rgb = panel if panel.ndim == 3 else np.repeat(panel[..., None], 3, axis=2)
        row += [np.full((height, gap, 3), 255, np.uint8), rgb]
    return np.concatenate(row[1:], axis=1)


def preview(
    section: NDArray[Any],
    membrane: NDArray[np.floating],
    labels: NDArray[np.integer] | None,
    *,
    largest: int = 1024,
) -> NDArray[np.uint8]:
    """Show a section, its membrane and its cells side by side.

    Parameters
    ----------
    section, membrane, labels
        (Y, X) each; no third panel without labels.
    largest
        Sides beyond it are cut to the centre, so that every pixel shown is a real one.

    Returns
    -------
    NDArray[np.uint8]
        (Y, X, 3).
    """
    cut = tuple(
        slice(max(0, (n - largest) // 2), max(0, (n - largest) // 2) + largest)
        for n in section.shape
    )
    panels = [grey(section[cut]), membrane_over(section[cut], membrane[cut])]
    if labels is not None:
        panels.append(cells_over(section[cut], labels[cut]))
    return side_by_side(*panels)


def _blend(
    base: NDArray[np.uint8], colour: NDArray[Any], strength: NDArray[np.floating]
) -> NDArray[np.uint8]:
    weight = strength[..., None]
    return np.asarray((1 - weight) * base[..., None] + weight * colour, np.uint8)
