from math import log

import pytest
import torch

from axolemma.losses import bce_dice, soft_dice


def test_dice_by_hand():
    # p = 1/2 everywhere, two of four pixels membrane: 1 - (2·1 + 1) / (2 + 2 + 1) = 2/5
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert soft_dice(torch.zeros(4), truth).item() == pytest.approx(0.4)


def test_perfect_and_empty():
    truth = torch.tensor([1.0, 0.0])
    assert soft_dice(torch.tensor([40.0, -40.0]), truth).item() == pytest.approx(0)
    assert soft_dice(torch.full((2,), -40.0), torch.zeros(2)).item() == pytest.approx(0)


def test_bce_dice_by_hand():
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0])
    loss = bce_dice(torch.zeros(4), truth, dice=0.5)
    assert loss.item() == pytest.approx(log(2) + 0.5 * 0.4)
    assert bce_dice(torch.zeros(4), truth, dice=0).item() == pytest.approx(log(2))


def test_gradients():
    logits = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    truth = (torch.rand(3, 1, 4, 4, dtype=torch.float64) > 0.7).double()
    assert torch.autograd.gradcheck(lambda x: bce_dice(x, truth), logits)
