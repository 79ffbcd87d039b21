"""Building blocks that several networks share."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ConvBlock", "ResidualBlock", "pad_to_multiple", "start_as_he"]


def start_as_he(layer: nn.Conv2d) -> None:
    """Draw weights as He et al. 2015 did for layers that are followed by a ReLU."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad height and width at their ends up to the next multiple, so that any size fits.

    Parameters
    ----------
    x
        Shape (N, C, Y, X).
    multiple
        What Y and X must be divisible by.

    Returns
    -------
    Tensor
        The input itself where nothing is missing. The pad mirrors the image where it is large
        enough for that, and repeats its last line where it is not.
    """
    bottom = -x.shape[-2] % multiple
    right = -x.shape[-1] % multiple
    if not bottom and not right:
        return x
    mirror = bottom < x.shape[-2] and right < x.shape[-1]
    return functional.pad(x, (0, right, 0, bottom), mode="reflect" if mirror else "replicate")


class ConvBlock(nn.Module):
    """Two 3×3 convolutions, each with batch normalisation and ReLU.

    Parameters
    ----------
    inputs, outputs
        Channels.
    dropout
        Probability with which a value of the result is dropped in training.
    dropout_twice
        Whether values are dropped after the first convolution too.
    normalisation
        Without it convolutions have biases, and weights start as He et al. 2015 (Delving deep into
        rectifiers) drew them, so that values keep their size through many layers all the same.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        dropout: float = 0.0,
        dropout_twice: bool = False,
        normalisation: bool = True,
    ) -> None:
        super().__init__()
        drop = nn.Dropout(dropout) if dropout else nn.Identity()
        relu = nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=not normalisation),
            nn.BatchNorm2d(outputs) if normalisation else nn.Identity(),
            nn.Sequential(relu, drop) if dropout_twice else relu,
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=not normalisation),
            nn.BatchNorm2d(outputs) if normalisation else nn.Identity(),
            relu,
            drop,
        )
        if not normalisation:
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d):
                    start_as_he(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, Y, X) to (N, outputs, Y, X)."""
        return self.layers(x)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside an identity path (He et al. 2016, Deep residual learning).

    Parameters
    ----------
    channels
        Channels in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        # Starting as the identity keeps a deep stack trainable at a high learning rate.
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, Y, X) to the same shape."""
        return torch.relu(x + self.layers(x))
