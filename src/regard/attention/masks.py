"""Masks: which keys a query may attend to. True always means "may attend".

A mask is a small immutable object. `resolve` brings it, for given sizes, into one normal form, `Visibility`, from which
any block can be made and from which a backend sees at once whether a causal limit and a key table are all there is, so
that it need not write out a table of queries × keys.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.extent import Extent
from regard.errors import ArgumentError, UnsupportedError


@dataclass(frozen=True)
class Visibility:
    """The conjunction of a causal limit, a key table and a dense table; None means "no limit of this kind".

    Attributes:
        causal: query i sees keys j ≤ i + causal.
        keys: (B or 1, K) bool, the keys that any query may see.
        dense: (B or 1, H or 1, Q or 1, K) bool.
    """

    causal: int | None = None
    keys: Tensor | None = None
    dense: Tensor | None = None

    def __and__(self, other: "Visibility") -> "Visibility":
        limits = [limit for limit in (self.causal, other.causal) if limit is not None]
        return Visibility(min(limits, default=None), _both(self.keys, other.keys), _both(self.dense, other.dense))

    def block(self, rows: slice, columns: slice, device: torch.device) -> Tensor | None:
        """The part for queries `rows` and keys `columns` (slices with start and stop set).

        Returns:
            bool, broadcastable to (B, H, rows, columns), or None where every key of the block can be seen.
        """
        table: Tensor | None = None
        if self.causal is not None and columns.stop - 1 > rows.start + self.causal:
            i = torch.arange(rows.start, rows.stop, device=device)
            j = torch.arange(columns.start, columns.stop, device=device)
            table = (j[None, :] <= i[:, None] + self.causal)[None, None]  # (1, 1, rows, columns)
        if self.keys is not None:
            table = _both(table, self.keys[:, None, None, columns])
        if self.dense is not None:
            part = self.dense if self.dense.shape[2] == 1 else self.dense[:, :, rows]
            table = _both(table, part[..., columns])
        return table


class Mask(ABC):
    """Base of the masks; `&` combines two."""

    @abstractmethod
    def resolve(self, extent: Extent) -> Visibility:
        """The normal form of this mask for an attention of the given sizes.

        Raises:
            ArgumentError: a tensor of the mask doesn't fit the sizes or lies on another device.
        """

    def block(self, rows: slice, columns: slice, extent: Extent) -> Tensor:
        """Any block of the mask as booleans, broadcastable to (B, H, rows, columns)."""
        part = self.resolve(extent).block(rows, columns, extent.device)
        if part is None:
            shape = (1, 1, rows.stop - rows.start, columns.stop - columns.start)
            return torch.ones(shape, dtype=torch.bool, device=extent.device)
        return part

    def __and__(self, other: "Mask") -> "Mask":
        if not isinstance(other, Mask):
            return NotImplemented
        return And(self, other)

    def __or__(self, other: "Mask") -> "Mask":
        raise UnsupportedError(
            "masks can be combined with & (both must allow); | is not supported yet: give the table as Dense(a | b)"
        )


@dataclass(frozen=True)
class And(Mask):
    """A key is visible if both masks allow it. Written `a & b`."""

    left: Mask
    right: Mask

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        return self.left.resolve(extent) & self.right.resolve(extent)


@dataclass(frozen=True)
class Causal(Mask):
    """Query i sees keys j ≤ i + offset.

    Args:
        offset: None aligns the ends (offset = K − Q), so that a cached step, whose queries are the last positions,
            is right; 0 aligns the starts. K is the number of filled keys, never the capacity of a cache.
    """

    offset: int | None = None

    def __post_init__(self) -> None:
        if self.offset is not None and (not isinstance(self.offset, int) or isinstance(self.offset, bool)):
            raise UnsupportedError(
                f"Causal: offset must be one int for all batch elements or None, not {type(self.offset).__name__}"
            )

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        return Visibility(causal=extent.keys - extent.queries if self.offset is None else self.offset)


class Padding(Mask):
    """Only the first `lengths[b]` keys of batch element b can be seen.

    Args:
        lengths: integers (B,), each from 0 to K.
    """

    def __init__(self, lengths: Tensor) -> None:
        if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.dtype == torch.bool:
            kind = str(lengths.dtype) if isinstance(lengths, Tensor) else type(lengths).__name__
            raise ArgumentError(f"Padding: lengths must be an integer tensor (B,), not {kind}")
        self.lengths = lengths.detach().clone()  # the caller may go on counting in its own
        # One Padding serves all layers of a model: it is checked and its table made once for each extent.
        self._tables: dict[tuple[int, int, torch.device, bool], Visibility] = {}

    def __repr__(self) -> str:
        return f"Padding({self.lengths.tolist()})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        # a table made in inference mode could not be used in training
        key = (extent.batch, extent.keys, extent.device, torch.is_inference_mode_enabled())
        if key not in self._tables:
            self._tables[key] = self._table(extent)
        return self._tables[key]

    def _table(self, extent: Extent) -> Visibility:
        lengths = self.lengths.reshape(-1)
        if lengths.shape[0] not in (1, extent.batch):
            raise ArgumentError(f"Padding: {lengths.shape[0]} lengths for a batch of {extent.batch}")
        if lengths.device != extent.device:
            raise ArgumentError(f"Padding: lengths are on {lengths.device}, queries and keys on {extent.device}")
        if lengths.numel() and lengths.device.type == "cpu":  # elsewhere a look would wait for the device
            least, most = int(lengths.min()), int(lengths.max())
            if least < 0 or most > extent.keys:
                raise ArgumentError(f"Padding: lengths from {least} to {most} for {extent.keys} keys")
            if least == extent.keys:
                return Visibility()
        return Visibility(keys=torch.arange(extent.keys, device=extent.device)[None, :] < lengths[:, None])  # (B, K)


class Dense(Mask):
    """A table of booleans.

    Args:
        table: bool, broadcastable to the scores in the caller's layout: (Q, K) or (…, Q, K) with the same leading
            axes as the queries. Usual broadcasting: beside queries (B, H, Q, D), a table (H, Q, K) is one for each head
            and (B, 1, Q, K) one for each batch element.
    """

    def __init__(self, table: Tensor) -> None:
        if not isinstance(table, Tensor) or table.dtype != torch.bool:
            kind = str(table.dtype) if isinstance(table, Tensor) else type(table).__name__
            raise ArgumentError(f"Dense: table must be a bool tensor (True = may attend), not {kind}")
        self.table = table

    def __repr__(self) -> str:
        return f"Dense({tuple(self.table.shape)})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        return Visibility(dense=extent.table(self.table, "mask"))


def _both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None:
        return b
    return a if b is None else a & b
