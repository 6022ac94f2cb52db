"""The normal form of masks: limits of keys for each query, a row of keys, documents, tables, and unions of these.

Everything but a dense table is linear in length, and any block can be made from it. A backend sees at once what there
is, so that it need not write out a table of queries × keys.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from regard.attention.modes import readable
from regard.attention.operands import take

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Visibility:
    """The conjunction of what its attributes demand; None and () mean "no limit of this kind".

    Attributes:
        causal: query i sees keys j ≤ i + causal.
        lower: query i sees keys j ≥ i + lower.
        start: (B or 1, H or 1, Q or 1, 1) integers: query i sees keys j ≥ start_i.
        stop: (B or 1, H or 1, Q or 1, 1) integers: query i sees keys j < stop_i.
        keys: (B or 1, 1, 1, K) bool, the keys that any query may see.
        documents: pairs of identities of queries (B or 1, 1, Q, 1) and keys (B or 1, 1, 1, K): only equal ones ≥ 0 see
            each other.
        unions: pairs of which one at least must allow a place.
        dense: (B or 1, H or 1, Q or 1, K) bool.
    """

    causal: int | None = None
    lower: int | None = None
    start: Tensor | None = None
    stop: Tensor | None = None
    keys: Tensor | None = None
    documents: tuple[tuple[Tensor, Tensor], ...] = ()
    unions: tuple[tuple["Visibility", "Visibility"], ...] = ()
    dense: Tensor | None = None
    _barred: dict[torch.dtype, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def unlimited(self) -> bool:
        """Whether every query sees every key."""
        # written out, since every call asks
        return (
            self.causal is None
            and self.lower is None
            and self.start is None
            and self.stop is None
            and self.keys is None
            and self.limits_only
        )

    @property
    def limits_only(self) -> bool:
        """Whether each query sees one interval of keys, apart from `keys`."""
        # lengths, since torch.compile can't tell whether a tuple of tensors is true
        return len(self.documents) == len(self.unions) == 0 and self.dense is None

    def __and__(self, other: "Visibility") -> "Visibility":
        if self.unlimited or other.unlimited:
            return other if self.unlimited else self
        return Visibility(
            _either(self.causal, other.causal, min),
            _either(self.lower, other.lower, max),
            _either(self.start, other.start, torch.maximum),
            _either(self.stop, other.stop, torch.minimum),
            _either(self.keys, other.keys, torch.logical_and),
            self.documents + other.documents,
            self.unions + other.unions,
            _either(self.dense, other.dense, torch.logical_and),
        )

    def __or__(self, other: "Visibility") -> "Visibility":
        if self.unlimited or other.unlimited:
            return Visibility()
        return Visibility(unions=((self, other),))

    def barred_keys(self, dtype: torch.dtype) -> Tensor | None:
        """`keys` as a number to add to scores, 0 where a key may be seen and −∞ elsewhere; made once for each dtype."""
        if self.keys is None:
            return None
        if dtype not in self._barred:
            barred = torch.full(self.keys.shape, -torch.inf, dtype=dtype, device=self.keys.device)
            self._barred[dtype] = barred.masked_fill_(self.keys, 0.0)
        return self._barred[dtype]

    def crop(self, batch: slice, heads: slice) -> "Visibility":
        """The same for some batch elements and heads."""

        def part(x: Tensor | None) -> Tensor | None:
            return None if x is None else take(take(x, 0, batch), 1, heads)

        return replace(
            self,
            start=part(self.start),
            stop=part(self.stop),
            keys=part(self.keys),
            documents=tuple((take(q, 0, batch), take(k, 0, batch)) for q, k in self.documents),
            unions=tuple((a.crop(batch, heads), b.crop(batch, heads)) for a, b in self.unions),
            dense=part(self.dense),
        )

    def block(self, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
        """The part for queries `rows` and keys `columns` (slices with start and stop set).

        Returns:
            bool, broadcastable to (B, H, rows, columns), or None where every key of the block can be seen.
        """
        table = self._limits(rows, columns, device)
        if self.keys is not None:
            table = _both(table, self.keys[..., columns])
        for queries, keys in self.documents:
            mine = take(queries, 2, rows)
            table = _both(table, (mine == keys[..., columns]) & (mine >= 0))
        for a, b in self.unions:
            left, right = a.block(rows, columns, device), b.block(rows, columns, device)
            if left is not None and right is not None:
                table = _both(table, left | right)
        if self.dense is not None:
            table = _both(table, take(self.dense, 2, rows)[..., columns])
        return table

    def _limits(self, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
        above = self.causal is not None and columns.stop - 1 > rows.start + self.causal
        below = self.lower is not None and columns.start < rows.stop - 1 + self.lower
        if not (above or below or self.start is not None or self.stop is not None):
            return None
        table: Tensor | None = None
        j = torch.arange(columns.start, columns.stop, device=device)
        i = torch.arange(rows.start, rows.stop, device=device)[:, None]
        if above and self.causal is not None:
            table = (j <= i + self.causal)[None, None]  # (1, 1, rows, columns)
        if below and self.lower is not None:
            table = _both(table, (j >= i + self.lower)[None, None])
        if self.start is not None:
            table = _both(table, j >= take(self.start, 2, rows))
        if self.stop is not None:
            table = _both(table, j < take(self.stop, 2, rows))
        return table

    def edges(self, rows: slice, columns: slice) -> list[slice]:
        """The columns of a block outside of which all of its queries see every key, as few as can be said cheaply."""
        if not self.limits_only or self.keys is not None:
            return [columns]
        starts, stops = [columns.start], [columns.stop]  # all see keys from the last start to the first stop
        if self.lower is not None:
            starts.append(rows.stop - 1 + self.lower)
        if self.causal is not None:
            stops.append(rows.start + self.causal + 1)
        for limits, found, reduce in ((self.start, starts, torch.amax), (self.stop, stops, torch.amin)):
            if limits is None:
                continue
            if not readable(limits):
                return [columns]
            found.append(_extreme(take(limits, 2, rows), reduce, columns.start))
        first, last = max(starts), min(stops)
        if first >= last:
            return [columns]
        return [x for x in (slice(columns.start, first), slice(last, columns.stop)) if x.stop > x.start]

    def interval(self, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """First key and first key beyond, of each query: (B or 1, H or 1, Q or 1, 1) each, within 0 to K.

        Documents, unions, `keys` and the table are not looked at.
        """
        first = torch.zeros((1, 1, 1, 1), dtype=torch.long, device=device)
        last = torch.full((1, 1, 1, 1), keys, dtype=torch.long, device=device)
        i = torch.arange(queries, device=device)[None, None, :, None]
        if self.lower is not None:
            first = torch.maximum(first, i + self.lower)
        if self.start is not None:
            first = torch.maximum(first, self.start)
        if self.causal is not None:
            last = torch.minimum(last, i + self.causal + 1)
        if self.stop is not None:
            last = torch.minimum(last, self.stop)
        return first.clamp(max=keys), last.clamp(min=0)

    def columns(self, rows: slice, keys: int) -> slice:
        """A range of keys that holds all that the queries `rows` can see, as narrow as can be said without a wait.

        Tensors are read on the CPU only.
        """
        start, stop = 0, keys
        if self.lower is not None:
            start = max(start, rows.start + self.lower)
        if self.causal is not None:
            stop = min(stop, rows.stop + self.causal)
        if self.start is not None and readable(self.start):
            start = max(start, _extreme(take(self.start, 2, rows), torch.amin, keys))
        if self.stop is not None and readable(self.stop):
            stop = min(stop, _extreme(take(self.stop, 2, rows), torch.amax, 0))
        start = min(start, keys)
        return slice(start, max(start, stop))

    def seen_keys(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """Keys that some query sees: bool (B or 1, H or 1, K)."""
        if not self.limits_only:
            seen = torch.zeros(1, 1, keys, dtype=torch.bool, device=device)
            for rows in _row_blocks(queries, keys):
                part = self.block(rows, slice(0, keys), device)
                seen = seen | (part.any(2) if part is not None else True)
            return seen
        first, last = self.interval(queries, keys, device)
        first, last = _broadcast(first[..., 0], torch.maximum(first, last)[..., 0])  # (B, H, Q or 1)
        # +1 where an interval starts, −1 where it ends: a key is seen where more have started than ended
        change = torch.zeros(*first.shape[:2], keys + 1, dtype=torch.long, device=device)
        if queries:
            one = torch.ones((), dtype=torch.long, device=device).expand(first.shape)
            change = change.scatter_add(2, first, one).scatter_add(2, last, -one)
        seen = change.cumsum(2)[..., :keys] > 0
        return seen if self.keys is None else seen & self.keys[:, :, 0]

    def seen_any(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """Queries that see some key: bool (B or 1, H or 1, Q or 1); None where no mask can bar all keys of one."""
        if self.unlimited and keys:
            return None
        if not self.limits_only:
            parts = []
            for rows in _row_blocks(queries, keys):
                part = self.block(rows, slice(0, keys), device)
                if part is None:
                    part = torch.ones(1, 1, 1, keys, dtype=torch.bool, device=device)
                parts.append(part.any(-1).expand(-1, -1, rows.stop - rows.start))
            # a block without limits knows no batch elements
            if len(parts) > 1 and len({part.shape[:2] for part in parts}) > 1:
                parts = [
                    part.expand(max(p.shape[0] for p in parts), max(p.shape[1] for p in parts), -1) for part in parts
                ]
            return torch.cat(parts, 2)
        if self.keys is None and self.start is None and self.stop is None and keys:
            reaches = self.lower is None or queries - 1 + self.lower < keys
            nonempty = self.causal is None or self.lower is None or self.lower <= self.causal
            if (self.causal is None or self.causal >= 0) and reaches and nonempty:
                return None
        first, last = self.interval(queries, keys, device)
        if self.keys is None:
            return (first < last)[..., 0]
        before = torch.nn.functional.pad(self.keys[:, :, 0].long().cumsum(-1), (1, 0))  # (B or 1, 1, K + 1)
        first, last, before = (
            x.expand(max(first.shape[0], last.shape[0], before.shape[0]), max(first.shape[1], last.shape[1]), -1)
            for x in (first[..., 0], torch.maximum(first, last)[..., 0], before)
        )
        return before.gather(2, last) > before.gather(2, first)


EVERYTHING = Visibility()
"""No limit at all."""


def _broadcast(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    shape = [max(x, y) for x, y in zip(a.shape, b.shape, strict=True)]
    return a.expand(shape), b.expand(shape)


def _extreme(x: Tensor, reduce: Callable[[Tensor], Tensor], empty: int) -> int:
    return int(reduce(x)) if x.numel() else empty


def _row_blocks(queries: int, keys: int) -> list[slice]:
    if torch.compiler.is_compiling():  # a loop would be written out for this one length
        return [slice(0, queries)]
    step = max(1, (1 << 20) // max(1, keys))
    return [slice(r, min(r + step, queries)) for r in range(0, queries, step)] or [slice(0, 0)]


def _either(a: T | None, b: T | None, join: Callable[[T, T], T]) -> T | None:
    if a is None:
        return b
    return a if b is None else join(a, b)


def _both(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a & b
