"""Which methods can be told apart: ranks and paired tests, after Demšar 2006.

Scores stand in tables of (blocks, methods), more is better. Blocks are sections. Where methods
were trained with several seeds, the scores of a section are averaged over them first: seeds of one
section share its pixels and are no independent blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from axolemma.errors import InputError
from axolemma.metrics.bootstrap import Interval, difference

__all__ = [
    "Pair",
    "average_ranks",
    "cliques",
    "critical_difference",
    "friedman",
    "holm",
    "paired_tests",
    "signed_rank",
    "verdict",
]

#: Differences are rounded to so many decimals, or rounding errors would break ties.
_DECIMALS = 12

#: Friedman's statistic follows its distribution well above so many blocks and methods.
_MANY_BLOCKS, _MANY_METHODS = 10, 5


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods on the same blocks.

    Parameters
    ----------
    one, other
        Their columns in the table.
    difference
        How much higher `one` scores, with a bootstrap interval over the blocks.
    p
        Of Wilcoxon's signed-rank test, two-sided and exact, see `signed_rank`.
    p_holm
        The same after Holm's correction for all pairs.
    """

    one: int
    other: int
    difference: Interval
    p: float
    p_holm: float


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p values so that the chance of any false discovery among them stays below alpha.

    Parameters
    ----------
    p_values
        Any number of p values in [0, 1], in any order.

    Returns
    -------
    NDArray[np.float64]
        The adjusted ones in the same order, in [0, 1]: the smallest of m times m, the next times
        m - 1 and so on, and none below the one before it.

    Raises
    ------
    InputError
        If a value lies outside [0, 1].

    References
    ----------
    Holm 1979, Scand. J. Statist. 6:65.

    Examples
    --------
    >>> holm([0.04, 0.01, 0.03]).tolist()
    [0.06, 0.03, 0.06]
    """
    given = np.asarray(p_values, np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise InputError("p values are a list of numbers in [0, 1]")
    order = np.argsort(given, kind="stable")
    factors = np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1)
    return adjusted


def average_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Rank the methods in every block, 1 = best, and average over the blocks.

    Parameters
    ----------
    scores
        (blocks, methods), more is better. Methods that tie share the mean of their ranks.

    Returns
    -------
    NDArray[np.float64]
        One rank for each method, in [1, methods].

    Raises
    ------
    InputError
        If it is no such table or a score is not finite.
    """
    return np.asarray(stats.rankdata(-_table(scores), axis=1).mean(axis=0), np.float64)


def friedman(scores: ArrayLike) -> tuple[float, float]:
    """Test whether any of three or more methods differs, by their ranks in every block.

    Parameters
    ----------
    scores
        (blocks, methods), at least 2 × 3.

    Returns
    -------
    float, float
        Friedman's statistic, corrected for ties, and its p by the χ² distribution with methods - 1
        degrees of freedom, which is rough for ten blocks and five methods or fewer. Where all
        methods tie in every block 0 and 1.

    Raises
    ------
    InputError
        If it is no such table or a score is not finite.

    References
    ----------
    Friedman 1937, J. Am. Stat. Assoc. 32:675.
    """
    table = _table(scores, blocks=2, methods=3)
    if (table == table[:, :1]).all():
        return 0.0, 1.0
    found = stats.friedmanchisquare(*table.T)
    return float(found.statistic), float(found.pvalue)


def critical_difference(methods: int, blocks: int, *, alpha: float = 0.05) -> float:
    r"""Compute by how much two average ranks must differ at least, by Nemenyi's test.

    .. math:: q_\alpha \sqrt{\frac{k (k + 1)}{6 N}}

    where :math:`q_\alpha` is the studentized range for k methods and infinitely many degrees of
    freedom, divided by √2.

    Parameters
    ----------
    methods, blocks
        k, from 2, and N, from 1.
    alpha
        Chance of a false discovery among all pairs.

    Raises
    ------
    InputError
        If a number is out of its range.

    References
    ----------
    Nemenyi 1963, Princeton; Demšar 2006, J. Mach. Learn. Res. 7:1.

    Examples
    --------
    >>> round(critical_difference(4, 14), 2)  # Demšar's example
    1.25
    """
    if methods < 2 or blocks < 1:
        raise InputError(f"ranks need 2 methods and a block, not {methods} and {blocks}")
    if not 0 < alpha < 1:
        raise InputError(f"alpha lies between 0 and 1, such as 0.05, not {alpha:g}")
    q = float(stats.studentized_range.ppf(1 - alpha, methods, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def signed_rank(differences: ArrayLike) -> float:
    """Compute the two-sided p of Wilcoxon's signed-rank test, exactly, with ties and for any n.

    Parameters
    ----------
    differences
        One finite number for each block. Zeros, to 12 decimals, are left out; where all are zero
        there is no evidence and p is 1.

    Returns
    -------
    float
        The chance that signs thrown by a coin give rank sums at least as unlike, in (0, 1]. With n
        differences that are not zero it cannot be below 2 / 2ⁿ.

    Raises
    ------
    InputError
        If it is no list or a difference is not finite.

    References
    ----------
    Wilcoxon 1945, Biometrics Bulletin 1:80.

    Examples
    --------
    >>> signed_rank([0.1, 0.2, 0.3, 0.4, 0.5])
    0.0625
    """
    given = np.round(np.asarray(differences, np.float64), _DECIMALS)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise InputError("differences are a list of finite numbers, one for each block")
    given = given[given != 0]
    if given.size == 0:
        return 1.0
    # Twice the ranks are whole, also where ties share one.
    ranks = np.rint(2 * stats.rankdata(np.abs(given))).astype(np.int64)
    chances = np.zeros(ranks.sum() + 1)  # of every sum of the positive ranks
    chances[0] = 1
    for rank in ranks:
        chances[rank:] = (chances[rank:] + chances[:-rank]) / 2
        chances[:rank] /= 2
    positive = int(ranks[given > 0].sum())
    fewest = min(positive, len(chances) - 1 - positive)
    return min(1.0, 2 * float(chances[: fewest + 1].sum()))


def paired_tests(scores: ArrayLike) -> list[Pair]:
    """Compare every two methods on the same blocks.

    Parameters
    ----------
    scores
        (blocks, methods), more is better.

    Returns
    -------
    list of Pair
        By the columns: 0 with 1, 0 with 2 and so on.

    Raises
    ------
    InputError
        If it is no such table or a score is not finite.
    """
    table = _table(scores)
    pairs = list(combinations(range(table.shape[1]), 2))
    found = [signed_rank(table[:, one] - table[:, other]) for one, other in pairs]
    return [
        Pair(one, other, difference(table[:, one], table[:, other]), p, float(adjusted))
        for (one, other), p, adjusted in zip(pairs, found, holm(found), strict=True)
    ]


def cliques(ranks: ArrayLike, cd: float) -> list[tuple[int, ...]]:
    """Group methods that cannot be told apart: whose average ranks differ by less than `cd`.

    Parameters
    ----------
    ranks
        From `average_ranks`.
    cd
        From `critical_difference`.

    Returns
    -------
    list of tuple of int
        The methods' columns, best first, of every group of two or more that no other group holds.
        Groups may overlap: that a is like b and b like c does not make a like c.
    """
    given = np.asarray(ranks, np.float64)
    order = np.argsort(given, kind="stable")
    ordered = given[order]
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start, rank in enumerate(ordered):
        stop = int(np.searchsorted(ordered, rank + cd))
        if stop > max(reached, start + 1):
            groups.append(tuple(order[start:stop].tolist()))
            reached = stop
    return groups


def verdict(
    names: Sequence[str], scores: ArrayLike, *, seeds: int = 1, alpha: float = 0.05
) -> list[str]:
    """Say in plain sentences what a table of scores can and cannot tell apart.

    Parameters
    ----------
    names
        Of the methods.
    scores
        (sections, methods), more is better, averaged over the seeds.
    seeds
        How many seeds they were averaged over.
    alpha
        Level of every test.

    Returns
    -------
    list of str
        One sentence each, from the design to the pairs.

    Raises
    ------
    InputError
        If it is no such table, a score is not finite or the names are not one for each method.
    """
    table = _table(scores)
    blocks, methods = table.shape
    if len(names) != methods:
        raise InputError(f"there are {methods} methods and {len(names)} names; give each its own")
    if methods < 2:
        return ["There is one method and nothing to compare it with."]
    pairs = paired_tests(table)
    said = [_design(blocks, seeds), *_least(blocks, len(pairs), alpha)]
    if blocks > 1 and methods > 2:
        said += _by_rank(names, table, alpha)
    return [*said, *_by_pair(names, pairs, alpha)]


def _design(blocks: int, seeds: int) -> str:
    averaged = (
        f"scores were averaged over {seeds} seeds first, since seeds of one section are not "
        "independent"
        if seeds > 1
        else "every method was trained with one seed, and another one could change the order"
    )
    return f"The blocks of all tests are the {_counted(blocks, 'section')}; {averaged}."


def _least(blocks: int, pairs: int, alpha: float) -> list[str]:
    """Say what so few sections can show at best."""
    least = 2.0 ** (1 - blocks)
    if pairs * least <= alpha:
        return []
    corrected = ""
    if least <= alpha:
        corrected = f", {_number(min(1, pairs * least))} after Holm's correction for {pairs} pairs"
    return [
        f"With {_counted(blocks, 'section')} the smallest p that Wilcoxon's test can give is "
        f"{_number(least)}{corrected}: no difference can be significant at {_number(alpha)}, "
        "however large."
    ]


def _by_rank(names: Sequence[str], table: NDArray[np.float64], alpha: float) -> list[str]:
    blocks, methods = table.shape
    statistic, p = friedman(table)
    finds = "finds that they differ" if p <= alpha else "finds no difference among them"
    rough = "" if blocks > _MANY_BLOCKS and methods > _MANY_METHODS else "; rough for so few"
    said = [
        f"Friedman's test of all {methods} methods {finds} (χ² = {statistic:.2f}, {_p(p)}{rough})."
    ]
    if p > alpha:
        return said
    cd = critical_difference(methods, blocks, alpha=alpha)
    needed = f"By Nemenyi's test average ranks must differ by {cd:.2f} to be told apart"
    if cd > methods - 1:
        return [*said, f"{needed}, more than the {methods - 1} that {methods} methods allow."]
    groups = cliques(average_ranks(table), cd)
    alike = "; ".join(", ".join(names[method] for method in group) for group in groups)
    return [*said, f"{needed}; it cannot separate {alike}." if alike else f"{needed}, and all do."]


def _by_pair(names: Sequence[str], pairs: list[Pair], alpha: float) -> list[str]:
    said, open_ = [], 0
    corrected = f" after Holm's correction for {len(pairs)} pairs" if len(pairs) > 1 else ""
    for pair in pairs:
        found = pair.difference
        better, worse, sign = pair.one, pair.other, 1
        if found.mean < 0:
            better, worse, sign = pair.other, pair.one, -1
        low, high = sorted((sign * found.low, sign * found.high))
        if pair.p_holm <= alpha:
            said.append(
                f"{names[better]} scores {abs(found.mean):.4f} higher than {names[worse]} "
                f"({found.level:.0%} bootstrap interval {low:.4f} … {high:.4f}, Wilcoxon "
                f"{_p(pair.p_holm)}{corrected})."
            )
        else:
            open_ += 1
    if open_:
        which = "The two methods" if len(pairs) == 1 else f"{open_} of {len(pairs)} pairs"
        said.append(f"{which} cannot be told apart by Wilcoxon's test at {_number(alpha)}.")
    note = (
        "Sections of one stack are neighbours and those of one fold share their trained networks, "
        "so tests that take them as independent are on the confident side and speak about this "
        "stack only."
    )
    return [*said, note]


def _table(scores: ArrayLike, *, blocks: int = 1, methods: int = 1) -> NDArray[np.float64]:
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or table.shape[0] < blocks or table.shape[1] < methods:
        raise InputError(
            f"give a table of {blocks} blocks × {methods} methods or more, not shape {table.shape}"
        )
    if not np.isfinite(table).all():
        raise InputError("a score is not finite; leave out the sections that have none")
    return np.round(table, _DECIMALS)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _number(p: float) -> str:
    """Write a probability: .0625, 1."""
    return f"{p:.4f}".rstrip("0").rstrip(".").lstrip("0")


def _p(p: float) -> str:
    return "p < .0001" if p < 1e-4 else f"p = {_number(p)}"
