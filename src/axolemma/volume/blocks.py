"""Blocks: a volume cut into boxes that are written once and read with a margin.

A block has two boxes. The write boxes tile the volume; the read box is the write box grown by the
halo on every side and clipped to the volume, so that what a filter or a network makes of a write
box is the same as if it had seen the whole::

    +- volume --------------------------------------------+
    |                                                     |
    |     +- read ---------------------------+            |
    |     |     ^ halo                       |            |
    |     |     v                            |            |
    |     |    +- write ----------------+    |            |
    |     |    |                        |    |            |
    |     |<-->|    only this block     |<-->|            |
    |     |halo|    writes here         |halo|            |
    |     |    |                        |    |            |
    |     |    +------------------------+    |            |
    |     |                                  |            |
    |     +----------------------------------+            |
    |                                                     |
    +-----------------------------------------------------+

Write boxes begin at multiples of the block's shape. Where this is a multiple of the chunks or
shards of the file that is written, no two blocks ever write into the same of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from axolemma.errors import InputError
from axolemma.geometry import Box

__all__ = ["Block", "Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of work.

    Parameters
    ----------
    index
        Its number in the plan, in C order; the ledger knows it by this.
    write
        The box that it alone writes.
    read
        The box that it reads: `write` and the halo, as far as the volume goes.
    """

    index: int
    write: Box
    read: Box

    def __str__(self) -> str:
        sides = zip(self.write.start, self.write.stop, strict=True)
        return f"block {self.index} [{', '.join(f'{a}:{b}' for a, b in sides)}]"


@dataclass(frozen=True, slots=True)
class Plan(Sequence[Block]):
    """The blocks of a volume, each made when it is asked for; see `plan`."""

    shape: tuple[int, ...]
    block: tuple[int, ...]
    halo: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis."""
        return tuple(-(-size // side) for size, side in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Block, ...]: ...
    def __getitem__(self, index: int | slice) -> Block | tuple[Block, ...]:
        if isinstance(index, slice):
            return tuple(map(self._at, range(*index.indices(len(self)))))
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"block {index} of {length}")
        return self._at(index % length)

    def __iter__(self) -> Iterator[Block]:
        return map(self._at, range(len(self)))

    def _at(self, index: int) -> Block:
        rest, start = index, []
        for count, side in zip(reversed(self.counts), reversed(self.block), strict=True):
            rest, place = divmod(rest, count)
            start.append(place * side)
        start.reverse()
        whole = Box.of(self.shape)
        stop = tuple(a + side for a, side in zip(start, self.block, strict=True))
        write = Box(tuple(start), stop).clip(whole)
        return Block(index, write, write.grow(self.halo).clip(whole))


def plan(shape: tuple[int, ...], block: tuple[int, ...], halo: tuple[int, ...]) -> Plan:
    """Cut a volume into blocks.

    Parameters
    ----------
    shape
        Of the volume.
    block
        Shape of a write box, every side at least 1; the last ones of an axis may be smaller.
    halo
        Voxels that are read beyond the write box on both sides of each axis.

    Returns
    -------
    Plan
        A sequence of `Block` in C order. It holds no list, millions of blocks cost nothing.

    Raises
    ------
    InputError
        If the three differ in length, a side is below 1 or a halo below 0.

    Examples
    --------
    >>> blocks = plan((10, 100), (4, 50), (1, 8))
    >>> len(blocks)
    6
    >>> print(blocks[1], blocks[1].read)
    block 1 [0:4, 50:100] Box(start=(0, 42), stop=(5, 100))
    """
    if not len(shape) == len(block) == len(halo):
        raise InputError(
            f"shape {shape}, block {block} and halo {halo} need one number per axis each"
        )
    if any(side < 1 for side in block) or any(margin < 0 for margin in halo):
        raise InputError(
            f"a block needs sides of at least 1 voxel and a halo of at least 0, got {block}, {halo}"
        )
    return Plan(tuple(shape), tuple(block), tuple(halo))
