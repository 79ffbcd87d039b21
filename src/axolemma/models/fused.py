"""Batch normalisation folded into the convolutions before it: the same network, fewer passes."""

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fused"]


def fused(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose normalisations are part of its convolutions.

    In evaluation a batch normalisation is one factor and one summand per channel, which the
    weights and the bias of the convolution before it can take over. Nothing is left to learn in
    what is returned: it is for prediction alone.

    Parameters
    ----------
    network
        From `build`, with its weights. It is not changed.

    Returns
    -------
    nn.Module
        In evaluation mode, on the same device; its logits are those of `network` in evaluation
        mode, but for rounding. Its names of weights are not those of `network`, so a model file
        is written before.

    References
    ----------
    Jacob et al. 2018 (Quantization and training of neural networks for efficient integer-arithmetic
    -only inference), CVPR, section 3.2.
    """
    result = copy.deepcopy(network).eval().requires_grad_(False)
    for module in result.modules():
        # In all networks here children stand in the order in which they compute.
        for (name, before), (after, norm) in pairwise(list(module.named_children())):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            if isinstance(before, nn.Conv2d | nn.ConvTranspose2d):
                transposed = isinstance(before, nn.ConvTranspose2d)
                setattr(module, name, fuse_conv_bn_eval(before, norm, transposed))
                setattr(module, after, nn.Identity())
    return result.requires_grad_(False)
