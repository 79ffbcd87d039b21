"""Where V_rand is lost: gaps and false membranes made by hand, found, mended and promised."""

from dataclasses import replace

import numpy as np
import pytest

from axolemma.datasets import phantom_pairs
from axolemma.errors import InputError
from axolemma.metrics import (
    ErrorKind,
    Sections,
    contingency,
    error_map,
    find_mistakes,
    label_cells,
    mend,
    thin,
    v_rand,
)


def grid(side=40, cells=2, thick=3):
    """Square cells of `side` pixels with membrane of `thick` pixels between and around them."""
    step = side + thick
    membrane = np.zeros((cells * step + thick,) * 2, bool)
    for k in range(cells + 1):
        membrane[k * step : k * step + thick] = True
        membrane[:, k * step : k * step + thick] = True
    return membrane


def section(membrane, truth, where=None):
    (cut,) = Sections(membrane, truth, where=where).each()
    return cut.at(0.5)


def score(membrane, truth):
    table = contingency(thin(label_cells(~membrane)), label_cells(~truth))
    return v_rand(table).score


def test_a_perfect_proposal_has_none():
    truth = grid()
    assert find_mistakes(section(truth, truth)) == []


def test_a_gap_is_found_and_closed():
    truth = grid()
    membrane = truth.copy()
    membrane[20:26, 43:46] = False
    (found,) = find_mistakes(section(membrane, truth))
    assert found.kind == "merge"
    assert found.cells == (1, 2) or found.cells == (2, 1)
    y, x = found.position
    assert 20 <= y < 26
    assert 42 <= x <= 46
    assert score(mend(membrane, found), truth) == 1
    # Two of four cells of n pixels joined, and 18 pixels of true membrane that no cell owns:
    # pairs of the truth 4 n², of the proposal 2 n² + (2 n)².
    n = 40 * 40
    assert found.gain == pytest.approx(1 - 2 * 4 * n**2 / (4 * n**2 + 6 * n**2), abs=1e-3)


def test_a_false_membrane_is_found_and_erased():
    truth = grid()
    membrane = truth.copy()
    membrane[3:43, 20:24] = True
    (found,) = find_mistakes(section(membrane, truth))
    assert found.kind == "split"
    assert found.cells == (1,)
    assert 19 <= found.position[1] <= 24
    assert score(mend(membrane, found), truth) > 0.9999


def test_a_wall_at_a_thick_true_membrane_is_opened_without_a_leak():
    truth = grid()
    membrane = truth.copy()
    membrane[3:43, 20:24] = True
    # The true membrane is drawn 2 pixels aside, so that erasing all of the wall opens it.
    membrane[43:46] = False
    membrane[41:44] = True
    membrane[:3] = truth[:3]
    found = find_mistakes(section(membrane, truth))
    splits = [wrong for wrong in found if wrong.kind == "split"]
    assert score(mend(membrane, splits[0]), truth) > score(membrane, truth) + 0.05


def test_membranes_that_are_only_thick_thin_or_shifted_are_no_mistakes():
    truth = grid()
    assert find_mistakes(section(np.roll(truth, 1, axis=1), truth)) == []
    thick = truth.copy()
    thick[:, 40:49] = True
    assert find_mistakes(section(thick, truth)) == []


def test_three_cells_in_one_segment():
    truth = grid(cells=3)
    membrane = truth.copy()
    membrane[20:26, 43:46] = membrane[20:26, 86:89] = False
    found = find_mistakes(section(membrane, truth))
    assert {wrong.kind for wrong in found} == {"merge"}
    while found := find_mistakes(section(membrane, truth)):
        membrane = mend(membrane, found[0])
    assert score(membrane, truth) == 1


def test_every_gain_is_what_mending_gains():
    pairs = phantom_pairs((1, 256, 256), seed=5)
    truth = pairs.truth[0].astype(bool)
    rng = np.random.default_rng(0)
    membrane = truth.copy()
    for y, x in rng.integers(0, 250, (40, 2)):
        membrane[y : y + 9, x : x + 9] = False
    membrane[120:124, 20:200] = True
    before = score(membrane, truth)
    found = find_mistakes(section(membrane, truth))
    assert {wrong.kind for wrong in found} == {"merge", "split"}
    assert [wrong.gain for wrong in found] == sorted((w.gain for w in found), reverse=True)
    for wrong in found:
        gained = score(mend(membrane, wrong), truth) - before
        assert gained == pytest.approx(wrong.gain, abs=1e-12)
    # Greedily: mend the costliest, list anew. It ends well above where it began.
    for _ in range(12):
        wrong, *_ = find_mistakes(section(membrane, truth), count=10) or [None]
        if wrong is None:
            break
        now = score(membrane, truth)
        membrane = mend(membrane, wrong)
        assert score(membrane, truth) - now == pytest.approx(wrong.gain, abs=1e-12)
    assert score(membrane, truth) > before + (1 - before) / 2


def test_isolated_errors_add_up():
    truth = grid(cells=4)
    membrane = truth.copy()
    membrane[20:26, 43:46] = False  # joins the first two cells of the first row
    membrane[140:170, 20:23] = True  # does not reach: no error
    membrane[132:172, 150:154] = True  # cuts the last cell of the last row
    found = find_mistakes(section(membrane, truth))
    assert [wrong.kind for wrong in found] == ["merge", "split"]
    mended = membrane
    for wrong in found:
        mended = mend(mended, wrong)
    assert score(mended, truth) > 0.9999


def test_ignored_pixels_cost_nothing():
    truth = grid()
    membrane = truth.copy()
    membrane[20:26, 43:46] = False
    where = np.ones_like(truth)
    where[:43, 46:] = False
    assert find_mistakes(section(membrane, truth, where)) == []


def test_the_map_has_four_colours():
    truth = grid(cells=3)
    membrane = truth.copy()
    membrane[20:26, 43:46] = False  # merge
    membrane[46:86, 60:64] = True  # split
    membrane[100:110, 100:112] = True  # a speck that costs nothing
    membrane[:, :2] = False
    membrane[:, 2] = True
    here = section(membrane, truth)
    kinds = error_map(here, find_mistakes(here), tolerance=1)
    assert kinds[23, 42:47].max() == ErrorKind.MERGE
    assert kinds[60, 62] == ErrorKind.SPLIT
    assert kinds[105, 106] == ErrorKind.FALSE
    assert kinds[100, 0] == ErrorKind.MISSING
    assert kinds[110, 70] == ErrorKind.NONE
    where = np.zeros_like(truth)
    assert not error_map(replace(here, where=where), []).any()


def test_a_section_without_membrane_or_cells():
    truth = grid()
    for membrane in (np.zeros_like(truth), np.ones_like(truth)):
        here = section(membrane, truth)
        assert isinstance(find_mistakes(here), list)
        assert error_map(here, []).shape == truth.shape
    empty = np.ones_like(truth)
    assert find_mistakes(section(truth, empty)) == []


def test_a_cell_full_of_specks_ends_soon():
    truth = grid(side=200, cells=1)
    noise = truth | (np.random.default_rng(0).random(truth.shape) < 0.5)
    found = find_mistakes(section(noise, truth), count=3)
    assert all(wrong.gain > 0 for wrong in found)


def test_a_negative_count():
    truth = grid()
    with pytest.raises(InputError, match="cannot be -1"):
        find_mistakes(section(truth, truth), count=-1)
    assert find_mistakes(section(np.zeros_like(truth), truth), count=0) == []
