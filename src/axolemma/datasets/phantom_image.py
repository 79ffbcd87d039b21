"""What the microscope shows of a section of the phantom: stain, organelles, blur and noise."""

import math

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

_CYTOPLASM = 152.0  # grey level of clear cytoplasm
_MEMBRANE = 104.0  # stain of the middle of an upright membrane
_SATURATION = 170.0  # stain beyond which more of it hardly shows
_MEMBRANE_HALF_WIDTH = 4.1  # px
_BLUR = np.array([0.5, 0.21, 0.04])  # optics
_NOISE = np.array([0.8, 0.4, 0.05])
_ONE = np.array([1.0])
_NOISE_SIGMA = 19.5  # of the noise that is there before the optics' blur, grey levels
_READOUT_SIGMA = 8.0  # of the noise of single pixels, grey levels


@compiled
def _bump(t: float) -> float:
    """Return a soft bump: 1 at 0, 0 from 1 on."""
    return (1.0 - t * t) ** 2 if t * t < 1.0 else 0.0


def _ridge(field: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return 1 where a field crosses zero, falling to 0 where it is `width` off."""
    return np.maximum(0.0, 1.0 - (field / width) ** 2)


@compiled
def _synapses(
    key: np.uint64, z: int, corner: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return how near a synapse is, 1 at its middle; each spans some 3 sections."""
    deep, wide, reach = 5, 120, 34.0
    near = np.zeros(shape)
    for k in range(z // deep - 1, z // deep + 2):
        for i in range(corner[0] // wide - 1, (corner[0] + shape[0]) // wide + 2):
            for j in range(corner[1] // wide - 1, (corner[1] + shape[1]) // wide + 2):
                bits = mix(key, k, i, j)
                if uniform(bits, 0, 0, 0) > 0.6:
                    continue
                dz = (k + uniform(bits, 1, 0, 0)) * deep - z
                y = (i + uniform(bits, 2, 0, 0)) * wide - corner[0]
                x = (j + uniform(bits, 3, 0, 0)) * wide - corner[1]
                size = reach * (0.45 + 0.55 * uniform(bits, 4, 0, 0))
                height = _bump(dz / 2.2)
                for r in range(max(0, math.ceil(y - size)), min(shape[0], math.ceil(y + size))):
                    for c in range(max(0, math.ceil(x - size)), min(shape[1], math.ceil(x + size))):
                        t = math.sqrt((r - y) ** 2 + (c - x) ** 2) / size
                        near[r, c] = max(near[r, c], height * _bump(t))
    return near


@compiled
def _cytoplasm(key: np.uint64, u: float, v: float, neuron: int, grain: float) -> float:
    """Return the stain of a position inside a cell: its tone, granules and microtubules."""
    bits = mix(key, neuron, 0, 0)
    tone = 6.0 * normal(bits, 0, 0, 0)
    if uniform(bits, 1, 0, 0) < 0.08:
        tone += 24.0
    stain = tone + (0.7 + 0.6 * uniform(bits, 2, 0, 0)) * grain
    side = 13.0
    i, j = math.floor(u / side), math.floor(v / side)
    tube = mix(bits, 3, i, j)
    if uniform(tube, 0, 0, 0) < 0.5:
        du = u / side - i - 0.3 - 0.4 * uniform(tube, 1, 0, 0)
        dv = v / side - j - 0.3 - 0.4 * uniform(tube, 2, 0, 0)
        away = math.sqrt(du * du + dv * dv) * side
        stain += (50.0 + 75.0 * uniform(tube, 3, 0, 0)) * _bump(away / 3.5)
    return stain


@compiled
def _inside_mitochondrion(depth: float, crista: float, grain: float) -> float:
    """Return the stain at a depth inside a mitochondrion: two membranes, matrix and cristae."""
    walls = 60.0 * _bump((depth - 1.0) / 2.4) - 14.0 * _bump((depth - 4.0) / 2.0)
    matrix = 98.0 - 66.0 * _bump(max(0.0, depth) / 6.0)
    phase = abs(crista / 11.0 - math.floor(crista / 11.0) - 0.5) * 2.0
    light = 66.0 * _bump(phase / 0.42) * _bump(max(0.0, 8.5 - depth) / 5.0)
    return matrix + walls - light + 0.7 * grain


@compiled
def _stain(
    key: np.uint64,
    cells: Cells,
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    grain: NDArray[np.float64],
    wobble: NDArray[np.float64],
    strength: NDArray[np.float64],
    synapse: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how much darker than clear cytoplasm each pixel is, in grey levels."""
    height, width = cells.gap.shape
    stain = np.empty((height, width))
    for r in range(height):
        for c in range(width):
            gap = cells.gap[r, c]
            dark = _cytoplasm(key, u[r, c], v[r, c], cells.neuron[r, c], grain[r, c])
            depth = cells.mito[r, c]
            if depth > -1.5:
                into = _inside_mitochondrion(
                    depth, cells.crista[r, c] + 4.0 * wobble[r, c], grain[r, c]
                )
                share = min(1.0, (depth + 1.5) / 1.5)
                dark += share * (into - dark)
            half = math.sqrt(_MEMBRANE_HALF_WIDTH**2 + (0.5 * cells.slant[r, c]) ** 2)
            fade = math.sqrt(_MEMBRANE_HALF_WIDTH / half)
            dark += (
                _bump(gap / half)
                * _MEMBRANE
                * fade
                * math.sqrt(fade)
                * (1.0 + 0.12 * strength[r, c])
            )
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
    synapse: NDArray[np.float64],
    stain: NDArray[np.float64],
) -> None:
    """Draw vesicles, thinner than a section and so new in each, inside the cells that have them."""
    side = 12
    height, width = stain.shape
    for i in range((corner[0] - 6) // side, (corner[0] + height + 6) // side + 1):
        for j in range((corner[1] - 6) // side, (corner[1] + width + 6) // side + 1):
            bits = mix(key, z, i, j)
            y = (i + uniform(bits, 1, 0, 0)) * side - corner[0]
            x = (j + uniform(bits, 2, 0, 0)) * side - corner[1]
            r, c = math.floor(y), math.floor(x)
            if r < 0 or c < 0 or r >= height or c >= width:
                continue
            radius = 3.4 + 1.2 * uniform(bits, 3, 0, 0)
            if cells.gap[r, c] < radius + 4.0 or cells.mito[r, c] > -radius - 1.0:
                continue
            holder = uniform(key, cells.neuron[r, c], 0, 0)
            chance = max(0.0, 0.9 - 2.2 * holder + 0.35 * crowd[r, c]) + 0.08 + synapse[r, c]
            if uniform(bits, 0, 0, 0) > chance:
                continue
            full = uniform(bits, 4, 0, 0) < 0.1
            dark = 40.0 + 50.0 * uniform(bits, 5, 0, 0)
            for a in range(max(0, r - 6), min(height, r + 8)):
                for b in range(max(0, c - 6), min(width, c + 8)):
                    away = math.sqrt((a - y) ** 2 + (b - x) ** 2)
                    if full:
                        stain[a, b] += dark * 1.4 * _bump(away / (radius + 1.0))
                    else:
                        stain[a, b] += dark * _bump((away - radius) / 2.0)
                        stain[a, b] -= 0.3 * dark * _bump(away / radius)


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
        What lies in the window.
    offset
        The section's misalignment, in px.
    """
    shape = cells.gap.shape

    def field(name: str, step_z: float, step: float) -> NDArray[np.float64]:
        return smooth_field(derive(seed, name), float(z), corner, shape, step_z, step, offset)

    grain = 11.0 * field("granules", 0.4, 2.2) + 15.0 * field("clumps", 0.7, 5.5)
    grain -= 9.0 * field("clouds", 2.0, 30.0) + 14.0 * np.maximum(
        field("lakes", 1.5, 45.0) - 1.2, 0
    )
    sheet, gate = field("cisternae", 1.5, 30.0), field("cisterna ends", 1.0, 22.0)
    grain += 45.0 * _ridge(sheet, 0.13) * np.clip(gate - 0.9, 0.0, 1.0)
    synapse = _synapses(derive(seed, "synapses"), z, corner, shape)
    u, v = np.ascontiguousarray(bend.u[:-1, :-1]), np.ascontiguousarray(bend.v[:-1, :-1])
    wobble, strength = field("cristae", 3.0, 18.0), field("membranes", 1.0, 14.0)
    stain = _stain(derive(seed, "cytoplasm"), cells, u, v, grain, wobble, strength, synapse)
    crowd = field("crowds", 3.0, 40.0)
    _add_vesicles(derive(seed, "vesicles"), z, corner, cells, crowd, synapse, stain)

    key = derive(seed, "exposure")
    contrast, light, rough = (normal(key, z, n, 0) for n in range(3))
    stain += 7.0 * field("illumination", 0.3, 190.0)
    crop = HALO - len(_BLUR) + 1
    stain *= _SATURATION / np.sqrt(_SATURATION**2 + stain * stain)
    seen = blur(np.ascontiguousarray(stain[crop:-crop, crop:-crop]), _BLUR)
    inner = (corner[0] + HALO, corner[1] + HALO)
    noise = _NOISE_SIGMA * correlated_noise(derive(seed, "noise"), z, inner, seen.shape, _NOISE)
    noise += _READOUT_SIGMA * correlated_noise(derive(seed, "readout"), z, inner, seen.shape, _ONE)
    grey = _CYTOPLASM + 8.0 * light - (1.0 + 0.06 * contrast) * seen
    grey += (1.0 + 0.17 * rough) * noise
    return np.clip(np.floor(grey + 0.5), 0, 255).astype(np.uint8)
