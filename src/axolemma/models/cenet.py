"""The CE-Net of Gu et al.: a ResNet-34 encoder, a context extractor, a light decoder."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from axolemma.errors import InputError
from axolemma.models.blocks import pad_to_multiple

__all__ = ["CENet", "load_resnet34"]


class CENet(nn.Module):
    """A context encoder network.

    It follows the authors' code where that and the paper's figures differ: the branches of the
    dense atrous convolution share their weights, as do those of the multi-kernel pooling. It
    differs from the code in two points: convolutions before a batch normalisation have no bias,
    which that would subtract (994 of 29,003,093 parameters at three inputs and one output), and
    pooling windows at the image's end are not dropped and the rest stretched, but filled.

    The pooling windows lie on a grid of 2, 3, 5 and 6 times 32 pixels. A tile therefore equals
    its part of the whole image up to these coarse features only, unless it begins at a multiple
    of 960.

    Parameters
    ----------
    in_channels
        Sections that one prediction looks at.
    out_channels
        Maps to predict; 1 = membrane.
    width
        Channels of the finest stage of the encoder; the later ones have 2, 4 and 8 times as many:
        64, 128, 256, 512 by default. Only these hold the weights of a ResNet-34.

    References
    ----------
    Gu et al. 2019, CE-Net: context encoder network for 2D medical image segmentation, IEEE Trans.
    Med. Imaging 38. He et al. 2016, Deep residual learning for image recognition, CVPR.
    """

    #: What it pools and enlarges goes by sides that a trace keeps: at others OpenVINO reads what is
    #: not there.
    traceable = False

    def __init__(self, *, in_channels: int = 1, out_channels: int = 1, width: int = 64) -> None:
        super().__init__()
        self.stride = 32
        last = max(1, width // 2)
        self.encoder = ResNet34(in_channels, width)
        self.atrous = DenseAtrous(8 * width)
        self.pooling = MultiKernelPooling(8 * width)
        self.decoder = nn.ModuleList(
            DecoderBlock(inputs, outputs)
            for inputs, outputs in (
                (8 * width + len(MultiKernelPooling.kernels), 4 * width),
                (4 * width, 2 * width),
                (2 * width, width),
                (width, width),
            )
        )
        self.head = nn.Sequential(
            nn.ConvTranspose2d(width, last, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(last, last, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(last, out_channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map sections (N, in_channels, Y, X) to logits (N, out_channels, Y, X) of any size."""
        height, width = x.shape[-2:]
        *skips, x = self.encoder(pad_to_multiple(x, self.stride))
        x = self.pooling(self.atrous(x))
        for block in self.decoder:
            x = block(x)
            if skips:
                x = x + skips.pop()
        return self.head(x)[..., :height, :width]  # type: ignore[no-any-return]


class ResNet34(nn.Module):
    """The convolutions of a ResNet-34, their names as in torchvision's files.

    Parameters
    ----------
    in_channels
        Channels of the image.
    width
        Channels of the first stage.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks=3, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks=4, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks=6, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, blocks=3, stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, in_channels, Y, X) to the features at strides 4, 8, 16 and 32."""
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, stride=2, padding=1)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a path that is the identity where shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.downsample.append(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, Y, X) to (N, outputs, Y / stride, X / stride)."""
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.downsample(x)).relu()  # type: ignore[no-any-return]


def _stage(inputs: int, outputs: int, *, blocks: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(outputs, outputs, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(inputs, outputs, stride=stride), *rest)


class DenseAtrous(nn.Module):
    """Four cascades of 3×3 convolutions with dilations 1; 3; 1, 3; 1, 3, 5, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.by1, self.by3, self.by5 = (
            nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in (1, 3, 5)
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, Y, X) to the same shape."""
        one = self.by1(x)
        three = self.by3(one)
        cascades = (self.mix(branch) for branch in (self.by3(x), three, self.by5(three)))
        return x + one.relu() + sum(cascade.relu() for cascade in cascades)  # type: ignore[no-any-return]


class MultiKernelPooling(nn.Module):
    """The input and, beside it, one map per size of pooling window."""

    kernels = (2, 3, 5, 6)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, Y, X) to (N, channels + 4, Y, X)."""
        height, width = x.shape[-2:]
        maps = [x]
        for kernel in self.kernels:
            # Windows that reach over the end are pooled too; each is then drawn where it lay.
            pooled = self.squeeze(functional.max_pool2d(x, kernel, ceil_mode=True))
            size = (kernel * pooled.shape[-2], kernel * pooled.shape[-1])
            drawn = functional.interpolate(pooled, size=size, mode="bilinear")
            maps.append(drawn[..., :height, :width])
        return torch.cat(maps, dim=1)


class DecoderBlock(nn.Module):
    """A 1×1 convolution to a quarter of the channels, 3×3 transposed, 1×1, all normalised."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        inner = max(1, inputs // 4)
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, Y, X) to (N, outputs, 2 Y, 2 X)."""
        return self.layers(x)  # type: ignore[no-any-return]


def load_resnet34(network: CENet, path: str | Path) -> None:
    """Load the weights of a ResNet-34 into the encoder, all of them or none.

    Sections are shifted and scaled to mean 0 and deviation 1 before they are shown to a network,
    much as photographs are for these weights.

    Parameters
    ----------
    network
        Of width 64, with any number of inputs. Where it has not three, each input gets the mean
        over red, green and blue of the first filters, scaled so that equal inputs give what a grey
        photograph gave.
    path
        A local ``.safetensors`` file with torchvision's names. Its classifier is left out.

    Raises
    ------
    InputError
        If it is another kind of file, cannot be read, or its tensors are not those of the encoder:
        the sentence names the first that are missing, unknown or of another shape.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path}: weights are read from a .safetensors file only, since unpickling may run "
            "what somebody hid in a file; convert it once where you trust it, with "
            "safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'r34.safetensors')"
        )
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: the weights cannot be read: {error}") from error
    given = {key: value for key, value in given.items() if not key.startswith("fc.")}
    wanted = network.encoder.state_dict()
    stem, inputs = given.get("conv1.weight"), wanted["conv1.weight"].shape[1]
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3 != inputs:
        grey = stem.mean(1, keepdim=True) * 3 / inputs
        given["conv1.weight"] = grey.repeat(1, inputs, 1, 1)
    # Files from before torch 0.4.1 do not say how many batches were seen; nothing here needs it.
    counts = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")}
    given = counts | given
    faults = [f"{key} is missing" for key in wanted if key not in given]
    for key, value in given.items():
        if key not in wanted:
            faults.append(f"{key} is unknown")
        elif value.shape != wanted[key].shape:
            faults.append(f"{key} has shape {[*value.shape]}, not {[*wanted[key].shape]}")
    if faults:
        more = f" and {len(faults) - 5} more faults" if len(faults) > 5 else ""
        raise InputError(
            f"{path}: these are not the weights of this encoder: {', '.join(faults[:5])}{more}; "
            "take a ResNet-34 with torchvision's names and a CE-Net of width 64"
        )
    network.encoder.load_state_dict(given)
