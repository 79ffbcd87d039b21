from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from axolemma import losses
from axolemma.errors import InputError, SettingsError
from axolemma.losses import (
    LOSSES,
    bce,
    bce_dice,
    cl_dice,
    distance_weight_map,
    focal,
    iou,
    soft_dice,
    tversky,
    weight_map_bce,
    weighted_bce,
)
from oracles import components

HALF = torch.tensor([1.0, 1.0, 0.0, 0.0])  # two of four pixels membrane
THREE_QUARTERS = torch.full((4,), log(3))  # the logits of p = 3/4


def square(*rows):
    """A batch (1, 1, Y, X) from rows of 0 and 1."""
    return torch.tensor([[[[float(v) for v in row] for row in rows]]])


def certain(truth):
    return 200 * truth - 100


@pytest.fixture(params=sorted(LOSSES))
def loss(request):
    return losses.build(request.param)


# --- by hand


def test_bce_by_hand():
    # p = 3/4: -log 3/4 on two pixels, -log 1/4 on two
    assert bce(THREE_QUARTERS, HALF).item() == pytest.approx((log(4 / 3) + log(4)) / 2)


def test_weighted_bce_by_hand():
    # One of four pixels membrane: weights 4 / 2 = 2 and 4 / (2 · 3) = 2/3, so that
    # either class makes half of the loss: (2 log 4/3 + 3 · 2/3 log 4) / 4
    truth = torch.tensor([1.0, 0.0, 0.0, 0.0])
    half_each = (log(4 / 3) + log(4)) / 2
    assert weighted_bce(THREE_QUARTERS, truth).item() == pytest.approx(half_each)
    own = weighted_bce(THREE_QUARTERS, truth, membrane=5, interior=0)
    assert own.item() == pytest.approx(5 * log(4 / 3) / 4)
    one = weighted_bce(THREE_QUARTERS, truth, membrane=1, interior=1)
    assert one.item() == pytest.approx(bce(THREE_QUARTERS, truth).item())


def test_dice_by_hand():
    # p = 1/2 everywhere, two of four pixels membrane: 1 - (2·1 + 1) / (2 + 2 + 1) = 2/5
    assert soft_dice(torch.zeros(4), HALF).item() == pytest.approx(0.4)


def test_perfect_and_empty():
    truth = torch.tensor([1.0, 0.0])
    assert soft_dice(torch.tensor([40.0, -40.0]), truth).item() == pytest.approx(0)
    assert soft_dice(torch.full((2,), -40.0), torch.zeros(2)).item() == pytest.approx(0)


def test_bce_dice_by_hand():
    loss = bce_dice(torch.zeros(4), HALF, dice=0.5)
    assert loss.item() == pytest.approx(log(2) + 0.5 * 0.4)
    assert bce_dice(torch.zeros(4), HALF, dice=0).item() == pytest.approx(log(2))


def test_tversky_by_hand():
    # p = 3/4: Σpt = 3/2, invented Σp(1-t) = 3/2, missed Σ(1-p)t = 1/2
    # 1 - (3/2 + 1/2) / (3/2 + 0.4 · 3/2 + 0.8 · 1/2 + 1/2) = 1 - 2 / 3
    loss = tversky(THREE_QUARTERS, HALF, alpha=0.4, beta=0.8)
    assert loss.item() == pytest.approx(1 / 3)


def test_iou_by_hand():
    # p = 1/2: Σpt = 1, Σp + Σt - Σpt = 2 + 2 - 1 = 3; 1 - (1 + 1/2) / (3 + 1/2) = 4/7
    assert iou(torch.zeros(4), HALF).item() == pytest.approx(4 / 7)


@settings(max_examples=50)
@given(arrays(np.float64, 6, elements=st.floats(-8, 8)), arrays(np.bool_, 6))
def test_overlaps_are_one_family(z, t):
    z, t = torch.from_numpy(z), torch.from_numpy(t).double()
    dice = soft_dice(z, t)
    torch.testing.assert_close(tversky(z, t, alpha=0.5, beta=0.5), dice)
    torch.testing.assert_close(iou(z, t), 2 * dice / (1 + dice))


def test_focal_by_hand():
    # gamma 2, alpha 1/4 at p = 3/4: membrane 1/4 · (1/4)² log 4/3, interior 3/4 · (3/4)² log 4
    membrane, interior = log(4 / 3) / 64, 27 / 64 * log(4)
    assert focal(THREE_QUARTERS, HALF).item() == pytest.approx((membrane + interior) / 2)
    plain = focal(THREE_QUARTERS, HALF, gamma=0, alpha=0.5)
    assert plain.item() == pytest.approx(bce(THREE_QUARTERS, HALF).item() / 2)


def test_cl_dice_by_hand():
    # The truth is a row of five pixels, the certain proposal lacks its middle. Both are one pixel
    # thick, so they are their own skeletons: P = (4 + 1) / (4 + 1) = 1, S = (4 + 1) / (5 + 1).
    truth = square("00000", "11111", "00000")
    gap = square("00000", "11011", "00000")
    lines = 1 - 2 * (5 / 6) / (1 + 5 / 6)
    assert cl_dice(certain(gap), truth, weight=1).item() == pytest.approx(lines)
    dice = 1 - (2 * 4 + 1) / (4 + 5 + 1)
    both = cl_dice(certain(gap), truth, weight=0.3)
    assert both.item() == pytest.approx(0.7 * dice + 0.3 * lines)


def test_cl_dice_forgives_thickness_and_not_gaps():
    thick, gap = torch.zeros(1, 1, 15, 40), torch.zeros(1, 1, 15, 40)
    truth = torch.zeros(1, 1, 15, 40)
    truth[..., 6:9, :] = thick[..., 5:10, :] = gap[..., 6:9, :] = 1
    gap[..., 18:22] = 0
    # The skeleton of five rows is their middle row: P = 1, S = 1. The gap lacks 12 of 120 pixels,
    # 4 of the 40 on the truth's middle row: S = 37 / 41.
    assert cl_dice(certain(thick), truth, weight=1).item() == pytest.approx(0, abs=1e-6)
    broken = cl_dice(certain(gap), truth, weight=1).item()
    assert broken == pytest.approx(1 - 2 * (37 / 41) / (1 + 37 / 41))
    assert soft_dice(certain(thick), truth) > soft_dice(certain(gap), truth)


# --- the map of weights


def slow_weight_map(membrane, w0, sigma):
    labels = components(~membrane)
    cells = [np.argwhere(labels == label) for label in range(1, labels.max() + 1)]
    size, ones = membrane.size, membrane.sum()
    weights = np.empty(membrane.shape)
    for pixel in np.ndindex(membrane.shape):
        weights[pixel] = size / (2 * (ones if membrane[pixel] else size - ones))
        away = sorted(sqrt(((cell - pixel) ** 2).sum(1).min()) for cell in cells)
        if len(away) > 1:
            weights[pixel] += w0 * exp(-((away[0] + away[1]) ** 2) / (2 * sigma**2))
    return weights


def test_weight_map_by_hand():
    # Two cells of two pixels beside two columns of membrane; classes are equal, so w_c = 1. A
    # pixel at the rim of the gap is 0 and 3, one in it 1 and 2, one at the edge 0 and 4 away.
    membrane = np.array([[0, 0, 1, 1, 0, 0]], bool)
    membrane = np.vstack([membrane, np.ones((1, 6), bool)])
    weights = distance_weight_map(membrane, w0=8, sigma=3)
    balance = np.where(membrane, 12 / 16, 12 / 8)
    near, far = 8 * exp(-9 / 18), 8 * exp(-16 / 18)
    np.testing.assert_allclose(weights[0], balance[0] + [far, near, near, near, near, far])
    assert weights[1, 0] == pytest.approx(balance[1, 0] + 8 * exp(-((1 + sqrt(17)) ** 2) / 18))
    assert weights.dtype == np.float32


@settings(max_examples=60)
@given(
    arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.sampled_from([(10, 5), (3, 0.4), (0, 1)]),
)
def test_weight_map_equals_the_slow_one(membrane, constants):
    w0, sigma = constants
    weights = distance_weight_map(membrane, w0=w0, sigma=sigma)
    np.testing.assert_allclose(weights, slow_weight_map(membrane, w0, sigma), rtol=1e-5, atol=1e-5)
    turned = distance_weight_map(membrane.T, w0=w0, sigma=sigma)
    np.testing.assert_allclose(weights, turned.T, rtol=1e-5)


def test_weight_map_of_large_sections_equals_the_slow_one():
    # Larger than the reach of 7 sigma, with cells inside cells.
    rng = np.random.default_rng(0)
    membrane = rng.random((20, 30)) < 0.7
    membrane[2:17, 4:6] = membrane[2:17, 24:26] = True
    membrane[4:15, 8:22] = False
    slow = slow_weight_map(membrane, 10, 1)
    np.testing.assert_allclose(distance_weight_map(membrane, sigma=1), slow, rtol=1e-5)


def test_weight_map_without_two_cells():
    assert distance_weight_map(np.ones((3, 4), bool)) == pytest.approx(np.full((3, 4), 0.5))
    assert distance_weight_map(np.zeros((3, 4), bool)) == pytest.approx(np.full((3, 4), 0.5))


def test_weight_map_refuses():
    with pytest.raises(InputError, match=r"one section \(Y, X\), not \(2, 3, 4\)"):
        distance_weight_map(np.ones((2, 3, 4), bool))
    with pytest.raises(InputError, match="sigma is a width above 0 pixels, not 0"):
        distance_weight_map(np.ones((3, 4), bool), sigma=0)


def test_weight_map_bce():
    truth = torch.stack([square("010", "010"), square("011", "000")])[:, 0]
    z = torch.randn(truth.shape)
    torch.testing.assert_close(
        weight_map_bce(z, truth, None, torch.ones(2, 1, 2, 3)), bce(z, truth)
    )
    maps = [distance_weight_map(section.numpy(), w0=4, sigma=2) for section in truth[:, 0]]
    each = nn.functional.binary_cross_entropy_with_logits(z, truth, reduction="none")
    byhand = np.mean(np.stack(maps)[:, None] * each.numpy())
    assert weight_map_bce(z, truth, w0=4, sigma=2).item() == pytest.approx(byhand)


# --- what every loss must do


def test_gradients(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    truth = (torch.rand(2, 1, 5, 6, dtype=torch.float64) > 0.6).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, truth), logits)


def test_a_step_down_the_gradient_is_towards_the_truth(loss):
    truth = square("0110", "0110", "0000", "1100")
    logits = torch.zeros_like(truth, requires_grad=True)
    loss(logits, truth).backward()
    if loss.func is cl_dice:  # pixels of its skeletons depend on their neighbours
        assert loss(certain(truth), truth) < loss(logits, truth) < loss(-certain(truth), truth)
    else:
        assert (logits.grad[truth == 1] < 0).all()
        assert (logits.grad[truth == 0] > 0).all()


def test_perfect_is_zero_without_gradient(loss):
    truth = square("0110", "0110", "0000", "1100")
    logits = certain(truth).requires_grad_()
    value = loss(logits, truth)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("logit", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("truth", ["all", "none", "some"])
def test_extremes_are_finite(loss, logit, truth):
    drawn = {"all": torch.ones, "none": torch.zeros, "some": torch.zeros}[truth](1, 1, 8, 8)
    if truth == "some":
        drawn[..., 3] = 1
    logits = torch.full((1, 1, 8, 8), logit, requires_grad=True)
    value = loss(logits, drawn)
    value.backward()
    assert value.isfinite()
    assert value >= 0
    assert logits.grad.isfinite().all()


def annotated(seed=0):
    torch.manual_seed(seed)
    logits = torch.randn(2, 1, 9, 8)
    truth = (torch.rand(2, 1, 9, 8) > 0.6).float()
    where = torch.zeros(2, 1, 9, 8)
    where[0, :, 2:7, 1:6] = where[1, :, :4] = 1
    return logits, truth, where


def test_what_is_not_annotated_changes_nothing(loss):
    logits, truth, where = annotated()
    value = loss(logits, truth, where)
    hidden = where == 0
    assert loss(logits, torch.where(hidden, 1 - truth, truth), where) == value
    assert loss(torch.where(hidden, 7.0, logits), truth, where) == value
    logits.requires_grad_()
    loss(logits, truth, where).backward()
    assert (logits.grad[hidden] == 0).all()
    assert logits.grad[~hidden].abs().max() > 0


def test_all_annotated_is_the_plain_loss(loss):
    logits, truth, where = annotated()
    whole = loss(logits, truth, torch.ones_like(where))
    torch.testing.assert_close(whole, loss(logits, truth))


@pytest.mark.parametrize("name", ["bce", "weighted_bce", "dice", "iou", "tversky", "focal"])
def test_losses_of_pixels_are_those_of_the_annotated_ones(name):
    loss = losses.build(name)
    logits, truth, where = annotated()
    alone = loss(logits[where == 1], truth[where == 1])
    torch.testing.assert_close(loss(logits, truth, where), alone)


def test_nothing_annotated_is_finite(loss):
    logits, truth, where = annotated()
    value = loss(logits.requires_grad_(), truth, torch.zeros_like(where))
    value.backward()
    assert value.isfinite()
    assert (logits.grad == 0).all()


def test_weight_map_of_an_annotated_part():
    # The same two cells in the whole section and in the annotated part of a larger one.
    part = np.array([[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 1]], bool)
    whole, where = np.zeros((3, 9), bool), np.zeros((3, 9), bool)
    whole[:, :4], where[:, :4] = part, True
    found = distance_weight_map(whole, where, w0=4, sigma=2)
    np.testing.assert_allclose(found[:, :4], distance_weight_map(part, w0=4, sigma=2))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0])
def test_focal_gradients_are_finite_for_any_power(gamma):
    logits = torch.tensor([-100.0, 100.0, -100.0, 100.0], requires_grad=True)
    focal(logits, HALF, gamma=gamma).backward()
    assert logits.grad.isfinite().all()


# --- by name


def test_build_sets_options():
    z = torch.randn(4)
    assert losses.build("tversky", alpha=1, beta=1)(z, HALF) == iou(z, HALF)
    assert losses.build("bce_dice", dice=2)(z, HALF) == bce_dice(z, HALF, dice=2)


def test_unknown_names_and_options():
    with pytest.raises(SettingsError, match="unknown loss 'focla'; did you mean 'focal'"):
        losses.build("focla")
    with pytest.raises(SettingsError, match="no option 'gama'; did you mean 'gamma'"):
        losses.build("focal", gama=2)
    with pytest.raises(SettingsError, match="loss 'bce' has no option 'dice'; it has none"):
        losses.build("bce", dice=2)
    with pytest.raises(SettingsError, match="no option 'weights'"):
        losses.build("weight_map_bce", weights=1)
    with pytest.raises(SettingsError, match=r"iterations is a whole number, not 2\.5"):
        losses.build("cl_dice", iterations=2.5)
    for wrong in (-1, float("nan"), "much"):
        with pytest.raises(SettingsError, match="gamma is a number from 0, not"):
            losses.build("focal", gamma=wrong)
