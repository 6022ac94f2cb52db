"""Batches of examples of like length, filled up to a budget of tokens.

A batch of n rows is padded to its longest row, so its size is n × the longest length; it is that product, on the
larger of the two sides, that stays within the budget. Lengths are whatever the caller pads to: with a `<bos>` or
`<eos>`, count it.

Examples of equal source and target length are exchangeable: they form a class. Batches are planned on classes and how
many examples each has; an epoch then needs one array of indices, filled class by class (a counting sort, some thousands
of examples at a time), and nothing else that grows with the corpus.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regard.data.weights import PartWeights
from regard.errors import ArgumentError, DataError

Indices = NDArray[np.int64]
Integers = NDArray[np.integer[Any]]

_CHUNK: Final = 1 << 17  # examples looked at together
_NARROW: Final = 2**31  # up to here indices fit into 32 bits


class TokenBatches:
    """A plan that puts every example into exactly one batch per epoch; the order depends on seed and epoch alone.

    Examples are put in an order in which neighbours have similar source **and** target lengths, and that order is
    cut into batches within the budget. Of three orders the one that pads least is taken: by target length, by
    source length, or by the larger of both, and among equals by the other (for the third, by the difference), up
    and down in turn, so that it does not jump. Each epoch exchanges examples of equal lengths at random and
    shuffles the batches. Batch sizes, so the number of batches, are the same in every epoch.

    With weights that are not 1 an epoch has each example as often as `PartWeights` says; where weights are not whole
    numbers, which examples these are, and the number of batches, vary with the epoch.

    Memory besides the lengths, which are kept: 4 bytes for each example of an epoch that is in use (8 from 2³¹ examples
    on), and as much while planning.

    Attributes:
        padding: the part of all positions, on both sides together, that is padding (of the first epoch).
    """

    def __init__(
        self,
        source_lengths: ArrayLike,
        target_lengths: ArrayLike,
        tokens_per_batch: int,
        seed: int,
        weights: PartWeights | None = None,
    ) -> None:
        """Plan the batches.

        Args:
            source_lengths: tokens on the source side of each example, (N,), whole numbers ≥ 0 of any dtype.
            target_lengths: tokens on the target side, (N,).
            tokens_per_batch: the budget: rows × the longest length, on the larger side.
            seed: a whole number ≥ 0.
            weights: parts of the examples and their weights; None: each example once in every epoch.

        Raises:
            ArgumentError: lengths of different shape or negative, no example, a budget < 1, a negative seed, parts
                that are not N examples together.
            DataError: an example is longer than the budget (the message names its index, from 0).
        """
        source, target = _checked("source_lengths", source_lengths), _checked("target_lengths", target_lengths)
        if len(source) != len(target):
            raise ArgumentError(f"target_lengths: got {len(target)} lengths for {len(source)} source_lengths")
        if len(source) == 0:
            raise ArgumentError("source_lengths: got no example, expected at least one")
        if seed < 0:
            raise ArgumentError(f"seed: got {seed}, expected a whole number from 0")
        if weights is not None and sum(weights.sizes) != len(source):
            raise ArgumentError(f"weights: got parts of {sum(weights.sizes)} examples together, expected {len(source)}")
        _check_budget(source, target, tokens_per_batch)
        self._source, self._target, self._budget, self._seed = source, target, tokens_per_batch, seed
        self._weights = None if weights is None or weights.plain else weights
        self._width = int(target.max()) + 1
        self._first = self._plan(0)
        self.padding = self._first.padding

    def __len__(self) -> int:
        """The number of batches in the first epoch."""
        return len(self._first.starts)

    def epoch(self, number: int) -> "EpochBatches":
        """Return the batches of epoch `number` (from 0), each a one-dimensional int64 array of example indices."""
        if number < 0:
            raise ArgumentError(f"epoch: got {number}, expected a whole number from 0")
        plan = self._first if self._weights is None or self._weights.constant else self._plan(number)
        return EpochBatches(lambda: self._shuffled(plan, number), plan.starts)

    def _shuffled(self, plan: "_Plan", epoch: int) -> tuple[Integers, Indices]:
        """The examples of an epoch in the order of its parts, and the order of the parts."""
        order = self._order(plan, epoch)
        random = np.random.default_rng([self._seed, epoch])
        start = 0
        for count in plan.counts[plan.classes].tolist():
            if count > 1:
                random.shuffle(order[start : start + count])
            start += count
        return order, random.permutation(len(plan.starts))

    def _plan(self, epoch: int) -> "_Plan":
        codes, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        for code, _ in self._codes(epoch):
            new, more = np.unique(code, return_counts=True)
            merged, where = np.unique(np.concatenate([codes, new]), return_inverse=True)
            total = np.zeros(len(merged), dtype=np.int64)
            np.add.at(total, where, np.concatenate([counts, more]))
            codes, counts = merged, total
        if len(codes) == 0:  # with weights far below 1 no pair may have its turn
            return _Plan(codes, counts, codes, codes, 0.0)
        return _best_plan(codes, counts, self._width, self._budget)

    def _codes(self, epoch: int) -> Iterator[tuple[Indices, Indices]]:
        """The examples of an epoch, in order, as often as they are shown: the codes of their classes, and indices."""
        for start in range(0, len(self._source), _CHUNK):
            stop = min(start + _CHUNK, len(self._source))
            code = self._source[start:stop].astype(np.int64) * self._width
            code += self._target[start:stop].astype(np.int64)
            index = np.arange(start, stop)
            if self._weights is not None:
                times = self._weights.times(epoch, start, stop)
                code, index = np.repeat(code, times), np.repeat(index, times)
            yield code, index

    def _order(self, plan: "_Plan", epoch: int) -> Integers:
        """The examples of an epoch, class after class in the order of the plan."""
        narrow = len(self._source) <= _NARROW
        order: Integers = np.empty(int(plan.counts.sum()), dtype=np.int32 if narrow else np.int64)
        counts = plan.counts[plan.classes]
        free = np.cumsum(counts) - counts  # where the next example of each class goes
        rank = np.empty(len(counts), dtype=np.int64)
        rank[plan.classes] = np.arange(len(counts))
        for code, index in self._codes(epoch):
            ranks = rank[np.searchsorted(plan.codes, code)]
            by_rank = np.argsort(ranks, kind="stable")
            ranks = ranks[by_rank]
            begins = np.flatnonzero(np.diff(ranks, prepend=-1))
            lengths = np.diff(begins, append=len(ranks))
            order[np.arange(len(ranks)) + np.repeat(free[ranks[begins]] - begins, lengths)] = index[by_rank]
            free[ranks[begins]] += lengths
        return order


class EpochBatches(Sequence[Indices]):
    """The batches of one epoch. Their number is known; the order is made when the first batch is asked for."""

    def __init__(self, make: Callable[[], tuple[Integers, Indices]], starts: Indices) -> None:
        """Batch b is the `shuffled[b]`-th part of `order`, with `order, shuffled = make()`; parts begin at `starts`."""
        self._make, self._starts = make, starts

    @cached_property
    def _made(self) -> tuple[Integers, Indices]:
        return self._make()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Indices: ...
    @overload
    def __getitem__(self, index: slice) -> list[Indices]: ...
    def __getitem__(self, index: int | slice) -> Indices | list[Indices]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        order, shuffled = self._made
        part = int(shuffled[index])
        stop = self._starts[part + 1] if part + 1 < len(self._starts) else len(order)
        return order[self._starts[part] : stop].astype(np.int64)


def inference_batches(lengths: ArrayLike, tokens_per_batch: int, max_rows: int) -> list[Indices]:
    """Group examples for decoding, longest first, so that memory runs out at once or not at all.

    Args:
        lengths: tokens of each example, (N,), whole numbers ≥ 0; there may be none.
        tokens_per_batch: the most tokens in a batch, rows × the longest; a longer example is a batch of its own.
        max_rows: the most rows in a batch.

    Returns:
        int64 arrays of example indices; equal lengths keep their order.
    """
    checked = _checked("lengths", lengths).astype(np.int64)
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


@dataclass(frozen=True)
class _Plan:
    """How the examples of an epoch are cut into batches.

    Attributes:
        codes: the classes, source length × width + target length, ascending (C,).
        counts: examples of each class (C,).
        classes: the order of the classes, indices into `codes` (C,).
        starts: where each batch starts in the examples so ordered.
        padding: the part of all positions that is padding.
    """

    codes: Indices
    counts: Indices
    classes: Indices
    starts: Indices
    padding: float


def _best_plan(codes: Indices, counts: Indices, width: int, budget: int) -> _Plan:
    source, target = codes // width, codes % width
    size = np.maximum(source, target)
    plans: list[tuple[int, Indices, Indices]] = []
    for first, second in ((target, source), (source, target), (size, source - target)):
        classes = np.argsort(_ranks(first, second), kind="stable")
        starts = _cut(_spread(size[classes], counts[classes]), budget)
        plans.append((_padded(source[classes], target[classes], counts[classes], starts), classes, starts))
    padded, classes, starts = min(plans, key=lambda plan: plan[0])
    return _Plan(codes, counts, classes, starts, 1 - int(((source + target) * counts).sum()) / max(padded, 1))


def _ranks(first: Indices, second: Indices) -> Indices:
    """Ranks by `first` and then `second`, which rises and falls in turn."""
    present = np.bincount(first) > 0
    rank = (np.cumsum(present) - 1)[first]
    second = second - second.min()
    top = second.max()
    ranks: Indices = rank * (top + 1) + np.where(rank % 2 == 0, second, top - second)
    return ranks


def _cut(size: Integers, budget: int) -> Indices:
    """Starts of the batches when examples of these sizes are taken in order, each batch as full as possible."""
    starts: list[int] = []
    start = 0
    while start < len(size):
        starts.append(start)
        first = max(int(size[start]), 1)
        longest = np.maximum.accumulate(np.maximum(size[start : start + budget // first], 1)).astype(np.int64)
        rows = np.arange(1, len(longest) + 1)
        start += int(np.searchsorted(longest * rows, budget, side="right"))
    return np.array(starts, dtype=np.int64)


def _padded(source: Indices, target: Indices, counts: Indices, starts: Indices) -> int:
    """Positions in all batches, padding included, on both sides together."""
    rows = np.diff(np.append(starts, counts.sum()))
    longest = np.zeros(len(starts), dtype=np.int64)
    for side in (source, target):
        longest += np.maximum.reduceat(_spread(side, counts), starts)
    return int((rows * longest).sum())


def _spread(lengths: Indices, counts: Indices) -> Integers:
    """The length of each example from that of each class, in the least bytes."""
    return np.repeat(lengths.astype(np.min_scalar_type(int(lengths.max()))), counts)


def _checked(name: str, lengths: ArrayLike) -> Integers:
    array = np.asarray(lengths)
    if array.ndim != 1:
        raise ArgumentError(f"{name}: got an array of shape {array.shape}, expected one dimension")
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise ArgumentError(f"{name}: got dtype {array.dtype}, expected whole numbers")
    if int(array.min()) < 0:
        raise ArgumentError(f"{name}: got {int(array.min())} at index {int(array.argmin())}, expected lengths ≥ 0")
    return array


def _check_budget(source: Integers, target: Integers, tokens_per_batch: int) -> None:
    if tokens_per_batch < 1:
        raise ArgumentError(f"tokens_per_batch: got {tokens_per_batch}, expected at least 1")
    if max(int(source.max()), int(target.max())) <= tokens_per_batch:
        return
    longer = np.flatnonzero((source > tokens_per_batch) | (target > tokens_per_batch))
    first = int(longer[0])
    others = f" ({len(longer)} examples are too long)" if len(longer) > 1 else ""
    raise DataError(
        f"example {first} has {max(int(source[first]), int(target[first]))} tokens, more than the "
        f"{tokens_per_batch} of a batch{others}; raise tokens_per_batch, or drop or shorten it"
    )
