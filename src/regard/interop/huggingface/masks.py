"""The dense masks and position biases of transformers, written as short as they can be without changing the table.

Hugging Face makes a table (B, 1, Q, K) of every mask that isn't plainly causal. Padding, windows, packed documents and
prefixes leave each query one interval of keys, so two numbers a query say the same; a bias that depends on distance
alone is one number a diagonal. Both are looked for, block by block, and only what is neither stays a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention import Causal, Dense
from regard.attention.biases import Bias, Diagonals
from regard.attention.intervals import BLOCK, intervals
from regard.attention.masks import Interval, Mask

ABSORBING = -3.38e38
"""A number added to a score that leaves nothing of it in float32: the least of float32 and bfloat16 are below it."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a mask says.

    Attributes:
        mask: which keys are seen; None is all.
        level: (B or 1, H or 1, Q or 1, 1) bool, queries that weigh all they see alike: the softmax of equal numbers;
            None where there is none.
        bias: other numbers that the mask adds; None where there are none.
        end: beyond the last key that any query sees.
        empty: whether some query sees nothing.
    """

    mask: Mask | None
    level: Tensor | None
    bias: Tensor | None
    end: int
    empty: bool


class Masks:
    """Reads masks and biases, each tensor once while it lives: all layers are given the same one."""

    def __init__(self) -> None:
        # the tensors are held, so that no other can take their place in memory under the same key
        self._seen: dict[tuple[object, ...], tuple[Tensor, Seen]] = {}
        self._biases: dict[tuple[object, ...], tuple[Tensor, Bias | Tensor | None]] = {}

    def forget(self) -> None:
        """Let go of the tensors, after a pass of the model."""
        self._seen.clear()
        self._biases.clear()

    def seen(self, mask: Tensor, *, sees_all: bool) -> Seen:
        """What a mask of booleans (True: may attend) or of numbers to add says.

        Args:
            mask: (B or 1, H or 1, Q or 1, K).
            sees_all: what becomes of a query all of whose keys are barred by the least finite number: it weighs all
                keys alike (True), or the sink takes everything (False). With a mask of booleans: whether it is turned
                into such numbers, or the query sees nothing.
        """
        key = (*_identity(mask), sees_all)
        if key not in self._seen:
            self._seen[key] = mask, _seen(short(mask.detach()), sees_all)
        return self._seen[key][1]

    def bias(self, bias: Tensor, heads: int) -> Bias | Tensor | None:
        """A bias (B or 1, H or 1, Q or 1, K) by its diagonals if they are constant; None if it is 0."""
        key = (*_identity(bias), heads)
        if key not in self._biases:
            self._biases[key] = bias, short_bias(bias.detach(), heads)
        return self._biases[key][1]


def short(x: Tensor) -> Tensor:
    """A table without the axes along which it was only expanded; keys stay."""
    for axis in range(x.ndim - 1):
        if x.stride(axis) == 0 and x.shape[axis] > 1:
            x = x.narrow(axis, 0, 1)
    return x


def short_bias(bias: Tensor, heads: int) -> Bias | Tensor | None:
    """See `Masks.bias`."""
    table = short(bias)
    batch, _, queries, _ = table.shape
    if batch > 1 or bias.shape[2] > queries:  # one for each sequence, or the same for every query
        return table if bool(table.any()) else None
    for rows in _blocks(queries - 1, table[:, :, :1].numel()):
        here, after = table[:, :, rows, :-1], table[:, :, rows.start + 1 : rows.stop + 1, 1:]
        if not torch.equal(here, after):  # NaN equals nothing
            return table
    # from the lowest left corner up, then along the first row
    values = torch.cat([table[0, :, :, 0].flip(-1), table[0, :, 0, 1:]], -1)  # (H or 1, Q + K − 1)
    if not bool(values.isfinite().all()):
        return table
    return Diagonals(values.expand(heads, -1)) if bool(values.any()) else None


def _seen(mask: Tensor, sees_all: bool) -> Seen:
    batch, heads, _, keys = mask.shape
    found: list[tuple[Tensor, Tensor]] | None = []
    levels: list[Tensor] = []
    added = False
    for rows in _blocks(mask.shape[2], keys * batch * heads):
        visible, level, more = _look(mask[:, :, rows], sees_all)
        levels.append(level)
        added |= more
        one = None if found is None else intervals(visible)
        found = None if found is None or one is None else [*found, one]
    level = torch.cat(levels, 2)  # (B or 1, H or 1, Q or 1, 1)
    bias = None
    if added:
        visible = _look(mask, sees_all)[0]
        bias = mask.masked_fill(~visible | level, 0.0)
    flat = level if bool(level.any()) else None
    if found:
        start, stop = (torch.cat([pair[i] for pair in found], 2) for i in (0, 1))  # (B or 1, H or 1, Q or 1)
        return Seen(_of_intervals(start, stop, keys), flat, bias, int(stop.max()), bool((start >= stop).any()))
    table = _look(mask, sees_all)[0]
    last = table.any(0).any(0).any(0).nonzero()
    return Seen(Dense(table.clone()), flat, bias, int(last[-1]) + 1, not bool(table.any(-1).all()))


def _look(part: Tensor, sees_all: bool) -> tuple[Tensor, Tensor, bool]:
    """Of rows of a mask: what is seen; which are level (…, rows, 1); whether it adds numbers that are neither."""
    if part.dtype == torch.bool:
        level = ~part.any(-1, keepdim=True) & sees_all
        return part | level, level, False
    least = torch.finfo(part.dtype).min if part.dtype == torch.float16 else ABSORBING
    peak = part.amax(-1, keepdim=True)
    ordinary = part > least
    level = (peak <= least) & (peak > -torch.inf) & sees_all
    # where every number takes all of the score, the softmax is of these numbers alone
    visible = torch.where(level, part == peak, ordinary)
    added = part.masked_fill(~ordinary, 0.0).any()  # NaN counts
    return visible, level, bool(added)


def _of_intervals(start: Tensor, stop: Tensor, keys: int) -> Mask | None:
    """The simplest mask of intervals, (B or 1, H or 1, Q or 1)."""
    if not bool(start.any()):
        if bool((stop == keys).all()):
            return None
        queries = stop.shape[-1]
        offset = int(stop[0, 0, 0]) - 1
        causal = (torch.arange(queries, device=stop.device) + (offset + 1)).clamp(max=keys)
        if queries > 1 and offset >= 0 and bool((stop == causal).all()):
            return Causal(offset)
    return Interval(start, stop)


def _blocks(rows: int, size: int) -> Iterator[slice]:
    """Rows of a table, `size` numbers each, a million numbers at a time."""
    step = max(1, BLOCK // max(1, size))
    for row in range(0, max(0, rows), step):
        yield slice(row, min(row + step, rows))


def _identity(x: Tensor) -> tuple[object, ...]:
    """What tells a tensor, while it lives, from every other and from itself after a change."""
    version = 0 if x.is_inference() else x._version
    return x.data_ptr(), tuple(x.shape), x.stride(), x.dtype, version
