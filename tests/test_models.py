from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from axolemma import models
from axolemma.errors import InputError, SettingsError
from axolemma.modelfile import ModelInfo, load_model, save_model
from axolemma.models.blocks import ConvBlock, ResidualBlock, pad_to_multiple
from axolemma.models.cenet import DenseAtrous, MultiKernelPooling
from model_contract import ModelContract


def full_size(name, **arguments):
    """A network of the paper's size that takes neither memory nor time."""
    with torch.device("meta"):
        return models.build(name, **arguments)


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
        count = models.parameters(full_size("unet"))
        assert count == down + up + norms + 64 + 1
        assert count == pytest.approx(31.0e6, rel=0.01)


class TestPlainUNet(ModelContract):
    name = "unet"
    small: ClassVar = {"width": 4, "depth": 3, "normalisation": False, "narrow_head": True}

    def test_has_the_parameters_of_the_keras_version(self):
        # That Keras version counts 31,031,685 where its up-convolutions are 2×2 convolutions after
        # an upsampling, equally many weights as ours.
        widths = [64, 128, 256, 512, 1024]
        down = sum(
            9 * a * b + b + 9 * b * b + b for a, b in zip([1, *widths], widths, strict=False)
        )
        up = sum(4 * b * a + a + 9 * b * a + a + 9 * a * a + a for a, b in pairwise(widths))
        plain = full_size("unet", normalisation=False, narrow_head=True)
        assert models.parameters(plain) == down + up + 9 * 64 * 2 + 2 + 2 + 1
        assert models.parameters(plain) == 31_031_685


class TestUNetAtHalfResolution(ModelContract):
    name = "unet"
    small: ClassVar = {"width": 4, "depth": 3, "unshuffle": 2}

    def test_costs_a_quarter(self):
        whole = models.gflop_per_megapixel("unet", width=32)
        half = models.gflop_per_megapixel("unet", width=32, unshuffle=2)
        assert half == pytest.approx(whole / 4, rel=0.01)


class TestUNetPlusPlusAtHalfResolution(ModelContract):
    name = "unetplusplus"
    small: ClassVar = {"width": 4, "depth": 3, "unshuffle": 2}

    def test_pruned_equals_its_head(self, network):
        x = torch.randn(1, 1, 16, 24)
        with torch.no_grad():
            heads = network.eval().heads(x)
            for level, head in enumerate(heads, start=1):
                assert torch.equal(network.pruned(level)(x), head)


class TestPlainUNetPlusPlus(ModelContract):
    name = "unetplusplus"
    small: ClassVar = {
        "width": 4,
        "depth": 3,
        "normalisation": False,
        "dropout": 0.5,
        "dropout_twice": True,
    }

    def test_has_the_authors_parameters(self):
        plain = full_size("unetplusplus", normalisation=False, deep_supervision=False)
        assert models.parameters(plain) == 9_041_601

    def test_drops_after_every_convolution(self):
        torch.manual_seed(0)
        block = ConvBlock(1, 8, dropout=0.5, dropout_twice=True, normalisation=False)
        for layer in (block.layers[0], block.layers[3]):  # that give 1 everywhere
            nn.init.zeros_(layer.weight)
            nn.init.ones_(layer.bias)
        seen = []
        block.layers[3].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        seen.append(block(torch.ones(1, 1, 64, 64)))
        for values in seen:
            assert (values == 0).float().mean() == pytest.approx(0.5, abs=0.05)


class TestUNetPlusPlus(ModelContract):
    name = "unetplusplus"
    small: ClassVar = {"width": 4, "depth": 3}

    def test_has_the_originals_parameters(self):
        # The authors' Keras code counts 9,041,601 without deep supervision: two 3×3 convolutions
        # per node and a 2×2 up-convolution before every node but the first of a level, with
        # biases, and a 1×1 convolution.
        widths = [32, 64, 128, 256, 512]
        firsts = sum(9 * a * b + b for a, b in zip([1, *widths], widths, strict=False))
        rest = ups = 0
        for level, w in enumerate(widths):
            for column in range(1, 5 - level):
                firsts += 9 * (column + 1) * w * w + w
                ups += 4 * 2 * w * w + w
            rest += (5 - level) * (9 * w * w + w)
        original = firsts + rest + ups + 32 + 1
        assert original == 9_041_601
        # Ours has batch normalisation, 2 · 2 numbers per channel and node, for the 2 biases.
        norms = sum(2 * (5 - level) * w for level, w in enumerate(widths))
        alone = full_size("unetplusplus", deep_supervision=False)
        assert models.parameters(alone) == original + norms
        assert models.parameters(full_size("unetplusplus")) == original + norms + 3 * 33

    def test_result_is_the_mean_probability_of_the_heads(self, network):
        x = torch.randn(2, 1, 20, 24)
        network.eval()
        heads = network.heads(x)
        assert len(heads) == 2
        mean = torch.stack([head.sigmoid() for head in heads]).mean(0)
        torch.testing.assert_close(network(x).sigmoid(), mean)
        network.train()  # the same protocol, with the batch's statistics
        assert network(x).shape == mean.shape

    def test_result_stays_finite_where_heads_are_certain(self, network):
        with torch.no_grad():
            network.head["1"].bias.fill_(500)
            network.head["2"].bias.fill_(-500)
        x = torch.randn(1, 1, 8, 8, requires_grad=True)
        logits = network(x)
        logits.sum().backward()
        # Half of 1 and half of 0 is a probability of 1/2.
        torch.testing.assert_close(logits, torch.zeros(1, 1, 8, 8), atol=1e-3, rtol=0)
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)

    @pytest.mark.parametrize("level", [1, 2, 3])
    def test_pruning_keeps_a_head_bit_for_bit(self, level, tmp_path):
        torch.manual_seed(0)
        arguments = {"width": 4, "depth": 4, "in_channels": 3, "out_channels": 2, "dropout": 0.1}
        network = models.build("unetplusplus", **arguments)
        x = torch.randn(2, 3, 24, 40)
        network(x)  # moves the running statistics of normalisation
        small = network.eval().pruned(level)
        assert not small.training
        assert small.stride == 2**level
        assert torch.equal(small(x), network.heads(x)[level - 1])
        before = small(x)
        with torch.no_grad():
            network.node["0_0"].layers[0].weight.zero_()
        assert torch.equal(small(x), before)  # the weights are copies
        # It is an architecture of its own.
        arguments |= {"depth": level + 1, "deep_supervision": False}
        info = ModelInfo(architecture="unetplusplus", arguments=arguments, context=1, threshold=0.5)
        save_model(tmp_path / "small.safetensors", small, info)
        loaded = load_model(tmp_path / "small.safetensors").network
        assert torch.equal(loaded(x), before)
        assert models.parameters(loaded) == models.parameters(small)

    def test_pruning_away_half_of_the_full_size(self):
        # L3 has the four upper levels: widths 32 … 256 and one head.
        small = full_size("unetplusplus").pruned(3)
        alone = full_size("unetplusplus", depth=4, deep_supervision=False)
        assert models.parameters(small) == models.parameters(alone)

    def test_pruning_needs_the_head(self, network):
        with pytest.raises(InputError, match="no head 3 to prune to; this network has 1, 2"):
            network.pruned(3)
        alone = models.build("unetplusplus", **self.small, deep_supervision=False)
        with pytest.raises(InputError, match="no head 1 to prune to; this network has 2"):
            alone.pruned(1)
        assert models.parameters(alone.pruned(2)) == models.parameters(alone)

    def test_dropout_is_for_training_only(self):
        network = models.build("unetplusplus", **self.small, dropout=0.5)
        x = torch.randn(1, 1, 16, 16)
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))

    def test_refused_arguments(self):
        with pytest.raises(SettingsError, match="depth is a whole number from 2, not 1"):
            models.build("unetplusplus", depth=1)
        with pytest.raises(SettingsError, match="deep_supervision is true or false, not 1"):
            models.build("unetplusplus", deep_supervision=1)


class TestCENet(ModelContract):
    name = "cenet"
    small: ClassVar = {"width": 16}  # narrower, the head's ReLUs may all be dead
    period = 960  # pooling windows of 2, 3, 5 and 6 times 32 pixels
    reach = 1216

    @pytest.mark.slow  # its many convolutions take torch some seconds to trace
    def test_exports(self, network):
        super().test_exports(network)

    def test_has_the_originals_parameters(self):
        # ResNet-34 without its classifier has 21,284,672 parameters (torchvision: 21,797,672 with
        # 1000 classes of 512 + 1). The decoder's convolutions have biases in the original.
        encoder = 21_797_672 - 1000 * 513
        atrous = 3 * (9 * 512**2 + 512) + 512**2 + 512
        pooling = 512 + 1

        def block(a, b):
            inner = a // 4
            layers = a * inner + 9 * inner**2 + inner * b
            return layers + 2 * (2 * inner + b), 2 * inner + b

        blocks = [block(516, 256), block(256, 128), block(128, 64), block(64, 64)]
        head = 16 * 64 * 32 + 32 + 9 * 32**2 + 32 + 9 * 32 + 1
        ours = encoder + atrous + pooling + sum(layers for layers, _ in blocks) + head
        biases = sum(count for _, count in blocks)
        assert models.parameters(full_size("cenet", in_channels=3)) == ours
        assert (ours + biases, biases) == (29_003_093, 994)
        assert models.parameters(full_size("cenet")) == ours - 2 * 49 * 64

    def test_smallest_width(self):
        network = models.build("cenet", width=1).eval()
        assert network(torch.randn(1, 1, 33, 20)).shape == (1, 1, 33, 20)

    def test_pooling_by_hand(self):
        pooling = MultiKernelPooling(1)
        nn.init.ones_(pooling.squeeze.weight)
        nn.init.zeros_(pooling.squeeze.bias)
        x = torch.arange(7.0).reshape(1, 1, 1, 7)
        maps = pooling(x)[0, :, 0]
        assert maps[0].tolist() == x.flatten().tolist()
        # Windows of two have maxima 1, 3, 5 and, cut by the end, 6, at 0.5, 2.5, 4.5 and 6.5.
        assert maps[1].tolist() == pytest.approx([1, 1.5, 2.5, 3.5, 4.5, 5.25, 5.75])
        # Windows of six: 5 at 2.5 and 6 at 8.5.
        expected = [5, 5, 5, 5 + 0.5 / 6, 5 + 1.5 / 6, 5 + 2.5 / 6, 5 + 3.5 / 6]
        assert maps[4].tolist() == pytest.approx(expected)

    def test_atrous_cascades_by_hand(self):
        # One impulse, all kernels ones, no biases, the mixing convolution 1: each cascade counts
        # on how many paths the impulse is reached.
        block = DenseAtrous(1)
        for layer in (block.by1, block.by3, block.by5, block.mix):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        x = torch.zeros(1, 1, 1, 41)
        x[..., 20] = 1
        y = block(x)[0, 0, 0]
        line = np.zeros(41)
        line[20] = 1

        def convolved(values, *dilations):
            for d in dilations:
                values = np.convolve(values, np.bincount([0, d, 2 * d]), mode="same")
            return values

        cascades = ((1,), (3,), (1, 3), (1, 3, 5))
        expected = line + sum(convolved(line, *dilations) for dilations in cascades)
        assert y.tolist() == expected.tolist()


class TestLoadResNet34:
    @pytest.fixture
    def weights(self):
        torch.manual_seed(1)
        state = models.build("cenet", width=2, in_channels=3).encoder.state_dict()
        return state | {"fc.weight": torch.zeros(10, 16), "fc.bias": torch.zeros(10)}

    def load(self, weights, folder, **arguments):
        save_file(weights, folder / "r34.safetensors")
        network = models.build("cenet", width=2, **arguments)
        models.load_resnet34(network, folder / "r34.safetensors")
        return network.encoder

    def test_names_are_those_of_torchvision(self):
        names = set(full_size("cenet").encoder.state_dict())
        assert {"conv1.weight", "bn1.running_var", "layer1.2.bn2.bias"} <= names
        assert {"layer2.0.downsample.0.weight", "layer4.0.downsample.1.running_mean"} <= names
        assert "layer1.0.downsample.0.weight" not in names
        assert len(names) == 36 + 36 * 5  # convolutions without bias, each normalised

    def test_three_inputs_take_all_as_it_is(self, weights, tmp_path):
        encoder = self.load(weights, tmp_path, in_channels=3)
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, weights[key]), key

    @pytest.mark.parametrize("inputs", [1, 2, 5])
    def test_grey_gives_what_a_grey_photograph_gave(self, weights, tmp_path, inputs):
        encoder = self.load(weights, tmp_path, in_channels=inputs)
        original = self.load(weights, tmp_path, in_channels=3)
        grey = torch.randn(1, 1, 16, 16)
        torch.testing.assert_close(
            encoder.conv1(grey.repeat(1, inputs, 1, 1)), original.conv1(grey.repeat(1, 3, 1, 1))
        )

    def test_old_files_do_not_count_batches(self, weights, tmp_path):
        old = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
        assert torch.equal(self.load(old, tmp_path).bn1.weight, weights["bn1.weight"])

    def test_what_does_not_fit_is_told(self, weights, tmp_path):
        del weights["layer3.1.conv2.weight"]
        weights["layer5.weight"] = torch.zeros(3)
        weights["bn1.bias"] = torch.zeros(7)
        told = (
            r"layer3\.1\.conv2\.weight is missing, bn1\.bias has shape \[7\], not \[2\], "
            r"layer5\.weight is unknown; take a ResNet-34"
        )
        with pytest.raises(InputError, match=told):
            self.load(weights, tmp_path)
        with pytest.raises(InputError, match=r"and \d+ more faults"):
            self.load({"something": torch.zeros(1)}, tmp_path)

    def test_nothing_is_loaded_where_something_does_not_fit(self, weights, tmp_path):
        del weights["layer4.2.bn2.bias"]
        save_file(weights, tmp_path / "r34.safetensors")
        network = models.build("cenet", width=2, in_channels=3)
        before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
        with pytest.raises(InputError):
            models.load_resnet34(network, tmp_path / "r34.safetensors")
        for key, value in network.encoder.state_dict().items():
            assert torch.equal(value, before[key])

    def test_nothing_is_unpickled(self, weights, tmp_path):
        torch.save(weights, tmp_path / "resnet34.pth")
        with pytest.raises(InputError, match=r"from a \.safetensors file only.*convert it once"):
            models.load_resnet34(models.build("cenet", width=2), tmp_path / "resnet34.pth")

    def test_unreadable_files(self, tmp_path):
        network = models.build("cenet", width=2)
        with pytest.raises(InputError, match="cannot be read"):
            models.load_resnet34(network, tmp_path / "none.safetensors")
        (tmp_path / "bad.safetensors").write_bytes(b"something else entirely")
        with pytest.raises(InputError, match="cannot be read"):
            models.load_resnet34(network, tmp_path / "bad.safetensors")


def test_every_network_has_a_contract():
    tested = {contract.name for contract in ModelContract.__subclasses__()}
    assert tested == set(models.MODELS)


def test_unknown_model():
    with pytest.raises(SettingsError, match="unknown model 'resnet'; did you mean 'resunet'"):
        models.build("resnet")


@pytest.mark.parametrize(("key", "value"), [("depth", 9), ("width", 5000), ("width", 2.0)])
def test_sizes_have_limits(key, value):
    with pytest.raises(SettingsError, match=f"model 'unet': {key} is a whole number from 1 to"):
        models.check("unet", **{key: value})


def test_an_argument_called_name_is_just_unknown():
    with pytest.raises(SettingsError, match="model 'unet' has no argument 'name'"):
        models.build("unet", name=1)


@pytest.mark.parametrize("dropout", [1, -0.1, "half", True])
def test_dropout_is_a_share(dropout):
    with pytest.raises(SettingsError, match=r"model 'unet': dropout is a share in \[0, 1\), not"):
        models.build("unet", dropout=dropout)


def test_plain_layers_keep_the_size_of_values():
    torch.manual_seed(0)
    blocks = nn.Sequential(
        ConvBlock(16, 64, normalisation=False), *(ConvBlock(64, 64, normalisation=False),) * 4
    )
    x = torch.randn(1, 16, 64, 64)
    assert 0.3 < blocks(x).square().mean() / x.square().mean() < 3


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


@pytest.mark.parametrize("pose", models.POSES["dihedral"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resunet", {"width": 8, "depth": 3}),
        ("resunet", {"width": 8, "depth": 2, "unshuffle": 3, "in_channels": 3}),
        ("unet", {"width": 4, "depth": 3, "in_channels": 3}),
        ("unetplusplus", {"width": 4, "depth": 3, "unshuffle": 2}),
    ],
)
def test_a_posed_network_sees_the_image_turned(name, arguments, pose):
    torch.manual_seed(0)
    network = models.build(name, **arguments).eval()
    with torch.no_grad():
        for values in network.parameters():
            values.normal_(0, 0.2)
    channels = arguments.get("in_channels", 1)
    found = models.posed(network, *pose, channels=channels)
    assert found is not None
    flip, turns = pose
    x = torch.randn(2, channels, 3 * network.stride, 2 * network.stride)
    with torch.no_grad():
        seen = torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1))
        expected = torch.rot90(network(seen), -turns, (-2, -1))
        expected = expected.flip(-1) if flip else expected
        torch.testing.assert_close(found(x), expected, rtol=1e-3, atol=1e-4)


def test_a_network_that_cannot_be_posed():
    network = models.build("cenet", width=8)
    assert models.posed(network, turns=2) is None
    assert models.posed(network) is not None
