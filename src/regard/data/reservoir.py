"""A random sample of a stream whose length is not known beforehand."""

import math
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Reservoir(Generic[T]):
    """Keeps `size` of the items that come by, each set of so many equally likely; all in order while they fit.

    Algorithm L (Li 1994, "Reservoir-Sampling Algorithms of Time Complexity O(n(1 + log(N/n)))"): it draws how many
    items to skip, so most of them cost nothing. The same items and seed give the same sample, however they are
    divided into calls.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.items: list[T] = []
        self._size, self._seen = size, 0
        self._random = random.Random(seed)
        self._weight = 1.0
        self._next = size - 1  # the item, counted from 0, that is taken next once all places are filled

    def extend(self, items: Sequence[T]) -> None:
        """Let `items` come by."""
        if self._size == 0:
            return
        free = self._size - len(self.items)
        if free:
            self.items.extend(items[:free])
            if len(self.items) == self._size:
                self._skip()
        end = self._seen + len(items)
        while len(self.items) == self._size and self._next < end:
            self.items[self._random.randrange(self._size)] = items[self._next - self._seen]
            self._skip()
        self._seen = end

    def _skip(self) -> None:
        self._weight *= math.exp(math.log(1 - self._random.random()) / self._size)
        # log1p keeps its digits when the weight is tiny
        self._next += int(math.log(1 - self._random.random()) / math.log1p(-min(self._weight, 1 - 2**-53))) + 1
