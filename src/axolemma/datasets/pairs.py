"""Annotated sections: the one value every dataset hands over, and its splits."""

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = ["Pairs", "data_hash", "folds"]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Sections and what an expert drew on each.

    Parameters
    ----------
    name
        What reports call the data.
    images
        ZYX, dtype as in the file.
    truth
        ZYX of the same shape, uint8, 1 = membrane, 0 = interior, 2 = not annotated
        (`axolemma.labels.IGNORED`).
    voxel_size
        ZYX in nm, None where unknown.
    terms
        On what terms the data may be used; empty where unknown. A model file repeats it.
    notes
        One sentence for every conversion that reading made.
    labels
        Where the expert numbered neurons or cells, those numbers: uint32 of the same shape, 0 = no
        cell. `truth` has membrane between labels that touch, these have not. None otherwise.

    Raises
    ------
    InputError
        If images, truth and labels are not ZYX of one shape.
    """

    name: str
    images: NDArray[Any]
    truth: NDArray[np.uint8]
    voxel_size: tuple[float, float, float] | None = None
    terms: str = ""
    notes: tuple[str, ...] = ()
    labels: NDArray[np.uint32] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 3 or self.images.shape != self.truth.shape:
            raise InputError(
                f"{self.name}: images and truth must be ZYX of one shape, got"
                f" {self.images.shape} and {self.truth.shape}"
            )
        if self.labels is not None and self.labels.shape != self.truth.shape:
            raise InputError(
                f"{self.name}: truth and labels must have one shape, got {self.truth.shape} and"
                f" {self.labels.shape}"
            )

    def __len__(self) -> int:
        """Return the number of sections."""
        return len(self.images)

    def slices(self, which: range) -> "Pairs":
        """Return the block of sections `which`; a view, nothing is copied.

        Raises
        ------
        InputError
            If `which` is empty, not contiguous, or leaves the stack.
        """
        if which.step != 1 or not 0 <= which.start < which.stop <= len(self):
            raise InputError(
                f"{self.name}: sections {which.start}-{which.stop - 1} are no contiguous part of"
                f" the {len(self)} that there are"
            )
        block = slice(which.start, which.stop)
        labels = None if self.labels is None else self.labels[block]
        return replace(self, images=self.images[block], truth=self.truth[block], labels=labels)


def folds(count: int, k: int) -> list[range]:
    """Return `k` contiguous blocks that cover `count` sections once, in order.

    Neighbouring sections look alike, so a fold drawn at random would test on near copies of what
    it was trained on. Sizes differ by at most one, the larger blocks first.

    Raises
    ------
    InputError
        If `k` is below 2 or above `count`.

    Examples
    --------
    >>> folds(7, 3)
    [range(0, 3), range(3, 5), range(5, 7)]
    """
    if not 2 <= k <= count:
        raise InputError(f"{count} sections cannot be cut into {k} folds; give 2 to {count}")
    starts = [i * (count // k) + min(i, count % k) for i in range(k + 1)]
    return [range(a, b) for a, b in pairwise(starts)]


def data_hash(images: NDArray[Any], truth: NDArray[np.uint8]) -> str:
    """Return a sha256 of annotated sections, to know them again."""
    digest = hashlib.sha256(np.ascontiguousarray(images).tobytes())
    digest.update(np.ascontiguousarray(truth).tobytes())
    return digest.hexdigest()
