"""How often an epoch shows each pair of a corpus that is put together from parts with weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regard.errors import ArgumentError

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class PartWeights:
    """Parts of a corpus, one after another, and the weight of each.

    A pair of a part of weight w is shown ⌊w⌋ times in each epoch, and once more in a share w − ⌊w⌋ of the epochs. Whose
    turn it is goes round: after any number of epochs, two pairs of a part differ by at most one in how often they have
    been shown. Those whose turn it is lie spread evenly over the part (multiples of the golden section of its size,
    modulo the size, visit every pair once).

    Attributes:
        sizes: pairs in each part.
        weights: above 0.
        seed: where in each part the turns begin.
    """

    sizes: Sequence[int]
    weights: Sequence[float]
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights):
            raise ArgumentError(f"weights: got {len(self.weights)} for {len(self.sizes)} parts")
        if any(size < 0 for size in self.sizes):
            raise ArgumentError(f"sizes: got {list(self.sizes)}, expected whole numbers from 0")
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ArgumentError(f"weights: got {list(self.weights)}, expected numbers above 0")

    @property
    def plain(self) -> bool:
        """Whether every epoch shows each pair once."""
        return all(weight == 1 for weight in self.weights)

    @property
    def constant(self) -> bool:
        """Whether every epoch shows the same pairs."""
        return all(weight == int(weight) for weight in self.weights)

    def times(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """How often epoch `epoch` (from 0) shows each of the pairs `start` to `stop` (excluded), (stop − start,)."""
        result = np.zeros(stop - start, dtype=np.int64)
        first = 0
        for number, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            a, b = max(start, first), min(stop, first + size)
            if a < b:
                result[a - start : b - start] = self._times(
                    number, epoch, np.arange(a - first, b - first), size, weight
                )
            first += size
        return result

    def _times(self, part: int, epoch: int, pairs: NDArray[np.int64], size: int, weight: float) -> NDArray[np.int64]:
        whole = int(weight)
        share = (weight - whole) * size  # pairs shown once more in an epoch, on average
        begin, end = math.ceil(epoch * share), math.ceil((epoch + 1) * share)
        step = max(round(_GOLDEN * size), 1)
        while math.gcd(step, size) != 1:
            step += 1
        place = int(np.random.default_rng([self.seed, part]).integers(size)) - begin
        return whole + ((pairs * step + place) % size < end - begin)
