"""A set of hashes that only grows, in about six bytes for each."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from regard.data.checks.blocks import Hashes, Mask
from regard.errors import ArgumentError

_LOAD: Final = 0.75
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


class HashSet:
    """Which 64-bit hashes have been added, by open addressing with linear probing.

    The upper half of a hash gives its slot and the lower half is what is kept there (Cleary 1984, "Compact hash tables
    using bidirectional linear probing": the place of an entry is part of what it says). A hash that was never added
    is taken for one that was with a probability of about 10⁻⁹: once in a corpus of a billion pairs.
    """

    def __init__(self, capacity: int) -> None:
        """Args:
        capacity: the most different hashes there will be; 5.4 bytes are taken for each, at once.
        """
        self._capacity = capacity
        self._slots = np.zeros(int(capacity / _LOAD) + 8, dtype=np.uint32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, hashes: Hashes) -> Mask:
        """Add hashes, (N,), and say of each whether it was there before, earlier in the same array included.

        Raises:
            ArgumentError: there are more different hashes than the capacity.
        """
        distinct, first = np.unique(hashes, return_index=True)
        there = self._insert(distinct)
        repeated = np.ones(len(hashes), dtype=bool)
        repeated[first[~there]] = False
        return repeated

    def _insert(self, hashes: Hashes) -> Mask:
        """Add different hashes; whether each was there."""
        size = len(self._slots)
        slot = ((hashes >> _HALF) * np.uint64(size) >> _HALF).astype(np.int64)
        # 0 marks a free slot
        entry: NDArray[np.uint32] = np.maximum(hashes & _LOW, np.uint64(1)).astype(np.uint32)
        there = np.zeros(len(hashes), dtype=bool)
        waiting = np.arange(len(hashes))
        while len(waiting):
            places, entries = slot[waiting], entry[waiting]
            free = np.flatnonzero(self._slots[places] == 0)
            # of several that want the same free slot the first gets it, and the others look on
            winners = free[np.unique(places[free], return_index=True)[1]]
            self._count += len(winners)
            if self._count > self._capacity:
                raise ArgumentError(f"capacity: got {self._capacity}, too few for the hashes added")
            self._slots[places[winners]] = entries[winners]
            done = self._slots[places] == entries
            there[waiting[done]] = True
            there[waiting[winners]] = False
            waiting = waiting[~done]
            slot[waiting] = (slot[waiting] + 1) % size
        return there
