"""Which windows of a stack to annotate next: where a model is undecided.

::

    membrane map       how undecided       mean over windows       the best, apart
    (Z, Y, X)      →   (Z, Y, X)       →   (Z, rows, columns)  →   section, y, x, size
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from axolemma.errors import InputError

__all__ = ["Window", "choose_windows", "window_means"]

#: Windows are tried at steps of this share of their size.
STEP = 1 / 4

#: What is left of a window's worth for each one that was chosen before in its section, or at its
#: place in a neighbouring section, which shows nearly the same.
WORTH_LEFT = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """A square of a section.

    Parameters
    ----------
    section
        Its number.
    y, x
        The first row and column, in pixels.
    size
        Side in pixels.
    score
        Mean uncertainty in it, in [0, log 2].
    """

    section: int
    y: int
    x: int
    size: int
    score: float


def window_means(
    values: NDArray[np.floating], rows: Sequence[int], columns: Sequence[int], size: int
) -> NDArray[np.float64]:
    """Return the means over square windows of every section.

    Parameters
    ----------
    values
        (Z, Y, X).
    rows, columns
        Where windows begin.
    size
        Their side.

    Returns
    -------
    NDArray[np.float64]
        (Z, rows, columns).

    Examples
    --------
    >>> window_means(np.array([[[1.0, 3.0], [1.0, 3.0], [8.0, 8.0]]]), [0, 1], [0], 2).tolist()
    [[[2.0], [5.0]]]
    """
    sums = np.zeros((len(values), values.shape[1] + 1, values.shape[2] + 1))
    sums[:, 1:, 1:] = values
    sums = sums.cumsum(axis=1).cumsum(axis=2)
    top, left = np.asarray(rows)[:, None], np.asarray(columns)[None]
    bottom, right = top + size, left + size
    total = (
        sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]
    )
    return np.asarray(total / size**2)


def choose_windows(
    uncertainty: NDArray[np.floating], *, count: int = 10, size: int = 128
) -> tuple[Window, ...]:
    """Choose windows one after the other: each time the one that is worth most.

    A window is worth its mean uncertainty, half of that for each one chosen before in its section
    or at its place in a neighbouring section. Windows of a section do not overlap.

    Parameters
    ----------
    uncertainty
        (Z, Y, X), 0 or above.
    count
        How many, at most: fewer where no more fit.
    size
        Their side in pixels.

    Returns
    -------
    tuple of Window
        In the order of choice; of equal ones the first in the stack.

    Raises
    ------
    InputError
        If a number is below 1, or the sections are smaller than a window.
    """
    sides = uncertainty.shape[1:]
    if count < 1 or size < 1:
        raise InputError(
            f"{count} windows of {size} pixels cannot be chosen; count and size from 1"
        )
    if size > min(sides):
        raise InputError(
            f"sections of {sides[0]} × {sides[1]} pixels hold no window of {size}; give a smaller"
            " --size (size=)"
        )
    rows, columns = (_starts(side, size) for side in sides)
    score = window_means(uncertainty, rows, columns, size)
    worth = score.copy()
    chosen: list[Window] = []
    while len(chosen) < count and worth.max() > -np.inf:
        z, r, c = map(int, np.unravel_index(worth.argmax(), worth.shape))
        y, x = rows[r], columns[c]
        chosen.append(Window(z, y, x, size, float(score[z, r, c])))
        near = np.ix_(abs(np.array(rows) - y) < size, abs(np.array(columns) - x) < size)
        worth[z] *= WORTH_LEFT
        worth[z][near] = -np.inf  # taken
        for beside in {z - 1, z + 1} & set(range(len(worth))):
            worth[beside][near] *= WORTH_LEFT
    return tuple(chosen)


def _starts(side: int, size: int) -> list[int]:
    """Return where windows may begin along a side; the last one ends with it."""
    return sorted({*range(0, side - size, max(1, round(STEP * size))), side - size})
