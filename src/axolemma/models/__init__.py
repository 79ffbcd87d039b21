"""Networks: sections (N, C, Y, X) in, membrane logits (N, 1, Y, X) out, any size.

Every network takes flat keyword arguments, holds no configuration object, and has an attribute
`stride`: images whose sides are multiples of it need no padding.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from axolemma.errors import SettingsError, nearest
from axolemma.models.cenet import CENet, load_resnet34
from axolemma.models.fused import fused
from axolemma.models.posed import POSES, posed, turned, turned_back
from axolemma.models.resunet import ResUNet
from axolemma.models.unet import UNet
from axolemma.models.unetplusplus import UNetPlusPlus

__all__ = [
    "DEFAULT",
    "MODELS",
    "POSES",
    "CENet",
    "ResUNet",
    "UNet",
    "UNetPlusPlus",
    "all_arguments",
    "build",
    "check",
    "check_name",
    "fused",
    "gflop_per_megapixel",
    "heads",
    "load_resnet34",
    "parameters",
    "posed",
    "turned",
    "turned_back",
]

#: Every network by the name it has on the command line and in model files.
MODELS: dict[str, type[nn.Module]] = {
    "resunet": ResUNet,
    "unet": UNet,
    "unetplusplus": UNetPlusPlus,
    "cenet": CENet,
}

#: The network that is trained where none is named.
DEFAULT = "resunet"


def build(name: str, /, **arguments: Any) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    name
        A key of `MODELS`.
    **arguments
        The network's own keyword arguments: positive whole numbers, shares in [0, 1), or true or
        false.

    Returns
    -------
    nn.Module
        The network, in training mode.

    Raises
    ------
    SettingsError
        If the name or an argument is unknown or an argument is out of range.
    """
    check(name, **arguments)
    return MODELS[name](**arguments)


def check(name: str, /, **arguments: Any) -> None:
    """Raise `SettingsError` where `build` would, for the name or an argument out of its range."""
    check_name(name)
    known = inspect.signature(MODELS[name]).parameters
    for key, value in arguments.items():
        if key not in known:
            raise SettingsError(f"model '{name}' has no argument '{key}'{nearest(key, known)}")
        default = known[key].default
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise SettingsError(f"model '{name}': {key} is true or false, not {value!r}")
        elif isinstance(default, float):
            if type(value) not in (int, float) or not 0 <= value < 1:
                raise SettingsError(f"model '{name}': {key} is a share in [0, 1), not {value!r}")
        elif isinstance(default, int):
            most = {"depth": 8, "unshuffle": 16}.get(key, 4096)
            if type(value) is not int or not 1 <= value <= most:
                raise SettingsError(
                    f"model '{name}': {key} is a whole number from 1 to {most}, not {value!r}"
                )


def all_arguments(name: str, /, **arguments: Any) -> dict[str, Any]:
    """Return the arguments of a network with its defaults filled in.

    A model file keeps them all, so that it can be read when a default has changed.
    """
    check_name(name)
    known = inspect.signature(MODELS[name]).parameters
    return {key: parameter.default for key, parameter in known.items()} | arguments


def check_name(name: str) -> None:
    """Raise `SettingsError` with the nearest known name where there is no such network."""
    if name not in MODELS:
        raise SettingsError(f"unknown model '{name}'{nearest(name, MODELS)}")


def heads(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the logits that training compares with the truth; its loss is the mean over them.

    Parameters
    ----------
    network
        From `build`.
    x
        Sections (N, C, Y, X).

    Returns
    -------
    list[Tensor]
        Logits (N, out_channels, Y, X) of every head of a network with deep supervision, and of
        any other network its one result.
    """
    return network.heads(x) if isinstance(network, UNetPlusPlus) else [network(x)]


def parameters(network: nn.Module) -> int:
    """Count the learned numbers of a network, also of one that takes no gradient any more."""
    return sum(p.numel() for p in network.parameters())


def gflop_per_megapixel(name: str, /, **arguments: Any) -> float:
    """Count the arithmetic of one prediction, in 10⁹ operations per 2²⁰ pixels.

    Multiplications and additions count apart. The network is laid out on torch's meta device, so
    nothing is computed.
    """
    with torch.device("meta"):
        network = build(name, **arguments).eval()
        section = torch.empty(1, arguments.get("in_channels", 1), 1024, 1024)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(section)
    return float(counter.get_total_flops()) / 1e9
