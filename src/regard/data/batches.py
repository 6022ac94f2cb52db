"""Batches of examples of like length, filled up to a budget of tokens.

A batch of n rows is padded to its longest row, so its size is n × the longest length; it is that product, on the
larger of the two sides, that stays within the budget. Lengths are whatever the caller pads to: with a `<bos>` or
`<eos>`, count it.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regard.errors import ArgumentError, DataError

Indices = NDArray[np.int64]


class TokenBatches:
    """A plan that puts every example into exactly one batch per epoch; the order depends on seed and epoch alone.

    Examples are put in an order in which neighbours have similar source **and** target lengths, and that order is
    cut into batches within the budget. Of three orders the one that pads least is taken: by target length, by
    source length, or by the larger of both, and among equals by the other (for the third, by the difference), up
    and down in turn, so that it does not jump. Each epoch exchanges examples of equal lengths at random and
    shuffles the batches. Batch sizes, so the number of batches, are the same in every epoch.

    Attributes:
        padding: the part of all positions, on both sides together, that is padding.
    """

    def __init__(self, source_lengths: ArrayLike, target_lengths: ArrayLike, tokens_per_batch: int, seed: int) -> None:
        """Plan the batches.

        Args:
            source_lengths: tokens on the source side of each example, (N,), whole numbers ≥ 0.
            target_lengths: tokens on the target side, (N,).
            tokens_per_batch: the budget: rows × the longest length, on the larger side.
            seed: a whole number ≥ 0.

        Raises:
            ArgumentError: lengths of different shape or negative, no example, a budget < 1, a negative seed.
            DataError: an example is longer than the budget (the message names its index, from 0).
        """
        source = _checked("source_lengths", source_lengths)
        target = _checked("target_lengths", target_lengths)
        if len(source) != len(target):
            raise ArgumentError(f"target_lengths: got {len(target)} lengths for {len(source)} source_lengths")
        if len(source) == 0:
            raise ArgumentError("source_lengths: got no example, expected at least one")
        if seed < 0:
            raise ArgumentError(f"seed: got {seed}, expected a whole number from 0")
        size = np.maximum(source, target)
        _check_budget(size, tokens_per_batch)
        self._seed = seed
        # Examples with the same code are exchangeable: their lengths are equal.
        self._code, self._bounds = _plan(source, target, tokens_per_batch)
        order = np.argsort(self._code, kind="stable")
        padded = _padded(source[order], target[order], self._bounds)
        self.padding = 1 - (int(source.sum()) + int(target.sum())) / max(padded, 1)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._bounds)

    def epoch(self, number: int) -> list[Indices]:
        """Return the batches of epoch `number` (from 0), each a one-dimensional int64 array of example indices."""
        if number < 0:
            raise ArgumentError(f"epoch: got {number}, expected a whole number from 0")
        random = np.random.default_rng([self._seed, number])
        shuffled = random.permutation(len(self._code))
        order = shuffled[np.argsort(self._code[shuffled], kind="stable")].astype(np.int64, copy=False)
        batches = np.split(order, self._bounds[1:])
        return [batches[index] for index in random.permutation(len(batches))]


def inference_batches(lengths: ArrayLike, tokens_per_batch: int, max_rows: int) -> list[Indices]:
    """Group examples for decoding, longest first, so that memory runs out at once or not at all.

    Args:
        lengths: tokens of each example, (N,), whole numbers ≥ 0; there may be none.
        tokens_per_batch: the most tokens in a batch, rows × the longest; a longer example is a batch of its own.
        max_rows: the most rows in a batch.

    Returns:
        int64 arrays of example indices; equal lengths keep their order.
    """
    checked = _checked("lengths", lengths)
    for name, value in (("tokens_per_batch", tokens_per_batch), ("max_rows", max_rows)):
        if value < 1:
            raise ArgumentError(f"{name}: got {value}, expected at least 1")
    order = np.argsort(-checked, kind="stable").astype(np.int64, copy=False)
    batches: list[Indices] = []
    start = 0
    while start < len(order):
        longest = max(int(checked[order[start]]), 1)
        rows = min(max(tokens_per_batch // longest, 1), max_rows)
        batches.append(order[start : start + rows])
        start += rows
    return batches


def _checked(name: str, lengths: ArrayLike) -> Indices:
    array = np.asarray(lengths)
    if array.ndim != 1:
        raise ArgumentError(f"{name}: got an array of shape {array.shape}, expected one dimension")
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise ArgumentError(f"{name}: got dtype {array.dtype}, expected whole numbers")
    if int(array.min()) < 0:
        raise ArgumentError(f"{name}: got {int(array.min())} at index {int(array.argmin())}, expected lengths ≥ 0")
    return array.astype(np.int64)


def _check_budget(size: Indices, tokens_per_batch: int) -> None:
    if tokens_per_batch < 1:
        raise ArgumentError(f"tokens_per_batch: got {tokens_per_batch}, expected at least 1")
    longer = np.flatnonzero(size > tokens_per_batch)
    if len(longer):
        first = int(longer[0])
        others = f" ({len(longer)} examples are too long)" if len(longer) > 1 else ""
        raise DataError(
            f"example {first} has {int(size[first])} tokens, more than the {tokens_per_batch} of a batch{others}; "
            "raise tokens_per_batch, or drop or shorten it"
        )


def _plan(source: Indices, target: Indices, budget: int) -> tuple[Indices, Indices]:
    """The code of each example, by which a sort gives the order, and where each batch of that order starts."""
    size = np.maximum(source, target)
    plans = []
    for first, second in ((target, source), (source, target), (size, source - target)):
        code = _code(first, second)
        order = np.argsort(code, kind="stable")
        starts = _cut(size[order], budget)
        plans.append((_padded(source[order], target[order], starts), code, starts))
    _, code, starts = min(plans, key=lambda plan: plan[0])
    return code, starts


def _code(first: Indices, second: Indices) -> Indices:
    """Ranks by `first` and then `second`, which rises and falls in turn; equal ranks where both are equal."""
    present = np.bincount(first) > 0
    rank = (np.cumsum(present) - 1)[first]
    second = second - second.min()
    top = second.max()
    code: Indices = rank * (top + 1) + np.where(rank % 2 == 0, second, top - second)
    return code


def _cut(size: Indices, budget: int) -> Indices:
    """Starts of the batches when examples of these sizes are taken in order, each batch as full as possible."""
    starts: list[int] = []
    start = 0
    while start < len(size):
        starts.append(start)
        first = max(int(size[start]), 1)
        longest = np.maximum.accumulate(np.maximum(size[start : start + budget // first], 1))
        rows = np.arange(1, len(longest) + 1)
        start += int(np.searchsorted(longest * rows, budget, side="right"))
    return np.array(starts, dtype=np.int64)


def _padded(source: Indices, target: Indices, starts: Indices) -> int:
    """Positions in all batches, padding included, on both sides together."""
    rows = np.diff(np.append(starts, len(source)))
    longest = np.maximum.reduceat(source, starts) + np.maximum.reduceat(target, starts)
    return int((rows * longest).sum())
