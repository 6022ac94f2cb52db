"""What benchmarks/attention.py times: each score under each mask, and each other feature of the operator, once.

A `Problem` is one attention, ready to be computed by `regard.attend`, by torch's SDPA where that can compute it, and by
plain broadcasting: every score written out by the score's own formula, masked, softmax, product with the values.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from regard.attention import (
    ALiBi,
    Causal,
    Document,
    Mask,
    Padding,
    RelativeBias,
    ScaledDot,
    Score,
    Window,
    attend,
    attention_plan,
)
from regard.attention.extent import Extent
from regard.attention.scores import EXAMPLES

Way = Callable[[], Tensor]
"""A call that computes the context."""


@dataclass(frozen=True)
class Sizes:
    """B, H, G, Q, K and D of one attention, and the dtype of its tensors."""

    batch: int
    heads: int
    groups: int
    queries: int
    keys: int
    width: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Features:
    """What an attention has beside queries, keys and values."""

    score: Score = dataclasses.field(default_factory=ScaledDot)
    mask: Mask | None = None
    bias: ALiBi | RelativeBias | None = None
    softcap: float | None = None
    sink: Tensor | None = None
    dropout: float = 0.0

    def learned(self) -> list[Tensor]:
        """The parameters of score, bias and sink; they are made to need a gradient."""
        held = [*vars(self.score).values(), *(() if self.bias is None else vars(self.bias).values()), self.sink]
        return [x.requires_grad_() for x in held if isinstance(x, Tensor)]


@dataclass(frozen=True)
class Case:
    """A row of the benchmark.

    Attributes:
        make: the features for given sizes.
        shape: turns the sizes that the user chose into those of this case.
    """

    make: Callable[[Sizes, torch.Generator], Features]
    shape: Callable[[Sizes], Sizes] = lambda sizes: sizes


class Problem:
    """Tensors of one case, the same for every way of computing it."""

    def __init__(self, case: Case, sizes: Sizes, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        sizes = case.shape(sizes)

        def draw(heads: int, length: int) -> Tensor:
            x = torch.randn(sizes.batch, heads, length, sizes.width, generator=generator)
            return x.to(sizes.dtype).requires_grad_()

        self.q = draw(sizes.heads, sizes.queries)
        self.k, self.v = draw(sizes.groups, sizes.keys), draw(sizes.groups, sizes.keys)
        self.upstream = torch.randn(self.q.shape, generator=generator).to(sizes.dtype)
        self.features = case.make(sizes, generator)
        self.leaves = [self.q, self.k, self.v, *self.features.learned()]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `attend`."""
        return {field.name: getattr(self.features, field.name) for field in dataclasses.fields(Features)}

    @property
    def backend(self) -> str:
        """The backend that `attend` takes."""
        return attention_plan(self.q, self.k, self.v, **self.options).backend

    @property
    def compilable(self) -> bool:
        """Whether `compile_kernels` makes a difference."""
        return self.features.score.form == "additive" and self.q.dtype == torch.float32

    def ways(self, plain_limit: int, compiled: bool = False) -> dict[str, Way]:
        """What can compute it, "regard" first.

        Args:
            plain_limit: bytes that the largest table of "plain" may take.
            compiled: whether to add "compiled", which is "regard" again, for use after `compile_kernels`.
        """
        found: dict[str, Way] = {"regard": lambda: attend(self.q, self.k, self.v, **self.options)}
        f = self.features
        if compiled:
            found["compiled"] = found["regard"]
        if f.score.form == "inner" and f.softcap is None and f.sink is None:
            found["sdpa"] = self._sdpa
        if self.plain_bytes() <= plain_limit:
            found["plain"] = self._plain
        return found

    def plain_bytes(self) -> int:
        """Bytes of the largest tensor that the score's formula makes; found without making any."""
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as fake, _LargestTensor() as largest:
            self.features.score.formula(fake.from_tensor(self.q), self._repeated(fake.from_tensor(self.k)))
        return largest.bytes

    @cached_property
    def _visible(self) -> Tensor | None:
        """The mask as a table for the peers; made once, as models make it once for all their layers."""
        extent, mask = Extent.of(self.q, self.k), self.features.mask
        return None if mask is None else mask.block(slice(0, extent.queries), slice(0, extent.keys), extent)

    @cached_property
    def _bias(self) -> Way | None:
        """What makes the bias as a table for the peers."""
        return None if self.features.bias is None else _bias_table(self.features.bias, Extent.of(self.q, self.k))

    def _sdpa(self) -> Tensor:
        """torch's SDPA on lifted queries and keys."""
        f = self.features
        lifted = f.score.lift(self.q, self.k)
        causal = isinstance(f.mask, Causal) and self.q.shape[2] == self.k.shape[2] and f.bias is None
        table = None if causal else self._visible
        if self._bias is not None:
            bias = self._bias().to(self.q.dtype)
            table = bias if table is None else bias.masked_fill(~table, -torch.inf)
        return F.scaled_dot_product_attention(
            lifted.q,
            lifted.k,
            self.v,
            attn_mask=table,
            is_causal=causal,
            dropout_p=f.dropout,
            scale=lifted.scale,
            enable_gqa=self.q.shape[1] != self.k.shape[1],
        )

    def _plain(self) -> Tensor:
        """Every table written out, in the dtype of the queries."""
        f = self.features
        s = f.score.formula(self.q, self._repeated(self.k))  # (B, H, Q, K)
        if f.softcap is not None:
            s = f.softcap * torch.tanh(s / f.softcap)
        if self._bias is not None:
            s = s + self._bias().to(s.dtype)
        if self._visible is not None:
            s = s.masked_fill(~self._visible, -torch.inf)
        if f.sink is not None:
            s = torch.cat([s, f.sink.to(s.dtype).view(1, -1, 1, 1).expand(*s.shape[:-1], 1)], -1)
        weights = F.dropout(s.softmax(-1), f.dropout)[..., : self.k.shape[2]]
        return weights @ self._repeated(self.v)

    def _repeated(self, x: Tensor) -> Tensor:
        share = self.q.shape[1] // x.shape[1]
        return x if share == 1 else x.repeat_interleave(share, 1)


class _LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that is made inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


def _bias_table(bias: ALiBi | RelativeBias, extent: Extent) -> Way:
    """What makes the bias as a table (1, H, Q, K); a learned one by looking up each pair's bucket, as models do."""
    whole = slice(0, extent.queries), slice(0, extent.keys)

    def block(bias: ALiBi | RelativeBias) -> Tensor:
        parts = {name: operand.tensor for name, operand in bias.operands(extent).items()}
        return bias.block(parts, *whole, extent)

    if isinstance(bias, ALiBi):
        table = block(bias).detach()
        return lambda: table
    indices = torch.arange(bias.table.shape[0], dtype=torch.float32)[:, None].expand(bias.table.shape)
    buckets = block(dataclasses.replace(bias, table=indices))[0, 0].long()  # (Q, K): a table of its own indices
    return lambda: F.embedding(buckets, bias.table).permute(2, 0, 1)[None]


MASKS: dict[str, Callable[[Sizes], Mask | None]] = {
    "unmasked": lambda sizes: None,
    "causal": lambda sizes: Causal(),
    "padded": lambda sizes: Padding(torch.linspace(sizes.keys // 2, sizes.keys, sizes.batch).long()),
}


def _of_score(score: str, mask: str) -> Case:
    return Case(
        lambda sizes, generator: Features(EXAMPLES[score](sizes.heads, sizes.width, generator), MASKS[mask](sizes))
    )


def score_cases(scores: list[str], masks: list[str]) -> dict[str, Case]:
    """Each score under each mask."""
    return {f"{score}, {mask}": _of_score(score, mask) for score in scores for mask in masks}


def _documents(sizes: Sizes) -> Mask:
    """Eight documents in a row, each causal."""
    return Document(torch.arange(sizes.keys) * 8 // sizes.keys) & Causal()


FEATURES: dict[str, Case] = {
    "soft-cap 30, causal": Case(lambda sizes, generator: Features(mask=Causal(), softcap=30.0)),
    "sink, causal": Case(
        lambda sizes, generator: Features(mask=Causal(), sink=torch.randn(sizes.heads, generator=generator))
    ),
    "ALiBi, causal": Case(lambda sizes, generator: Features(mask=Causal(), bias=ALiBi())),
    "T5 bias, learned": Case(
        lambda sizes, generator: Features(bias=RelativeBias(torch.randn(32, sizes.heads, generator=generator)))
    ),
    "window of 128, causal": Case(lambda sizes, generator: Features(mask=Window(127, 0))),
    "8 packed documents": Case(lambda sizes, generator: Features(mask=_documents(sizes))),
    "dropout 0.1, causal": Case(lambda sizes, generator: Features(mask=Causal(), dropout=0.1)),
    "causal, Q = K/2": Case(
        lambda sizes, generator: Features(mask=Causal()),
        lambda sizes: dataclasses.replace(sizes, queries=sizes.keys // 2),
    ),
    "causal, one key head": Case(
        lambda sizes, generator: Features(mask=Causal()), lambda sizes: dataclasses.replace(sizes, groups=1)
    ),
}
"""Beside the scores: what the operator can do with the scaled dot product."""

GOAL = Sizes(batch=4, heads=1, groups=1, queries=256, keys=256, width=256, dtype=torch.float32)
"""Sizes of the additive goal."""

ADDITIVE = _of_score("additive", "unmasked")
