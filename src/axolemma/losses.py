"""Losses: logits and truth in, one number out. Pure functions, membrane = 1."""

from torch import Tensor
from torch.nn import functional

__all__ = ["bce_dice", "soft_dice"]


def soft_dice(logits: Tensor, truth: Tensor) -> Tensor:
    r"""Compute one minus the Dice coefficient of the membrane over the whole batch.

    .. math:: 1 - \frac{2\sum p t + 1}{\sum p + \sum t + 1}

    Parameters
    ----------
    logits, truth
        Equal shapes; truth in [0, 1], 1 = membrane.

    Returns
    -------
    Tensor
        A scalar in [0, 1); the 1 in both sums keeps it defined where there is no membrane.

    References
    ----------
    Milletari et al. 2016 (V-Net), 3DV, with the denominator of Sørensen and Dice.
    """
    p = logits.sigmoid()
    return 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)


def bce_dice(logits: Tensor, truth: Tensor, *, dice: float = 0.5) -> Tensor:
    """Add binary cross-entropy and `dice` times the soft Dice loss of the membrane.

    Parameters
    ----------
    logits, truth
        Equal shapes; truth in [0, 1], 1 = membrane.
    dice
        Weight of the Dice part; the cross-entropy has weight 1.

    Returns
    -------
    Tensor
        A scalar, 0 or above.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth)
    return cross_entropy + dice * soft_dice(logits, truth)
