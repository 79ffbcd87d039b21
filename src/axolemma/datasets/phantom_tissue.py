"""A phantom: synthetic serial sections of neural tissue whose truth is known exactly.

Nothing in it was recorded: neurites, membranes, organelles, stain and noise are functions of a
seed and of the position, so any block of a volume of any size can be made alone, and equals that
block of the whole bit for bit. The statistics follow those of the 30 sections of the ISBI 2012
challenge (Drosophila first instar larva ventral nerve cord, 50 × 4 × 4 nm).
"""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, MappingProxyType

import numpy as np
from numpy.typing import NDArray

from axolemma.datasets.phantom_cells import Cells, cells_of_section, fibre_plane
from axolemma.datasets.phantom_fields import compiled, derive, normal
from axolemma.datasets.phantom_image import HALO, micrograph
from axolemma.errors import InputError
from axolemma.geometry import Box

__all__ = ["REAL", "VOXEL_SIZE", "PhantomBlock", "phantom"]

VOXEL_SIZE = (50.0, 4.0, 4.0)
"""Size of a voxel, ZYX, in nm."""

REAL: Mapping[str, float] = MappingProxyType(
    {
        "membrane fraction": 0.220,  # of all pixels, in the experts' truth
        "grey mean": 126.2,
        "grey deviation": 42.8,  # within a section
        "grey of membrane": 85.3,  # mean where the truth says membrane
        "grey of interior": 137.7,
        "exposure deviation": 9.8,  # of the sections' means
        "gradient": 21.5,  # mean length of the grey gradient, per px
        "profiles": 114.0,  # 4-connected interiors in a section of 512 × 512 px
        "median profile": 569.0,  # px
        "section overlap": 0.734,  # part of a profile under its best match in the next section
        "section correlation": 0.18,  # of the truths of neighbouring sections
    }
)
"""What the phantom imitates: means over the 30 annotated sections of ISBI 2012."""

_MISALIGNMENT = 4.5  # sigma of the shift of a section against its place, px
_LINE = 2.2  # half width of the line that an expert draws along an upright membrane, px
_BROADEST = 6.0  # half width of that line where it is broadest, px
_NEAR = 8  # how far a membrane may lie from the next neuron, px: HALO less twice the pen's radius
_SMEAR = 0.18  # how much of a membrane's sideways run through the section the line covers


@dataclass(frozen=True, slots=True)
class PhantomBlock:
    """A block of the phantom; all three arrays are ZYX and of one shape.

    Attributes
    ----------
    image
        uint8, the micrograph.
    truth
        uint8, 1 = membrane, 0 = interior of a cell.
    neurons
        uint32, the neuron that each interior voxel belongs to; 0 on membrane.
    """

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    neurons: NDArray[np.uint32]


def phantom(
    shape: tuple[int, int, int] = (30, 512, 512), *, seed: int = 0, box: Box | None = None
) -> PhantomBlock:
    """Make a phantom, or one block of it.

    Parameters
    ----------
    shape
        Sections, rows and columns of the whole volume. It sets the bounds and nothing else: the
        content of a position depends on the seed alone.
    seed
        Any integer; another seed is another tissue.
    box
        The block to make, in coordinates of the whole volume. Default: all of it.

    Returns
    -------
    PhantomBlock
        Image, truth and neurons of the block.

    Raises
    ------
    InputError
        If `shape` has not three sides of at least 1, or `box` is empty or leaves the volume.

    Examples
    --------
    >>> block = phantom((30, 512, 512), box=Box((4, 100, 100), (5, 140, 150)))
    >>> block.image.shape
    (1, 40, 50)
    """
    box = _checked(shape, box)
    block = PhantomBlock(
        np.empty(box.shape, np.uint8), np.empty(box.shape, np.uint8), np.empty(box.shape, np.uint32)
    )
    for n, z in enumerate(range(box.start[0], box.stop[0])):
        with _interrupted_later():
            block.image[n], block.truth[n], block.neurons[n] = _section(
                seed, z, Box(box.start[1:], box.stop[1:])
            )
    return block


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Hold Ctrl-C back: numba crashes where an exception meets it taking a tuple apart."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not callable(before := signal.getsignal(signal.SIGINT)):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *what: came.append(what))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[0])


def _checked(shape: tuple[int, ...], box: Box | None) -> Box:
    """Return the box to make, or say what is wrong with the arguments."""
    if len(shape) != 3 or any(side < 1 for side in shape):
        raise InputError(f"a phantom's shape is three sides (Z, Y, X) of at least 1, got {shape}")
    whole = Box.of(shape)
    if box is None:
        return whole
    if len(box.start) != 3 or any(side < 1 for side in box.shape) or box.clip(whole) != box:
        raise InputError(
            f"the block {box.start} to {box.stop} must be a box of at least one voxel "
            f"inside the volume of shape {shape}"
        )
    return box


def _section(
    seed: int, z: int, window: Box
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint32]]:
    """Return image, truth and neurons of a window of one section."""
    grown = window.grow((HALO, HALO))
    corner, (height, width) = (grown.start[0], grown.start[1]), grown.shape
    key = derive(seed, "misalignment")
    offset = (_MISALIGNMENT * normal(key, z, 0, 0), _MISALIGNMENT * normal(key, z, 1, 0))
    tissue = derive(seed, "tissue")
    bend = fibre_plane(tissue, z, corner, (height + 1, width + 1), offset)
    cells = cells_of_section(tissue, z, bend)
    truth = _membrane(cells)
    inner = (slice(HALO, -HALO), slice(HALO, -HALO))
    neurons = np.where(truth, np.uint32(0), cells.neuron)
    return micrograph(seed, z, corner, cells, bend, offset), truth[inner], neurons[inner]


@compiled
def _membrane(cells: Cells) -> NDArray[np.uint8]:
    """Draw the membranes as an expert would, and wherever two neurons touch, even at a corner.

    The pen is round and has a width: interior that it would not spare is membrane too. The result
    is right but for a margin of ``HALO``.
    """
    height, width = cells.gap.shape
    line = np.zeros((height, width), np.uint8)
    for r in range(_NEAR, height - _NEAR):
        for c in range(_NEAR, width - _NEAR):
            pen = min(_LINE + _SMEAR * cells.slant[r, c], _BROADEST)
            # A neuron that only comes close between two sections leaves no membrane in this one.
            reach = _NEAR if cells.gap[r, c] < pen else 1
            line[r, c] = _has_neighbour(cells.neuron, r, c, reach)
    return _closed(line)


@compiled
def _has_neighbour(neuron: NDArray[np.uint32], r: int, c: int, reach: int) -> bool:
    """Tell whether another neuron lies within `reach` rows and columns of a pixel."""
    for a in range(r - reach, r + reach + 1):
        for b in range(c - reach, c + reach + 1):
            if neuron[a, b] != neuron[r, c]:
                return True
    return False


@compiled
def _closed(line: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill what a disk of radius 2 pixels cannot reach without touching the line."""
    height, width = line.shape
    free = np.zeros((height, width), np.bool_)
    for r in range(2, height - 2):
        for c in range(2, width - 2):
            free[r, c] = not _meets(line, r, c)
    closed = np.ones((height, width), np.uint8)
    for r in range(4, height - 4):
        for c in range(4, width - 4):
            closed[r, c] = not _meets(free, r, c)
    return closed


@compiled
def _meets(marks: NDArray[np.generic], r: int, c: int) -> bool:
    """Tell whether the disk of radius 2 around a pixel holds a mark."""
    for a in range(-2, 3):
        for b in range(-2, 3):
            if a * a + b * b < 6 and marks[r + a, c + b]:
                return True
    return False
