from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from torch import nn

from axolemma import models
from axolemma.errors import SettingsError
from axolemma.models.blocks import ResidualBlock, pad_to_multiple
from model_contract import ModelContract


class TestResUNet(ModelContract):
    name = "resunet"
    small: ClassVar = {"width": 4, "depth": 3}


class TestUNet(ModelContract):
    name = "unet"
    small: ClassVar = {"width": 4, "depth": 3}

    def test_has_the_papers_parameters(self):
        # The paper's 31.0 M: 3×3 and 1×1 convolutions and 2×2 up-convolutions of 64 … 1024
        # channels; ours has batch normalisation in place of the 3×3 convolutions' biases.
        widths = [64, 128, 256, 512, 1024]
        down = sum(9 * a * b + 9 * b * b for a, b in zip([1, *widths], widths, strict=False))
        up = sum(4 * b * a + a + 9 * b * a + 9 * a * a for a, b in pairwise(widths))
        norms = 2 * 2 * (sum(widths) + sum(widths[:-1]))
        assert models.parameters(models.build("unet")) == down + up + norms + 64 + 1
        assert models.parameters(models.build("unet")) == pytest.approx(31.0e6, rel=0.01)


def test_every_network_has_a_contract():
    tested = {contract.name for contract in ModelContract.__subclasses__()}
    assert tested == set(models.MODELS)


def test_unknown_model():
    with pytest.raises(SettingsError, match="unknown model 'resnet'; did you mean 'resunet'"):
        models.build("resnet")


def test_arithmetic_of_one_convolution_by_hand(monkeypatch):
    class One(nn.Module):
        def __init__(self, in_channels=1):
            super().__init__()
            self.layer = nn.Conv2d(in_channels, 5, 3, padding=1)

        def forward(self, x):
            return self.layer(x)

    monkeypatch.setitem(models.MODELS, "one", One)
    # 9 products and 9 sums for each of 5 channels of 2**20 pixels.
    assert models.gflop_per_megapixel("one") == pytest.approx(2 * 9 * 5 * 2**20 / 1e9)


def test_padding_mirrors_where_it_can():
    x = torch.arange(3.0).reshape(1, 1, 1, 3)
    assert pad_to_multiple(x, 1) is x
    assert pad_to_multiple(x, 5)[0, 0].tolist() == [[0, 1, 2, 2, 2]] * 5  # too small to mirror
    y = torch.arange(12.0).reshape(1, 1, 3, 4)
    padded = pad_to_multiple(y, 5)
    assert padded.shape == (1, 1, 5, 5)
    assert padded[0, 0, 0].tolist() == [0, 1, 2, 3, 2]
    assert padded[0, 0, :, 0].tolist() == [0, 4, 8, 4, 0]


def test_a_fresh_residual_block_is_the_identity_on_what_is_positive():
    x = torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(ResidualBlock(4)(x), x)
