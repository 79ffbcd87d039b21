"""Residual U-Net over a space-to-depth stem: the default network."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from axolemma.models.blocks import ResidualBlock, pad_to_multiple

__all__ = ["ResUNet"]


class ResUNet(nn.Module):
    """A U-Net of residual blocks with additive skips that works at a quarter of the resolution.

    The stem rearranges every 4×4 pixels into 16 channels and the head undoes it, so nothing is
    lost and every convolution sees a sixteenth of the pixels.

    Parameters
    ----------
    in_channels
        Sections that one prediction looks at.
    out_channels
        Maps to predict; 1 = membrane.
    width
        Channels of the finest level; every level below has twice as many.
    depth
        Number of levels.
    unshuffle
        Pixels along a side that the stem turns into channels.

    References
    ----------
    Additive skips and residual blocks: Quan et al. 2021 (FusionNet), Front. Comput. Sci. 3.
    Space-to-depth stem: Shi et al. 2016 (sub-pixel convolution), CVPR.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 24,
        depth: int = 4,
        unshuffle: int = 4,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.unshuffle = unshuffle
        self.stride = unshuffle * 2 ** (depth - 1)
        self.stem = nn.Conv2d(unshuffle**2 * in_channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(ResidualBlock(w) for w in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.head = nn.Conv2d(width, unshuffle**2 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map sections (N, in_channels, Y, X) to logits (N, out_channels, Y, X) of any size."""
        height, width = x.shape[-2:]
        x = functional.pixel_unshuffle(pad_to_multiple(x, self.stride), self.unshuffle)
        x = self.encoder[0](self.stem(x))
        skips = []
        for down, block in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = block(down(x))
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = block(up(x) + skips.pop())
        return functional.pixel_shuffle(self.head(x), self.unshuffle)[..., :height, :width]
