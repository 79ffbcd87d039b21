"""Pyramids: the levels of a volume, each half as fine as the one before."""

import math
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from axolemma.geometry import Box

__all__ = ["Finer", "Kind", "coarsened", "halved", "levels"]

Kind = Literal["image", "labels"]

#: No further level where no side is larger.
SMALLEST_LEVEL = 512


class Finer(Protocol):
    """The level that another is made from."""

    @property
    def shape(self) -> tuple[int, int, int]: ...  # noqa: D102

    def read(self, box: Box) -> NDArray[Any]: ...  # noqa: D102


def coarsened(fine: Finer, box: Box, factors: tuple[int, int, int], kind: Kind) -> NDArray[Any]:
    """Return the voxels of a box of one level, made from the next finer one.

    Blocks give what the whole would give: a voxel here comes from whole voxels there.
    """
    start = tuple(a * n for a, n in zip(box.start, factors, strict=True))
    stop = tuple(b * n for b, n in zip(box.stop, factors, strict=True))
    needed = Box(start, stop).clip(Box.of(fine.shape))
    return halved(fine.read(needed), factors, kind)


def halved(voxels: NDArray[Any], factors: tuple[int, int, int], kind: Kind) -> NDArray[Any]:
    """Return the voxels of the next coarser level.

    Parameters
    ----------
    voxels
        ZYX; where a side is no multiple of its factor the last voxels are repeated.
    factors
        ZYX, how many voxels become one.
    kind
        Images are averaged; of labels the most frequent one stays, of equally frequent ones that
        which a scan meets first.

    Examples
    --------
    >>> halved(np.array([[[1, 2, 9, 9], [2, 2, 0, 9]]]), (1, 2, 2), "labels").tolist()
    [[[2, 9]]]
    """
    shape = tuple(-(-side // n) for side, n in zip(voxels.shape, factors, strict=True))
    coarse = np.empty(shape, voxels.dtype)
    # A section at a time: what is needed meanwhile does not grow with the block.
    for z, section in enumerate(coarse):
        section[...] = _halved_section(voxels[z * factors[0] :][: factors[0]], factors, kind)
    return coarse


def _halved_section(
    voxels: NDArray[Any], factors: tuple[int, int, int], kind: Kind
) -> NDArray[Any]:
    """Return the one section (Y, X) that some make."""
    padding = [(0, -side % n) for side, n in zip(voxels.shape, factors, strict=True)]
    full = np.pad(voxels, padding, mode="edge")
    # Each sample of what becomes one voxel, all voxels at once: nothing is copied into a new order.
    offsets = product(*(range(n) for n in factors))
    samples = [full[a, b :: factors[1], c :: factors[2]] for a, b, c in offsets]
    if kind == "image":
        total = np.zeros(samples[0].shape, np.float64 if full.dtype.itemsize > 2 else np.float32)
        for sample in samples:
            total += sample
        total /= len(samples)
        return np.asarray(np.rint(total) if voxels.dtype.kind in "ui" else total, voxels.dtype)
    best, most = samples[0].copy(), np.zeros(samples[0].shape, np.uint8)
    for sample in samples:
        votes = np.zeros(sample.shape, np.uint8)
        for other in samples:
            votes += sample == other
        better = votes > most
        best[better], most[better] = sample[better], votes[better]
    return best


def levels(
    shape: tuple[int, ...], voxel_size: tuple[float, float, float] | None
) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Return, for each level, how many voxels of the one before and of the first make one."""
    # Of sections whose thickness nobody knows none are averaged.
    total, size = [1, 1, 1], list(voxel_size or (math.inf, 1.0, 1.0))
    steps = [((1, 1, 1), (1, 1, 1))]
    while max(-(-side // n) for side, n in zip(shape[1:], total[1:], strict=True)) > SMALLEST_LEVEL:
        # Across sections only once voxels are as long as they are deep, or nearly.
        deep = 2 if size[0] < 1.5 * max(size[1:]) and shape[0] // total[0] > 1 else 1
        factors = (deep, 2, 2)
        total = [a * b for a, b in zip(total, factors, strict=True)]
        size = [a * b for a, b in zip(size, factors, strict=True)]
        steps.append((factors, (total[0], total[1], total[2])))
    return steps
