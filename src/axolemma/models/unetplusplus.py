"""The U-Net++ of Zhou et al.: U-Nets of every depth in one, which can be pruned after training."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from axolemma.errors import InputError, SettingsError
from axolemma.models.blocks import ConvBlock, pad_to_multiple

__all__ = ["UNetPlusPlus"]


class UNetPlusPlus(nn.Module):
    r"""The nested U-Net with dense skips and deep supervision.

    Node (level, column) sees all nodes to its left on its level and the node below them::

        0_0   0_1   0_2   0_3   0_4      heads on 0_1 … 0_4
           1_0   1_1   1_2   1_3
              2_0   2_1   2_2
                 3_0   3_1
                    4_0

    so that the nodes up to 0_k are a U-Net of k + 1 levels of their own, with head k.

    It differs from the authors' code in three points, to train from scratch at a high learning
    rate: 3×3 convolutions have by default batch normalisation instead of biases; values are dropped
    once per node, after its second convolution, and by default not at all (there half of them after
    every convolution); the decay of weights is the optimizer's matter. Widths, two convolutions per
    node, transposed convolutions for upsampling and heads are theirs: with one head they count
    9,041,601 parameters, to which normalisation instead of biases adds 3,648.

    Parameters
    ----------
    in_channels
        Sections that one prediction looks at.
    out_channels
        Maps to predict; 1 = membrane.
    width
        Channels of the finest level; every level below has twice as many, 32 … 512 by default.
    depth
        Number of levels, from 2.
    dropout
        Probability of dropping a value after each node.
    dropout_twice
        Whether values are dropped after every convolution, as in the authors' code.
    normalisation
        Whether convolutions are batch-normalised; the authors' are not.
    unshuffle
        Pixels along a side that become channels at first and are put back at last (space to
        depth): 4 turns every 4×4 pixels into 16 channels. The arithmetic shrinks by the square.
    deep_supervision
        Whether every U-Net inside has a head (a 1×1 convolution), or the deepest one only.

    Raises
    ------
    SettingsError
        If there is only one level.

    References
    ----------
    Zhou, Siddiquee, Tajbakhsh, Liang 2018, UNet++: a nested U-Net architecture for medical image
    segmentation, DLMIA; and 2020, IEEE Trans. Med. Imaging 39.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        depth: int = 5,
        dropout: float = 0.0,
        dropout_twice: bool = False,
        normalisation: bool = True,
        unshuffle: int = 1,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise SettingsError("model 'unetplusplus': depth is a whole number from 2, not 1")
        widths = [width * 2**level for level in range(depth)]
        self._arguments = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": width,
            "dropout": dropout,
            "dropout_twice": dropout_twice,
            "normalisation": normalisation,
            "unshuffle": unshuffle,
        }
        self.depth, self.unshuffle = depth, unshuffle
        self.stride = unshuffle * 2 ** (depth - 1)
        in_channels, out_channels = (unshuffle**2 * n for n in (in_channels, out_channels))
        block = partial(
            ConvBlock, dropout=dropout, dropout_twice=dropout_twice, normalisation=normalisation
        )
        self.pool = nn.MaxPool2d(2)
        self.node = nn.ModuleDict()
        self.up = nn.ModuleDict()
        for level, here in enumerate(widths):
            above = widths[level - 1] if level else in_channels
            self.node[f"{level}_0"] = block(above, here)
            for column in range(1, depth - level):
                name = f"{level}_{column}"
                self.up[name] = nn.ConvTranspose2d(2 * here, here, 2, stride=2)
                self.node[name] = block((column + 1) * here, here)
        columns = range(1 if deep_supervision else depth - 1, depth)
        self.head = nn.ModuleDict({str(c): nn.Conv2d(width, out_channels, 1) for c in columns})

    def forward(self, x: Tensor) -> Tensor:
        r"""Map sections (N, in_channels, Y, X) to logits (N, out_channels, Y, X) of any size.

        In training and in evaluation these are the logits of the mean of the heads'
        probabilities, the paper's accurate mode:

        .. math:: \log\frac{\sum_k \sigma(z_k)}{\sum_k \sigma(-z_k)}
        """
        heads = self.heads(x)
        if len(heads) == 1:
            return heads[0]
        z = torch.stack(heads).float()
        yes, no = functional.logsigmoid(z), functional.logsigmoid(-z)
        return yes.logsumexp(0) - no.logsumexp(0)

    def heads(self, x: Tensor) -> list[Tensor]:
        """Return every head's logits (N, out_channels, Y, X), that of the shallowest U-Net first.

        Training takes the mean of their losses.
        """
        height, width = x.shape[-2:]
        # levels[l] are the nodes of level l that are known, from left to right.
        x = functional.pixel_unshuffle(pad_to_multiple(x, self.stride), self.unshuffle)
        levels = [[self.node["0_0"](x)]]
        for level in range(1, self.depth):
            levels.append([self.node[f"{level}_0"](self.pool(levels[-1][0]))])
        for column in range(1, self.depth):
            for level in range(self.depth - column):
                name = f"{level}_{column}"
                up = self.up[name](levels[level + 1][column - 1])
                levels[level].append(self.node[name](torch.cat((*levels[level], up), dim=1)))
        logits = (head(levels[0][int(column)]) for column, head in self.head.items())
        return [functional.pixel_shuffle(z, self.unshuffle)[..., :height, :width] for z in logits]

    def pruned(self, level: int) -> "UNetPlusPlus":
        """Return the U-Net++ of `level` + 1 levels inside this one, the paper's fast mode.

        Parameters
        ----------
        level
            Number of the head to keep, 1 … depth - 1: L1 … L4 of the paper.

        Returns
        -------
        UNetPlusPlus
            A network with copies of the weights that head `level` needs, in the same mode, of the
            same arguments but ``depth=level + 1`` and ``deep_supervision=False``. Where the sides
            are multiples of this network's stride its logits equal those of the head bit for bit;
            elsewhere it pads less.

        Raises
        ------
        InputError
            If there is no such head.
        """
        if str(level) not in self.head:
            there = ", ".join(self.head)
            raise InputError(f"there is no head {level} to prune to; this network has {there}")
        with torch.device("meta"):  # laid out only: the weights come from this network
            small = UNetPlusPlus(**self._arguments, depth=level + 1, deep_supervision=False)  # type: ignore[arg-type]
        mine = self.state_dict()
        small.load_state_dict({key: mine[key].clone() for key in small.state_dict()}, assign=True)
        return small.train(self.training)
