"""Label arrays: their numbers, their colours, what is between two that touch, their pieces."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "COLOUR_SEED",
    "IGNORED",
    "RESERVED",
    "colours",
    "distinct",
    "is_flat",
    "label_borders",
    "pieces",
    "renumbered",
]

#: In a truth, beside 1 = membrane and 0 = interior: a pixel that the expert did not annotate. It
#: stands in the truth itself, so that no step between the file and the loss can lose it.
IGNORED = 2

#: The highest numbers of 64 bits, from this one on, stand for "no cell here": transparent, invalid,
#: outside.
RESERVED = 2**64 - 16

#: Share of neighbours in a row that are equal: near 1 in a drawing, below .2 in a micrograph.
_FLAT = 0.7

#: Of all seeds below 120,000 the one with which the colours of the first 255 labels are farthest
#: from those of the three numbers before and after them.
COLOUR_SEED = 8195

_LOW = np.uint64(2**32 - 1)  # arithmetic of 32 bits, in numbers of 64


def colours(labels: NDArray[np.integer], *, seed: int = COLOUR_SEED) -> NDArray[np.uint8]:
    """Give every label a bright colour, the same wherever that number occurs; 0 is black.

    They are neuroglancer's, so that a neuron has one colour in pictures, files and that viewer.

    Parameters
    ----------
    labels
        Any shape, not negative.
    seed
        Neuroglancer's ``colorSeed``.

    Returns
    -------
    NDArray[np.uint8]
        One axis more, of length 3: red, green, blue.
    """
    ids = np.asarray(labels).astype(np.uint64)
    mixed = _mixed(_mixed(np.uint64(seed), ids & _LOW), ids >> np.uint64(32))
    hue, paleness = ((mixed >> np.uint64(bits) & np.uint64(255)) / 255 for bits in (0, 8))
    ramp = np.abs((hue[..., None] * 6 + np.array((0.0, 4.0, 2.0))) % 6 - 3) - 1
    bright = 1 - (0.5 + 0.5 * paleness[..., None]) * (1 - np.clip(ramp, 0, 1))
    return np.where((ids == 0)[..., None], 0, np.rint(255 * bright)).astype(np.uint8)


def _mixed(state: np.uint64 | NDArray[np.uint64], value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix a number into a state of 32 bits: one round of MurmurHash3."""
    value = value * np.uint64(0xCC9E2D51) & _LOW
    value = (value << np.uint64(15) | value >> np.uint64(17)) & _LOW
    value = value * np.uint64(0x1B873593) & _LOW
    mixed = (state ^ value) & _LOW
    mixed = (mixed << np.uint64(13) | mixed >> np.uint64(19)) & _LOW
    return mixed * np.uint64(5) + np.uint64(0xE6546B64) & _LOW


def distinct(array: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a stack (Z, Y, X) once each, in order; NaN as often as in sections."""
    # Section by section: sorting a whole volume at once takes several times its memory.
    return np.unique(np.concatenate([np.unique(section) for section in array]))


def is_flat(array: NDArray[Any]) -> bool:
    """Tell whether a stack (Z, Y, X) has regions of one value, as drawings and labels have."""
    return bool((array[:, :, 1:] == array[:, :, :-1]).mean() >= _FLAT) if array.size else True


def renumbered(labels: NDArray[np.integer], ids: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Replace the labels by their places among `ids`, from 1 on, and all others by 0.

    Parameters
    ----------
    labels
        (Z, Y, X).
    ids
        The numbers to keep, in ascending order, fewer than 2³².

    Returns
    -------
    NDArray[np.uint32]
        Equal shape.

    Examples
    --------
    >>> renumbered(np.array([[[7, 0, 900]]]), np.array([7, 900])).tolist()
    [[[1, 0, 2]]]
    """
    result = np.zeros(labels.shape, np.uint32)
    if ids.size:
        for section, new in zip(labels, result, strict=True):
            place = np.searchsorted(ids, section).clip(max=len(ids) - 1)
            new[...] = np.where(ids[place] == section, place + 1, 0)
    return result


def label_borders(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return label 0, and one pixel between two labels of a section that touch, as membrane.

    Parameters
    ----------
    labels
        (…, Y, X); 0 = membrane or background.

    Returns
    -------
    NDArray[np.bool_]
        Equal shape, True = membrane.
    """
    border = labels == 0
    for here, beyond in (
        (np.s_[..., :-1, :], np.s_[..., 1:, :]),
        (np.s_[..., :, :-1], np.s_[..., :, 1:]),
    ):
        a, b = labels[here], labels[beyond]
        border[here] |= (a != b) & (a != 0) & (b != 0)
    return np.asarray(border)


def pieces(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give a number to each of the 4-connected pieces of equal label in a section.

    Parameters
    ----------
    labels
        (Y, X); 0 = membrane or background.

    Returns
    -------
    NDArray[np.int32]
        (Y, X); 0 stays 0, and two pixels have one number where a path of steps through equal
        labels joins them.
    """
    # Every pixel gets a 2 x 2 block, with a bridge to the next pixel where the labels are equal:
    # one pass of the ordinary labelling then tells labels apart that touch.
    height, width = labels.shape
    open_ = np.zeros((2 * height, 2 * width), bool)
    open_[::2, ::2] = labels != 0
    open_[1:-1:2, ::2] = (labels[1:] == labels[:-1]) & (labels[1:] != 0)
    open_[::2, 1:-1:2] = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != 0)
    found, _ = ndimage.label(open_)
    return np.ascontiguousarray(found[::2, ::2], np.int32)
