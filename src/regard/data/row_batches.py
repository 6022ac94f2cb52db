"""Batches of a fixed number of examples, of like length, anew in each epoch."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regard.errors import ArgumentError

POOL: Final = 32
"""Batches whose examples are sorted by length together: little padding, and still other neighbours in each epoch."""


class RowBatches:
    """Puts every example into one batch per epoch; the order depends on seed and epoch alone.

    An epoch shuffles the examples, sorts some batches' worth of them at a time by length, cuts these into batches and
    shuffles the batches. Their number is the same in every epoch; the last one made may be smaller.

    Args:
        lengths: tokens of each example, (N,), whole numbers.
        rows: examples of a batch.
        seed: a whole number ≥ 0.

    Raises:
        ArgumentError: no example, or a number of rows below 1.
    """

    def __init__(self, lengths: ArrayLike, rows: int, seed: int) -> None:
        self.lengths: NDArray[np.integer[Any]] = np.asarray(lengths)
        self.rows, self.seed = rows, seed
        if self.lengths.ndim != 1 or len(self.lengths) == 0:
            raise ArgumentError(f"lengths: got shape {self.lengths.shape}, expected at least one example")
        if rows < 1:
            raise ArgumentError(f"rows: got {rows}, expected at least 1")

    def epoch(self, number: int) -> Sequence[NDArray[np.int64]]:
        """The batches of epoch `number` (from 0), each a one-dimensional int64 array of example indices."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.lengths)).astype(np.int64)
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), POOL * self.rows):
            pool = order[start : start + POOL * self.rows]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[first : first + self.rows] for first in range(0, len(pool), self.rows)]
        return [batches[index] for index in random.permutation(len(batches))]
