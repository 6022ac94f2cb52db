"""Masks: which keys a query may attend to. True always means "may attend".

A mask is a small immutable object; `&` and `|` combine two. `resolve` brings it, for given sizes, into one normal form,
`Visibility`, from which any block can be made.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.attention.extent import Extent
from regard.attention.modes import readable, transformed
from regard.attention.visibility import EVERYTHING, Visibility
from regard.errors import ArgumentError


class Mask(ABC):
    """Base of the masks; `&` (both must allow) and `|` (one must) combine two."""

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
        return And(self, _joined("&", other))

    def __or__(self, other: "Mask") -> "Mask":
        return Or(self, _joined("|", other))


@dataclass(frozen=True)
class And(Mask):
    """A key is visible if both masks allow it. Written `a & b`."""

    left: Mask
    right: Mask

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        return self.left.resolve(extent) & self.right.resolve(extent)


@dataclass(frozen=True)
class Or(Mask):
    """A key is visible if one of the masks, or both, allow it. Written `a | b`."""

    left: Mask
    right: Mask

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`; two limits of the last key, such as `Prefix | Causal`, become one."""
        a, b = self.left.resolve(extent), self.right.resolve(extent)
        if not (_upper_only(a) and _upper_only(b)) or a.unlimited or b.unlimited:
            return a | b
        if a.stop is None and b.stop is None and a.causal is not None and b.causal is not None:
            return Visibility(causal=max(a.causal, b.causal))
        ends = (x.interval(extent.queries, extent.keys, extent.device)[1] for x in (a, b))
        return Visibility(stop=torch.maximum(*ends))


@dataclass(frozen=True, eq=False)
class Causal(Mask):
    """Query i sees keys j ≤ i + offset.

    Args:
        offset: None aligns the ends (offset = K − Q), so that a cached step, whose queries are the last positions,
            is right; 0 aligns the starts; integers (B,) give each batch element its own. K is the number of filled
            keys, never the capacity of a cache.
    """

    offset: int | Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", checked_offset("Causal", self.offset))

    def __repr__(self) -> str:
        return f"Causal({_shown(self.offset)})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        offset = placed("Causal: offset", self.offset, extent)
        if isinstance(offset, int):
            return Visibility(causal=offset) if offset < extent.keys - 1 else EVERYTHING
        return Visibility(stop=_positions(extent) + (offset + 1))


@dataclass(frozen=True, eq=False)
class Window(Mask):
    """Query i, at position p = i + offset among the keys, sees keys p − left ≤ j ≤ p + right.

    Args:
        left: how many keys before its own position a query sees; None is all.
        right: how many after it; None is all, 0 makes the window causal.
        offset: as for `Causal`.
    """

    left: int | None
    right: int | None
    offset: int | Tensor | None = None

    def __post_init__(self) -> None:
        for name, x in (("left", self.left), ("right", self.right)):
            if x is not None and (isinstance(x, bool) or not isinstance(x, int) or x < 0):
                raise ArgumentError(f"Window: {name} must be an integer of 0 or more, or None, not {x!r}")
        object.__setattr__(self, "offset", checked_offset("Window", self.offset))

    def __repr__(self) -> str:
        return f"Window({self.left}, {self.right}, {_shown(self.offset)})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        offset = placed("Window: offset", self.offset, extent)
        if isinstance(offset, int):
            last = None if self.right is None else offset + self.right
            first = None if self.left is None else offset - self.left
            return Visibility(
                causal=last if last is not None and last < extent.keys - 1 else None,
                lower=first if first is not None and first > 1 - extent.queries else None,
            )
        position = _positions(extent) + offset  # (B, 1, Q, 1)
        return Visibility(
            start=None if self.left is None else position - self.left,
            stop=None if self.right is None else position + (self.right + 1),
        )


@dataclass(frozen=True, eq=False)
class Near(Mask):
    """Query i sees keys within `radius` of its centre: |j − centre_i| ≤ radius (Luong et al. 2015, section 3.2, local).

    Args:
        centre: positions among the keys, (Q,) or as the queries without their width, (…, Q); they may be fractions.
        radius: D of the paper, 0 or more.
    """

    centre: Tensor
    radius: float

    def __post_init__(self) -> None:
        if not isinstance(self.centre, Tensor) or self.centre.dtype == torch.bool or self.centre.ndim == 0:
            raise ArgumentError("Near: centre must be a tensor of numbers (…, Q)")
        if isinstance(self.radius, bool) or not isinstance(self.radius, (int, float)) or not self.radius >= 0:
            raise ArgumentError(f"Near: radius must be a number of 0 or more, not {self.radius!r}")

    def __repr__(self) -> str:
        return f"Near({tuple(self.centre.shape)}, {self.radius})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        centre = extent.column(self.centre.detach(), "Near: centre").double()
        # brought into the table before they become integers, whose range is smaller; NaN sees nothing
        start = torch.ceil(centre - self.radius).nan_to_num(torch.inf).clamp(0, extent.keys)
        stop = torch.floor(centre + self.radius).nan_to_num(-torch.inf).clamp(-1, extent.keys - 1)
        return Visibility(start=start.long(), stop=stop.long() + 1)


@dataclass(frozen=True, eq=False)
class Interval(Mask):
    """Query i sees keys start_i ≤ j < stop_i.

    Args:
        start, stop: integers, (Q,) or as the queries without their width, (…, Q).
    """

    start: Tensor
    stop: Tensor

    def __post_init__(self) -> None:
        for name in ("start", "stop"):
            object.__setattr__(self, name, _integers(f"Interval: {name}", getattr(self, name), (1, 2, 3)))

    def __repr__(self) -> str:
        return f"Interval({tuple(self.start.shape)}, {tuple(self.stop.shape)})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        start, stop = (
            extent.column(x, f"Interval: {n}").long() for n, x in (("start", self.start), ("stop", self.stop))
        )
        return Visibility(start=start, stop=stop)


class Padding(Mask):
    """Only the first `lengths[b]` keys of batch element b can be seen.

    Args:
        lengths: integers (B,), each from 0 to K.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = _integers("Padding: lengths", lengths)
        # One Padding serves all layers of a model: it is checked and its table made once for each extent.
        self._tables: dict[tuple[int, int, torch.device, bool], Visibility] = {}

    def __repr__(self) -> str:
        return f"Padding({self.lengths.tolist()})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        if torch.compiler.is_compiling() or transformed():  # what is made here must not outlive it
            return self._table(extent)
        # a table made in inference mode could not be used in training
        key = (extent.batch, extent.keys, extent.device, torch.is_inference_mode_enabled())
        if key not in self._tables:
            self._tables[key] = self._table(extent)
        return self._tables[key]

    def _table(self, extent: Extent) -> Visibility:
        lengths = _for_batch("Padding: lengths", self.lengths, extent)
        if readable(lengths) and lengths.numel():  # elsewhere a look would wait for the device
            least, most = int(lengths.min()), int(lengths.max())
            if least < 0 or most > extent.keys:
                raise ArgumentError(f"Padding: lengths from {least} to {most} for {extent.keys} keys")
            if least == extent.keys:
                return Visibility()
        return Visibility(keys=torch.arange(extent.keys, device=extent.device) < lengths)  # (B, 1, 1, K)


class Prefix(Mask):
    """Every query sees the first `length` keys; `Prefix(n) | Causal()` is the mask of a prefix language model.

    Args:
        length: an integer, or integers (B,), 0 or more.
    """

    def __init__(self, length: int | Tensor) -> None:
        if isinstance(length, Tensor):
            self.length: int | Tensor = _integers("Prefix: length", length)
        elif isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise ArgumentError(f"Prefix: length must be an integer of 0 or more or a tensor (B,), not {length!r}")
        else:
            self.length = length

    def __repr__(self) -> str:
        return f"Prefix({_shown(self.length)})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        if isinstance(self.length, int):
            end = torch.full((1, 1, 1, 1), self.length, dtype=torch.long, device=extent.device)
            return Visibility() if self.length >= extent.keys else Visibility(stop=end)
        length = _for_batch("Prefix: length", self.length, extent)
        if readable(length) and length.numel() and int(length.min()) < 0:
            raise ArgumentError(f"Prefix: length must be 0 or more, not {int(length.min())}")
        return Visibility(stop=length)


class Document(Mask):
    """Packed sequences: a query sees the keys of its own document.

    Args:
        query_ids: integers, (Q,) or (B, Q): which document each query belongs to; a negative one belongs to none.
        key_ids: the same for keys, (K,) or (B, K); None is `query_ids`.
    """

    def __init__(self, query_ids: Tensor, key_ids: Tensor | None = None) -> None:
        self.query_ids = _integers("Document: query_ids", query_ids, (1, 2))
        self.key_ids = self.query_ids if key_ids is None else _integers("Document: key_ids", key_ids, (1, 2))

    def __repr__(self) -> str:
        return f"Document({tuple(self.query_ids.shape)}, {tuple(self.key_ids.shape)})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`; documents that lie one after the other become an interval of keys for each query."""
        queries = self._rows("query_ids", self.query_ids, extent, extent.queries)
        keys = self._rows("key_ids", self.key_ids, extent, extent.keys)
        batch = queries.shape[0] if keys.shape[0] == 1 else keys.shape[0]
        queries, keys = queries.expand(batch, -1), keys.expand(batch, -1)
        if readable(keys) and readable(queries):
            none = torch.iinfo(torch.long).max
            known = keys.masked_fill(keys < 0, none).contiguous()
            if bool((known.diff(dim=-1) >= 0).all()):
                wanted = queries.contiguous()
                start = torch.searchsorted(known, wanted).masked_fill(wanted < 0, extent.keys)
                stop = torch.searchsorted(known, wanted, right=True).masked_fill(wanted < 0, 0)
                return Visibility(start=start[:, None, :, None], stop=stop[:, None, :, None])
        return Visibility(documents=((queries[:, None, :, None], keys[:, None, None, :]),))

    def _rows(self, name: str, ids: Tensor, extent: Extent, length: int) -> Tensor:
        if ids.device != extent.device:
            raise ArgumentError(f"Document: {name} are on {ids.device}, queries and keys on {extent.device}")
        if ids.shape[-1] != length or (ids.ndim == 2 and ids.shape[0] not in (1, extent.batch)):
            raise ArgumentError(
                f"Document: {name} are {tuple(ids.shape)}: expected ({length},) or ({extent.batch}, {length})"
            )
        return ids.view(1 if ids.ndim == 1 else ids.shape[0], length).long()


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


def _joined(operator: str, other: object) -> Mask:
    if not isinstance(other, Mask):
        hint = ": wrap it as Dense(table)" if isinstance(other, Tensor) else ""
        raise ArgumentError(f"{operator} joins a mask with another mask, not with {type(other).__name__}{hint}")
    return other


def placed(name: str, offset: int | Tensor | None, extent: Extent) -> int | Tensor:
    """An offset as an int, or as integers (B, 1, 1, 1); None is K − Q."""
    if offset is None:
        return extent.keys - extent.queries
    return offset if isinstance(offset, int) else _for_batch(name, offset, extent)


def checked_offset(owner: str, offset: int | Tensor | None) -> int | Tensor | None:
    """An offset as it is, or a copy of the tensor; raises `ArgumentError` for anything else."""
    if isinstance(offset, Tensor):
        return _integers(f"{owner}: offset", offset)
    if offset is not None and (not isinstance(offset, int) or isinstance(offset, bool)):
        raise ArgumentError(f"{owner}: offset must be an int, integers (B,) or None, not {type(offset).__name__}")
    return offset


def _integers(name: str, x: object, axes: tuple[int, ...] = (0, 1)) -> Tensor:
    """A copy of an integer tensor: the caller may go on counting in its own."""
    if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        kind = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError(f"{name} must be an integer tensor, not {kind}")
    if x.ndim not in axes:
        raise ArgumentError(f"{name} is {tuple(x.shape)}: expected {' or '.join(map(str, axes))} axes")
    return x.detach().clone()


def _for_batch(name: str, x: Tensor, extent: Extent) -> Tensor:
    """One integer for each batch element, (B or 1, 1, 1, 1)."""
    if x.device != extent.device:
        raise ArgumentError(f"{name} are on {x.device}, queries and keys on {extent.device}")
    if x.numel() not in (1, extent.batch):
        raise ArgumentError(f"{name}: {x.numel()} lengths or offsets for a batch of {extent.batch}")
    return x.long().view(-1, 1, 1, 1)


def _positions(extent: Extent) -> Tensor:
    return torch.arange(extent.queries, device=extent.device)[None, None, :, None]


def _upper_only(x: Visibility) -> bool:
    return x.limits_only and x.keys is None and x.lower is None and x.start is None


def _shown(x: int | Tensor | None) -> str:
    return str(x.tolist()) if isinstance(x, Tensor) else str(x)
