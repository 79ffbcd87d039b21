"""Augmentation as Keras' `ImageDataGenerator` does it, to repeat what an earlier project did.

`draw` chooses parameters from a generator, `apply` carries them out, as in `augment`. For new work
take `augment`: it has no black wedges, and deforms tissue more the way that tissue differs.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numba
import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError, nearest

__all__ = ["README_SETTINGS", "REPORT_SETTINGS", "Fill", "Parameters", "apply", "draw"]

Fill = Literal["black", "mirror"]

#: What the earlier project's README says that it drew from. Its shear is a fifth of a degree.
README_SETTINGS = {"rotation": 20.0, "shear": 0.2, "shift": 0.2, "zoom": 0.2, "flips": True}

#: What the table in its report says.
REPORT_SETTINGS = {"rotation": 20.0, "shear": 0.1, "shift": 0.0, "zoom": 0.1, "flips": True}


@dataclass(frozen=True, slots=True)
class Parameters:
    """Everything that one augmented section is made from, by Keras' names.

    Parameters
    ----------
    size
        Sides (Y, X) of the section in pixels, before and after.
    theta
        Rotation in degrees.
    tx, ty
        Shift in pixels along the columns and along the rows. Keras draws `tx` from the section's
        height and `ty` from its width all the same.
    shear
        In degrees.
    zx, zy
        Zoom along the columns and along the rows; above 1 the tissue shrinks.
    flip_horizontal, flip_vertical
        Whether columns, rows are put in reverse order, after all else.
    """

    size: tuple[int, int]
    theta: float
    tx: float
    ty: float
    shear: float
    zx: float
    zy: float
    flip_horizontal: bool
    flip_vertical: bool


def draw(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    rotation: float = 20.0,
    shear: float = 0.2,
    shift: float = 0.2,
    zoom: float = 0.2,
    flips: bool = True,
) -> Parameters:
    """Draw the parameters of one augmented section.

    Parameters
    ----------
    rng
        The only source of chance.
    shape
        Sides (Y, X) of the section.
    rotation, shear
        Largest angles either way, in degrees.
    shift
        Largest shift either way: below 1 a share of the section's sides, from 1 on pixels.
    zoom
        Largest difference of either zoom from 1; the two are drawn independently.
    flips
        Whether to flip rows and columns, each with a probability of one half.

    Returns
    -------
    augment_keras.Parameters
        For `apply`.

    Raises
    ------
    InputError
        If a range is negative or not finite, or `zoom` is not below 1.
    """
    ranges = {"rotation": rotation, "shear": shear, "shift": shift, "zoom": zoom}
    for name, value in ranges.items():
        if not 0 <= value < np.inf or (name == "zoom" and value >= 1):
            limit = "at least 0 and below 1" if name == "zoom" else "at least 0"
            raise InputError(f"{name} must be {limit}, not {value}")
    height, width = shape if shift < 1 else (1, 1)
    return Parameters(
        size=(int(shape[0]), int(shape[1])),
        theta=float(rng.uniform(-rotation, rotation)),
        tx=float(rng.uniform(-shift, shift) * height),
        ty=float(rng.uniform(-shift, shift) * width),
        shear=float(rng.uniform(-shear, shear)),
        zx=float(rng.uniform(1 - zoom, 1 + zoom)),
        zy=float(rng.uniform(1 - zoom, 1 + zoom)),
        flip_horizontal=bool(rng.random() < 0.5) and flips,
        flip_vertical=bool(rng.random() < 0.5) and flips,
    )


def apply(
    image: NDArray[Any], truth: NDArray[np.uint8], parameters: Parameters, *, fill: Fill = "black"
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Rotate, shift, shear, zoom and flip one section as Keras 3 does, bit for bit.

    The matrix is rotation · shift · shear · zoom, from the result to the section, about the point
    ``(width / 2 - 0.5, height / 2 - 0.5)`` in rows and columns. Keras exchanges those two, which
    shows only where the section is not square. The package keras-preprocessing (up to 1.1.2), of
    which Keras 2 was made, took rows for columns and a centre one pixel further: on a square
    section, the same to its transpose, less than a pixel aside. With ranges that are symmetric, as
    `draw`'s are, nobody can tell the two apart.

    Parameters
    ----------
    image
        (Y, X), uint8 or float32; uint8 is rounded to the nearest grey value.
    truth
        (Y, X), 1 = membrane, 0 = interior.
    parameters
        From `draw`.
    fill
        What lies beyond the border. ``"black"`` is what the earlier project had: value 0, and as
        the challenge's labels show interior white, the wedge becomes **membrane**. That is a trap:
        a network trained on it learns that large black areas are membrane and over-draws the
        border. It suits repeating that project only. ``"mirror"`` mirrors image and truth instead.

    Returns
    -------
    NDArray, NDArray[np.uint8]
        Image (Y, X) of the same dtype, and truth (Y, X): sampled bilinearly like the image and cut
        at one half, a tie being membrane.

    Raises
    ------
    InputError
        If image, truth and parameters do not belong together, or `fill` is unknown.
    """
    if fill not in get_args(Fill):
        raise InputError(f"unknown fill '{fill}'{nearest(fill, get_args(Fill))}")
    if not image.shape == truth.shape == parameters.size:
        raise InputError(
            f"an image of shape {image.shape}, a truth of {truth.shape} and parameters for"
            f" {parameters.size} do not belong together"
        )
    if image.dtype not in (np.uint8, np.float32):
        raise InputError(f"an image is uint8 or float32 here, not {image.dtype}; convert it first")
    matrix = _matrix(parameters)
    moved, drawn = np.empty_like(image, order="C"), np.empty(truth.shape, np.uint8)
    half = 0.5 if image.dtype == np.uint8 else 0.0
    _sample(image, truth, matrix, fill == "mirror", half, moved, drawn)
    flips = (parameters.flip_vertical, parameters.flip_horizontal)
    way = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    return np.ascontiguousarray(moved[way]), np.ascontiguousarray(drawn[way])


def _matrix(parameters: Parameters) -> NDArray[np.float64]:
    """Return the map (2, 3) from a pixel (row, column, 1) of the result to where it comes from."""
    turn, shear = np.deg2rad(parameters.theta), np.deg2rad(parameters.shear)
    cos, sin = np.cos(turn), np.sin(turn)
    first, second = (side / 2 - 0.5 for side in parameters.size)
    steps = (
        ((1, 0, first), (0, 1, second), (0, 0, 1)),
        ((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)),
        ((1, 0, parameters.tx), (0, 1, parameters.ty), (0, 0, 1)),
        ((1, -np.sin(shear), 0), (0, np.cos(shear), 0), (0, 0, 1)),
        ((parameters.zx, 0, 0), (0, parameters.zy, 0), (0, 0, 1)),
        ((1, 0, -first), (0, 1, -second), (0, 0, 1)),
    )
    back, rotation, shift, shear_, zoom, centre = (np.array(step, float) for step in steps)
    # In this order, for the rounding of the last bit decides which border pixels are filled.
    matrix = back @ (rotation @ shift @ shear_ @ zoom) @ centre
    return np.ascontiguousarray(matrix[np.ix_((1, 0), (1, 0, 2))])  # from x, y to rows, columns


@numba.njit(cache=True, nogil=True)
def _sample(image, truth, matrix, mirror, half, moved, drawn):  # type: ignore[no-untyped-def]
    # Image and truth in one pass, in the order of scipy's arithmetic: that equals
    # scipy.ndimage.affine_transform of order 1 to the last bit and is ten times as fast.
    height, width = image.shape
    for i in range(height):
        for j in range(width):
            y = matrix[0, 2] + matrix[0, 0] * i + matrix[0, 1] * j
            x = matrix[1, 2] + matrix[1, 0] * i + matrix[1, 1] * j
            top, left = int(np.floor(y)), int(np.floor(x))
            low, right = top + 1, left + 1
            fy, fx = y - top, x - left
            if y < 0 or x < 0 or y > height - 1 or x > width - 1:
                if not mirror:
                    moved[i, j] = 0
                    drawn[i, j] = 1
                    continue
                top, low = _mirror(top, height), _mirror(low, height)
                left, right = _mirror(left, width), _mirror(right, width)
            else:  # on the last row or column the next one weighs nothing
                low, right = min(low, height - 1), min(right, width - 1)
            value = image[top, left] * (1 - fy) * (1 - fx)
            value += image[top, right] * (1 - fy) * fx
            value += image[low, left] * fy * (1 - fx)
            value += image[low, right] * fy * fx
            interior = (1 - truth[top, left]) * (1 - fy) * (1 - fx)
            interior += (1 - truth[top, right]) * (1 - fy) * fx
            interior += (1 - truth[low, left]) * fy * (1 - fx)
            interior += (1 - truth[low, right]) * fy * fx
            moved[i, j] = value + half
            drawn[i, j] = interior <= 0.5


@numba.njit(cache=True, nogil=True)
def _mirror(index, size):  # type: ignore[no-untyped-def]
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index
