"""Tables of cells and of neurons: one row each, one array for each column."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels

from axolemma.errors import InputError
from axolemma.measure.surfaces import Contacts, outlines, surfaces
from axolemma.metrics.run_length import Skeletons, skeletons

__all__ = ["Table", "centre_lines", "check", "measure_cells", "measure_neurons"]

Table: TypeAlias = Mapping[str, NDArray[Any]]

#: How many neighbours have columns of their own, the largest contacts first.
NEIGHBOURS = 3


def measure_cells(
    labels: NDArray[np.integer], *, voxel_size: tuple[float, float, float], gap: float = 60.0
) -> Table:
    """Measure every cell of every section.

    Parameters
    ----------
    labels
        Shape (Z, Y, X), from 0 on, 0 = membrane. A label in two sections is two cells.
    voxel_size
        Sides of a voxel in nm, ZYX.
    gap
        Width in nm of the membrane across which two cells of a section are in contact.

    Returns
    -------
    Table
        A row for each cell, by section and label. Columns: ``section`` (from 0), ``cell`` (its
        label), ``area_nm2``, ``perimeter_nm`` (see `outlines`), ``calibre_nm`` (4 area /
        perimeter, the diameter of the disc for which this holds), ``contacts`` (how many cells it
        touches across the membrane), ``neighbour_1`` to ``_3`` (those with the longest contacts,
        0 = none) and ``contact_1_nm`` to ``_3_nm``, ``centroid_y_nm``, ``centroid_x_nm`` (0 = the
        corner of the section), ``first_y_px``, ``first_x_px``, ``last_y_px``, ``last_x_px`` (its
        box, the last ones within). The border of the image counts as no perimeter: a cell that
        it cuts comes out too thick.

    Raises
    ------
    InputError
        If these are no labels of a stack, or a size is out of range.
    """
    check(labels, voxel_size, gap)
    cells = np.zeros(labels.shape, np.int64)
    names: list[NDArray[np.integer]] = [np.zeros(1, _kind(labels))]
    sections, count = [np.zeros(1, np.int64)], 0
    for z, section in enumerate(labels):
        found, dense = _dense(section)
        cells[z] = np.where(dense > 0, dense + count, 0)
        names.append(found[1:])
        sections.append(np.full(len(found) - 1, z))
        count += len(found) - 1
    name = np.concatenate(names)
    pixel = (voxel_size[1], voxel_size[2])
    sizes = np.bincount(cells.ravel(), minlength=count + 1)[1:] * float(pixel[0] * pixel[1])
    perimeters = _totals(outlines(cells, sides=pixel), count)
    touching = outlines(_grown(cells, pixel, gap), sides=pixel)
    place = _places(cells, count, voxel_size)
    return {
        "section": np.concatenate(sections)[1:],
        "cell": name[1:],
        "area_nm2": sizes,
        "perimeter_nm": perimeters,
        "calibre_nm": _ratio(4 * sizes, perimeters),
        **_neighbours(touching, name, "nm"),
        **{column: values for column, values in place.items() if "_z_" not in column},
    }


def measure_neurons(
    labels: NDArray[np.integer], *, voxel_size: tuple[float, float, float], gap: float = 60.0
) -> Table:
    """Measure every neuron of a stack.

    Parameters
    ----------
    labels
        Shape (Z, Y, X), from 0 on, 0 = membrane.
    voxel_size
        Sides of a voxel in nm, ZYX.
    gap
        Width in nm of the membrane across which two neurons of a section are in contact.

    Returns
    -------
    Table
        A row for each neuron, by label. Columns: ``neuron`` (its label), ``volume_nm3``,
        ``surface_nm2`` (see `surfaces`), ``calibre_nm`` (4 volume / surface: the diameter of the
        long cylinder for which this holds), ``path_nm`` (length of its centre lines, all branches
        together; they start at the rim, so a short thick one gains up to its calibre),
        ``sections`` (in which it shows), ``first_section``, ``last_section``, ``contacts``,
        ``neighbour_1`` to ``_3`` and ``contact_1_nm2`` to ``_3_nm2`` (across the membrane, 0 =
        none), ``centroid_z_nm`` and so on (0 = the corner of the stack), ``first_z_px`` to
        ``last_x_px`` (its box, the last ones within). Where the stack ends is no surface, so a
        neurite that runs through keeps its calibre. Surfaces include the steps between sections:
        align them first.

    Raises
    ------
    InputError
        If these are no labels of a stack, or a size is out of range.
    """
    check(labels, voxel_size, gap)
    names, neurons = _dense(labels)
    count = len(names) - 1
    volumes = np.bincount(neurons.ravel(), minlength=count + 1)[1:] * float(np.prod(voxel_size))
    areas = _totals(surfaces(neurons, sides=voxel_size), count)
    touching = surfaces(_grown(neurons, voxel_size[1:], gap), sides=voxel_size)
    place = _places(neurons, count, voxel_size)
    shown = np.zeros((len(neurons), count + 1), bool)
    for z, section in enumerate(neurons):
        shown[z, section] = True
    return {
        "neuron": names[1:],
        "volume_nm3": volumes,
        "surface_nm2": areas,
        "calibre_nm": _ratio(4 * volumes, areas),
        "path_nm": _paths(centre_lines(neurons, voxel_size), count),
        "sections": shown[:, 1:].sum(axis=0),
        "first_section": place["first_z_px"],
        "last_section": place["last_z_px"],
        **_neighbours(touching, names, "nm2"),
        **place,
    }


def check(
    labels: NDArray[np.integer], voxel_size: tuple[float, float, float], gap: float = 0.0
) -> None:
    """Raise `InputError` unless these are labels of a stack and sizes that voxels can have."""
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are integers of the axes ZYX, not {labels.dtype} {labels.shape}; "
            "give the cells or neurons of a stack"
        )
    if labels.size and labels.min() < 0:
        raise InputError(f"a label is {labels.min()}; number objects from 1, 0 = membrane")
    if len(voxel_size) != 3 or not all(0 < side < np.inf for side in voxel_size):
        raise InputError(f"a voxel has three sides in nm, ZYX, all above 0, not {voxel_size}")
    if not 0 <= gap < np.inf:
        raise InputError(f"the gap of a contact is a width in nm of at least 0, not {gap}")


def centre_lines(
    labels: NDArray[np.integer], voxel_size: tuple[float, float, float]
) -> Skeletons | None:
    """Return the centre lines of all neurons; None where none is longer than one voxel."""
    try:
        return skeletons(labels, voxel_size=voxel_size)
    except InputError:  # what else it refuses, `check` has refused before
        return None


def _kind(labels: NDArray[np.integer]) -> type[np.int64 | np.uint64]:
    """Return a type that holds these labels; of both at once numpy would make floats."""
    return np.uint64 if labels.dtype == np.uint64 else np.int64


def _dense(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Return the labels in order, after a 0, and the array with their places there instead."""
    names, which = np.unique(labels, return_inverse=True)
    membrane = int(names.size > 0 and names[0] == 0)
    dense = which.reshape(labels.shape).astype(np.int64) + 1 - membrane
    kind = _kind(labels)
    return np.concatenate((np.zeros(1, kind), names[membrane:].astype(kind))), dense


def _grown(labels: NDArray[np.int64], pixel: tuple[float, float], gap: float) -> NDArray[np.int64]:
    """Grow labels within sections until those touch that a membrane of width `gap` parts."""
    grown = labels.copy()
    for z, section in enumerate(labels):
        # From the middle of a pixel to the middle of the next one is a pixel more than between.
        grown[z] = expand_labels(section, gap / 2 + max(pixel) / 2, spacing=pixel)
    return grown


def _totals(touching: Contacts, count: int) -> NDArray[np.float64]:
    """Return what every label but 0 shares with all others together."""
    both, sizes = touching.pairs.T.ravel(), np.tile(touching.sizes, 2)
    return np.bincount(both, sizes, count + 1)[1:].astype(np.float64)


def _neighbours(touching: Contacts, names: NDArray[np.integer], unit: str) -> Table:
    """Return the columns of contacts with other labels than 0."""
    count = len(names) - 1
    real = touching.pairs[:, 0] > 0
    one, two = touching.pairs[real].T
    mine, other = np.concatenate((one, two)), np.concatenate((two, one))
    sizes = np.tile(touching.sizes[real], 2)
    order = np.lexsort((other, -sizes, mine))
    mine, other, sizes = mine[order], other[order], sizes[order]
    many = np.bincount(mine, minlength=count + 1)[1:]
    rank = np.arange(len(mine)) - np.searchsorted(mine, mine)
    columns: dict[str, NDArray[Any]] = {"contacts": many}
    for n in range(NEIGHBOURS):
        has = rank == n
        neighbour, size = np.zeros(count, names.dtype), np.zeros(count)
        neighbour[mine[has] - 1] = names[other[has]]
        size[mine[has] - 1] = sizes[has]
        columns |= {f"neighbour_{n + 1}": neighbour, f"contact_{n + 1}_{unit}": size}
    return columns


def _places(labels: NDArray[np.int64], count: int, voxel_size: tuple[float, float, float]) -> Table:
    """Return the columns of centroids and boxes."""
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels) if labels.size else []
    columns: dict[str, NDArray[Any]] = {}
    for axis, side, name in zip(range(3), voxel_size, "zyx", strict=True):
        place = np.arange(labels.shape[axis]) + 0.5
        along = place.reshape([-1 if a == axis else 1 for a in range(3)])
        weights = np.broadcast_to(along, labels.shape).ravel()
        sums = np.bincount(labels.ravel(), weights, count + 1)[1:]
        columns[f"centroid_{name}_nm"] = side * sums / sizes
    for end in ("first", "last"):
        for axis, name in enumerate("zyx"):
            edges = [box[axis].start if end == "first" else box[axis].stop - 1 for box in boxes]
            columns[f"{end}_{name}_px"] = np.array(edges, np.int64)
    return columns


def _paths(lines: Skeletons | None, count: int) -> NDArray[np.float64]:
    if lines is None:
        return np.zeros(count)
    owners = lines.labels[lines.edges[:, 0]]
    return np.bincount(owners, lines.lengths, count + 1)[1:].astype(np.float64)


def _ratio(over: NDArray[np.floating], under: NDArray[np.floating]) -> NDArray[np.float64]:
    """Divide; NaN where an object has no outline, because it fills the image."""
    whole = np.where(under > 0, under, np.nan)
    return np.asarray(over / whole, np.float64)
