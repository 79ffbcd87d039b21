"""What the microscope shows of a section of the phantom: stain, organelles, blur and noise.

Stain is told in grey levels below clear cytoplasm. Coordinates stay those of the volume until a
pixel is written, so that rounding is the same in every block.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from axolemma.datasets.phantom_cells import Bend, Cells
from axolemma.datasets.phantom_fields import (
    blur,
    compiled,
    correlated_noise,
    derive,
    mix,
    normal,
    smooth_field,
    uniform,
)

__all__ = ["HALO", "micrograph"]

# Pixels around the window that the stamps and the blur reach into it.
HALO = 12

_CYTOPLASM = 170.0  # grey level of clear cytoplasm
_MEMBRANE = 116.0  # stain of the middle of an upright membrane
_MEMBRANE_HALF_WIDTH = 3.9  # px, where it fades into the cytoplasm
_SATURATION = 170.0  # stain beyond which more of it hardly shows
_TUBULE_SPACING = 13.0  # side of the square of the fibre plane that holds a microtubule, px
_VESICLE_SPACING = 12  # px
_SYNAPSE_DEPTH, _SYNAPSE_SPACING, _SYNAPSE_REACH = 5, 120, 34.0  # sections, px, px

_BLUR = np.array([0.58, 0.19, 0.02])  # of the optics: half kernel, px
_NOISE = np.array([0.86, 0.37, 0.02])  # of the noise that the camera smears: half kernel
_NOISE_SIGMA = 19.0  # of that noise before its kernel, grey levels
_BATCH = 6  # sections taken with one dose, and so equally noisy
_PIXEL = np.array([1.0])
_PIXEL_SIGMA = 8.5  # of the noise of single pixels, grey levels

_Field = Callable[[str, float, float], NDArray[np.float64]]


@compiled
def _bump(t: float) -> float:
    """Return a soft bump: 1 at 0, and 0 beyond 1 on either side."""
    return (1.0 - t * t) * (1.0 - t * t) if t * t < 1.0 else 0.0


@compiled
def _synapses(
    key: np.uint64, z: int, corner: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return how near a synapse is, 1 at its middle; each spans some 3 sections."""
    side = _SYNAPSE_SPACING
    near = np.zeros(shape)
    for k in range(z // _SYNAPSE_DEPTH - 1, z // _SYNAPSE_DEPTH + 2):
        for i in range(corner[0] // side - 1, (corner[0] + shape[0]) // side + 2):
            for j in range(corner[1] // side - 1, (corner[1] + shape[1]) // side + 2):
                bits = mix(key, k, i, j)
                height = _bump(((k + uniform(bits, 1, 0, 0)) * _SYNAPSE_DEPTH - z) / 2.2)
                if height == 0.0 or uniform(bits, 0, 0, 0) > 0.6:
                    continue
                y, x = (i + uniform(bits, 2, 0, 0)) * side, (j + uniform(bits, 3, 0, 0)) * side
                size = _SYNAPSE_REACH * (0.45 + 0.55 * uniform(bits, 4, 0, 0))
                top, left = math.floor(y - size) - corner[0], math.floor(x - size) - corner[1]
                span = math.ceil(2.0 * size) + 1
                for r in range(max(0, top), min(shape[0], top + span)):
                    for c in range(max(0, left), min(shape[1], left + span)):
                        dy, dx = corner[0] + r - y, corner[1] + c - x
                        away = math.sqrt(dy * dy + dx * dx) / size
                        near[r, c] = max(near[r, c], height * _bump(away))
    return near


@compiled
def _cytoplasm(key: np.uint64, u: float, v: float, neuron: int, grain: float) -> float:
    """Return the stain of a position inside a cell: its tone, granules and microtubules."""
    bits = mix(key, neuron, 0, 0)
    tone = 6.0 * normal(bits, 0, 0, 0)
    if uniform(bits, 1, 0, 0) < 0.08:
        tone += 24.0
    stain = tone + (0.7 + 0.6 * uniform(bits, 2, 0, 0)) * grain
    # Microtubules run along the fibre: they stand on the fibre plane, one in a square at most.
    i, j = math.floor(u / _TUBULE_SPACING), math.floor(v / _TUBULE_SPACING)
    tubule = mix(bits, 3, i, j)
    if uniform(tubule, 0, 0, 0) < 0.5:
        du = u - (i + 0.3 + 0.4 * uniform(tubule, 1, 0, 0)) * _TUBULE_SPACING
        dv = v - (j + 0.3 + 0.4 * uniform(tubule, 2, 0, 0)) * _TUBULE_SPACING
        dark = 50.0 + 75.0 * uniform(tubule, 3, 0, 0)
        stain += dark * _bump(math.sqrt(du * du + dv * dv) / 3.5)
    return stain


@compiled
def _mitochondrion(depth: float, crista: float, grain: float) -> float:
    """Return the stain at a depth inside a mitochondrion: its wall, the matrix, light cristae."""
    wall = 60.0 * _bump((depth - 1.0) / 2.4) - 14.0 * _bump((depth - 4.0) / 2.0)
    matrix = 112.0 - 80.0 * _bump(max(0.0, depth) / 6.0)
    phase = abs(crista / 11.0 - math.floor(crista / 11.0) - 0.5) * 2.0
    light = 66.0 * _bump(phase / 0.42) * _bump(max(0.0, 8.5 - depth) / 5.0)
    return wall + matrix - light + 0.7 * grain


@compiled
def _membrane(gap: float, slant: float) -> float:
    """Return the stain at a distance from a membrane, which fades and widens as it slants."""
    half_width = math.sqrt(_MEMBRANE_HALF_WIDTH * _MEMBRANE_HALF_WIDTH + 0.25 * slant * slant)
    fade = math.sqrt(_MEMBRANE_HALF_WIDTH / half_width)
    return _MEMBRANE * fade * math.sqrt(fade) * _bump(gap / half_width)


@compiled
def _stain(
    key: np.uint64,
    cells: Cells,
    bend: Bend,
    grain: NDArray[np.float64],
    wobble: NDArray[np.float64],
    strength: NDArray[np.float64],
    synapse: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the stain of all that is larger than a vesicle.

    `wobble` bends the cristae (px), `strength` is a factor on the membranes, `synapse` is nearness.
    """
    height, width = cells.gap.shape
    stain = np.empty((height, width))
    for r in range(height):
        for c in range(width):
            gap, depth = cells.gap[r, c], cells.mito[r, c]
            dark = _cytoplasm(key, bend.u[r, c], bend.v[r, c], cells.neuron[r, c], grain[r, c])
            if depth > -1.5:
                inside = _mitochondrion(depth, cells.crista[r, c] + wobble[r, c], grain[r, c])
                dark += min(1.0, (depth + 1.5) / 1.5) * (inside - dark)
            dark += strength[r, c] * _membrane(gap, cells.slant[r, c])
            dark += synapse[r, c] * (20.0 + 110.0 * _bump(gap / 14.0))
            stain[r, c] = dark
    return stain


@compiled
def _add_vesicles(
    key: np.uint64,
    z: int,
    corner: tuple[int, int],
    cells: Cells,
    crowd: NDArray[np.float64],
    stain: NDArray[np.float64],
) -> None:
    """Draw vesicles, thinner than a section and so new in each, inside the cells that have them."""
    side = _VESICLE_SPACING
    height, width = stain.shape
    for i in range(corner[0] // side, (corner[0] + height) // side + 1):
        for j in range(corner[1] // side, (corner[1] + width) // side + 1):
            bits = mix(key, z, i, j)
            y, x = (i + uniform(bits, 1, 0, 0)) * side, (j + uniform(bits, 2, 0, 0)) * side
            r, c = math.floor(y) - corner[0], math.floor(x) - corner[1]
            if not (0 <= r < height and 0 <= c < width):
                continue
            radius = 3.4 + 1.2 * uniform(bits, 3, 0, 0)
            if cells.gap[r, c] < radius + 4.0 or cells.mito[r, c] > -radius - 1.0:
                continue
            content = max(0.0, 0.9 - 2.2 * uniform(key, cells.neuron[r, c], 0, 0) + crowd[r, c])
            if uniform(bits, 0, 0, 0) > content + 0.08:
                continue
            dense = uniform(bits, 4, 0, 0) < 0.1
            dark = 30.0 + 50.0 * uniform(bits, 5, 0, 0)
            for a in range(max(0, r - 6), min(height, r + 8)):
                for b in range(max(0, c - 6), min(width, c + 8)):
                    dy, dx = corner[0] + a - y, corner[1] + b - x
                    away = math.sqrt(dy * dy + dx * dx)
                    if dense:
                        stain[a, b] += 1.4 * dark * _bump(away / (radius + 1.0))
                    else:
                        stain[a, b] += dark * _bump((away - radius) / 2.0)
                        stain[a, b] -= 0.3 * dark * _bump(away / radius)


def _grain(field: _Field) -> NDArray[np.float64]:
    """Return the stain of what has no name in the cytoplasm, and of the sheets of reticulum."""
    # Granules and clumps are dark specks on a clear ground, not waves about a mean.
    grain = 46.0 * np.maximum(field("granules", 0.4, 2.4) - 0.7, 0.0)
    grain += 36.0 * np.maximum(field("clumps", 0.7, 5.5) - 0.5, 0.0)
    grain -= 9.0 * field("clouds", 2.0, 30.0)
    grain -= 14.0 * np.maximum(field("lakes", 1.5, 45.0) - 1.2, 0.0)
    # A sheet is where a smooth field crosses zero; another field says where sheets are.
    across = field("sheets", 1.5, 30.0) / 0.13
    grain += (
        45.0
        * np.maximum(1.0 - across * across, 0.0)
        * np.clip(field("sheet ends", 1.0, 22.0) - 0.9, 0.0, 1.0)
    )
    return grain


def _exposed(
    seed: int, z: int, corner: tuple[int, int], stain: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Take the picture of a stained window: saturation, blur, exposure of the section, noise."""
    seen = blur(stain * (_SATURATION / np.sqrt(_SATURATION**2 + stain * stain)), _BLUR)
    start = (corner[0] + len(_BLUR) - 1, corner[1] + len(_BLUR) - 1)
    noise = _NOISE_SIGMA * correlated_noise(derive(seed, "camera"), z, start, seen.shape, _NOISE)
    noise += _PIXEL_SIGMA * correlated_noise(derive(seed, "pixels"), z, start, seen.shape, _PIXEL)
    key = derive(seed, "exposure")
    light = _CYTOPLASM + 8.0 * normal(key, z, 0, 0)
    contrast = 1.04 + 0.06 * normal(key, z, 1, 0)
    roughness = 0.5 + 0.85 * uniform(key, z // _BATCH, 2, 0)
    grey = light - contrast * seen + roughness * noise
    return np.clip(np.floor(grey + 0.5), 0.0, 255.0).astype(np.uint8)


def micrograph(
    seed: int,
    z: int,
    corner: tuple[int, int],
    cells: Cells,
    bend: Bend,
    offset: tuple[float, float],
) -> NDArray[np.uint8]:
    """Return the picture of a window of one section, smaller than `cells` by ``HALO`` all round.

    Parameters
    ----------
    seed, z
        The phantom's seed, and the section.
    corner
        First pixel (y, x) of `cells`.
    cells, bend
        What lies in the window; `bend` may be larger at its far ends.
    offset
        The section's misalignment, in px.
    """
    shape = cells.gap.shape

    def field(name: str, step_z: float, step: float) -> NDArray[np.float64]:
        return smooth_field(derive(seed, name), float(z), corner, shape, step_z, step, offset)

    synapse = _synapses(derive(seed, "synapses"), z, corner, shape)
    wobble, strength = 4.0 * field("cristae", 3.0, 18.0), 1.0 + 0.12 * field("stain", 1.0, 14.0)
    stain = _stain(derive(seed, "cytoplasm"), cells, bend, _grain(field), wobble, strength, synapse)
    crowd = 0.35 * field("crowds", 3.0, 40.0) + synapse
    _add_vesicles(derive(seed, "vesicles"), z, corner, cells, crowd, stain)
    stain += 7.0 * field("illumination", 0.3, 190.0)
    crop = HALO - len(_BLUR) + 1
    window = np.ascontiguousarray(stain[crop:-crop, crop:-crop])
    return _exposed(seed, z, (corner[0] + crop, corner[1] + crop), window)
