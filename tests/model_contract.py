"""What every network must do; `test_models.py` runs it on each of them."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from axolemma import losses, models
from axolemma.modelfile import ModelInfo, load_model, save_model


class ModelContract:
    """Subclasses name a network and arguments that make it small.

    A network that sees coarse features on a grid of its own also gives the `period` of that grid
    in pixels and the `reach` beyond which nothing is seen.
    """

    name: str
    small: ClassVar[dict[str, Any]]
    period: int | None = None
    reach = 480

    @pytest.fixture
    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return models.build(self.name, **self.small)

    @pytest.fixture
    def settled(self, network) -> nn.Module:
        """The network in evaluation, normalising by what it has seen: unlike a fresh one, whose
        deep features are too faint to change its result."""
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None
        with torch.no_grad():
            network(torch.randn(4, 1, 96, 96))
        return network.eval()

    @pytest.mark.parametrize("size", [(64, 64), (37, 50), (16, 80), (1, 1), (5, 300), (1, 70)])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_size_and_batch(self, network, size, batch):
        with torch.no_grad():
            logits = network.eval()(torch.randn(batch, 1, *size))
        assert logits.shape == (batch, 1, *size)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()

    def test_every_size_from_1_to_70(self, network):
        network.eval()
        with torch.no_grad():
            for height in range(1, 71, 3):
                logits = network(torch.randn(1, 1, height, 71 - height))
                assert logits.shape == (1, 1, height, 71 - height)
                assert logits.isfinite().all()

    @pytest.mark.parametrize("inputs", [1, 3])
    @pytest.mark.parametrize("outputs", [1, 2])
    def test_any_channels(self, inputs, outputs):
        network = models.build(
            self.name, **self.small, in_channels=inputs, out_channels=outputs
        ).eval()
        x = torch.randn(1, inputs, 32, 32)
        result = network(x)
        assert result.shape == (1, outputs, 32, 32)
        for channel in range(inputs):
            other = x.clone()
            other[:, channel] += 1
            assert not torch.equal(network(other), result)

    def test_heads_are_what_training_sees(self, network):
        x = torch.randn(2, 1, 40, 33)
        heads = models.heads(network.eval(), x)
        assert all(head.shape == (2, 1, 40, 33) for head in heads)
        if len(heads) == 1:
            assert torch.equal(heads[0], network(x))

    def test_gradients_reach_every_parameter(self, network):
        # One step first: a residual branch that starts at zero hides its weights for one step.
        for _ in range(2):
            network.zero_grad()
            heads = models.heads(network, torch.randn(2, 1, 64, 64))
            torch.stack([head.square().mean() for head in heads]).mean().backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter -= 0.1 * parameter.grad
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    @pytest.mark.slow
    def test_learns(self, network):
        x = nn.functional.avg_pool2d(torch.randn(4, 1, 64, 64), 5, 1, 2) * 5
        truth = (x > 0.5).float()
        loss = losses.build("bce_dice")
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        values = []
        for _ in range(20):
            heads = models.heads(network, x)
            value = torch.stack([loss(head, truth) for head in heads]).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert values[-1] < 0.8 * values[0]

    def test_every_pixel_counts(self, settled):
        x = torch.randn(1, 1, 48, 37, requires_grad=True)
        logits = settled(x)
        (slope,) = torch.autograd.grad((logits * torch.randn(logits.shape)).sum(), x)
        assert (slope != 0).all()
        with torch.no_grad():
            several = settled(torch.randn(20, 1, 48, 37))
        assert (several.std(0) > 0).all()

    def test_evaluation_is_deterministic(self, settled):
        x = torch.randn(1, 1, 48, 48)
        assert torch.equal(settled(x), settled(x))

    def test_batch_members_do_not_meet_in_evaluation(self, settled):
        x = torch.randn(3, 1, 32, 32)
        torch.testing.assert_close(settled(x)[1:2], settled(x[1:2]), atol=1e-5, rtol=1e-5)

    def test_a_stride_more_of_image_changes_no_phase(self, settled):
        # Cutting whole strides off the front shifts the result, away from the cut edge.
        cut = self.period or settled.stride
        with torch.no_grad():
            x = torch.randn(1, 1, cut + self.reach, 32)
            whole, part = settled(x), settled(x[:, :, cut:])
        torch.testing.assert_close(whole[:, :, -16:], part[:, :, -16:], atol=1e-4, rtol=1e-4)

    def test_bfloat16(self, settled):
        x = torch.randn(1, 1, 32, 32)
        with torch.autocast("cpu", torch.bfloat16):
            rough = settled(x)
        assert rough.isfinite().all()
        assert (rough.float() - settled(x)).abs().max() < 0.1 * settled(x).abs().max() + 0.05

    def test_channels_last(self, settled):
        x = torch.randn(2, 1, 40, 40)
        expected = settled(x)
        settled.to(memory_format=torch.channels_last)
        found = settled(x.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    def test_fused(self, settled):
        x = torch.randn(2, 1, 40, 37)
        before = {key: value.clone() for key, value in settled.state_dict().items()}
        folded = models.fused(settled)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
        assert not any(p.requires_grad for p in folded.parameters())
        assert folded.stride == settled.stride
        torch.testing.assert_close(folded(x), settled(x).detach(), atol=1e-4, rtol=1e-4)
        for key, value in settled.state_dict().items():
            assert torch.equal(value, before[key]), key

    def test_save_and_load(self, settled, tmp_path):
        arguments = models.all_arguments(self.name, **self.small)
        info = ModelInfo(architecture=self.name, arguments=arguments, threshold=0.5)
        save_model(tmp_path / "model.safetensors", settled, info)
        loaded = load_model(tmp_path / "model.safetensors")
        assert loaded.info == info
        x = torch.randn(1, 1, 40, 40)
        assert torch.equal(loaded.network(x), settled(x))

    def test_exports(self, settled):
        x = torch.randn(1, 1, 64, 64)
        exported = torch.export.export(settled, (x,)).module()
        np.testing.assert_allclose(exported(x).detach(), settled(x).detach(), atol=1e-5)

    def test_lays_out_without_computing(self):
        assert models.gflop_per_megapixel(self.name, **self.small) > 0

    def test_unknown_argument(self):
        with pytest.raises(models.SettingsError, match="no argument 'widht'; did you mean 'width'"):
            models.build(self.name, widht=3)

    @pytest.mark.parametrize("width", [0, 2.5, True])
    def test_argument_out_of_range(self, width):
        with pytest.raises(models.SettingsError, match=f"width is a whole number .*not {width}"):
            models.build(self.name, width=width)
