"""Everything that determines the table of attention weights, checked once and in one layout; and blocks of it."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regard.attention.extent import Extent, shape
from regard.attention.masks import Mask, Visibility
from regard.attention.scores import Score
from regard.errors import ArgumentError

# Elements of one block of scores: 2¹⁸ float32 are 1 MiB, so that a block and its temporaries stay in a core's cache.
BLOCK = 1 << 18

# Keys and values below this cannot make a product with a query infinite in float32, as long as that is below it too.
HARMLESS = 1e15

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Scoring:
    """Lifted queries and keys, visibility, bias, soft-cap and sink, all with axes (B, H or G, …).

    The table is s = softcap(scale · q·k) + bias where visible and −∞ elsewhere; ℓ is the log-sum-exp of a row of s; the
    weights are m · exp(s − ℓ), where m is the row's mass: 1, or σ(ℓ − sink) with a sink.

    Attributes:
        q: (B, H, Q, D).
        k: (B, G, K, D); G divides H, and query head h reads key head h // (H / G).
        scale: factor of the inner product.
        visibility: which keys can be seen.
        bias: (B or 1, H or 1, Q or 1, K) or None; never −∞ (that has become a part of the visibility).
        softcap: c of c · tanh(s / c) or None.
        sink: (H,) logits or None.
        extent: sizes and the caller's layout.
    """

    q: Tensor
    k: Tensor
    scale: float
    visibility: Visibility
    bias: Tensor | None
    softcap: float | None
    sink: Tensor | None
    extent: Extent

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of scores and statistics: float32, or float64 for float64 queries."""
        return torch.promote_types(self.q.dtype, torch.float32)

    def scores(self, rows: slice, columns: slice) -> Tensor:
        """The block of s for some queries and keys: (B, H, rows, columns), at least float32, masked places −∞."""
        bias = None if self.bias is None else rows_of(self.bias, rows)[..., columns]
        return self.scores_from(self.q[:, :, rows], self.k[:, :, columns], bias, rows, columns)

    def scores_from(self, q: Tensor, k: Tensor, bias: Tensor | None, rows: slice, columns: slice) -> Tensor:
        """`scores` from the rows of q, k and bias that it needs, which may be leaves of a graph of their own."""
        dtype = self.dtype
        s = matmul_grouped(q.to(dtype), k.to(dtype).transpose(-1, -2)) * self.scale
        if self.softcap is not None:
            s = torch.tanh(s / self.softcap) * self.softcap
        if bias is not None:
            s = s + bias.to(dtype)
        visible = self.visibility.block(rows, columns, self.extent.device)
        return s if visible is None else s.masked_fill(~visible, -torch.inf)

    def mass(self, lse: Tensor) -> Tensor:
        """The mass m of each row, given ℓ (B, H, rows): 0 for a row that sees no key."""
        dead = lse == -torch.inf
        if self.sink is None:
            return (~dead).to(lse.dtype)
        # a sink of −∞, which takes nothing, would make −∞ − (−∞) of a dead row
        return torch.sigmoid(lse.masked_fill(dead, 0.0) - self.sink.to(lse.dtype)[:, None]).masked_fill(dead, 0.0)

    def blocks(self, rows: slice) -> Iterator[tuple[slice, slice]]:
        """Batch and query ranges that cover the queries `rows` in blocks of about `BLOCK` scores over all keys."""
        sizes = self.extent
        per_row = max(1, sizes.heads * sizes.keys)
        batch = max(1, min(sizes.batch, BLOCK // max(1, per_row * min(rows.stop - rows.start, 32))))
        step = max(1, BLOCK // (per_row * batch))
        for b in range(0, sizes.batch, batch):
            for r in range(rows.start, rows.stop, step):
                yield slice(b, min(b + batch, sizes.batch)), slice(r, min(r + step, rows.stop))

    def crop(self, batch: slice, heads: slice) -> "Scoring":
        """The same table for some batch elements and heads (slices with start and stop set)."""
        sizes = self.extent
        whole = heads.start == 0 and heads.stop == sizes.heads
        if batch.start == 0 and batch.stop == sizes.batch and whole:
            return self
        k = self.k[batch]
        if not whole:
            share = sizes.heads // sizes.groups
            k = k[:, [h // share for h in range(heads.start, heads.stop)]]
        count, n = batch.stop - batch.start, heads.stop - heads.start
        seen = self.visibility
        return replace(
            self,
            q=self.q[batch, heads],
            k=k,
            visibility=replace(
                seen,
                keys=None if seen.keys is None else _part(seen.keys, batch),
                dense=None if seen.dense is None else _part(seen.dense, batch, heads),
            ),
            bias=None if self.bias is None else _part(self.bias, batch, heads),
            sink=None if self.sink is None else self.sink[heads],
            extent=replace(sizes, leading=(count, n), batch=count, heads=n, groups=k.shape[1]),
        )


def build_scoring(
    q: Tensor,
    k: Tensor,
    score: Score,
    mask: Mask | None,
    bias: Tensor | None,
    softcap: float | None,
    sink: Tensor | None,
) -> Scoring:
    """Check the arguments of `attend` that determine the weights and bring them to one layout.

    Raises:
        ArgumentError: an argument has a wrong type, shape, dtype, device or value.
    """
    for name, x in (("q", q), ("k", k)):
        check_tensor(name, x)
    if q.dtype != k.dtype or q.device != k.device:
        raise ArgumentError(f"q is {q.dtype} on {q.device}, k is {k.dtype} on {k.device}: they must agree")
    if not isinstance(score, Score):
        raise ArgumentError(f"score must be a score such as ScaledDot(), not {type(score).__name__}")
    if mask is not None and not isinstance(mask, Mask):
        hint = ": wrap it as Dense(table)" if isinstance(mask, Tensor) else ""
        raise ArgumentError(
            f"mask must be a mask such as Causal() or Padding(lengths), not {type(mask).__name__}{hint}"
        )
    if softcap is not None and not (is_number(softcap) and softcap > 0):
        raise ArgumentError(f"softcap must be a finite positive number, not {softcap!r}")
    extent = Extent.of(q, k)
    visibility = Visibility() if mask is None else mask.resolve(extent)
    if bias is not None:
        check_tensor("bias", bias)
        bias = extent.table(bias, "bias")
        barred = bias == -torch.inf
        visibility = visibility & Visibility(dense=~barred)
        bias = bias.masked_fill(barred, 0.0)
    if sink is not None:
        check_tensor("sink", sink)
        if sink.numel() != extent.heads:
            raise ArgumentError(f"sink is {shape(sink)}: expected one logit for each of {extent.heads} heads")
        if sink.device != extent.device:
            raise ArgumentError(f"sink is on {sink.device}, queries and keys are on {extent.device}")
        sink = sink.reshape(-1)
    lifted_q, lifted_k, scale = score.lift(extent.heads_first(q), extent.heads_first(k))
    lifted_k = zero_unseen(lifted_k, visibility, extent)
    return Scoring(lifted_q, lifted_k, scale, visibility, bias, softcap, sink, extent)


def zero_unseen(x: Tensor, visibility: Visibility, extent: Extent) -> Tensor:
    """Put zeros where no query sees a key, so that nothing there, NaN included, reaches a result or a gradient.

    Args:
        x: keys or values (B, G, K, ·).
        visibility: which keys are seen.
        extent: sizes.
    """
    seen_by_last = extent.keys if visibility.causal is None else extent.queries + visibility.causal
    if visibility.dense is None and visibility.keys is None and seen_by_last >= extent.keys:
        return x
    if _is_harmless(x):  # then weights of 0 do the same, without a copy
        return x
    if visibility.dense is not None:
        table = visibility.block(slice(0, extent.queries), slice(0, extent.keys), extent.device)
        assert table is not None
        seen = table.any(-2)  # (B or 1, H or 1, K)
        if seen.shape[1] > 1:
            seen = seen.view(seen.shape[0], extent.groups, -1, extent.keys).any(2)  # (B or 1, G, K)
        return x.masked_fill(~seen[..., None], 0.0)
    if visibility.keys is not None:
        x = x.masked_fill(~visibility.keys[:, None, :, None], 0.0)
    if seen_by_last < extent.keys:
        seen_keys = torch.arange(extent.keys, device=x.device) < seen_by_last
        x = x.masked_fill(~seen_keys[:, None], 0.0)
    return x


def matmul_grouped(a: Tensor, b: Tensor) -> Tensor:
    """a (B, H, M, N) times b (B, G, N, P), query head h with key head h // (H / G), without repeating b."""
    heads, groups = a.shape[1], b.shape[1]
    with own_precision(a.device):
        if heads == groups:
            return a @ b
        batch, _, rows, inner = a.shape
        folded = a.reshape(batch, groups, heads // groups * rows, inner)
        return (folded @ b).view(batch, heads, rows, b.shape[-1])


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Products inside it keep the dtype of their factors; autocast would round scores to half precision."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def check_tensor(name: str, x: object) -> None:
    """Raise `ArgumentError` unless x is a real floating-point tensor."""
    if not isinstance(x, Tensor):
        raise ArgumentError(f"{name} must be a tensor, not {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise ArgumentError(f"{name} is {x.dtype}: expected float32, float64, float16 or bfloat16")


def is_number(x: object) -> bool:
    """Whether x is a finite real number."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)


def _is_harmless(x: Tensor) -> bool:
    """Whether x surely holds no NaN, no infinity and nothing so large that a score of it could become infinite.

    Asked only where the answer is cheap: one reading pass on the CPU.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    if x.numel() == 0:
        return True
    least, most = torch.aminmax(x.detach())
    return least.item() > -HARMLESS and most.item() < HARMLESS  # False for NaN


def rows_of(table: Tensor, rows: slice) -> Tensor:
    """The rows of a bias or mask (B or 1, H or 1, Q or 1, K)."""
    return table if table.shape[2] == 1 else table[:, :, rows]


def _part(x: Tensor, batch: slice, heads: slice | None = None) -> Tensor:
    if x.shape[0] > 1:
        x = x[batch]
    return x[:, heads] if heads is not None and x.shape[1] > 1 else x
