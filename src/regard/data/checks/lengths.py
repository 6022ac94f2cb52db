"""Lengths that don't go together: pairs in which one side is far too long for the other."""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from regard.data.checks.blocks import Mask

DEVIATIONS: Final = 6.0
"""How many robust standard deviations from the median a ratio may be."""
LEAST: Final = 2.5
MOST: Final = 9.0
"""A side with MOST times what its partner lets expect is always too long, one with LEAST times never."""


@dataclass(frozen=True)
class LengthRatio:
    """How many characters of target go with one of source, and how far from that is too far.

    The logarithm of (target + b) / (source + a), where a and b are a fifth of the sides' median lengths, so that the
    noise of very short sentences counts less, has a median and a robust spread (1.4826 · the median absolute
    deviation, the standard deviation if it is normal). A pair is an outlier if it is further than `DEVIATIONS` of them
    from the median, and in any case further than a factor of `MOST` but never nearer than `LEAST`.

    Attributes:
        smoothing: (a, b), in characters.
        median: of the logarithm.
        limit: the largest distance from it.
    """

    smoothing: tuple[float, float]
    median: float
    limit: float

    @classmethod
    def fit(cls, source: NDArray[np.int64], target: NDArray[np.int64]) -> Self:
        """Learn it from the lengths of a sample, (N,) each, N > 0."""
        smoothing = (max(float(np.median(source)) / 5, 1.0), max(float(np.median(target)) / 5, 1.0))
        ratios = np.log((target + smoothing[1]) / (source + smoothing[0]))
        median = float(np.median(ratios))
        spread = 1.4826 * float(np.median(np.abs(ratios - median)))
        return cls(smoothing, median, float(np.clip(DEVIATIONS * spread, math.log(LEAST), math.log(MOST))))

    def outliers(self, source: NDArray[np.int64], target: NDArray[np.int64]) -> Mask:
        """Which pairs are too far from the median, (N,)."""
        ratios = np.log((target + self.smoothing[1]) / (source + self.smoothing[0]))
        mask: Mask = np.abs(ratios - self.median) > self.limit
        return mask

    def __str__(self) -> str:
        ratio, factor = math.exp(self.median), math.exp(self.limit)
        return (
            f"a target usually has {ratio:.2f} times the characters of its source; reported are more than "
            f"{factor:.1f} times as many or as few as that"
        )
