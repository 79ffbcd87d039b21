"""Where a volume shows tissue."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError
from axolemma.geometry import Box
from axolemma.images import Volume

__all__ = ["Mask"]


@dataclass(frozen=True, slots=True)
class Mask:
    """Where a volume shows tissue.

    Parameters
    ----------
    volume
        Not 0 = tissue; of the volume's shape, or coarser by whole factors.
    factors
        ZYX, how many voxels of the volume one of the mask stands for.
    """

    volume: Volume
    factors: tuple[int, int, int]

    @classmethod
    def of(cls, volume: Volume, source: Volume) -> "Mask":
        """Fit a mask to a volume, or raise `InputError`."""
        z, y, x = (
            max(1, round(whole / side)) if side else 0
            for whole, side in zip(source.shape, volume.shape, strict=True)
        )
        if volume.shape != tuple(-(-a // n) for a, n in zip(source.shape, (z, y, x), strict=True)):
            raise InputError(
                f"{volume.source}: the mask has the shape {volume.shape} and {source.source}"
                f" {source.shape}; give one of that shape, or coarser by whole factors"
            )
        return cls(volume, (z, y, x))

    def read(self, box: Box) -> NDArray[np.bool_]:
        """Tell which voxels of a box are tissue."""
        start = tuple(a // n for a, n in zip(box.start, self.factors, strict=True))
        stop = tuple(-(-b // n) for b, n in zip(box.stop, self.factors, strict=True))
        tissue = self.volume.read(Box(start, stop)) != 0
        for axis, many in enumerate(self.factors):
            tissue = tissue.repeat(many, axis)
        inner = box.moved(tuple(-a * n for a, n in zip(start, self.factors, strict=True)))
        return np.asarray(tissue[inner.slices])
