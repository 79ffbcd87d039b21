"""Augmentation: `draw` chooses parameters from a generator, `apply` carries them out.

`apply` is pure: the same parameters give the same crop, whenever and wherever, for image and truth
alike. Beyond the border the section is mirrored, so no black wedge ever reaches the network.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from axolemma.errors import InputError

__all__ = ["Parameters", "apply", "draw"]


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
        The central section's truth (Y, X), 1 = membrane, 0 = interior.
    parameters
        From `draw`.

    Returns
    -------
    NDArray[np.float32], NDArray[np.uint8]
        The crop (C, size) of the image and (size) of the truth, which stays 0 and 1.

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
    matrix = np.array(parameters.matrix)
    crop = np.empty((len(image), *parameters.size), np.float32)
    for channel, (slip, blank) in enumerate(
        zip(parameters.shifts, parameters.missing, strict=True)
    ):
        if blank:
            crop[channel] = 0
            continue
        centre = np.add(parameters.centre, slip)
        _sample(image[channel], matrix, centre, field, crop[channel])
    drawn = np.empty(parameters.size, np.float32)
    _sample(truth.astype(np.float32), matrix, np.array(parameters.centre), field, drawn)
    return _grey(crop, parameters), (drawn >= 0.5).astype(np.uint8)


def _grey(crop: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
    """Change contrast, sharpness and noise of a crop (C, Y, X)."""
    if parameters.blur > 0:
        crop = ndimage.gaussian_filter(crop, (0, parameters.blur, parameters.blur), truncate=3)
    within = np.clip(crop, -3, 3)
    curve = ((within + 3) / 6) ** np.float32(parameters.gamma) * 6 - 3
    # The curve alone would clip what lies beyond ±3; adding the rest back keeps it monotone.
    crop = curve + (crop - within)
    crop = np.float32(parameters.gain) * crop + np.float32(parameters.offset)
    if parameters.noise > 0:
        rng = np.random.default_rng(parameters.noise_seed)
        crop = crop + np.float32(parameters.noise) * rng.standard_normal(crop.shape, np.float32)
    return np.asarray(crop, np.float32)


def _displacements(parameters: Parameters) -> NDArray[np.float64]:
    """Spread the control points' displacements smoothly over the crop, (2, Y, X) in pixels."""
    grid = parameters.elastic
    if grid.size == 0:
        return np.zeros((2, *parameters.size))
    rows = _spline_weights(parameters.size[0], grid.shape[1])
    columns = _spline_weights(parameters.size[1], grid.shape[2])
    return np.asarray(rows @ grid @ columns.T)


def _spline_weights(size: int, points: int) -> NDArray[np.float64]:
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
    return weights


@numba.njit(cache=True, nogil=True, fastmath=True)
def _sample(source, matrix, centre, field, out):  # type: ignore[no-untyped-def]
    # Bilinear; the source is mirrored at its edges (d c b a | a b c d | d c b a). One pass over
    # the crop without a coordinate array.
    height, width = source.shape
    for i in range(out.shape[0]):
        v = i + 0.5 - out.shape[0] / 2
        for j in range(out.shape[1]):
            u = j + 0.5 - out.shape[1] / 2
            dy = v + field[0, i, j]
            dx = u + field[1, i, j]
            y = centre[0] + matrix[0, 0] * dy + matrix[0, 1] * dx - 0.5
            x = centre[1] + matrix[1, 0] * dy + matrix[1, 1] * dx - 0.5
            y0 = int(np.floor(y))
            x0 = int(np.floor(x))
            fy = np.float32(y - y0)
            fx = np.float32(x - x0)
            top, low, left, right = y0, y0 + 1, x0, x0 + 1
            if y0 < 0 or low >= height or x0 < 0 or right >= width:
                top = _mirror(top, height)
                low = _mirror(low, height)
                left = _mirror(left, width)
                right = _mirror(right, width)
            upper = source[top, left] * (1 - fx) + source[top, right] * fx
            lower = source[low, left] * (1 - fx) + source[low, right] * fx
            out[i, j] = upper * (1 - fy) + lower * fy


@numba.njit(cache=True, nogil=True)
def _mirror(index, size):  # type: ignore[no-untyped-def]
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index
