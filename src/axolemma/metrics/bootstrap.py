"""How sure a mean over sections is: percentile bootstrap intervals."""

from dataclasses import dataclass
from functools import reduce
from math import comb, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from axolemma.errors import InputError

__all__ = ["Interval", "difference", "interval"]

#: All resamples are enumerated where there are at most so many: up to 6 sections.
_EXACT = 100_000

#: Below so many sections an interval carries a warning.
_FEW = 8


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over sections and how far resampling the sections moves it.

    Parameters
    ----------
    mean
        The mean, or the difference of two.
    low, high
        The ends of the interval.
    level
        Its nominal coverage, such as .95.
    sections
        How many sections were resampled; of two unpaired lists the shorter one's.
    resamples
        How many resamples were drawn, or how many there are where all were enumerated.
    note
        Empty, or one warning of what so few sections can say.
    """

    mean: float
    low: float
    high: float
    level: float
    sections: int
    resamples: int
    note: str


def interval(
    values: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Compute a percentile bootstrap interval of the mean over sections.

    The n sections are drawn n times with replacement, and the interval holds the middle `level` of
    the means. Up to 6 sections all n**n resamples (46,656 for 6) are enumerated instead, each
    weighing the same: the result is then exact, and `resamples` and `seed` do not matter.

    Parameters
    ----------
    values
        One finite score per section, in any order.
    level
        The nominal coverage, above 0 and below 1.
    resamples
        How many resamples to draw.
    seed
        Of the draw.

    Returns
    -------
    Interval
        With a note where there are fewer than 8 sections. For one section low and high are the
        mean. Whatever their number, sections of one stack resemble their neighbours, so the
        interval speaks about this stack, and as if they were independent.

    Raises
    ------
    InputError
        If there is no section, a value is not finite, or an option is out of its range.

    References
    ----------
    Efron 1979, Ann. Statist. 7:1; the percentile interval of Efron and Tibshirani 1993, chapter 13.
    """
    return _percentile([_scores(values)], level, resamples, seed)


def difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    paired: bool = True,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Compute a percentile bootstrap interval of mean(a) - mean(b).

    Parameters
    ----------
    a, b
        One finite score per section. Paired, they are two results on the same sections in the same
        order.
    paired
        Resample the per-section differences, so that sections that are hard for both do not widen
        the interval. Otherwise both lists are resampled each on its own, for different sections.
    level, resamples, seed
        As in `interval`. Unpaired, all resamples are enumerated where the two lists have at most
        100,000 together: n**n times m**m, as with 4 sections each.

    Returns
    -------
    Interval
        As in `interval`.

    Raises
    ------
    InputError
        As in `interval`, and if paired lists are not equally long.
    """
    first, second = _scores(a), _scores(b)
    if not paired:
        return _percentile([first, -second], level, resamples, seed)
    if len(first) != len(second):
        raise InputError(
            f"paired lists hold the same sections, not {len(first)} and {len(second)}; "
            "give paired=False for different sections"
        )
    return _percentile([first - second], level, resamples, seed)


def _scores(values: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise InputError(f"give one score per section, a list of 1 or more, not {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError("a score is not finite; leave out the sections that have none")
    return scores


def _percentile(
    lists: list[NDArray[np.float64]], level: float, resamples: int, seed: int
) -> Interval:
    """Bootstrap the sum of the lists' means, each list resampled on its own."""
    if not 0 < level < 1:
        raise InputError(f"a level lies between 0 and 1, such as 0.95, not {level:g}")
    if resamples < 1:
        raise InputError(f"at least one resample is needed, not {resamples}")
    if prod(len(scores) ** len(scores) for scores in lists) <= _EXACT:
        means = reduce(np.add.outer, map(_all_means, lists)).ravel()
    else:
        rng = np.random.default_rng(seed)
        shapes = [(resamples, len(scores)) for scores in lists]
        draws = [rng.integers(shape[1], size=shape) for shape in shapes]
        means = np.sum([s[d].mean(axis=1) for s, d in zip(lists, draws, strict=True)], axis=0)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(
        mean=float(sum(scores.mean() for scores in lists)),
        low=float(low),
        high=float(high),
        level=level,
        sections=min(map(len, lists)),
        resamples=len(means),
        note=_note(min(map(len, lists))),
    )


def _all_means(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return reduce(np.add.outer, [scores] * len(scores)).ravel() / len(scores)


def _note(sections: int) -> str:
    if sections >= _FEW:
        return ""
    if sections == 1:
        return (
            "A single section has no spread: the interval leaves out how much its score would "
            "vary from section to section."
        )
    return (
        f"With {sections} sections there are only {comb(2 * sections - 1, sections):,} distinct "
        "resamples and the interval tends to be too narrow; sections of one stack are neighbours "
        "and not independent, so it speaks about this stack only."
    )
