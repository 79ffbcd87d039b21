"""What every network must do; `test_models.py` runs it on each of them."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from axolemma import models
from axolemma.modelfile import ModelInfo, load_model, save_model


class ModelContract:
    """Subclasses name a network and arguments that make it small."""

    name: str
    small: ClassVar[dict[str, int]]

    @pytest.fixture
    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return models.build(self.name, **self.small)

    @pytest.mark.parametrize("size", [(64, 64), (37, 50), (16, 80), (1, 1), (5, 300)])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_size_and_batch(self, network, size, batch):
        logits = network.eval()(torch.randn(batch, 1, *size))
        assert logits.shape == (batch, 1, *size)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()

    def test_any_channels(self):
        network = models.build(self.name, **self.small, in_channels=3, out_channels=2)
        assert network(torch.randn(1, 3, 32, 32)).shape == (1, 2, 32, 32)

    def test_gradients_reach_every_parameter(self, network):
        # One step first: a residual branch that starts at zero hides its weights for one step.
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            network(torch.randn(2, 1, 32, 32)).square().mean().backward()
            optimizer.step()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_evaluation_is_deterministic(self, network):
        x = torch.randn(1, 1, 48, 48)
        network.eval()
        assert torch.equal(network(x), network(x))

    def test_a_stride_more_of_image_changes_no_phase(self, network):
        # Cutting whole strides off the front shifts the result, away from the cut edge.
        network.eval()
        x = torch.randn(1, 1, 512, 32)
        whole, cut = network(x), network(x[:, :, network.stride :])
        torch.testing.assert_close(whole[:, :, -16:], cut[:, :, -16:], atol=1e-4, rtol=1e-4)

    def test_bfloat16(self, network):
        x = torch.randn(1, 1, 32, 32)
        network.eval()
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x)
        assert (rough.float() - network(x)).abs().max() < 0.1 * network(x).abs().max() + 0.05

    def test_save_and_load(self, network, tmp_path):
        network(torch.randn(4, 1, 32, 32))  # moves the running statistics of normalisation
        info = ModelInfo(architecture=self.name, arguments=self.small, thresholds={"none": 0.5})
        save_model(tmp_path / "model.safetensors", network, info)
        loaded = load_model(tmp_path / "model.safetensors")
        assert loaded.info == info
        x = torch.randn(1, 1, 40, 40)
        assert torch.equal(loaded.network(x), network.eval()(x))

    def test_exports(self, network):
        network.eval()
        x = torch.randn(1, 1, 64, 64)
        exported = torch.export.export(network, (x,)).module()
        np.testing.assert_allclose(exported(x).detach(), network(x).detach(), atol=1e-5)

    def test_unknown_argument(self):
        with pytest.raises(models.SettingsError, match="no argument 'widht'; did you mean 'width'"):
            models.build(self.name, widht=3)

    def test_argument_out_of_range(self):
        with pytest.raises(models.SettingsError, match="depth is a whole number from 1, not 0"):
            models.build(self.name, depth=0)
