"""Whether a membrane map means what it says: of the pixels at .7 seven in ten are membrane."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axolemma.metrics.pixels import checked_map, counted

__all__ = ["BINS", "Reliability", "reliability"]

#: How many bins, as Guo et al. take.
BINS = 15


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """What was predicted and what was found, in bins of the map; add them to pool sections.

    Parameters
    ----------
    pixels
        int64, (bins,): how many pixels the map has in each bin; they are equally wide, the first
        begins at 0 and the last ends at 1.
    predicted
        float64, (bins,): the sum of the map over them.
    membrane
        int64, (bins,): how many of them are membrane in the truth.
    """

    pixels: NDArray[np.int64]
    predicted: NDArray[np.float64]
    membrane: NDArray[np.int64]

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.pixels + other.pixels,
            self.predicted + other.predicted,
            self.membrane + other.membrane,
        )

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean of the map and the share of membrane in every bin that has pixels."""
        some = self.pixels > 0
        pixels = self.pixels[some]
        return self.predicted[some] / pixels, self.membrane[some] / pixels

    @property
    def expected_error(self) -> float:
        r"""The expected calibration error, in [0, 1]; 0 = calibrated, and where there is no pixel.

        .. math:: ECE = \sum_b \frac{n_b}{n} \left| \bar p_b - \bar y_b \right|

        with the mean prediction and the share of membrane of the :math:`n_b` pixels of a bin. Of a
        binary map it is the share of wrong pixels. It says nothing of how sharp a map is: one that
        is the membrane's share everywhere has 0 (Naeini et al. 2015, AAAI; Guo et al. 2017, ICML).
        """
        return float(np.abs(self.predicted - self.membrane).sum() / max(1, self.pixels.sum()))

    @property
    def largest_error(self) -> float:
        """The maximum calibration error: that of the worst bin, however few pixels it has."""
        predicted, found = self.curve()
        return float(np.abs(predicted - found).max(initial=0.0))


def reliability(
    map_: NDArray[Any],
    truth: NDArray[np.bool_],
    *,
    bins: int = BINS,
    where: NDArray[np.bool_] | None = None,
) -> Reliability:
    """Compare the probabilities of a map with how often they come true.

    Parameters
    ----------
    map_
        Float or bool in [0, 1], 1 = membrane; any number of axes.
    truth
        Bool, equal shape; True = membrane.
    bins
        How many.
    where
        Bool, equal shape; the pixels to count, all by default.

    Returns
    -------
    Reliability
        A value on the border of two bins is in the higher one.

    Raises
    ------
    InputError
        If the shapes differ, the truth is not bool or the map not in [0, 1].

    References
    ----------
    DeGroot and Fienberg 1983, The Statistician 32:12.
    """
    values, drawn = counted(checked_map(map_), truth, where)
    exact = values.astype(np.float64)
    bin_ = np.minimum(np.floor(exact * bins), bins - 1).astype(np.intp)
    return Reliability(
        np.bincount(bin_, minlength=bins),
        np.asarray(np.bincount(bin_, weights=exact, minlength=bins), np.float64),
        np.bincount(bin_[drawn], minlength=bins),
    )
