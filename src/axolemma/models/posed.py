"""Poses: flips and quarter turns of what a network sees, of its pixels or of its weights."""

import copy

import torch
from torch import Tensor, nn

from axolemma.settings import Average

__all__ = ["POSES", "posed", "turned", "turned_back"]

#: Flips and quarter turns of every averaging: (flip the last axis?, quarter turns after that).
POSES: dict[Average, tuple[tuple[bool, int], ...]] = {
    "none": ((False, 0),),
    "half-turn": ((False, 0), (False, 2)),
    "flips": ((False, 0), (True, 0), (False, 2), (True, 2)),
    "dihedral": tuple((flip, turns) for flip in (False, True) for turns in range(4)),
}


@torch.no_grad()
def posed(
    network: nn.Module, flip: bool = False, turns: int = 0, *, channels: int = 1
) -> nn.Module | None:
    """Return what makes of an image what a network makes of it in a pose, turned back.

    The weights are turned, which are few, instead of pixels: convolving a turned image is turning
    what the kernel, turned back, makes of the image. Pooling and what is done pixel by pixel
    commute with turning too, where sides are multiples of the network's stride.

    Parameters
    ----------
    network
        From `build` or `fused`, on the CPU. It is not changed.
    flip, turns
        The pose, see `POSES`.
    channels
        Sections that the network looks at.

    Returns
    -------
    nn.Module or None
        In evaluation mode; None where the network is not of such operations alone, as where its
        convolutions jump by less than they reach over. That is tried on noise.
    """
    result = copy.deepcopy(network).eval()
    convolutions = {
        name: module
        for name, module in result.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in convolutions.items()
    ]
    stride = int(network.stride)  # type: ignore[arg-type]
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, 4 * stride, 2 * stride, generator=chance)
    expected = turned_back(result(turned(x, flip, turns)), flip, turns)
    for hook in hooks:
        hook.remove()

    # A side of the pixels that the network makes channels at its start, and channels at its end
    # that it makes pixels: they are turned as pixels are.
    side = int(getattr(network, "unshuffle", 1))
    for name, module in convolutions.items():
        weight = turned_back(module.weight, flip, turns)
        if name == called[0]:
            pixels = weight.unflatten(1, (-1, side, side))  # type: ignore[no-untyped-call]
            weight = turned_back(pixels, flip, turns, axis=2).flatten(1, 3)
        if name.partition(".")[0] == "head":
            for values in (weight, module.bias):
                if values is not None:
                    pixels = values.unflatten(0, (-1, side, side))  # type: ignore[no-untyped-call]
                    values.copy_(turned_back(pixels, flip, turns, axis=1).flatten(0, 2))
        module.weight.copy_(weight)
    alike = torch.allclose(result(x), expected, rtol=1e-3, atol=1e-4)
    return result if alike else None


def turned(x: Tensor, flip: bool, turns: int) -> Tensor:
    """Bring the pixels of sections (..., Y, X) into a pose, see `POSES`."""
    x = x.flip(-1) if flip else x
    return torch.rot90(x, turns, (-2, -1)) if turns else x


def turned_back(x: Tensor, flip: bool, turns: int, *, axis: int = -2) -> Tensor:
    """Undo a pose, where Y is that axis and X the next one."""
    x = torch.rot90(x, -turns, (axis, axis + 1)) if turns else x
    return x.flip(axis + 1) if flip else x
