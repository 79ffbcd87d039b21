"""The neurites of the phantom: which neuron owns a position, and how far its membrane is.

Space is first bent: a position (z, y, x) is sent to two smooth functions (u, v) of it. Along a
curve of constant (u, v) runs a fibre; where u and v change with z faster than within the section,
the fibre lies in the section, elsewhere it crosses it. On the (u, v) plane stand columns, the
feature points, whose places and calibres wander with z; a position belongs to the column of least
distance minus radius. So profiles bulge, elongate and wind, and never leave a gap. Some columns
adopt the name of a neighbour: together they are one neuron, which forks where a third column
comes between them.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from axolemma.datasets.phantom_fields import (
    compiled,
    mix,
    normal,
    smooth_field,
    smooth_value,
    uniform,
)

__all__ = ["Bend", "Cells", "cells_of_section", "fibre_plane"]

# Three families of columns, thin to thick, one column in each square of a lattice.
_SPACING = (33.0, 82.0, 190.0)  # side of the square, px
_SHARE = (1.0, 0.72, 0.65)  # part of the squares that hold a column
_RADIUS = (6.0, 27.0, 64.0)  # px
_RADIUS_VARIETY = (0.7, 0.5, 0.3)  # between columns, as a part of it
_RADIUS_SPREAD = (3.5, 6.0, 14.0)  # along the fibre, px
_WANDER = (10.0, 18.0, 30.0)  # of the axis along the fibre, px
_PACE = (4.5, 6.5, 9.0)  # sections between the knots of both
_REACH = (2, 2, 1)  # squares searched on each side
_ADOPTED = (0.2, 0.12, 0.0)  # part of the columns that take another one's name

# The octaves of the bend: grain in sections and px, strength in px.
_OCTAVES = (
    (20.0, 330.0, 55.0),
    (7.0, 110.0, 11.0),
    (4.0, 40.0, 5.5),
    (3.0, 20.0, 2.2),
    (2.0, 9.0, 0.7),
)

_FAR = 40.0  # distances to a membrane are told up to here, px
_MITO_CLEARANCE = 8.0  # between a mitochondrion and the middle of the cell's membrane, px

# Columns of a row of the table of feature points.
_U, _V, _R, _AA, _AB, _BB, _MITO_U, _MITO_V, _MITO_R, _MITO_Y, _MITO_X = range(11)


class Bend(NamedTuple):
    """The fibre coordinates of one section, and of the same pixels one section deeper."""

    u: NDArray[np.float64]
    v: NDArray[np.float64]
    u_deeper: NDArray[np.float64]
    v_deeper: NDArray[np.float64]


class Cells(NamedTuple):
    """What is known of every pixel of one section; all arrays have its shape.

    ``neuron`` is the owner; ``gap`` the distance to the nearest membrane's middle in px, at most
    40; ``slant`` how far that membrane moves sideways through the thickness of a section, in px;
    ``mito`` the depth in px inside a mitochondrion (negative outside), and ``crista`` a coordinate
    across its cristae, in px.
    """

    neuron: NDArray[np.uint32]
    gap: NDArray[np.float32]
    slant: NDArray[np.float32]
    mito: NDArray[np.float32]
    crista: NDArray[np.float32]


def fibre_plane(
    key: np.uint64,
    z: int,
    corner: tuple[int, int],
    shape: tuple[int, int],
    offset: tuple[float, float],
) -> Bend:
    """Bend one section: the fibre coordinates (u, v) of its pixels.

    Parameters
    ----------
    key
        The random stream.
    z, corner, shape
        The section, and the window in it: first pixel and size.
    offset
        Where the section really lies beside where it seems to lie, in px (its misalignment).
    """
    planes: list[NDArray[np.float64]] = []
    for depth in (z, z + 1):
        for axis in (0, 1):
            places = np.arange(corner[axis], corner[axis] + shape[axis]) + offset[axis]
            plane = np.zeros(shape) + (places[:, None] if axis == 0 else places)
            for n, (step_z, step, strength) in enumerate(_OCTAVES):
                stream = np.uint64(mix(key, n, axis, 0))
                field = smooth_field(stream, float(depth), corner, shape, step_z, step, offset)
                plane += strength * field
            planes.append(plane)
    return Bend(*planes)


@compiled
def _base(key: np.uint64, family: int, i: int, j: int) -> tuple[float, float]:
    """Return where a column stands on average."""
    bits = mix(key, family, i, j)
    jitter = 0.7
    u = i + 0.5 + jitter * (uniform(bits, 0, 0, 0) - 0.5)
    v = j + 0.5 + jitter * (uniform(bits, 1, 0, 0) - 0.5)
    return u * _SPACING[family], v * _SPACING[family]


@compiled
def _stands(key: np.uint64, family: int, i: int, j: int) -> bool:
    """Tell whether a square holds a column: by chance, and out of the way of thicker ones."""
    if uniform(key, family + 3, i, j) >= _SHARE[family]:
        return False
    u, v = _base(key, family, i, j)
    for other in range(family + 1, 3):
        k, m = math.floor(u / _SPACING[other]), math.floor(v / _SPACING[other])
        for a in range(k - 1, k + 2):
            for b in range(m - 1, m + 2):
                du, dv = _base(key, other, a, b)
                room = _RADIUS[other] + 0.3 * _SPACING[family]
                close = (du - u) ** 2 + (dv - v) ** 2 < room * room
                if close and uniform(key, other + 3, a, b) < _SHARE[other]:
                    return False
    return True


@compiled
def _name(key: np.uint64, family: int, i: int, j: int) -> np.uint32:
    """Follow the adoptions, always downwards, to the right or to a thicker one; name the last.

    The name is the family and the square, unique over a million pixels each way.
    """
    for _ in range(8):
        bits = mix(key, family + 6, i, j)
        if uniform(bits, 0, 0, 0) >= _ADOPTED[family]:
            break
        way = bits & np.uint64(3)
        f, a, b = family, i, j
        if way == 0:
            a += 1
        elif way == 1:
            b += 1
        else:
            u, v = _base(key, family, i, j)
            f += 1
            a, b = math.floor(u / _SPACING[f]), math.floor(v / _SPACING[f])
        if not _stands(key, f, a, b):
            break
        family, i, j = f, a, b
    return np.uint32((family + 1) << 30 | (i + 64 & 0x7FFF) << 15 | (j + 64 & 0x7FFF))


@compiled
def _place(key: np.uint64, family: int, i: int, j: int, z: float, row: NDArray[np.float64]) -> None:
    """Write where a column is at depth `z`, how thick, and the metric that elongates it."""
    bits = mix(key, family + 9, i, j)
    t = z / _PACE[family] + uniform(bits, 0, 0, 0)
    u, v = _base(key, family, i, j)
    row[_U] = u + _WANDER[family] * smooth_value(bits, 0, 0, t)
    row[_V] = v + _WANDER[family] * smooth_value(bits, 1, 0, t)
    row[_R] = _RADIUS[family] * (
        1.0 + _RADIUS_VARIETY[family] * (2.0 * uniform(bits, 2, 0, 0) - 1.0)
    )
    row[_R] += _RADIUS_SPREAD[family] * smooth_value(bits, 3, 0, t)
    a, b = normal(bits, 4, 0, 0), normal(bits, 5, 0, 0) + 1e-6
    norm = a * a + b * b
    long = 1.0 + 0.35 * uniform(bits, 6, 0, 0)
    # x'Mx with M = e e' / long² + n n' long², e the long axis and n across it.
    row[_AA] = (a * a / (long * long) + b * b * long * long) / norm
    row[_BB] = (b * b / (long * long) + a * a * long * long) / norm
    row[_AB] = a * b * (1.0 / (long * long) - long * long) / norm


@compiled
def _mitochondrion(
    key: np.uint64, family: int, i: int, j: int, z: float, row: NDArray[np.float64]
) -> None:
    """Write the cross-section of the column's mitochondrion at depth `z`; radius 0: none."""
    row[_MITO_R] = 0.0
    if family == 0:
        return
    bits = mix(key, family + 12, i, j)
    period = 26.0
    t = z / period + uniform(bits, 0, 0, 0)
    slot = math.floor(t)
    bits = mix(bits, 1, slot, 0)
    half = 0.18 + 0.3 * uniform(bits, 0, 0, 0)
    along = (t - slot - 0.5) / half
    if uniform(bits, 2, 0, 0) > 0.75 or along * along >= 1.0:
        return
    size = min(10.0 + 0.5 * _RADIUS[family], 34.0) * (0.7 + 0.6 * uniform(bits, 3, 0, 0))
    row[_MITO_R] = size * math.sqrt(1.0 - along * along)
    row[_MITO_U] = row[_U] + 0.4 * row[_R] * normal(bits, 4, 0, 0)
    row[_MITO_V] = row[_V] + 0.4 * row[_R] * normal(bits, 5, 0, 0)
    a, b = normal(bits, 6, 0, 0), normal(bits, 7, 0, 0) + 1e-6
    row[_MITO_Y], row[_MITO_X] = a / math.sqrt(a * a + b * b), b / math.sqrt(a * a + b * b)


@compiled
def _table(
    key: np.uint64, family: int, z: float, low: tuple[int, int], count: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    """Return the columns of a range of lattice squares at depth `z`, and their neurons' names."""
    rows = np.zeros((count[0], count[1], 11))
    names = np.zeros(count, np.uint32)
    for i in range(count[0]):
        for j in range(count[1]):
            if _stands(key, family, low[0] + i, low[1] + j):
                names[i, j] = _name(key, family, low[0] + i, low[1] + j)
                _place(key, family, low[0] + i, low[1] + j, z, rows[i, j])
                _mitochondrion(key, family, low[0] + i, low[1] + j, z, rows[i, j])
    return rows, names


@compiled
def _tables(
    key: np.uint64, z: float, u: NDArray[np.float64], v: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], NDArray[np.uint32], int, int]]:
    """Return, for each family, the columns near (u, v) at depth `z`, and the first one's square."""
    tables = []
    for family in range(3):
        side, reach = _SPACING[family], _REACH[family]
        i, j = math.floor(u.min() / side) - reach, math.floor(v.min() / side) - reach
        rows = math.floor(u.max() / side) + reach + 1 - i
        cols = math.floor(v.max() / side) + reach + 1 - j
        columns, names = _table(key, family, z, (i, j), (rows, cols))
        tables.append((columns, names, i, j))
    return tables


@compiled
def _reach(column: NDArray[np.float64], u: float, v: float) -> float:
    """Return the distance from (u, v) to a column, less its radius."""
    du, dv = u - column[_U], v - column[_V]
    square: float = column[_AA] * du * du + 2.0 * column[_AB] * du * dv + column[_BB] * dv * dv
    radius: float = column[_R]
    return math.sqrt(square) - radius


@compiled
def _nearest(
    tables: list[tuple[NDArray[np.float64], NDArray[np.uint32], int, int]], u: float, v: float
) -> tuple[np.uint32, tuple[int, int, int], tuple[int, int, int], float, float]:
    """Rank the neurons at (u, v) by the reach of their nearest column.

    Returns the first neuron's name, the places (family, i, j) of its column and of the second
    neuron's, and by how much the second and the third are farther than the first.
    """
    first = second = third = 1e9
    owner = rival = np.uint32(0)
    mine = other = (0, 0, 0)
    for family in range(3):
        columns, names, low_i, low_j = tables[family]
        i = math.floor(u / _SPACING[family]) - low_i
        j = math.floor(v / _SPACING[family]) - low_j
        n = _REACH[family]
        for a in range(i - n, i + n + 1):
            for b in range(j - n, j + n + 1):
                name = names[a, b]
                if name == 0:
                    continue
                d = _reach(columns[a, b], u, v)
                if d < first:
                    if name != owner:
                        if name != rival:
                            third = second
                        second, rival, other = first, owner, mine
                    first, owner, mine = d, name, (family, a, b)
                elif name != owner and d < second:
                    if name != rival:
                        third = second
                    second, rival, other = d, name, (family, a, b)
                elif name != owner and name != rival and d < third:
                    third = d
    return owner, mine, other, second - first, third - first


@compiled
def _organelle(
    column: NDArray[np.float64], r: int, c: int, u: NDArray[np.float64], v: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the depth inside the column's mitochondrion and its place across the cristae, px."""
    if column[_MITO_R] <= 0.0:
        return -_FAR, 0.0
    du, dv = u[r, c] - column[_MITO_U], v[r, c] - column[_MITO_V]
    away = math.sqrt(du * du + dv * dv) + 1e-6
    down = (du * (u[r + 1, c] - u[r, c]) + dv * (v[r + 1, c] - v[r, c])) / away
    right = (du * (u[r, c + 1] - u[r, c]) + dv * (v[r, c + 1] - v[r, c])) / away
    depth = (column[_MITO_R] - away) / (math.sqrt(down * down + right * right) + 0.05)
    return max(depth, -_FAR), du * column[_MITO_Y] + dv * column[_MITO_X]


@compiled
def cells_of_section(key: np.uint64, z: int, bend: Bend) -> Cells:
    """Find the owner, the membrane and the mitochondrion of every pixel of one section.

    The last row and column of the window serve the slopes: the result is one pixel smaller on
    both axes. A distance in (u, v) becomes one in px through its slope within the section.
    """
    u, v, u_deeper, v_deeper = bend
    tables = _tables(key, z, u, v)
    deeper = [_table(key, n, z + 1.0, t[2:], t[1].shape)[0] for n, t in enumerate(tables)]
    shape = (u.shape[0] - 1, u.shape[1] - 1)
    neuron = np.empty(shape, np.uint32)
    gap, slant = np.empty(shape, np.float32), np.empty(shape, np.float32)
    mito, crista = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for r in range(shape[0]):
        for c in range(shape[1]):
            neuron[r, c], (f, i, j), (g, k, m), here, beyond = _nearest(tables, u[r, c], v[r, c])
            mine, other = tables[f][0][i, j], tables[g][0][k, m]
            down = _reach(other, u[r + 1, c], v[r + 1, c]) - _reach(mine, u[r + 1, c], v[r + 1, c])
            right = _reach(other, u[r, c + 1], v[r, c + 1]) - _reach(mine, u[r, c + 1], v[r, c + 1])
            below = _reach(deeper[g][k, m], u_deeper[r, c], v_deeper[r, c])
            below -= _reach(deeper[f][i, j], u_deeper[r, c], v_deeper[r, c])
            slope = math.sqrt((down - here) ** 2 + (right - here) ** 2) + 0.05
            # Where a third neuron comes near, the corner of the profile is rounded.
            corner = here / (beyond + 1e-6)
            gap[r, c] = min(here / slope / math.sqrt(1.0 + corner * corner), _FAR)
            slant[r, c] = min(abs(below - here) / slope, _FAR)
            depth, crista[r, c] = _organelle(mine, r, c, u, v)
            mito[r, c] = min(depth, gap[r, c] - _MITO_CLEARANCE)
    return Cells(neuron, gap, slant, mito, crista)
