"""Ranks, paired tests, what they can tell apart, and its chart."""

import re
from itertools import combinations, product
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from axolemma.charts import critical_difference_svg
from axolemma.errors import InputError
from axolemma.metrics.bootstrap import difference
from axolemma.metrics.ranking import (
    average_ranks,
    cliques,
    critical_difference,
    friedman,
    holm,
    paired_tests,
    signed_rank,
    verdict,
)

# The ranks of Demšar 2006, table 6: C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets.
DEMSAR = np.array(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
)

#: Few values, so that methods tie.
tables = arrays.arrays(
    np.float64,
    st.tuples(st.integers(2, 8), st.integers(3, 5)),
    elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)
p_lists = st.lists(st.floats(0, 1), max_size=8)
few = settings(max_examples=40)


def test_holm_by_hand():
    # In order .01 · 3 = .03, then .03 · 2 = .06, then .04 · 1 = .04, raised to .06.
    assert holm([0.04, 0.01, 0.03]).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1, 1]
    assert holm([]).tolist() == []


@few
@given(p_lists, st.floats(0.001, 0.2))
def test_holm_rejects_what_its_steps_reject(p_values, alpha):
    rejected = set()
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for step, i in enumerate(order):  # the definition: stop at the first that is not small enough
        if p_values[i] * (len(p_values) - step) > alpha:
            break
        rejected.add(i)
    adjusted = holm(p_values)
    assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(given <= p <= 1 for given, p in zip(p_values, adjusted, strict=True))


def test_ranks_of_demsars_example():
    assert average_ranks(-DEMSAR) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    # In the paper 12 · 14 / 20 · (3.143² + 2² + 2.893² + 1.964² - 25) = 9.28, without the
    # correction for ties: 4 rows with a pair lose 2³ - 2 = 6 each and one with four 4³ - 4 = 60 of
    # 14 · (4³ - 4) = 840.
    ranks = average_ranks(-DEMSAR)
    plain = 12 * 14 / 20 * ((ranks**2).sum() - 25)
    assert plain == pytest.approx(9.28, abs=5e-3)
    statistic, p = friedman(-DEMSAR)
    ties = 3 * 6 + 60
    assert statistic == pytest.approx(plain / (1 - ties / 840))
    assert p == pytest.approx(stats.chi2.sf(statistic, 3))


def test_critical_differences_of_demsar():
    # 2.569 · √(4 · 5 / (6 · 14)) and the same with 2.291 at .10.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=5e-3)
    # His table 5a of q for 2 to 10 methods.
    q = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    found = [critical_difference(k, 6) / np.sqrt(k * (k + 1) / 36) for k in range(2, 11)]
    assert found == pytest.approx(q, abs=1.5e-3)


@few
@given(tables)
def test_ranks_by_counting(table):
    # A rank is one more than those above, and half of those that tie.
    better = (table[:, None, :] > table[:, :, None]).sum(axis=2)
    equal = (table[:, None, :] == table[:, :, None]).sum(axis=2)
    found = average_ranks(table)
    assert found == pytest.approx((better + (equal + 1) / 2).mean(axis=0))
    assert found.mean() == pytest.approx((table.shape[1] + 1) / 2)
    assert average_ranks(-table) == pytest.approx(table.shape[1] + 1 - found)


@few
@given(tables)
def test_friedman_is_scipys(table):
    statistic, p = friedman(table)
    if (table == table[:, :1]).all():
        assert (statistic, p) == (0, 1)
    else:
        assert (statistic, p) == pytest.approx(tuple(stats.friedmanchisquare(*table.T)))
        shuffled = table[:, ::-1][::-1]
        assert friedman(shuffled) == pytest.approx((statistic, p))


def brute_signed_rank(values):
    values = [v for v in values if v != 0]
    if not values:
        return 1.0
    ranks = stats.rankdata(np.abs(values))
    signs = np.sign(values)
    extreme = abs((signs * ranks).sum())
    sums = [abs(np.dot(flips, ranks)) for flips in product((-1, 1), repeat=len(values))]
    return np.mean(np.array(sums) >= extreme - 1e-9)


@few
@given(st.lists(st.sampled_from([-3, -2, -1, -0.5, 0, 0.5, 1, 2, 4]), max_size=9))
def test_signed_rank_tries_all_signs(values):
    assert signed_rank(values) == pytest.approx(brute_signed_rank(values))
    assert signed_rank([-v for v in values]) == pytest.approx(signed_rank(values))


@pytest.mark.parametrize("n", [5, 13, 30, 50])
def test_signed_rank_is_scipys(n):
    values = np.random.default_rng(n).normal(0.2, 1, n)
    theirs = stats.wilcoxon(values, method="exact").pvalue
    assert signed_rank(values) == pytest.approx(theirs)


def test_signed_rank_of_few_and_of_none():
    # Five equal signs of 2⁵: two of 32.
    assert signed_rank([0.1, 0.2, 0.3, 0.4, 0.5]) == 2 / 32
    # Zeros are left out, so nothing more is shown.
    assert signed_rank([0.1, 0, 0.2, 0, 0.3, 0.4, 0.5]) == 2 / 32
    assert signed_rank([0, 0, 0]) == signed_rank([]) == signed_rank([1.0]) == 1
    # Rounding errors neither make a difference nor break a tie.
    assert signed_rank([0.1 + 0.2 - 0.3] * 9) == 1
    assert signed_rank([0.3 - 0.2, 0.2 - 0.1, -0.1]) == signed_rank([1, 1, -1])


def test_pairs():
    table = np.random.default_rng(0).random((9, 3)) + np.array((0, 0.1, 1))
    found = paired_tests(table)
    assert [(pair.one, pair.other) for pair in found] == [(0, 1), (0, 2), (1, 2)]
    p = [stats.wilcoxon(table[:, a], table[:, b]).pvalue for a, b in combinations(range(3), 2)]
    assert [pair.p for pair in found] == pytest.approx(p)
    assert [pair.p_holm for pair in found] == pytest.approx(holm(p))
    assert found[1].difference.mean == pytest.approx((table[:, 0] - table[:, 2]).mean())
    theirs = difference(table[:, 1], table[:, 2])
    assert (found[2].difference.low, found[2].difference.high) == pytest.approx(
        (theirs.low, theirs.high)
    )
    assert paired_tests(table[:, :1]) == []


def test_cliques_by_hand():
    # Sorted 1.0 (d), 1.9 (b), 2.8 (a), 4.3 (c): with 1 only neighbours; 4.3 - 2.8 is too far.
    assert cliques([2.8, 1.9, 4.3, 1.0], 1.0) == [(3, 1), (1, 0)]
    assert cliques([2.8, 1.9, 4.3, 1.0], 2.0) == [(3, 1, 0), (0, 2)]
    assert cliques([2.8, 1.9, 4.3, 1.0], 9.0) == [(3, 1, 0, 2)]
    assert cliques([1.0, 2.0, 3.0], 1.0) == []  # as far as that is told apart
    # Demšar's example: 3.143 - 1.964 = 1.18 < 1.25, nothing is told apart. At .10 C4.5 is told from
    # the two best: 3.143 - 2.000 = 1.14 > 1.12.
    ranks = [3.143, 2.000, 2.893, 1.964]
    assert cliques(ranks, 1.25) == [(3, 1, 2, 0)]
    assert cliques(ranks, 1.12) == [(3, 1, 2), (2, 0)]


@few
@given(st.lists(st.floats(1, 6), min_size=1, max_size=7), st.floats(0.1, 3))
def test_cliques_join_what_is_near(ranks, cd):
    groups = cliques(ranks, cd)
    near = {frozenset(p) for p in combinations(range(len(ranks)), 2) if _near(ranks, p, cd)}
    assert {frozenset(p) for group in groups for p in combinations(group, 2)} == near
    assert not any(set(a) < set(b) for a in groups for b in groups)


def _near(ranks, pair, cd):
    low, high = sorted(ranks[i] for i in pair)
    return high < low + cd


def test_five_sections_can_show_nothing():
    table = np.arange(5)[:, None] / 10 + [0.0, 0.05]
    said = verdict(["a", "b"], table)
    assert (
        "With 5 sections the smallest p that Wilcoxon's test can give is .0625: no difference can "
        "be significant at .05, however large." in said
    )
    assert "The two methods cannot be told apart by Wilcoxon's test at .05." in said
    assert "trained with one seed, and another one could change the order" in said[0]


def test_what_six_sections_show_depends_on_the_pairs():
    table = np.arange(6)[:, None] / 10 + [0.0, 0.05, 0.1]
    # 2 / 2⁶ = .03125 suffices for one pair, three times that does not for three.
    assert "b scores 0.0500 higher than a" in " ".join(verdict("ab", table[:, :2]))
    said = " ".join(verdict("abc", table, seeds=3))
    assert ".0938 after Holm's correction for 3 pairs: no difference can be signif" in said
    assert "3 of 3 pairs cannot be told apart" in said
    assert "averaged over 3 seeds first, since seeds of one section are not independent" in said


def test_a_clear_verdict():
    table = np.random.default_rng(0).normal(0, 0.01, (30, 3)) + np.array((0.9, 0.5, 0))
    table[:, 2] = table[:, 0] + np.where(np.arange(30) % 2, 0.001, -0.001)
    said = verdict(["one", "two", "three"], table)
    together = " ".join(said)
    assert "Friedman's test of all 3 methods finds that they differ" in together
    assert "p < .0001" in together
    # By rank one and three are 1.5 each: the difference is 0.
    assert "it cannot separate one, three." in together
    assert re.search(r"one scores 0\.\d{4} higher than two \(95% bootstrap interval 0\.", together)
    assert "1 of 3 pairs cannot be told apart" in together
    assert "about this stack only" in said[-1]


def test_ranks_that_no_result_can_separate():
    # Ten methods, two sections: 3.164 · √(10 · 11 / 12) = 9.58 > 9, yet Friedman's statistic is
    # 12 · 2 / 110 · (1² + … + 10² - 10 · 5.5²) = 18 and its p .035.
    said = " ".join(verdict("abcdefghij", np.tile(np.arange(10), (2, 1))))
    assert "(χ² = 18.00, p = .0352; rough for so few)" in said
    assert "must differ by 9.58 to be told apart, more than the 9 that 10 methods allow" in said
    equal = " ".join(verdict("abc", np.full((8, 3), 0.5)))
    assert "finds no difference among them (χ² = 0.00, p = 1" in equal
    assert verdict(["a"], [[0.5]]) == ["There is one method and nothing to compare it with."]


@few
@given(tables)
def test_a_verdict_on_anything(table):
    said = verdict([f"m{i}" for i in range(table.shape[1])], table)
    assert all(sentence.endswith(".") for sentence in said)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: holm([0.5, 1.5]), r"numbers in \[0, 1\]"),
        (lambda: holm([[0.5]]), "list of numbers"),
        (lambda: average_ranks([0.5, 0.6]), "1 blocks × 1 methods or more"),
        (lambda: average_ranks([[0.5, np.nan]]), "not finite"),
        (lambda: friedman([[1, 2], [3, 4]]), r"2 blocks × 3 methods or more, not shape \(2, 2\)"),
        (lambda: friedman([[1, 2, 3]]), "2 blocks"),
        (lambda: critical_difference(1, 5), "ranks need 2 methods"),
        (lambda: critical_difference(3, 0), "and a block, not 3 and 0"),
        (lambda: critical_difference(3, 5, alpha=5), "such as 0.05, not 5"),
        (lambda: signed_rank([np.inf]), "finite numbers"),
        (lambda: paired_tests([[np.nan, 1]]), "not finite"),
        (lambda: verdict(["a"], [[1, 2]]), "2 methods and 1 names"),
    ],
)
def test_what_cannot_be_ranked(call, match):
    with pytest.raises(InputError, match=match):
        call()


def drawn(svg):
    return ElementTree.fromstring(svg).iter()


def test_the_chart():
    names = ["a <b> & c", "two", "three"]
    svg = critical_difference_svg(names, [1.5, 1.5, 3.0], 1.2, cliques=[(0, 1)])
    words = [part.text for part in drawn(svg) if part.tag.endswith("text")]
    assert words[:4] == ["1", "2", "3", "critical difference 1.20"]
    assert words[4:] == ["a <b> & c  1.50", "two  1.50", "three  3.00"]
    lines = [part.attrib for part in drawn(svg) if part.tag.endswith("line")]
    bars = [line for line in lines if line["stroke-width"] == "4"]
    axis = [float(lines[0][end]) for end in ("x1", "x2")]
    assert len(bars) == 1
    # Rank 1.5 of 1 … 3 stands at a quarter of the axis; the bar reaches 4 pixels beyond.
    quarter = axis[0] + (axis[1] - axis[0]) / 4
    assert float(bars[0]["x1"]) == pytest.approx(quarter - 4, abs=0.1)
    assert float(bars[0]["x2"]) == pytest.approx(quarter + 4, abs=0.1)
    # The scale is as long as the difference: 1.2 of 2.
    scale = next(line for line in lines if line["y1"] == line["y2"] == "24.0")
    length = float(scale["x2"]) - float(scale["x1"])
    assert length == pytest.approx(0.6 * (axis[1] - axis[0]), abs=0.2)


@few
@given(st.lists(st.floats(1, 4), min_size=4, max_size=4), st.floats(0.1, 9))
def test_everything_in_a_chart_is_inside(ranks, cd):
    svg = critical_difference_svg("abcd", ranks, cd, cliques=cliques(ranks, cd))
    root = ElementTree.fromstring(svg)
    width, height = float(root.get("width")), float(root.get("height"))
    for part in root.iter():
        for key, value in part.attrib.items():
            if key in ("x", "x1", "x2"):
                assert 0 <= float(value) <= width
            if key in ("y", "y1", "y2"):
                assert 0 <= float(value) <= height
    assert ("longer than the axis" in svg) == (cd > 3)


@pytest.mark.parametrize(
    ("names", "ranks"), [("a", [1.0]), ("ab", [1.0]), ("ab", [0.5, 2.0]), ("ab", [1.0, np.nan])]
)
def test_no_chart_of_that(names, ranks):
    with pytest.raises(InputError, match="two methods or more, and their ranks from 1 on"):
        critical_difference_svg(names, ranks, 1.0, cliques=())
