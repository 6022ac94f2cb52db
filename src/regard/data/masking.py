"""Hiding tokens for masked-language modelling (Devlin et al. 2019, "BERT", section 3.1, task 1).

Of the tokens of a row 15 % are chosen; of these 80 % become the mask, 10 % a random token, 10 % stay as they are. What
is drawn is a function of (seed, epoch, row, column), however rows are put together to batches.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regard.errors import ArgumentError

Table = NDArray[np.int64]
Flags = NDArray[np.bool_]
Random = NDArray[np.uint64]

_CHOICE, _KIND, _TOKEN = 1, 2, 3  # what is drawn
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Hidden:
    """Rows of which some tokens are hidden.

    Attributes:
        tokens: what the model reads (B, L).
        chosen: which tokens it should say (B, L) bool.
    """

    tokens: Table
    chosen: Flags


class Masking:
    """Chooses and hides tokens.

    Args:
        mask: the id in place of a hidden token.
        ordinary: the ids that a random token is drawn from.
        seed: of what is drawn.
        share: of the tokens of a row that are chosen.
        masked: of the chosen ones, the share that becomes the mask.
        random: the share that becomes a random token; the rest stays.

    Raises:
        ArgumentError: no ordinary token, a share that is none, or shares of more than 1 together.
    """

    def __init__(
        self, mask: int, ordinary: ArrayLike, seed: int, share: float = 0.15, masked: float = 0.8, random: float = 0.1
    ) -> None:
        self._ordinary = np.asarray(ordinary, dtype=np.int64)
        if not len(self._ordinary):
            raise ArgumentError("ordinary: got no ids, expected one at least")
        if not (0 < share < 1 and masked >= 0 and random >= 0 and masked + random <= 1):
            raise ArgumentError(
                f"share is {share}, masked {masked}, random {random}: expected 0 < share < 1, masked + random ≤ 1"
            )
        self._mask, self._seed = mask, seed
        self._share, self._masked, self._random = share, masked, random

    def count(self, tokens: ArrayLike) -> Table:
        """How many of so many tokens are chosen: the share, rounded, and one at least where there are any."""
        many = np.asarray(tokens, dtype=np.int64)
        rounded: Table = np.maximum(np.rint(many * self._share).astype(np.int64), 1)
        return np.minimum(rounded, many)

    def __call__(self, tokens: Table, real: Flags, counts: Table, rows: ArrayLike, epoch: int) -> Hidden:
        """Hide tokens.

        Args:
            tokens: ids (B, L).
            real: which of them may be chosen (B, L) bool.
            counts: how many are chosen of each row (B,); all where fewer may be.
            rows: the numbers of the rows in the whole (B,), which what is drawn depends on.
            epoch: what is drawn depends on it too.
        """
        key = keys(self._seed, epoch, rows, tokens.shape[1])  # (B, L)
        order = np.where(real, uniform(key, _CHOICE), 2.0)
        most = np.minimum(counts, real.sum(axis=1))  # (B,)
        limits = np.take_along_axis(np.sort(order, axis=1), np.maximum(most - 1, 0)[:, None], axis=1)  # (B, 1)
        chosen: Flags = (order <= limits) & (most > 0)[:, None] & real
        hidden = tokens.copy()
        some = key[chosen]  # (N,)
        kind = uniform(some, _KIND)
        drawn = self._ordinary[(uniform(some, _TOKEN) * len(self._ordinary)).astype(np.int64)]
        kept = tokens[chosen]
        hidden[chosen] = np.where(
            kind < self._masked, self._mask, np.where(kind < self._masked + self._random, drawn, kept)
        )
        return Hidden(hidden, chosen)


def keys(seed: int, epoch: int, rows: ArrayLike, length: int) -> Random:
    """A random 64-bit number for each place (B, L) of rows, a function of seed, epoch, row and column alone."""
    start = _mixed(_mixed(np.array([seed], np.uint64)) + np.uint64(epoch))
    numbers: Random = np.asarray(rows, dtype=np.uint64)
    by_row = _mixed(start + numbers)  # (B,)
    columns: Random = np.arange(length, dtype=np.uint64)
    return _mixed(by_row[:, None] + columns)


def uniform(key: Random, stream: int) -> NDArray[np.float64]:
    """Numbers from 0 to less than 1, one for each key; another `stream` gives others."""
    drawn: NDArray[np.float64] = np.multiply(_mixed(key + np.uint64(stream)) >> np.uint64(11), 2.0**-53)
    return drawn


def _mixed(x: Random) -> Random:
    """SplitMix64 (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators", figure 17): one step of it."""
    x = (x + np.uint64(1)) * _STEP
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
