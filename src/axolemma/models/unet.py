"""The U-Net of Ronneberger et al. 2015."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from axolemma.models.blocks import ConvBlock, pad_to_multiple, start_as_he

__all__ = ["UNet"]


class UNet(nn.Module):
    """The classic U-Net.

    It differs from the paper in two points: convolutions are padded, so that the output has the
    size of the input, and by default batch-normalised, so that it trains from scratch at a high
    learning rate.

    Parameters
    ----------
    in_channels
        Sections that one prediction looks at.
    out_channels
        Maps to predict; 1 = membrane.
    width
        Channels of the finest level; every level below has twice as many, 64 … 1024 by default.
    depth
        Number of levels.
    dropout
        Probability of dropping a value after the two deepest blocks of the contracting path.
    normalisation
        Whether convolutions are batch-normalised; the paper's are not.
    narrow_head
        Whether a 3×3 convolution to two channels comes before the last one, as in a Keras version
        that many have used.
    unshuffle
        Pixels along a side that become channels at first and are put back at last (space to
        depth): 4 turns every 4×4 pixels into 16 channels. The arithmetic shrinks by the square.

    References
    ----------
    Ronneberger, Fischer, Brox 2015, U-Net: convolutional networks for biomedical image
    segmentation, MICCAI.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        depth: int = 5,
        dropout: float = 0.5,
        normalisation: bool = True,
        narrow_head: bool = False,
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        block = partial(ConvBlock, normalisation=normalisation)
        widths = [width * 2**level for level in range(depth)]
        drops = [dropout if level >= depth - 2 else 0.0 for level in range(depth)]
        self.unshuffle = unshuffle
        self.stride = unshuffle * 2 ** (depth - 1)
        in_channels, out_channels = (unshuffle**2 * n for n in (in_channels, out_channels))
        self.encoder = nn.ModuleList(
            block(a, b, dropout=drop)
            for a, b, drop in zip([in_channels, *widths], widths, drops, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(block(2 * w, w) for w in widths[:-1])
        self.head: nn.Module = nn.Conv2d(width, out_channels, 1)
        if narrow_head:
            narrow = nn.Conv2d(width, 2, 3, padding=1)
            start_as_he(narrow)
            self.head = nn.Sequential(narrow, nn.ReLU(inplace=True), nn.Conv2d(2, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map sections (N, in_channels, Y, X) to logits (N, out_channels, Y, X) of any size."""
        height, width = x.shape[-2:]
        x = functional.pixel_unshuffle(pad_to_multiple(x, self.stride), self.unshuffle)
        x = self.encoder[0](x)
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = block(torch.cat((skips.pop(), up(x)), dim=1))
        return functional.pixel_shuffle(self.head(x), self.unshuffle)[..., :height, :width]
