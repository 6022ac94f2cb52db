"""An interpolated Kneser–Ney model of n-grams over token ids, in sorted arrays.

Kneser and Ney (1995), "Improved backing-off for m-gram language modeling"; Chen and Goodman (1998), "An empirical study
of smoothing techniques for language modeling", section 3 (three discounts an order, from counts of counts).

A stream of tokens is preceded by start marks, which are never predicted. The n-grams of one order are the distinct
values of `prefix · (V + 1) + last token`, where the prefix is the row of an n-gram one shorter; so an n-gram of any
length is a single int64, and a table is two sorted arrays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Values = NDArray[np.float64]

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts of an order whose counts of counts give none, as where every n-gram was seen often."""


@dataclass(frozen=True)
class Table:
    """What is known about the n-grams of one order.

    Attributes:
        keys: (T,) the n-grams, ascending; see the module.
        counts: (T,) how often each was seen; of a lower order, after how many different tokens. 0 after a start mark.
        totals: (P,) sum of the counts of the n-grams that begin with the same prefix.
        left: (P,) what the discounts take of these counts: the mass of the next lower order.
        discounts: D1, D2, D3+.
    """

    keys: Ids
    counts: Ids
    totals: Values
    left: Values
    discounts: tuple[float, float, float]


class KneserNey:
    """An interpolated Kneser–Ney model of a stream of tokens.

    p(w | h) = (c(hw) − D(c(hw))) / c(h•) + γ(h) · p(w | h'), with h' one token shorter, γ(h) the share that the
    discounts D have taken, and the uniform distribution under the unigrams. c counts the longest n-grams; shorter ones
    count in how many different contexts they were seen.

    Args:
        stream: (N,) the training tokens, from 0 to `vocabulary` − 1.
        vocabulary: V, how many tokens there are, seen or not.
        order: n.
        modified: three discounts an order (Chen and Goodman), or one (Kneser and Ney).
    """

    def __init__(self, stream: Ids, vocabulary: int, order: int = 5, modified: bool = True) -> None:
        if order < 1 or not len(stream):
            raise ValueError(f"expected an order of 1 or more and a text: got {order} and {len(stream)} tokens")
        if stream.min() < 0 or stream.max() >= vocabulary:
            raise ValueError(f"expected tokens from 0 to {vocabulary - 1}: got {stream.min()} to {stream.max()}")
        self.vocabulary, self.order = vocabulary, order
        self.base = vocabulary + 1  # one more for the start mark, which is V
        tokens = self._started(stream)
        # rows[k][i]: the row, in the table of order k, of the n-gram that ends at i; the empty one is row 0 of order 0
        rows = [np.zeros(len(tokens), np.int64)]
        found: list[tuple[Ids, Ids, Ids]] = []  # keys, the place where each was first seen, how often
        for _ in range(order):
            before = np.concatenate(([0], rows[-1][:-1]))
            keys, first, row, often = np.unique(
                before * self.base + tokens, return_index=True, return_inverse=True, return_counts=True
            )
            rows.append(row.astype(np.int64))
            found.append((keys, first, often))
        tables: list[Table] = []
        for k in range(order, 0, -1):
            keys, _, often = found[k - 1]
            if k < order:  # different tokens before: the n-grams one longer, by what they end with
                _, starts, _ = found[k]
                often = np.bincount(rows[k][starts], minlength=len(keys))
            counts = np.where(keys % self.base == vocabulary, 0, often).astype(np.int64)  # never predicted
            prefixes = len(found[k - 2][0]) if k > 1 else 1
            tables.append(_table(keys, counts, keys // self.base, prefixes, modified))
        self.tables = tables[::-1]

    def log_probabilities(self, stream: Ids) -> Values:
        """Natural logarithms (N,) of each token's probability after those before it, of a stream of its own."""
        return np.log(self._probabilities(self._started(stream)[None])[0, self.order - 1 :])

    def distribution(self, context: Ids) -> Values:
        """The probability (V,) of every token after `context`, tokens of which the last order − 1 count."""
        before = self._started(context)[len(context) :]  # (order − 1,)
        rows = np.empty((self.vocabulary, self.order), np.int64)
        rows[:, :-1], rows[:, -1] = before, np.arange(self.vocabulary)
        return self._probabilities(rows)[:, -1]

    def _started(self, stream: Ids) -> Ids:
        return np.concatenate((np.full(self.order - 1, self.vocabulary), stream))

    def _probabilities(self, tokens: Ids) -> Values:
        """Of each token (S, N) after those before it in its row; of start marks, something meaningless."""
        probability = np.full(tokens.shape, 1.0 / self.vocabulary)
        row = np.zeros_like(tokens)  # in the table one order below; −1: not in it
        for table in self.tables:
            prefix = np.concatenate((np.zeros_like(tokens[:, :1]), row[:, :-1]), axis=1)
            key = np.where(prefix < 0, -1, prefix * self.base + tokens)
            at = np.minimum(np.searchsorted(table.keys, key), len(table.keys) - 1)
            seen = table.keys[at] == key
            count = np.where(seen, table.counts[at], 0)
            discount = np.array((0.0, *table.discounts))[np.minimum(count, 3)]
            total = np.where(prefix < 0, 0.0, table.totals[prefix])
            known = total > 0  # a prefix that nothing followed says nothing
            total = np.where(known, total, 1.0)
            probability = np.where(
                known, (count - discount) / total + table.left[prefix] / total * probability, probability
            )
            row = np.where(seen, at, -1)
        return probability


def _table(keys: Ids, counts: Ids, prefix: Ids, prefixes: int, modified: bool) -> Table:
    discounts = _discounts(counts, modified)
    taken = np.array((0.0, *discounts))[np.minimum(counts, 3)]
    totals = np.bincount(prefix, counts, prefixes)
    left = np.bincount(prefix, taken, prefixes)
    return Table(keys, counts, totals, left, discounts)


def _discounts(counts: Ids, modified: bool) -> tuple[float, float, float]:
    """D1, D2, D3+ from n1 … n4, how many n-grams have each count (Chen and Goodman 1998, equation 26)."""
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if n1 and n2:
        y = n1 / (n1 + 2 * n2)
        if not modified:
            return y, y, y
        if n3 and n4:
            found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
            if all(0 < d < most for most, d in enumerate(found, start=1)):
                return found
    return FALLBACK if modified else (FALLBACK[0],) * 3
