"""What turns a membrane map's values into probabilities that come true.

A network learns from thickened truth and from a loss that wants overlap, so the values of its maps
are no frequencies: of the pixels at .5 fewer than half are membrane. Two numbers mend most of that,
chosen on the sections that choose thresholds. They move thresholds but keep the order of the
values, so cells and thinned scores stay what they are.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from axolemma.errors import InputError

__all__ = ["Calibration", "fit_calibration"]

#: Values nearer to 0 and 1 than this are taken for this: their log-odds would be infinite.
_EDGE = 1e-6
_HIGHEST = math.log((1 - _EDGE) / _EDGE)

#: The log-odds are fitted in so many steps.
_STEPS = 4096

#: What the slope may be: it must rise, and stay finite where a map is perfect.
_SLOPES = (0.01, 100.0)


class Calibration(NamedTuple):
    r"""Two numbers, :math:`p \mapsto \sigma(slope \cdot \log\frac{p}{1 - p} + shift)`.

    Parameters
    ----------
    slope
        Above 0; below 1 a map is too sure of itself.
    shift
        Below 0 a map sees too much membrane.

    References
    ----------
    Platt 1999, Probabilistic outputs for support vector machines; Guo et al. 2017, On calibration
    of modern neural networks, ICML.
    """

    slope: float
    shift: float

    def __call__(self, map_: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities of a membrane map in [0, 1], float32 of equal shape."""
        odds = self.slope * _log_odds(map_) + self.shift
        return np.asarray(expit(odds), np.float32)

    def threshold(self, threshold: float) -> float:
        """Return the threshold that parts what `threshold` parted in the map before.

        Interior is where ``1 - membrane map > threshold``.
        """
        return float(1 - self(np.array(1 - threshold, np.float64)))


def fit_calibration(
    maps: NDArray[Any], truth: NDArray[np.bool_], *, where: NDArray[np.bool_] | None = None
) -> Calibration:
    """Choose a calibration where the log loss of known sections is least.

    Parameters
    ----------
    maps
        (Z, Y, X), float in [0, 1], 1 = membrane; best of sections that were not learned from.
    truth
        Bool, equal shape; True = membrane, as it was drawn.
    where
        Bool, equal shape; the pixels to count, all by default.

    Returns
    -------
    Calibration
        Finite also where the truth has one kind of pixel only: both kinds are counted once more
        than they are seen, as Platt does.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    # To import it takes longer than to apply a calibration, which needs nothing of it.
    from scipy.optimize import minimize

    counted = np.ones_like(truth) if where is None else where
    if not maps.shape == truth.shape == counted.shape:
        raise InputError(
            f"the maps have shape {maps.shape} and the truth {truth.shape}; they must be the same"
            " pixels"
        )
    pixels = np.zeros((2, _STEPS))
    for section, drawn, here in zip(maps, truth, counted, strict=True):
        place = (_log_odds(section[here]) + _HIGHEST) * (_STEPS / (2 * _HIGHEST))
        step = np.clip(place.astype(np.intp), 0, _STEPS - 1)
        for kind, mine in enumerate((~drawn[here], drawn[here])):
            pixels[kind] += np.bincount(step[mine], minlength=_STEPS)
    odds = (np.arange(_STEPS) + 0.5) * (2 * _HIGHEST / _STEPS) - _HIGHEST
    none, all_ = pixels.sum(axis=1)
    # Platt's targets, instead of 0 and 1.
    membrane = pixels[0] / (none + 2) + pixels[1] * (all_ + 1) / (all_ + 2)
    every = pixels.sum(axis=0)
    total = max(1.0, every.sum())

    def loss(numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the log loss and its gradient."""
        z = numbers[0] * odds + numbers[1]
        off = every * expit(z) - membrane
        lost = (every * np.logaddexp(0, z) - membrane * z).sum() / total
        return float(lost), np.array([off @ odds, off.sum()]) / total

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=(_SLOPES, (-2 * _HIGHEST, 2 * _HIGHEST)),
        options={"ftol": 1e-13, "gtol": 1e-9},
    )
    slope, shift = found.x.tolist()
    return Calibration(slope, shift)


def _log_odds(map_: NDArray[Any]) -> NDArray[np.float64]:
    sure = np.clip(np.asarray(map_, np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(sure) - np.log1p(-sure))
