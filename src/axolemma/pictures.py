"""Pictures to look at: membranes and cells over the image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cells_over", "colours", "grey", "membrane_over", "preview", "side_by_side"]

#: Orange stands out from grey tissue for every kind of colour vision.
MEMBRANE_COLOUR = (255, 140, 0)


def grey(section: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch a section (Y, X) between its 0.5 and 99.5 percentile to 0 … 255."""
    low, high = np.percentile(section, (0.5, 99.5))
    scaled = (section.astype(np.float64) - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(scaled, 0, 1) * 255, np.uint8)


def colours(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Give every label a bright colour, the same wherever that number occurs; 0 is black.

    Parameters
    ----------
    labels
        Any shape.

    Returns
    -------
    NDArray[np.uint8]
        One axis more, of length 3: red, green, blue.
    """
    # Steps of the golden ratio around the hue circle keep neighbouring numbers far apart.
    hue = (labels.astype(np.float64) * 0.618033988749895) % 1.0
    value = 0.75 + 0.25 * ((labels.astype(np.float64) * 0.7548776662466927) % 1.0)
    angle = hue[..., None] * 6 + np.array((0.0, 4.0, 2.0))
    rgb = np.clip(np.abs(angle % 6 - 3) - 1, 0, 1)
    bright = 255 * value[..., None] * (0.25 + 0.75 * rgb)
    return np.asarray(np.where((labels == 0)[..., None], 0, bright), np.uint8)


def membrane_over(section: NDArray[Any], membrane: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Lay a membrane map (Y, X) over its section (Y, X) in orange, (Y, X, 3)."""
    return _blend(grey(section), np.array(MEMBRANE_COLOUR), 0.85 * membrane)


def cells_over(section: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Lay coloured cells (Y, X) over their section (Y, X), (Y, X, 3)."""
    return _blend(grey(section), colours(labels), np.where(labels == 0, 0.0, 0.45))


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
