r"""Losses: logits and truth in, one number out. Pure functions, membrane = 1.

Below, :math:`z` are logits, :math:`p = \sigma(z)` probabilities and :math:`t` the truth, all of one
shape (N, 1, Y, X) unless a loss says that any will do; :math:`\sum` runs over the whole batch and
:math:`n` is its number of pixels. With `where`, of the same shape, 1 = counted and 0 = not, sums
and numbers are those of the counted pixels alone: nothing that logits or truth hold elsewhere
changes the loss. Every loss is finite for any finite logits, with or without membrane in the truth.
Losses of overlap have a ½ or 1 in their sums that keeps them defined where there is no membrane.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from axolemma.errors import InputError, SettingsError, nearest

__all__ = [
    "LOOKING",
    "LOSSES",
    "bce",
    "bce_dice",
    "build",
    "check_name",
    "cl_dice",
    "distance_weight_map",
    "focal",
    "iou",
    "soft_dice",
    "tversky",
    "weight_map_bce",
    "weighted_bce",
]


def bce(logits: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    r"""Compute the mean binary cross-entropy.

    .. math:: -\frac{1}{n} \sum t \log p + (1 - t) \log(1 - p)

    Parameters
    ----------
    logits, truth
        Equal shapes, any; truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.

    Returns
    -------
    Tensor
        A scalar, 0 or above.
    """
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return _mean(each, where)


def weighted_bce(
    logits: Tensor,
    truth: Tensor,
    where: Tensor | None = None,
    *,
    membrane: float | None = None,
    interior: float | None = None,
) -> Tensor:
    r"""Compute the mean binary cross-entropy with a weight for either class.

    .. math::
        -\frac{1}{n} \sum w_1 t \log p + w_0 (1 - t) \log(1 - p), \qquad
        w_1 = \frac{n}{2 \sum t}, \quad w_0 = \frac{n}{2 \sum (1 - t)}

    Parameters
    ----------
    logits, truth
        Equal shapes, any; truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.
    membrane, interior
        Weights :math:`w_1` and :math:`w_0`; where None those above, from the batch's frequencies,
        with which either class makes half of the loss. A class that is absent counts nothing.

    Returns
    -------
    Tensor
        A scalar, 0 or above.

    References
    ----------
    Xie, Tu 2015, Holistically-nested edge detection, ICCV, for weights from class frequencies.
    """
    count = truth.numel() if where is None else where.sum()
    half, ones = count / 2, _counted(truth, where).sum()
    one = half / ones.clamp(min=1) if membrane is None else membrane
    zero = half / (count - ones).clamp(min=1) if interior is None else interior
    weights = one * truth + zero * (1 - truth)
    each = functional.binary_cross_entropy_with_logits(
        logits, truth, weight=weights, reduction="none"
    )
    return _mean(each, where)


def weight_map_bce(
    logits: Tensor,
    truth: Tensor,
    where: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
) -> Tensor:
    r"""Compute the binary cross-entropy with a weight for every pixel.

    .. math:: -\frac{1}{n} \sum w \, (t \log p + (1 - t) \log(1 - p))

    Parameters
    ----------
    logits, truth
        Shapes (…, Y, X); truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.
    weights
        Weights :math:`w` of the same shape, 0 or above; where None the maps of
        `distance_weight_map`, drawn anew from where the truth is at least ½.
    w0, sigma
        For these maps.

    Returns
    -------
    Tensor
        A scalar, 0 or above; that of `bce` where all weights are 1.

    References
    ----------
    Ronneberger et al. 2015 (U-Net), MICCAI, section 3.
    """
    if weights is None:
        known = torch.ones_like(truth) if where is None else where
        sections, annotated = (
            mask.cpu().numpy().reshape(-1, *truth.shape[-2:])
            for mask in (truth.detach() >= 0.5, known > 0)
        )
        maps = np.stack(
            [
                distance_weight_map(section, counted, w0=w0, sigma=sigma)
                for section, counted in zip(sections, annotated, strict=True)
            ]
        )
        weights = torch.from_numpy(maps).reshape(truth.shape).to(logits)
    each = functional.binary_cross_entropy_with_logits(
        logits, truth, weight=weights, reduction="none"
    )
    return _mean(each, where)


def distance_weight_map(
    truth: NDArray[Any],
    where: NDArray[np.bool_] | None = None,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
) -> NDArray[np.float32]:
    r"""Weigh the pixels of one section: most where two cells come close.

    .. math:: w = w_c + w_0 \exp\left(-\frac{(d_1 + d_2)^2}{2 \sigma^2}\right)

    :math:`d_1` and :math:`d_2` are the distances to the nearest and the second nearest cell, the
    4-connected pieces of the interior. The formula is taken everywhere: within a cell
    :math:`d_1 = 0`, so both banks of a thin membrane weigh more too. :math:`w_c` balances the
    classes as in `weighted_bce`.

    Parameters
    ----------
    truth
        (Y, X), True or 1 = membrane.
    where
        (Y, X), the annotated pixels; all where None. Others part cells as membrane does, and do
        not count for the balance of the classes.
    w0
        Weight of a gap without width.
    sigma
        Width in pixels at which that has fallen to 0.61.

    Returns
    -------
    NDArray[np.float32]
        (Y, X), above 0; :math:`w_c` alone where there are fewer than two cells.

    Raises
    ------
    InputError
        If the truth is not one section, or `sigma` not above 0.

    References
    ----------
    Ronneberger et al. 2015 (U-Net), MICCAI, equation 2.
    """
    if truth.ndim != 2:
        raise InputError(f"a weight map is drawn for one section (Y, X), not {truth.shape}")
    if not sigma > 0:
        raise InputError(f"the weight map's sigma is a width above 0 pixels, not {sigma}")
    counted = np.ones(truth.shape, bool) if where is None else where
    membrane = truth.astype(bool) | ~counted
    ones, size = int((membrane & counted).sum()), int(counted.sum())
    balance = np.where(membrane, size / 2 / max(1, ones), size / 2 / max(1, size - ones))
    cells, count = ndimage.label(~membrane)
    if count < 2:
        return balance.astype(np.float32)
    # Beyond 7 sigma the term is below 10⁻¹⁰ of w0, less than float32 can add to the balance.
    first, second = _two_nearest(cells, math.ceil(7 * sigma))
    near = np.exp(-((np.sqrt(first) + np.sqrt(second)) ** 2) / (2 * sigma**2))
    return np.asarray(balance + w0 * near, np.float32)


def soft_dice(logits: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    r"""Compute one minus the Dice coefficient of the membrane over the whole batch.

    .. math:: 1 - \frac{2\sum p t + 1}{\sum p + \sum t + 1}

    Parameters
    ----------
    logits, truth
        Equal shapes, any; truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.

    Returns
    -------
    Tensor
        A scalar in [0, 1).

    References
    ----------
    Milletari et al. 2016 (V-Net), 3DV, with the denominator of Sørensen and Dice.
    """
    p, truth = _counted(logits.sigmoid(), where), _counted(truth, where)
    return 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)


def bce_dice(
    logits: Tensor, truth: Tensor, where: Tensor | None = None, *, dice: float = 0.5
) -> Tensor:
    """Add binary cross-entropy and `dice` times the soft Dice loss of the membrane.

    The loss 0.5 · cross-entropy - Dice coefficient of U-Net++'s authors, and of the student
    project before this one, is half of this one at ``dice=2``, less 1: it has the same minimum.

    Parameters
    ----------
    logits, truth
        Equal shapes, any; truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.
    dice
        Weight of the Dice part; the cross-entropy has weight 1.

    Returns
    -------
    Tensor
        A scalar, 0 or above.
    """
    return bce(logits, truth, where) + dice * soft_dice(logits, truth, where)


def tversky(
    logits: Tensor,
    truth: Tensor,
    where: Tensor | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
) -> Tensor:
    r"""Compute one minus the Tversky index of the membrane over the whole batch.

    .. math::
        1 - \frac{\sum p t + ½}{\sum p t + \alpha \sum p (1 - t) + \beta \sum (1 - p) t + ½}

    Parameters
    ----------
    logits, truth
        Equal shapes, any; truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.
    alpha, beta
        Weights of membrane that is invented and that is missed. Both ½ give `soft_dice`, both 1
        give `iou`; the paper found 0.3 and 0.7 best.

    Returns
    -------
    Tensor
        A scalar in [0, 1).

    References
    ----------
    Salehi et al. 2017, Tversky loss function for image segmentation using 3D fully convolutional
    deep networks, MLMI.
    """
    p, truth = _counted(logits.sigmoid(), where), _counted(truth, where)
    both, invented, missed = (p * truth).sum(), (p * (1 - truth)).sum(), ((1 - p) * truth).sum()
    return 1 - (both + 0.5) / (both + alpha * invented + beta * missed + 0.5)


def iou(logits: Tensor, truth: Tensor, where: Tensor | None = None) -> Tensor:
    r"""Compute one minus the soft intersection over union (Jaccard index) of the membrane.

    .. math:: 1 - \frac{\sum p t + ½}{\sum p + \sum t - \sum p t + ½}

    The student project before this one took one minus a mean IoU; this is that of the membrane
    alone.

    Parameters
    ----------
    logits, truth
        Equal shapes, any; truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.

    Returns
    -------
    Tensor
        A scalar in [0, 1): with D for `soft_dice`, it is 2 D / (1 + D).

    References
    ----------
    Rahman, Wang 2016, Optimizing intersection-over-union in deep neural networks for image
    segmentation, ISVC.
    """
    return tversky(logits, truth, where, alpha=1.0, beta=1.0)


def focal(
    logits: Tensor,
    truth: Tensor,
    where: Tensor | None = None,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> Tensor:
    r"""Compute the mean cross-entropy with less weight on pixels that are right already.

    .. math::
        -\frac{1}{n} \sum \alpha t (1 - p)^\gamma \log p
        + (1 - \alpha)(1 - t) p^\gamma \log(1 - p)

    Parameters
    ----------
    logits, truth
        Equal shapes, any; truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.
    gamma
        How fast the weight falls as a pixel gets right; 0 gives cross-entropy.
    alpha
        Weight of membrane; interior has weight 1 - alpha. The paper's best beside ``gamma=2``,
        though lower than balance would ask: easy interior pixels weigh little already.

    Returns
    -------
    Tensor
        A scalar, 0 or above.

    References
    ----------
    Lin et al. 2017, Focal loss for dense object detection, ICCV.
    """
    # Powers of sigmoids as exponentials: their gradients stay finite where p is 0 or 1.
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    ones = alpha * truth * (gamma * no).exp() * yes
    zeros = (1 - alpha) * (1 - truth) * (gamma * yes).exp() * no
    return -_mean(ones + zeros, where)


def cl_dice(
    logits: Tensor,
    truth: Tensor,
    where: Tensor | None = None,
    *,
    iterations: int = 5,
    weight: float = 0.5,
) -> Tensor:
    r"""Blend the soft Dice loss with that of the membranes' centre lines, which feels gaps.

    .. math::
        (1 - \alpha)\, \mathrm{Dice} + \alpha \left(1 - \frac{2 P S}{P + S}\right), \qquad
        P = \frac{\sum s(p) t + 1}{\sum s(p) + 1}, \quad
        S = \frac{\sum s(t) p + 1}{\sum s(t) + 1}

    with the soft skeleton :math:`s`: what an opening by 3×3 pixels takes away, gathered over
    repeated erosions by 3×3 pixels.

    Parameters
    ----------
    logits, truth
        Shape (N, C, Y, X); truth in [0, 1], 1 = membrane.
    where
        1 where to count, 0 elsewhere, of the same shape; all counts where None.
    iterations
        Erosions; at least half the thickness in pixels of the thickest membrane.
    weight
        :math:`\alpha`, the share of the centre lines, in [0, 1]; the paper goes up to ½.

    Returns
    -------
    Tensor
        A scalar in [0, 1).

    References
    ----------
    Shit et al. 2021, clDice: a novel topology-preserving loss function for tubular structure
    segmentation, CVPR.
    """
    # Cut before the skeletons are drawn: they look at neighbours.
    p, truth = _counted(logits.sigmoid(), where), _counted(truth, where)
    mine, theirs = _skeleton(p, iterations), _skeleton(truth, iterations)
    precise = ((mine * truth).sum() + 1) / (mine.sum() + 1)
    sensitive = ((theirs * p).sum() + 1) / (theirs.sum() + 1)
    lines = 1 - 2 * precise * sensitive / (precise + sensitive)
    return (1 - weight) * soft_dice(logits, truth, where) + weight * lines


#: Every loss by the name it has in settings; each takes logits, truth, and what to count of them.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "bce": bce,
    "bce_dice": bce_dice,
    "weighted_bce": weighted_bce,
    "weight_map_bce": weight_map_bce,
    "dice": soft_dice,
    "iou": iou,
    "tversky": tversky,
    "focal": focal,
    "cl_dice": cl_dice,
}

#: Those that look at values on the way, so that a GPU's work on them cannot be recorded.
LOOKING = ("weight_map_bce",)


def build(name: str, **options: float) -> Callable[..., Tensor]:
    """Return a loss with its options set, to call with logits, truth and, if need be, `where`.

    Parameters
    ----------
    name
        A key of `LOSSES`.
    **options
        The loss's own keyword options, numbers from 0.

    Raises
    ------
    SettingsError
        If the name or an option is unknown or an option is out of range.
    """
    check_name(name)
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(LOSSES[name]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for key, value in options.items():
        if key not in known:
            hint = nearest(key, known) if known else "; it has none"
            raise SettingsError(f"loss '{name}' has no option '{key}'{hint}")
        if isinstance(known[key], int) and type(value) is not int:
            raise SettingsError(f"loss '{name}': {key} is a whole number, not {value!r}")
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise SettingsError(f"loss '{name}': {key} is a number from 0, not {value!r}")
    return partial(LOSSES[name], **options)


def check_name(name: str) -> None:
    """Raise `SettingsError` with the nearest known name where there is no such loss."""
    if name not in LOSSES:
        raise SettingsError(f"unknown loss '{name}'{nearest(name, LOSSES)}")


def _counted(values: Tensor, where: Tensor | None) -> Tensor:
    return values if where is None else values * where


def _mean(values: Tensor, where: Tensor | None) -> Tensor:
    """Return the mean over the counted pixels, 0 where there is none."""
    return values.mean() if where is None else (values * where).sum() / where.sum().clamp(min=1)


def _skeleton(x: Tensor, iterations: int) -> Tensor:
    skeleton = torch.zeros_like(x)
    for _ in range(iterations + 1):
        eroded = -functional.max_pool2d(-x, 3, stride=1, padding=1)
        opened = functional.max_pool2d(eroded, 3, stride=1, padding=1)
        skeleton = skeleton + (1 - skeleton) * (x - opened).relu()
        x = eroded
    return skeleton


@numba.njit(cache=True)
def _insert(
    a: int, first: float, b: int, second: float, label: int, distance: float
) -> tuple[int, float, int, float]:
    """Insert a label into the two nearest, of which no label may be both."""
    if label == a or distance < first:
        if label == a:
            return a, min(first, distance), b, second
        return label, distance, a, first
    if distance < second:
        return a, first, label, distance
    return a, first, b, second


@numba.njit(cache=True)
def _two_nearest(
    cells: NDArray[np.int32], reach: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the squared distances to the nearest cell and to the nearest other cell.

    Exact up to `reach` pixels, beyond that too large or infinite. First along columns, where each
    pixel learns its two nearest labels; then along rows, over all columns that can be nearer.
    """
    height, width = cells.shape
    label_a, label_b = np.zeros((height, width), np.int32), np.zeros((height, width), np.int32)
    first = np.full((height, width), np.inf, np.float32)
    second = first.copy()
    for x in range(width):
        for way in (1, -1):
            # The last two cells passed and where; labels 0 and -1 stand for none.
            a, b, at_a, at_b = 0, -1, -np.inf, -np.inf
            for step in range(height):
                y = step if way == 1 else height - 1 - step
                if cells[y, x]:
                    if cells[y, x] != a:
                        b, at_b = a, at_a
                    a, at_a = cells[y, x], float(step)
                for label, at in ((a, at_a), (b, at_b)):
                    if label > 0:
                        label_a[y, x], first[y, x], label_b[y, x], second[y, x] = _insert(
                            label_a[y, x],
                            first[y, x],
                            label_b[y, x],
                            second[y, x],
                            label,
                            (step - at) ** 2,
                        )
    nearest_, other = first.copy(), second.copy()
    for y in range(height):
        for x in range(width):
            a, one, b, two = label_a[y, x], first[y, x], label_b[y, x], second[y, x]
            for aside in range(1, reach + 1):
                if aside * aside >= two:
                    break
                for u in (x - aside, x + aside):
                    if 0 <= u < width and first[y, u] + aside * aside < two:
                        a, one, b, two = _insert(
                            a, one, b, two, label_a[y, u], first[y, u] + aside * aside
                        )
                        if label_b[y, u]:
                            a, one, b, two = _insert(
                                a, one, b, two, label_b[y, u], second[y, u] + aside * aside
                            )
            nearest_[y, x], other[y, x] = one, two
    return nearest_, other
