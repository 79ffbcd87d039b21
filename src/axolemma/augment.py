"""Augmentation: `draw` chooses parameters from a generator, `apply` carries them out.

`apply` is pure: the same parameters give the same crop, whenever and wherever, for image and truth
alike. Beyond the border the section is mirrored, so no black wedge ever reaches the network.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.labels import IGNORED

__all__ = ["PRESETS", "Parameters", "aimed", "apply", "draw", "draw_annotated"]

#: By name, what `draw` takes in place of its own ranges. ``robust`` is for weights that others
#: will use, on sections with shadows, seams, stripes and specks that nobody learned from.
PRESETS: dict[str, dict[str, float]] = {
    "axolemma": {},
    "robust": {
        "turn": 0.9,
        "scale": 0.35,
        "shear": 0.2,
        "elastic": 6.0,
        "shading": 1.5,
        "bands": 0.25,
        "blots": 0.25,
    },
}

#: Distance of the control points of a shading, widths of bands, radii of blots, all in pixels.
_SHADED, _WIDTHS, _RADII = 128, (3, 64), (2, 12)
_MOST_BLOTS = 20

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
    shading
        Control points of a gain and an offset that change smoothly over the crop, (2, n, n), as
        those of `elastic`. Empty for none.
    bands
        What lies between two parallel lines and has other grey values, (n, 6): the lines' normal
        (Y, X), where they lie along it in pixels from the crop's centre, the second beyond the crop
        where one side of a line is meant, and gain and offset.
    blots
        Discs of one grey value, (n, 4): centre (Y, X) and radius in pixels, and that value. They
        are small: what is below is to be guessed, and the truth stays. Shading, bands and blots
        are those of all input sections.
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
    shading: NDArray[np.float64]
    bands: NDArray[np.float64]
    blots: NDArray[np.float64]


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
    shading: float = 0.0,
    bands: float = 0.0,
    blots: float = 0.0,
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
    shading
        Largest standard deviation of the offset's control points, half of the crops get none; the
        gain's logarithm has three tenths of it.
    bands
        Probability of each of two bands: seams of a mosaic, folds and stripes.
    blots
        Probability of up to twenty blots.

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
        shading=_shading(rng, size, shading),
        bands=_bands(rng, size, bands),
        blots=_blots(rng, size, blots),
    )


def draw_annotated(
    rng: np.random.Generator,
    truth: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    channels: int = 1,
    **ranges: float,
) -> Parameters:
    """Draw the parameters of a crop aimed at an annotated pixel, which a turned one may miss.

    Parameters
    ----------
    rng, size, **ranges
        As for `draw`.
    truth
        The central section's truth (Y, X), 2 = not annotated. Where all is annotated this is `draw`
        alone.
    channels
        Neighbouring sections that are cropped.
    """
    drawn = draw(rng, (channels, *truth.shape), size, **ranges)
    if not (truth == IGNORED).any():
        return drawn
    # A section that is smaller lies in the middle of the crop.
    y, x = (
        place + side / 2 if whole > side else whole / 2
        for place, side, whole in zip(aimed(rng, truth, size), size, truth.shape, strict=True)
    )
    return replace(drawn, centre=(y, x))


def aimed(rng: np.random.Generator, truth: NDArray[np.uint8], size: tuple[int, int]) -> list[int]:
    """Draw the corner of a crop that holds an annotated pixel, each of them as likely as others."""
    pixel = np.unravel_index(rng.choice(np.flatnonzero(truth != IGNORED)), truth.shape)
    return [
        int(np.clip(place - rng.integers(side), 0, max(0, whole - side)))
        for place, side, whole in zip(pixel, size, truth.shape, strict=True)
    ]


def _shading(rng: np.random.Generator, size: tuple[int, int], most: float) -> NDArray[np.float64]:
    strength = rng.uniform(-most, most) if most else 0.0
    if strength <= 0:
        return np.empty((2, 0, 0))
    points = (max(2, round(side / _SHADED) + 1) for side in size)
    fields = rng.normal(0, strength, (2, *points))
    fields[0] = np.exp(0.3 * fields[0])
    return fields


def _bands(
    rng: np.random.Generator, size: tuple[int, int], probability: float
) -> NDArray[np.float64]:
    drawn = np.empty((np.count_nonzero(rng.random(2) < probability) if probability else 0, 6))
    for band in drawn:
        angle, start = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4) * min(size)
        # Half of them have one edge only: the other is beyond the farthest corner.
        wide = rng.random() < 0.5
        width = 2 * np.hypot(*size) if wide else np.exp(rng.uniform(*np.log(_WIDTHS)))
        gain, offset = np.exp(rng.normal(0, 0.4)), rng.normal(0, 1.5)
        band[:] = np.cos(angle), np.sin(angle), start, start + width, gain, offset
    return drawn


def _blots(
    rng: np.random.Generator, size: tuple[int, int], probability: float
) -> NDArray[np.float64]:
    some = probability and rng.random() < probability
    count = rng.integers(1, _MOST_BLOTS + 1) if some else 0
    places = rng.uniform(-0.5, 0.5, (count, 2)) * size
    return np.column_stack((places, rng.uniform(*_RADII, count), rng.normal(0, 2, count)))


def apply(
    image: NDArray[np.float32],
    truth: NDArray[np.uint8],
    parameters: Parameters,
    *,
    out: tuple[NDArray[np.float32], NDArray[np.uint8]] | None = None,
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
    out
        Where to put the crop of the image and that of the truth; new arrays if None.

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
    image = np.ascontiguousarray(image)
    # From a file, where nothing is left of the shape of what is empty.
    grid, fields = (
        field if field.size else np.empty((2, 0, 0))
        for field in (parameters.elastic, parameters.shading)
    )
    size = parameters.size
    crop, drawn = out or (np.empty((len(image), *size), np.float32), np.empty(size, np.uint8))
    _cut(
        image,
        truth,
        np.array(parameters.matrix, np.float32),
        np.array(parameters.centre),
        np.array(parameters.shifts),
        np.array(parameters.missing),
        grid.astype(np.float32),
        *map(_spline_weights, size, grid.shape[1:]),
        crop,
        drawn,
    )
    noise_rng = np.random.default_rng(parameters.noise_seed)
    _change(
        crop,
        parameters.blur,
        parameters.gamma,
        parameters.gain,
        parameters.offset,
        fields.astype(np.float32),
        *map(_spline_weights, size, fields.shape[1:]),
        parameters.bands.reshape(-1, 6).astype(np.float32),
        parameters.blots.reshape(-1, 4).astype(np.float32),
        parameters.noise,
        noise_rng.integers(2**64, dtype=np.uint64),
    )
    return crop, drawn


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
        if points:
            np.add.at(weights, (np.arange(size), np.clip(node, 0, points - 1).astype(int)), value)
    return weights.astype(np.float32)


# A crop is made in two calls during which other threads go on: threads that keep coming back to
# Python wait for one another, on many cores for longer than they work.


@numba.njit(cache=True, nogil=True, fastmath=True)
def _cut(  # type: ignore[no-untyped-def]
    image, truth, matrix, centre, shifts, missing, grid, rows, columns, crop, drawn
):
    bent = _along_rows(grid, columns)
    for channel in range(len(image)):
        if missing[channel]:
            crop[channel] = 0
        else:
            where = centre + shifts[channel]
            _sample(image[channel], matrix, where, bent, rows, crop[channel])
    _sample_truth(truth, matrix, centre, bent, rows, drawn)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _along_rows(grid, columns):  # type: ignore[no-untyped-def]
    # Two smooth fields by their control points (2, n, n), along the rows of those.
    found = np.zeros((2, grid.shape[1], len(columns)), np.float32)
    for kind in range(2):
        for m in range(grid.shape[1]):
            for n in range(grid.shape[2]):
                for j in range(len(columns)):
                    found[kind, m, j] += grid[kind, m, n] * columns[j, n]
    return found


@numba.njit(cache=True, nogil=True, fastmath=True)
def _add_fields(weights, along, first, second):  # type: ignore[no-untyped-def]
    # Two smooth fields in one row of a crop, from what `_along_rows` found.
    for m in range(len(weights)):
        if weights[m] != 0:
            for j in range(len(first)):
                first[j] += weights[m] * along[0, m, j]
                second[j] += weights[m] * along[1, m, j]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _places(i, height, width, matrix, centre, bent, rows, places, parts):  # type: ignore[no-untyped-def]
    # Where the pixels of row `i` of a crop come from, along Y and X: the pixel before, and the part
    # of the way from there to the next one. 32 bits are exact enough for what is left when the
    # whole pixels of the centre are taken off.
    down = np.int32(np.floor(centre[0] - 0.5))
    across = np.int32(np.floor(centre[1] - 0.5))
    rest_y = np.float32(centre[0] - 0.5 - down)
    rest_x = np.float32(centre[1] - 0.5 - across)
    dy, dx = parts[0], parts[1]
    for j in range(width):
        dy[j] = np.float32(i + 0.5 - height / 2)
        dx[j] = np.float32(j + 0.5 - width / 2)
    _add_fields(rows[i], bent, dy, dx)
    for j in range(width):
        y = rest_y + matrix[0, 0] * dy[j] + matrix[0, 1] * dx[j]
        x = rest_x + matrix[1, 0] * dy[j] + matrix[1, 1] * dx[j]
        floor_y = np.floor(y)
        floor_x = np.floor(x)
        parts[0, j] = y - floor_y
        parts[1, j] = x - floor_x
        places[0, j] = np.int32(floor_y) + down
        places[1, j] = np.int32(floor_x) + across


@numba.njit(cache=True, nogil=True, fastmath=True)
def _sample(source, matrix, centre, bent, rows, out):  # type: ignore[no-untyped-def]
    # Bilinear; the source is mirrored at its edges (d c b a | a b c d | d c b a). Row by row: first
    # where its pixels come from, which is vectorised, then what is there.
    height, width = source.shape
    flat = source.reshape(-1)
    places, parts = np.empty((2, out.shape[1]), np.int32), np.empty((2, out.shape[1]), np.float32)
    tops, lefts = places[0], places[1]
    for i in range(out.shape[0]):
        _places(i, out.shape[0], out.shape[1], matrix, centre, bent, rows, places, parts)
        inside = (tops.min() >= 0) & (tops.max() < height - 1)
        if inside & (lefts.min() >= 0) & (lefts.max() < width - 1):
            for j in range(out.shape[1]):
                at = tops[j] * np.int32(width) + lefts[j]
                fy, fx = parts[0, j], parts[1, j]
                upper = flat[at] * (1 - fx) + flat[at + 1] * fx
                lower = flat[at + width] * (1 - fx) + flat[at + width + 1] * fx
                out[i, j] = upper * (1 - fy) + lower * fy
            continue
        for j in range(out.shape[1]):
            top, low = _mirror(tops[j], height), _mirror(tops[j] + 1, height)
            left, right = _mirror(lefts[j], width), _mirror(lefts[j] + 1, width)
            fy, fx = parts[0, j], parts[1, j]
            upper = source[top, left] * (1 - fx) + source[top, right] * fx
            lower = source[low, left] * (1 - fx) + source[low, right] * fx
            out[i, j] = upper * (1 - fy) + lower * fy


@numba.njit(cache=True, nogil=True, fastmath=True)
def _sample_truth(truth, matrix, centre, bent, rows, out):  # type: ignore[no-untyped-def]
    # As `_sample`; then membrane from a half on, and not annotated where any part of it is not.
    height, width = truth.shape
    places, parts = np.empty((2, out.shape[1]), np.int32), np.empty((2, out.shape[1]), np.float32)
    for i in range(out.shape[0]):
        _places(i, out.shape[0], out.shape[1], matrix, centre, bent, rows, places, parts)
        for j in range(out.shape[1]):
            membrane = ignored = np.float32(0)
            for down in range(2):
                y = _mirror(places[0, j] + down, height)
                share = parts[0, j] if down else 1 - parts[0, j]
                for right in range(2):
                    found = truth[y, _mirror(places[1, j] + right, width)]
                    weight = share * (parts[1, j] if right else 1 - parts[1, j])
                    membrane += weight * (found == 1)
                    ignored += weight * (found == IGNORED)
            out[i, j] = IGNORED if ignored > 0 else membrane >= np.float32(0.5)


@numba.njit(cache=True, nogil=True)
def _mirror(index, size):  # type: ignore[no-untyped-def]
    if 0 <= index < size:  # nearly always, and a division takes long
        return index
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


@numba.njit(cache=True, nogil=True, fastmath=True)
def _change(  # type: ignore[no-untyped-def]
    crop, blur, gamma, gain, offset, fields, rows, columns, bands, blots, noise, key
):
    # In place: sharpness, contrast and noise of a crop (C, Y, X).
    if blur > 0:
        taps = np.empty(int(3 * blur + 0.5) + 1, np.float32)
        for k in range(len(taps)):
            taps[k] = np.exp(-0.5 * (k / blur) ** 2)
        taps /= taps[0] + 2 * taps[1:].sum()
        for channel in range(len(crop)):
            _blur(crop[channel], taps)
    # What lies beyond ±3 is added to the curve's ends, which keeps it monotone without clipping.
    curve = np.empty(_KNOTS, np.float32)
    for k in range(_KNOTS):
        curve[k] = gain * ((k / (_KNOTS - 1)) ** gamma * 6 - 3)
    _bend(crop, curve, np.float32(gain), np.float32(offset))
    if fields.size:
        _shade(crop, fields, rows, columns)
    for band in bands:
        _stripe(crop, band)
    for blot in blots:
        _blot(crop, blot)
    if noise > 0:
        _add_white(crop, np.float32(noise), key)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _blur(section, taps):  # type: ignore[no-untyped-def]
    # In place, first along the columns, then along the rows, mirrored at the edges as in `_sample`.
    # Inner loops run along rows, so that they are vectorised.
    height, width = section.shape
    reach = len(taps) - 1
    sharp = section.copy()
    line = np.empty(width + 2 * reach, np.float32)
    for y in range(height):
        middle = line[reach : reach + width]
        for x in range(width):
            middle[x] = taps[0] * sharp[y, x]
        for k in range(1, reach + 1):
            above = sharp[_mirror(y - k, height)]
            below = sharp[_mirror(y + k, height)]
            for x in range(width):
                middle[x] += taps[k] * (above[x] + below[x])
        for k in range(1, reach + 1):
            line[reach - k] = middle[_mirror(-k, width)]
            line[reach + width - 1 + k] = middle[_mirror(width - 1 + k, width)]
        for x in range(width):
            section[y, x] = taps[0] * middle[x]
        for k in range(1, reach + 1):
            for x in range(width):
                section[y, x] += taps[k] * (line[reach + x - k] + line[reach + x + k])


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


@numba.njit(cache=True, nogil=True, fastmath=True)
def _shade(crop, fields, rows, columns):  # type: ignore[no-untyped-def]
    # In place: gain and offset that change slowly over the crop.
    height, width = crop.shape[1:]
    along = _along_rows(fields, columns)
    gain, offset = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(height):
        gain[:] = 0
        offset[:] = 0
        _add_fields(rows[i], along, gain, offset)
        for channel in range(len(crop)):
            for j in range(width):
                crop[channel, i, j] = crop[channel, i, j] * gain[j] + offset[j]


@numba.njit(cache=True, nogil=True)
def _stripe(crop, band):  # type: ignore[no-untyped-def]
    # In place: other grey values between two lines.
    height, width = crop.shape[1:]
    down, across, start, stop, gain, offset = band
    for i in range(height):
        for j in range(width):
            along = (i + 0.5 - height / 2) * down + (j + 0.5 - width / 2) * across
            if start <= along < stop:
                for channel in range(len(crop)):
                    crop[channel, i, j] = crop[channel, i, j] * gain + offset


@numba.njit(cache=True, nogil=True)
def _blot(crop, blot):  # type: ignore[no-untyped-def]
    # In place: a disc of one value.
    height, width = crop.shape[1:]
    y, x, radius, value = blot[0] + height / 2, blot[1] + width / 2, blot[2], blot[3]
    for i in range(max(0, int(y - radius)), min(height, int(y + radius) + 1)):
        for j in range(max(0, int(x - radius)), min(width, int(x + radius) + 1)):
            if (i + 0.5 - y) ** 2 + (j + 0.5 - x) ** 2 < radius**2:
                crop[:, i, j] = value


@numba.njit(cache=True, nogil=True)
def _add_white(crop, deviation, key):  # type: ignore[no-untyped-def]
    # In place: nearly normal numbers, bounded by 3.5 deviations, one for each value: the sum of the
    # four 16-bit lanes of a hash (splitmix64, Steele et al. 2014) of its place. Many times faster
    # than exact ones, which white noise in an image does not need.
    values = crop.reshape(-1)
    lane = np.uint64(0xFFFF)
    scale = deviation * np.float32(np.sqrt(3.0) / 65536)
    for i in range(values.size):
        bits = key + np.uint64(i) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
        total = bits & lane
        total += (bits >> np.uint64(16)) & lane
        total += (bits >> np.uint64(32)) & lane
        total += bits >> np.uint64(48)
        values[i] += scale * np.float32(np.int64(total) - np.int64(131070))
