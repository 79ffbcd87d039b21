"""Augmentation: `draw` chooses parameters from a generator, `apply` carries them out.

`apply` is pure: the same parameters give the same crop, whenever and wherever, for image and truth
alike. Beyond the border the section is mirrored, so no black wedge ever reaches the network.
"""

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.labels import IGNORED

__all__ = ["Parameters", "apply", "draw"]


#: Points of the curve over the grey values; between them it is straight.
_KNOTS = 4097


@dataclass(frozen=True, slots=True)
class Parameters:
    """Everything that one augmented crop is made from.

    Parameters
    ----------
    size
        Sides (Y, X) of the crop in pixels.
    centre
        Where the crop's centre lies in the section, (Y, X) in pixels.
    matrix
        Linear map from crop to section offsets, 2 × 2, rows (Y, X): rotation, flip, scale, shear.
    elastic
        Displacements of the control points of a smooth deformation in pixels, (2, n, n); the
        points are spread evenly over the crop. Empty for none.
    gain, offset
        The grey values, which have mean 0 and deviation 1, become ``gain * value + offset``.
    gamma
        Exponent of a monotone curve over the grey values from -3 to 3; 1 = straight.
    blur
        Standard deviation of a Gaussian in pixels, 0 for none.
    noise
        Standard deviation of added white noise, 0 for none.
    noise_seed
        Seed of that noise.
    shifts
        Displacement (Y, X) in pixels of each input section; the central one is never moved.
    missing
        Which input sections are blank; never the central one.
    """

    size: tuple[int, int]
    centre: tuple[float, float]
    matrix: tuple[tuple[float, float], tuple[float, float]]
    elastic: NDArray[np.float64]
    gain: float
    offset: float
    gamma: float
    blur: float
    noise: float
    noise_seed: int
    shifts: tuple[tuple[float, float], ...]
    missing: tuple[bool, ...]


def draw(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    size: tuple[int, int],
    *,
    turn: float = 0.7,
    scale: float = 0.2,
    shear: float = 0.1,
    elastic: float = 3.0,
    spacing: float = 64.0,
    contrast: float = 0.25,
    brightness: float = 0.25,
    gamma: float = 0.35,
    blur: float = 2.0,
    noise: float = 2.0,
    shift: float = 6.0,
    missing: float = 0.05,
) -> Parameters:
    """Draw the parameters of one crop.

    Parameters
    ----------
    rng
        The only source of chance.
    shape
        Shape (C, Y, X) of the sections to crop from, C neighbouring sections, the central one to
        be predicted.
    size
        Sides (Y, X) of the crop.
    turn
        Probability of a free geometry: any angle, scale, shear and elastic deformation. Otherwise
        the crop is only flipped and turned by right angles, which keeps its pixels as they are.
    scale
        Largest relative change of size, the same factor up and down.
    shear
        Largest shear, as a slope.
    elastic
        Standard deviation of the control points' displacement in pixels.
    spacing
        Distance of the control points in pixels.
    contrast, brightness
        Standard deviation of the logarithm of the gain, and of the offset.
    gamma
        Standard deviation of the logarithm of the exponent.
    blur
        Largest standard deviation of the Gaussian; half of the crops stay sharp.
    noise
        Largest standard deviation of the noise; half of the crops get none. Far more than sections
        carry: a network that sees through it also sees a membrane that fades.
    shift
        Standard deviation in pixels by which a neighbouring section slips.
    missing
        Probability that a neighbouring section is blank.

    Returns
    -------
    augment.Parameters
        For `apply`.

    Raises
    ------
    InputError
        If a side of the section is smaller than 2 pixels.
    """
    channels, height, width = shape
    if min(height, width) < 2:
        raise InputError(f"cannot crop from sections of {height} × {width} pixels")
    free = rng.random() < turn
    angle = rng.uniform(0, 2 * np.pi) if free else rng.integers(4) * (np.pi / 2)
    factor = np.exp(rng.uniform(-1, 1) * np.log1p(scale)) if free else 1.0
    slope = rng.uniform(-shear, shear) if free else 0.0
    flip = rng.choice((-1.0, 1.0))
    cos, sin = np.cos(angle), np.sin(angle)
    if not free:
        cos, sin = np.round(cos), np.round(sin)
    matrix = np.array(((cos, -sin), (sin, cos))) @ ((flip * factor, slope), (0.0, factor))
    points = tuple(max(2, round(side / spacing) + 1) for side in size) if free else (0, 0)
    # The crop keeps inside the section as far as its unrotated sides allow; what still hangs over
    # the border is mirrored.
    centre = [
        (
            rng.uniform(side / 2, whole - side / 2)
            if free
            else rng.integers(whole - side + 1) + side / 2
        )
        if whole > side
        else whole / 2
        for whole, side in zip((height, width), size, strict=True)
    ]
    central = channels // 2
    slips = rng.normal(0, shift, (channels, 2))
    slips[central] = 0
    blank = rng.random(channels) < missing
    blank[central] = False
    return Parameters(
        size=size,
        centre=(float(centre[0]), float(centre[1])),
        matrix=(
            (float(matrix[0, 0]), float(matrix[0, 1])),
            (float(matrix[1, 0]), float(matrix[1, 1])),
        ),
        elastic=rng.normal(0, elastic, (2, *points)),
        gain=float(np.exp(rng.normal(0, contrast))),
        offset=float(rng.normal(0, brightness)),
        gamma=float(np.exp(rng.normal(0, gamma))),
        blur=max(0.0, float(rng.uniform(-blur, blur))),
        noise=max(0.0, float(rng.uniform(-noise, noise))),
        noise_seed=int(rng.integers(2**63)),
        shifts=tuple((float(y), float(x)) for y, x in slips),
        missing=tuple(bool(b) for b in blank),
    )


def apply(
    image: NDArray[np.float32], truth: NDArray[np.uint8], parameters: Parameters
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Cut and change one crop.

    Parameters
    ----------
    image
        Neighbouring sections (C, Y, X) with mean 0 and standard deviation 1, the central one
        belonging to `truth`.
    truth
        The central section's truth (Y, X), 1 = membrane, 0 = interior, 2 = not annotated.
    parameters
        From `draw`.

    Returns
    -------
    NDArray[np.float32], NDArray[np.uint8]
        The crop (C, size) of the image and (size) of the truth, which stays 0 and 1, and 2 where
        any part of a pixel was not annotated.

    Raises
    ------
    InputError
        If image, truth and parameters do not belong together.
    """
    if image.ndim != 3 or image.shape[1:] != truth.shape:
        raise InputError(f"an image of shape {image.shape} does not fit a truth of {truth.shape}")
    if len(parameters.shifts) != len(image):
        raise InputError(
            f"the parameters were drawn for {len(parameters.shifts)} sections, not {len(image)}"
        )
    field = _displacements(parameters)
    matrix = np.array(parameters.matrix, np.float32)
    crop = np.empty((len(image), *parameters.size), np.float32)
    for channel, (slip, blank) in enumerate(
        zip(parameters.shifts, parameters.missing, strict=True)
    ):
        if blank:
            crop[channel] = 0
            continue
        centre = np.add(parameters.centre, slip)
        _sample(image[channel], matrix, centre, field, crop[channel])

    def moved(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = np.empty(parameters.size, np.float32)
        _sample(mask, matrix, np.array(parameters.centre), field, found)
        return found

    ignored = truth == IGNORED
    if not ignored.any():
        return _grey(crop, parameters), (moved(truth) >= 0.5).astype(np.uint8)
    drawn = (moved(np.where(ignored, np.uint8(0), truth)) >= 0.5).astype(np.uint8)
    drawn[moved(ignored.view(np.uint8)) > 0] = IGNORED
    return _grey(crop, parameters), drawn


def _grey(crop: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
    """Change contrast, sharpness and noise of a crop (C, Y, X)."""
    if parameters.blur > 0:
        reach = int(3 * parameters.blur + 0.5)
        taps = np.exp(-0.5 * (np.arange(reach + 1) / parameters.blur) ** 2)
        taps /= taps[0] + 2 * taps[1:].sum()
        crop = np.stack([_blurred(section, taps.astype(np.float32)) for section in crop])
    # What lies beyond ±3 is added to the curve's ends, which keeps it monotone without clipping.
    knots = np.linspace(0, 1, _KNOTS) ** parameters.gamma * 6 - 3
    curve = (parameters.gain * knots).astype(np.float32)
    _bend(crop, curve, np.float32(parameters.gain), np.float32(parameters.offset))
    if parameters.noise > 0:
        rng = np.random.default_rng(parameters.noise_seed)
        crop += np.float32(parameters.noise) * _white(rng.integers(2**64, dtype=np.uint64), crop)
    return crop


def _displacements(parameters: Parameters) -> NDArray[np.float32]:
    """Spread the control points' displacements smoothly over the crop, (2, Y, X) in pixels."""
    grid = parameters.elastic.astype(np.float32)
    if grid.size == 0:
        return np.zeros((2, *parameters.size), np.float32)
    rows = _spline_weights(parameters.size[0], grid.shape[1])
    columns = _spline_weights(parameters.size[1], grid.shape[2])
    return np.asarray(rows @ grid @ columns.T)


@lru_cache(maxsize=64)
def _spline_weights(size: int, points: int) -> NDArray[np.float32]:
    """Weights (size, points) of a uniform cubic B-spline whose end points are repeated."""
    position = np.linspace(0, points - 1, size)
    weights = np.zeros((size, points))
    for step in range(-1, 3):
        node = np.floor(position) + step
        distance = np.abs(position - node)
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        value = np.where(distance < 1, near, far)
        np.add.at(weights, (np.arange(size), np.clip(node, 0, points - 1).astype(int)), value)
    return weights.astype(np.float32)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _sample(source, matrix, centre, field, out):  # type: ignore[no-untyped-def]
    # Bilinear; the source is mirrored at its edges (d c b a | a b c d | d c b a). Row by row: first
    # where its pixels come from, which is vectorised, then what is there.
    height, width = source.shape
    up = np.float32(0.5 - out.shape[0] / 2)
    left_out = np.float32(0.5 - out.shape[1] / 2)
    # 32 bits are exact enough for what is left when the whole pixels of the centre are taken off.
    down = np.int32(np.floor(centre[0] - 0.5))
    across = np.int32(np.floor(centre[1] - 0.5))
    rest_y = np.float32(centre[0] - 0.5 - down)
    rest_x = np.float32(centre[1] - 0.5 - across)
    flat = source.reshape(-1)
    tops, lefts = np.empty(out.shape[1], np.int32), np.empty(out.shape[1], np.int32)
    down_by, right_by = np.empty(out.shape[1], np.float32), np.empty(out.shape[1], np.float32)
    for i in range(out.shape[0]):
        v = np.float32(i) + up
        for j in range(out.shape[1]):
            dy = v + field[0, i, j]
            dx = np.float32(j) + left_out + field[1, i, j]
            y = rest_y + matrix[0, 0] * dy + matrix[0, 1] * dx
            x = rest_x + matrix[1, 0] * dy + matrix[1, 1] * dx
            floor_y = np.floor(y)
            floor_x = np.floor(x)
            down_by[j] = y - floor_y
            right_by[j] = x - floor_x
            tops[j] = np.int32(floor_y) + down
            lefts[j] = np.int32(floor_x) + across
        inside = (tops.min() >= 0) & (tops.max() < height - 1)
        if inside & (lefts.min() >= 0) & (lefts.max() < width - 1):
            for j in range(out.shape[1]):
                at = tops[j] * np.int32(width) + lefts[j]
                fy, fx = down_by[j], right_by[j]
                upper = flat[at] * (1 - fx) + flat[at + 1] * fx
                lower = flat[at + width] * (1 - fx) + flat[at + width + 1] * fx
                out[i, j] = upper * (1 - fy) + lower * fy
            continue
        for j in range(out.shape[1]):
            top, low = _mirror(tops[j], height), _mirror(tops[j] + 1, height)
            left, right = _mirror(lefts[j], width), _mirror(lefts[j] + 1, width)
            fy, fx = down_by[j], right_by[j]
            upper = source[top, left] * (1 - fx) + source[top, right] * fx
            lower = source[low, left] * (1 - fx) + source[low, right] * fx
            out[i, j] = upper * (1 - fy) + lower * fy


@numba.njit(cache=True, nogil=True)
def _mirror(index, size):  # type: ignore[no-untyped-def]
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


@numba.njit(cache=True, nogil=True, fastmath=True)
def _blurred(section, taps):  # type: ignore[no-untyped-def]
    # First along the columns, then along the rows, mirrored at the edges as in `_sample`. Inner
    # loops run along rows, so that they are vectorised.
    height, width = section.shape
    reach = len(taps) - 1
    out = np.empty((height, width), np.float32)
    line = np.empty(width + 2 * reach, np.float32)
    for y in range(height):
        middle = line[reach : reach + width]
        for x in range(width):
            middle[x] = taps[0] * section[y, x]
        for k in range(1, reach + 1):
            above = section[_mirror(y - k, height)]
            below = section[_mirror(y + k, height)]
            for x in range(width):
                middle[x] += taps[k] * (above[x] + below[x])
        for k in range(1, reach + 1):
            line[reach - k] = middle[_mirror(-k, width)]
            line[reach + width - 1 + k] = middle[_mirror(width - 1 + k, width)]
        for x in range(width):
            out[y, x] = taps[0] * middle[x]
        for k in range(1, reach + 1):
            for x in range(width):
                out[y, x] += taps[k] * (line[reach + x - k] + line[reach + x + k])
    return out


@numba.njit(cache=True, nogil=True, fastmath=True)
def _bend(crop, curve, slope, offset):  # type: ignore[no-untyped-def]
    # In place: values from -3 to 3 along the curve, others along straight lines of `slope`.
    values = crop.reshape(-1)
    steps = len(curve) - 1
    for i in range(values.size):
        value = values[i]
        within = min(max(value, np.float32(-3)), np.float32(3))
        at = (within + np.float32(3)) * np.float32(steps / 6)
        knot = min(int(at), steps - 1)
        part = at - np.float32(knot)
        bent = curve[knot] + part * (curve[knot + 1] - curve[knot])
        values[i] = bent + slope * (value - within) + offset


@numba.njit(cache=True, nogil=True)
def _white(key, like):  # type: ignore[no-untyped-def]
    # Nearly normal numbers of unit variance, bounded by 3.5, one for each value of `like`: the sum
    # of the four 16-bit lanes of a hash (splitmix64, Steele et al. 2014) of its place. Many times
    # faster than exact ones, which white noise in an image does not need.
    noise = np.empty(like.size, np.float32)
    lane = np.uint64(0xFFFF)
    scale = np.float32(np.sqrt(3.0) / 65536)
    for i in range(noise.size):
        bits = key + np.uint64(i) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
        total = bits & lane
        total += (bits >> np.uint64(16)) & lane
        total += (bits >> np.uint64(32)) & lane
        total += bits >> np.uint64(48)
        noise[i] = scale * np.float32(np.int64(total) - np.int64(131070))
    return noise.reshape(like.shape)
