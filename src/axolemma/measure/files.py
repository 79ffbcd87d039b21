"""Measurements, meshes and skeletons as files that other programs open."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.errors import InputError
from axolemma.images import replacing
from axolemma.labels import label_borders
from axolemma.measure.tables import Table, centre_lines, check
from axolemma.metrics.run_length import Skeletons

__all__ = ["rows", "write_meshes", "write_skeletons", "write_table"]


def write_table(path: str | Path, table: Table) -> None:
    """Write measurements as CSV: a header, and a line for each object.

    Parameters
    ----------
    path
        The file; an existing one is replaced, at the end and in one go.
    table
        From `measure_cells` or `measure_neurons`. What is NaN is left empty.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table))
        writer.writeheader()
        writer.writerows(rows(table))


def rows(table: Table) -> list[dict[str, int | float | None]]:
    """Return the lines of a table, numbers with six digits as in the CSV; None for NaN."""
    columns = ([_shown(value) for value in column.tolist()] for column in table.values())
    return [dict(zip(table, line, strict=True)) for line in zip(*columns, strict=True)]


def write_meshes(
    folder: str | Path,
    labels: NDArray[np.integer],
    *,
    voxel_size: tuple[float, float, float],
) -> int:
    """Write the surface of every neuron as a closed mesh, ``neuron-LABEL.ply``.

    Parameters
    ----------
    folder
        Is made where it is not there. Files of the same names are replaced.
    labels
        Shape (Z, Y, X), from 0 on, 0 = membrane.
    voxel_size
        Sides of a voxel in nm, ZYX.

    Returns
    -------
    int
        How many were written. Vertices are XYZ in nm, 0 = the corner of the stack, and go through
        the middle between voxels (marching cubes).

    Raises
    ------
    InputError
        If these are no labels of a stack, or the folder cannot be written.
    """
    from skimage.measure import marching_cubes

    check(labels, voxel_size)
    folder = _folder(folder)
    count = 0
    for label, box in _boxes(labels):
        solid = np.pad(labels[box] == label, 1).astype(np.float32)
        points, triangles, _, _ = marching_cubes(solid, 0.5, spacing=voxel_size)
        # Voxel n of the padded box has its middle at n, but lies half a side deeper in the stack.
        corner = [(side.start - 0.5) * size for side, size in zip(box, voxel_size, strict=True)]
        _write_ply(folder / f"neuron-{label}.ply", (points + corner)[:, ::-1], triangles)
        count += 1
    return count


def write_skeletons(
    folder: str | Path,
    labels: NDArray[np.integer],
    *,
    voxel_size: tuple[float, float, float],
) -> int:
    """Write the centre lines of every neuron as trees, ``neuron-LABEL.swc``.

    Parameters
    ----------
    folder
        Is made where it is not there. Files of the same names are replaced.
    labels
        Shape (Z, Y, X), from 0 on, 0 = membrane.
    voxel_size
        Sides of a voxel in nm, ZYX.

    Returns
    -------
    int
        How many were written; a neuron of one voxel has no line. Points are XYZ in nm, 0 = the
        corner of the stack; the radius is the distance to the membrane within the section. Every
        piece of a neuron has a root of its own.

    Raises
    ------
    InputError
        If these are no labels of a stack, or the folder cannot be written.

    References
    ----------
    Cannon et al. 1998, J. Neurosci. Methods 84:49 (the format, there in µm).
    """
    check(labels, voxel_size)
    folder = _folder(folder)
    lines = centre_lines(labels, voxel_size)
    if lines is None:
        return 0
    radii = _radii(labels, voxel_size[1:], lines)
    places = (lines.nodes + 0.5) * voxel_size
    ends: dict[int, list[int]] = defaultdict(list)
    for one, two in lines.edges.tolist():
        ends[one].append(two)
        ends[two].append(one)
    owners = np.unique(lines.labels)
    for label in owners:
        nodes = np.flatnonzero(lines.labels == label).tolist()
        text = ["# nm; columns: number, type, x, y, z, radius, parent"]
        number: dict[int, int] = {-1: -1}
        for node, parent in _walk(nodes, ends):
            number[node] = len(number)
            z, y, x = places[node]
            point = f"{x:.1f} {y:.1f} {z:.1f} {radii[node]:.1f}"
            text.append(f"{number[node]} 0 {point} {number[parent]}")
        with replacing(folder / f"neuron-{label}.swc") as partial:
            partial.write_text("\n".join(text) + "\n", encoding="utf-8")
    return len(owners)


def _shown(value: float) -> int | float | None:
    if isinstance(value, int):
        return value
    return None if np.isnan(value) else float(f"{value:.6g}")


def _folder(folder: str | Path) -> Path:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: no folder can be made there, {(error.strerror or str(error)).lower()}; "
            "choose another place"
        ) from error
    return Path(folder)


def _boxes(
    labels: NDArray[np.integer],
) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield every label and the box around it."""
    names, which = np.unique(labels, return_inverse=True)
    for name, box in zip(
        names.tolist(), ndimage.find_objects(which.reshape(labels.shape) + 1), strict=True
    ):
        if name != 0:
            yield name, box


def _write_ply(path: Path, points: NDArray[np.floating], triangles: NDArray[np.integer]) -> None:
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment nm\n"
        f"element vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    faces = np.empty(len(triangles), [("corners", "u1"), ("vertices", "<i4", 3)])
    faces["corners"], faces["vertices"] = 3, triangles
    with replacing(path) as partial:
        partial.write_bytes(header.encode() + points.astype("<f4").tobytes() + faces.tobytes())


def _radii(
    labels: NDArray[np.integer], pixel: tuple[float, float], lines: Skeletons
) -> NDArray[np.float64]:
    """Return the distance of every node to the nearest membrane of its section, in nm."""
    radii = np.zeros(len(lines.nodes))
    borders = label_borders(labels)
    for z in np.unique(lines.nodes[:, 0]):
        here = lines.nodes[:, 0] == z
        # Beyond the image there may be more of it: only what shows is a membrane.
        if not borders[z].any():
            radii[here] = min(pixel) / 2 * max(labels.shape[1:])
            continue
        away = np.asarray(ndimage.distance_transform_edt(~borders[z], sampling=pixel))
        radii[here] = np.maximum(away[tuple(lines.nodes[here, 1:].T)], min(pixel) / 2)
    return radii


def _walk(nodes: list[int], ends: dict[int, list[int]]) -> Iterator[tuple[int, int]]:
    """Yield every node and the one that it was reached from, -1 for a root, roots at tips."""
    seen: set[int] = set()
    for root in sorted(nodes, key=lambda node: len(ends[node])):
        left = [] if root in seen else [(root, -1)]
        while left:
            node, parent = left.pop()
            seen.add(node)
            yield node, parent
            left += [(end, node) for end in ends[node] if end != parent]
