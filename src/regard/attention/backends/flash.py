"""torch's flash operator for the CPU, called piece by piece, so that no mask or bias is ever a table of Q × K.

A piece is one call of the operator for some queries and the keys that any of them can see. The pieces of a causal limit
need no table: keys before the first query's own are seen by all, and the rest is a triangle that starts at its corner;
the two results are joined by their ℓ. Any other mask, and a bias, is written out for a block of queries at a time. On
the way back the operator's own backward pass runs for each piece with the results of the whole row, which makes its
share of the gradients exact.

The operator is private, so a check runs once before it is trusted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.operands import Region
from regard.attention.precision import fitted, own_precision
from regard.attention.scoring import Scoring, named
from regard.attention.visibility import Visibility

# Queries of a block: with fewer the operator is slow, with more a window or a document covers more keys that only some
# of the block's queries see. 128 and 256 are the fastest from windows of 128 keys to none (docs/decisions/0019).
ROWS = 256

# Numbers of a table that is written out at a time, 16 MiB in float32, if a block of one head is not larger.
TABLE = 1 << 22

# Numbers of such a table from which batch elements with limits of their own are gone through one by one, and up to
# which one call with it is faster than two without.
SHARED = 1 << 18


class Flash(NamedTuple):
    """The operator and its backward pass."""

    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Piece:
    """One call of the operator.

    Attributes:
        region: its part of the table; whole groups of heads.
        causal: the region's first query sees its first key only, and each next one a key more; apart from that only a
            row of keys limits what is seen. Otherwise what the mask says is written out.
        again: an earlier piece has other keys of the same queries.
    """

    region: Region
    causal: bool = False
    again: bool = False


HALF = (torch.bfloat16, torch.float16)
HALF_FROM = 512
"""Up to so many keys, half numbers are differentiated in float32: the operator's own way back takes longer for them."""


@lru_cache(maxsize=1)
def cpu_flash() -> Flash | None:
    """torch's flash operator for the CPU, or None where it is missing or doesn't do what is asked of it here."""
    cpu = torch.device("cpu")
    try:
        forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
        with torch.no_grad(), own_precision(cpu):
            x = torch.tensor([[[[1.0], [2.0], [3.0]]]], device=cpu)  # (1, 1, 3, 1)
            barred = torch.tensor([0.0, -torch.inf, 0.0], device=cpu).view(1, 1, 1, 3)
            context, lse = forward(x, x, x, 0.0, True, attn_mask=barred, scale=1.0)
            later = torch.ones(3, 3, dtype=torch.bool, device=cpu).triu(1)
            scores = (x @ x.transpose(-1, -2) + barred).masked_fill(later, -torch.inf)
            right = torch.allclose(context, scores.softmax(-1) @ x) and torch.allclose(lse, scores.logsumexp(-1))
            # with another ℓ and context than its own: P = exp(s − ℓ), and the gradient of s is P · (dP − dO · O)
            found = backward(x, x, x, x, context + 1.0, lse + 1.0, 0.0, True, attn_mask=barred, scale=1.0)
            weights = (scores - lse[..., None] - 1.0).exp()
            change = weights * (x @ x.transpose(-1, -2) - x * (context + 1.0))
            known = change @ x, change.transpose(-1, -2) @ x, weights.transpose(-1, -2) @ x
            right = right and all(torch.allclose(a, b) for a, b in zip(found, known, strict=True))
    except (AttributeError, RuntimeError, TypeError):
        return None
    return Flash(forward, backward) if right else None


def flash_attention(
    flash: Flash, table: Scoring, v: Tensor, need_lse: bool, differentiated: bool
) -> tuple[Tensor, Tensor | None]:
    """Attention of inner scores by the operator, without soft-cap, sink, factor and a bias that needs a gradient.

    Args:
        flash: the operator.
        table: at least one query, key and batch element.
        v: values (B, G, K, Dv).
        need_lse: whether ℓ is asked for.
        differentiated: whether a gradient will flow through the call.

    Returns:
        context (B, H, Q, Dv); ℓ (B, H, Q), −∞ where a query sees no key. Both are differentiable in q, k and v.
    """
    q, k, width = table.q, table.k, v.shape[-1]
    direct = is_direct(table)
    if table.extent.queries == 1 and table.visibility.causal is None and direct and not need_lse and _plain(q, k, v):
        barred = table.visibility.barred_keys(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=barred, scale=table.scale), None
    if q.shape[-1] != width:  # it wants one width: zero columns change neither scores nor the other values
        both = max(q.shape[-1], width)
        q, k, v = (F.pad(x, (0, both - x.shape[-1])) if x.shape[-1] < both else x for x in (q, k, v))
    q, k, v = contiguous_rows(q), contiguous_rows(k), contiguous_rows(v)
    if direct and not (need_lse and differentiated):
        seen = table.visibility
        causal = seen.causal is not None and seen.causal < table.extent.keys - 1
        own = q.dtype
        if differentiated and own in HALF and table.extent.keys <= HALF_FROM:
            q, k, v = q.float(), k.float(), v.float()
        context, lse = flash.forward(q, k, v, 0.0, causal, attn_mask=seen.barred_keys(q.dtype), scale=table.scale)
        context = context.to(own)
    else:
        pieces = tuple(cut(table))
        if differentiated and (need_lse or not _alone(table, pieces)):
            context, lse = _Pieces.apply(flash, table, pieces, q, k, v)  # type: ignore[no-untyped-call]
        else:  # the operator knows its own gradient of the context
            context, lse = _forward(flash, table, pieces, q, k, v)
    if context.shape[-1] != width:
        context = context[..., :width]
    if not need_lse:
        return context, None
    dead = dead_rows(table)
    return context, lse if dead is None else lse.masked_fill(dead, -torch.inf)  # the operator says 0 there


def dead_rows(table: Scoring) -> Tensor | None:
    """(B or 1, H or 1, Q or 1) bool: the queries that see no key; None where there can be none."""
    sizes = table.extent
    seen = table.visibility.seen_any(sizes.queries, sizes.keys, sizes.device)
    return None if seen is None else ~seen


def contiguous_rows(x: Tensor) -> Tensor:
    """The kernels read a row of D numbers at a time."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _plain(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether torch's public function would run the same kernel for one query; a call of it takes less time."""
    return q.shape[1] == k.shape[1] and q.shape[-1] == v.shape[-1] and not torch.is_autocast_enabled("cpu")


def simple(seen: Visibility) -> bool:
    """Whether there is nothing but one causal limit and a row of keys."""
    others = (seen.lower, seen.start, seen.stop, seen.dense)
    return len(seen.documents) == len(seen.unions) == 0 and all(x is None for x in others)


def is_direct(table: Scoring) -> bool:
    """Whether one call of the operator, with its causal flag and a row of keys, does it all."""
    seen = table.visibility
    corner = seen.causal is None or seen.causal == 0 or seen.causal >= table.extent.keys - 1
    return corner and table.bias is None and simple(seen)


def is_triangle(table: Scoring) -> bool:
    """Whether a causal limit is all there is, and is cut into pieces without a table because one would cost more."""
    sizes = table.extent
    small = sizes.queries <= ROWS and sizes.queries * sizes.keys <= SHARED
    return table.bias is None and simple(table.visibility) and (is_direct(table) or not small)


def cut(table: Scoring) -> Iterator[Piece]:
    """The pieces of a table; queries that see no key may be in none."""
    if not is_triangle(table):
        yield from _by_rows(table)
        return
    sizes = table.extent
    rows, columns = slice(0, sizes.queries), slice(0, sizes.keys)
    offset = table.visibility.causal
    if offset is None or offset >= sizes.keys - 1:
        yield Piece(table.region(rows, columns))
        return
    ahead = max(0, offset)
    if ahead:  # every query sees these
        yield Piece(table.region(rows, slice(0, ahead)))
    if offset + sizes.queries > 0:
        yield Piece(table.region(slice(max(0, -offset), sizes.queries), slice(ahead, sizes.keys)), True, ahead > 0)


def _by_rows(table: Scoring) -> Iterator[Piece]:
    """Blocks of queries, each with the keys that they can see, of such a size that its mask and bias stay small."""
    sizes, seen = table.extent, table.visibility
    varied_batch, varied_heads = _varied(table)
    one = min(ROWS, sizes.queries) * sizes.keys
    heads, batch = sizes.heads, sizes.batch
    if varied_heads:
        heads = table.share * min(sizes.groups, max(1, TABLE // (one * table.share)))
    if varied_batch:
        batch = min(batch, max(1, TABLE // (one * (heads if varied_heads else 1))))
    limits = [x for x in (seen.start, seen.stop) if x is not None]
    if any(x.shape[0] > 1 for x in limits) and one * batch > SHARED:
        batch = 1
    for b in range(0, sizes.batch, batch):
        for h in range(0, sizes.heads, heads):
            at = slice(b, min(b + batch, sizes.batch)), slice(h, min(h + heads, sizes.heads))
            limit = seen.crop(*at)
            for r in range(0, sizes.queries, ROWS):
                rows = slice(r, min(r + ROWS, sizes.queries))
                for part in _halves(limit, rows, sizes.keys):
                    columns = limit.columns(part, sizes.keys)
                    if columns.stop > columns.start:
                        yield Piece(Region(*at, part, columns))


def _halves(limit: Visibility, rows: slice, keys: int) -> tuple[slice, ...]:
    """A block as it is, or as two where that leaves out much that nobody sees."""
    columns, height = limit.columns(rows, keys), rows.stop - rows.start
    width = columns.stop - columns.start
    if width == keys or width >= 2 * height or height < 2:
        return (rows,)
    middle = rows.start + height // 2
    return slice(rows.start, middle), slice(middle, rows.stop)


def _varied(table: Scoring) -> tuple[bool, bool]:
    """Whether mask and bias differ between batch elements, and between heads."""
    own = [operand.tensor for name, operand in table.operands.items() if name.startswith("bias.")]
    tensors = own + list(_tensors(table.visibility))
    return any(x.shape[0] > 1 for x in tensors), any(x.shape[1] > 1 for x in tensors)


def _tensors(seen: Visibility) -> Iterator[Tensor]:
    for x in (seen.start, seen.stop, seen.keys, seen.dense):
        if x is not None:
            yield x
    for pair in seen.documents:
        yield from pair
    for union in seen.unions:
        for part in union:
            yield from _tensors(part)


def _added(table: Scoring, piece: Piece) -> Tensor | None:
    """What the operator adds to the scores of a piece: mask and bias, broadcastable to (B, H, rows, columns)."""
    at, dtype = piece.region, table.q.dtype
    seen = table.visibility.crop(at.batch, at.heads)
    if piece.causal:
        visible = None if seen.keys is None else seen.keys[..., at.columns]
    else:
        visible = seen.block(at.rows, at.columns, table.extent.device)
    if table.bias is None:
        return None if visible is None else _filled(visible, dtype)
    part = table.crop(at.batch, at.heads)
    own = {n: x.part(at, table.share) for n, x in table.operands.items() if n.startswith("bias.")}
    bias = table.bias.block(named("bias.", own), at.rows, at.columns, part.extent)
    if not (dtype.itemsize == 2 and bias.dtype == torch.float32):  # which the operator takes beside halves
        bias = fitted(bias, dtype)
    return bias if visible is None else bias.masked_fill(~visible, -torch.inf)


def _filled(visible: Tensor, dtype: torch.dtype) -> Tensor:
    barred = torch.full(visible.shape, -torch.inf, dtype=dtype, device=visible.device)
    return barred.masked_fill_(visible, 0.0)


class _Call(NamedTuple):
    """What a piece needs of the tensors: views."""

    q: Tensor
    k: Tensor
    v: Tensor
    added: Tensor | None


def _views(table: Scoring, piece: Piece, q: Tensor, k: Tensor, v: Tensor) -> _Call:
    of_rows, of_columns = _place(table, piece)
    return _Call(q[of_rows], k[of_columns], v[of_columns], _added(table, piece))


Place = tuple[slice, slice, slice]


def _place(table: Scoring, piece: Piece) -> tuple[Place, Place]:
    """Where a piece lies in tensors of queries (B, H, Q, ·) and in those of keys (B, G, K, ·)."""
    at, share = piece.region, table.share
    groups = slice(at.heads.start // share, at.heads.stop // share)
    return (at.batch, at.heads, at.rows), (at.batch, groups, at.columns)


def _forward(
    flash: Flash, table: Scoring, pieces: tuple[Piece, ...], q: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Context (B, H, Q, D) and ℓ (B, H, Q), 0 where a query sees no key."""
    if _alone(table, pieces):
        part = _views(table, pieces[0], q, k, v)
        return flash.forward(part.q, part.k, part.v, 0.0, pieces[0].causal, attn_mask=part.added, scale=table.scale)
    context = _zeros(q, q.dtype)
    lse = q.new_zeros(q.shape[:3], dtype=table.dtype)
    joined = any(piece.again for piece in pieces)
    for piece in pieces:
        part = _views(table, piece, q, k, v)
        found, total = flash.forward(part.q, part.k, part.v, 0.0, piece.causal, attn_mask=part.added, scale=table.scale)
        rows, _ = _place(table, piece)
        if joined:
            total = _without_dead(table, piece, total)
        if piece.again:
            share = torch.sigmoid((total - lse[rows]).nan_to_num(0.0, torch.inf, -torch.inf))[..., None]
            found = torch.lerp(context[rows].to(lse.dtype), found.to(lse.dtype), share)
            total = torch.logaddexp(lse[rows], total)
        context[rows], lse[rows] = found, total
    return context, lse.masked_fill_(lse == -torch.inf, 0.0) if joined else lse


def _without_dead(table: Scoring, piece: Piece, lse: Tensor) -> Tensor:
    """ℓ of a piece, with −∞ where a query sees none of its keys; for pieces that only a row of keys limits."""
    keys = table.visibility.keys
    if keys is None:
        return lse
    at = piece.region
    seen = Visibility(causal=0 if piece.causal else None, keys=keys[..., at.columns])
    any_seen = seen.seen_any(at.rows.stop - at.rows.start, at.columns.stop - at.columns.start, keys.device)
    return lse if any_seen is None else lse.masked_fill(~any_seen, -torch.inf)


def _backward(
    flash: Flash,
    table: Scoring,
    pieces: tuple[Piece, ...],
    saved: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `saved` are these, the context and ℓ."""
    q, k, v, context, lse = saved
    alone = _alone(table, pieces)
    # summed in the dtype of the scores: halves would lose what many pieces add
    sums = () if alone else tuple(_zeros(x, table.dtype) for x in (q, k, v))
    for piece in pieces:
        rows, columns = _place(table, piece)
        part = _views(table, piece, q, k, v)
        found = flash.backward(
            grad[rows], part.q, part.k, part.v, context[rows], lse[rows], 0.0, piece.causal,
            attn_mask=part.added, scale=table.scale,
        )  # fmt: skip
        if alone:
            return found
        for total, x, place in zip(sums, found, (rows, columns, columns), strict=True):
            total[place].add_(x)
    of_q, of_k, of_v = (x.to(q.dtype) for x in sums)
    return of_q, of_k, of_v


def _alone(table: Scoring, pieces: tuple[Piece, ...]) -> bool:
    """Whether there is one piece, which is the whole table."""
    whole = table.region(slice(0, table.extent.queries), slice(0, table.extent.keys))
    return len(pieces) == 1 and pieces[0].region == whole


def _zeros(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros like x (B, H, Q, D), laid out as the operator lays out its results: heads beside each other."""
    batch, heads, length, width = x.shape
    return x.new_zeros(batch, length, heads, width, dtype=dtype).transpose(1, 2)


class _Pieces(torch.autograd.Function):
    """Context and ℓ, both with gradients."""

    @staticmethod
    def forward(
        ctx: Any, flash: Flash, table: Scoring, pieces: tuple[Piece, ...], q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        context, lse = _forward(flash, table, pieces, q, k, v)
        ctx.save_for_backward(q, k, v, context, lse)
        ctx.set_materialize_grads(False)
        ctx.flash, ctx.table, ctx.pieces = flash, table, pieces
        return context, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, context, lse = ctx.saved_tensors
        width = q.shape[-1]
        grad = torch.zeros_like(context) if grad is None else contiguous_rows(grad)
        if grad_lse is not None:
            # The gradient of a score is P · (dP − Σ dO·O + dℓ), and the operator computes the sum: a column more, in
            # which O is 1 and dO is −dℓ, while q, k and v are 0, adds what is missing. Two where it is a half number.
            high = (-grad_lse).to(q.dtype)
            more = [high] if high.dtype == grad_lse.dtype else [high, (-grad_lse - high).to(q.dtype)]
            grad = torch.cat([grad, torch.stack(more, -1)], -1)
            context = F.pad(context, (0, len(more)), value=1.0)
            q, k, v = (F.pad(x, (0, len(more))) for x in (q, k, v))
        found = _backward(ctx.flash, ctx.table, ctx.pieces, (q, k, v, context, lse), grad)
        return None, None, None, *(x[..., :width] for x in found)
