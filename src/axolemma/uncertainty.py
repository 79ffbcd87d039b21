"""How unsure membrane maps are: of a pixel, and of a place."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["HIGHEST", "entropy", "uncertainty_halo", "uncertainty_map"]

#: The entropy of what is wholly undecided, log 2.
HIGHEST = math.log(2)

#: Standard deviations at which the Gaussian of `uncertainty_map` ends.
_END = 4.0


def entropy(p: NDArray[Any]) -> NDArray[np.float64]:
    r"""Return how undecided probabilities are: :math:`-p \log p - (1 - p) \log (1 - p)`.

    In [0, log 2], 0 at 0 and 1, highest at one half.
    """
    # 0 log 0 is 0.
    sure = np.clip(p.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(-sure * np.log(sure) - (1 - sure) * np.log1p(-sure))


def uncertainty_map(section: NDArray[Any], *, smoothing: float) -> NDArray[np.float32]:
    """Tell where a membrane map is likely to be wrong: its entropy, smoothed.

    On the bank of every membrane a pixel or two are undecided, however sure the map is; where a
    membrane may be there or not, many are. Smoothing tells the one from the other. It points at
    more errors than disagreement between poses does, if not at the costliest ones
    (docs/results/uncertainty.json).

    Parameters
    ----------
    section
        The membrane map (Y, X) in [0, 1].
    smoothing
        Standard deviation of the Gaussian in pixels; beyond the edge the section is mirrored.

    Returns
    -------
    NDArray[np.float32]
        (Y, X) in [0, log 2].
    """
    smooth = ndimage.gaussian_filter(entropy(section), smoothing, truncate=_END)
    return np.asarray(smooth, np.float32)


def uncertainty_halo(*, smoothing: float) -> int:
    """Return how many pixels around it say what `uncertainty_map` is at a pixel."""
    return int(_END * smoothing + 0.5)
