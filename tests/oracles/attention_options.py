"""What attention is tested on: sizes, scores, masks, biases, soft-caps and sinks, each a table with one entry a choice.

A new score, mask or option joins every test that draws cases by one entry here; the entry says what the package is
given and, independently, what that means.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from oracles.plain_attention import Formula
from regard.attention import (
    Additive,
    ALiBi,
    Causal,
    Cosine,
    Dense,
    Diagonals,
    Document,
    Dot,
    Gaussian,
    GaussianFactor,
    General,
    Interval,
    Kernel,
    Mask,
    Near,
    Padding,
    Prefix,
    RelativeBias,
    ScaledDot,
    Score,
    Window,
)

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Sizes:
    """B, H, G, Q, K, D and Dv."""

    batch: int = 2
    heads: int = 6
    groups: int = 3
    queries: int = 5
    keys: int = 7
    width: int = 11
    value_width: int = 3

    @property
    def table(self) -> tuple[int, int, int, int]:
        return self.batch, self.heads, self.queries, self.keys


def _scaled(factor: float | None) -> Formula:
    return lambda q, k: (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5 if factor is None else factor)


def _plainly(score: Score, formula: Formula) -> Callable[[Sizes, torch.Generator], "MadeScore"]:
    """A score without parameters."""
    return lambda sizes, generator: ({}, lambda parameters: score, lambda parameters: formula)


def _general(*axes: str) -> Callable[[Sizes, torch.Generator], "MadeScore"]:
    def make(sizes: Sizes, generator: torch.Generator) -> MadeScore:
        shape = [{"h": sizes.heads, "d": sizes.width}[axis] for axis in axes]
        weight = torch.randn(shape, generator=generator, dtype=torch.float64) / sizes.width
        return (
            {"weight": weight},
            lambda given: General(given["weight"]),
            lambda given: (
                lambda q, k: torch.einsum(
                    "bhid,hde,bhje->bhij", q, given["weight"].expand(sizes.heads, sizes.width, sizes.width), k
                )
            ),
        )

    return make


def _additive(*axes: str) -> Callable[[Sizes, torch.Generator], "MadeScore"]:
    """Bahdanau's formula, a table of pairs × width."""

    def make(sizes: Sizes, generator: torch.Generator) -> MadeScore:
        shape = [{"h": sizes.heads, "d": sizes.width}[axis] for axis in axes]
        v = torch.randn(shape, generator=generator, dtype=torch.float64)

        def formula(given: dict[str, Tensor]) -> Formula:
            heads = given["v"].expand(sizes.heads, sizes.width)
            return lambda q, k: torch.einsum("bhijd,hd->bhij", torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)), heads)

        return {"v": v}, lambda given: Additive(given["v"]), formula

    return make


def _gaussian(sigma: float) -> Formula:
    return lambda q, k: -((q.unsqueeze(3) - k.unsqueeze(2)) ** 2).sum(-1) / (2 * sigma**2)


def _cosine(scale: float) -> Formula:
    def formula(q: Tensor, k: Tensor) -> Tensor:
        lengths = q.norm(dim=-1).unsqueeze(3) * k.norm(dim=-1).unsqueeze(2)
        return scale * (q @ k.transpose(-1, -2)) / lengths

    return formula


def _kernel(feature: Callable[[Tensor], Tensor]) -> Formula:
    """The logarithm of the similarity; −∞, which counts as masked, where it is 0."""

    def formula(q: Tensor, k: Tensor) -> Tensor:
        similarity = feature(q) @ feature(k).transpose(-1, -2)
        return torch.where(similarity > 0, similarity, torch.ones_like(similarity)).log() + torch.where(
            similarity > 0, 0.0, -torch.inf
        ).to(similarity.dtype)

    return formula


def _softplus(x: Tensor) -> Tensor:
    return torch.cat([F.softplus(x), F.softplus(-x)], -1)  # wider than what it is made of


MadeScore = tuple[
    dict[str, Tensor],
    Callable[[dict[str, Tensor]], Score],
    Callable[[dict[str, Tensor]], Formula],
]
"""Parameters, and from them the score and, independently, its formula."""

SCORES: dict[str, Callable[[Sizes, torch.Generator], MadeScore]] = {
    "dot": _plainly(Dot(), _scaled(1.0)),
    "scaled": _plainly(ScaledDot(), _scaled(None)),
    "scaled by 0.37": _plainly(ScaledDot(0.37), _scaled(0.37)),
    "scaled by -0.5": _plainly(ScaledDot(-0.5), _scaled(-0.5)),
    "scaled by 0": _plainly(ScaledDot(0.0), _scaled(0.0)),
    "cosine": _plainly(Cosine(), _cosine(1.0)),
    "cosine by -8": _plainly(Cosine(-8.0), _cosine(-8.0)),
    "general": _general("d", "d"),
    "general per head": _general("h", "d", "d"),
    "gaussian": _plainly(Gaussian(2.0), _gaussian(2.0)),
    "narrow gaussian": _plainly(Gaussian(0.7), _gaussian(0.7)),
    "additive": _additive("d"),
    "additive per head": _additive("h", "d"),
    "kernel elu+1": _plainly(Kernel(), _kernel(lambda x: x.clamp(min=0) + x.clamp(max=0).exp())),
    "kernel relu": _plainly(Kernel("relu"), _kernel(lambda x: x.clamp(min=0))),
    "kernel of a function": _plainly(Kernel(_softplus), _kernel(_softplus)),
}

MadeMask = tuple[Mask, Tensor]
"""A mask and the table (B, H, Q, K) that it stands for."""


def _rule(sizes: Sizes, rule: Callable[[int, int, int, int], bool]) -> Tensor:
    """The table whose entry (b, h, i, j) is rule(b, h, i, j)."""
    b, h, q, k = sizes.table
    cells = [rule(x, y, i, j) for x in range(b) for y in range(h) for i in range(q) for j in range(k)]
    return torch.tensor(cells, dtype=torch.bool).view(b, h, q, k)


def _causal(offset: int | None) -> Callable[[Sizes, torch.Generator], MadeMask]:
    def make(sizes: Sizes, generator: torch.Generator) -> MadeMask:
        reach = sizes.keys - sizes.queries if offset is None else offset
        return Causal() if offset is None else Causal(offset), _rule(sizes, lambda b, h, i, j: j <= i + reach)

    return make


def _padding(sizes: Sizes, generator: torch.Generator) -> MadeMask:
    lengths = torch.randint(0, sizes.keys + 1, (sizes.batch,), generator=generator)
    return Padding(lengths), _rule(sizes, lambda b, h, i, j: j < lengths[b])


def _dense(axes: str) -> Callable[[Sizes, torch.Generator], MadeMask]:
    """A table given with the axes named only: "bhqk", "b1qk", "hqk", "k"…"""

    def make(sizes: Sizes, generator: torch.Generator) -> MadeMask:
        length = {"b": sizes.batch, "h": sizes.heads, "q": sizes.queries, "k": sizes.keys, "1": 1}
        table = torch.rand([length[axis] for axis in axes], generator=generator) < 0.6
        return Dense(table), table.expand(sizes.table)

    return make


def _all_of(
    *parts: Callable[[Sizes, torch.Generator], MadeMask],
) -> Callable[[Sizes, torch.Generator], MadeMask]:
    def make(sizes: Sizes, generator: torch.Generator) -> MadeMask:
        (mask, table), *others = [part(sizes, generator) for part in parts]
        for other, other_table in others:
            mask, table = mask & other, table & other_table
        return mask, table

    return make


def _causal_per_batch(sizes: Sizes, generator: torch.Generator) -> MadeMask:
    offsets = torch.randint(-3, sizes.keys + 2, (sizes.batch,), generator=generator)
    return Causal(offsets), _rule(sizes, lambda b, h, i, j: j <= i + offsets[b])


def _window(
    left: int | None, right: int | None, offset: int | None = None
) -> Callable[[Sizes, torch.Generator], MadeMask]:
    def make(sizes: Sizes, generator: torch.Generator) -> MadeMask:
        reach = sizes.keys - sizes.queries if offset is None else offset

        def rule(b: int, h: int, i: int, j: int) -> bool:
            return (left is None or j >= i + reach - left) and (right is None or j <= i + reach + right)

        return Window(left, right, offset), _rule(sizes, rule)

    return make


def _window_per_batch(sizes: Sizes, generator: torch.Generator) -> MadeMask:
    offsets = torch.randint(-3, sizes.keys + 2, (sizes.batch,), generator=generator)
    return Window(2, 1, offsets), _rule(sizes, lambda b, h, i, j: -2 <= j - i - offsets[b] <= 1)


def _prefix(sizes: Sizes, generator: torch.Generator) -> MadeMask:
    lengths = torch.randint(0, sizes.keys + 1, (sizes.batch,), generator=generator)
    return Prefix(lengths), _rule(sizes, lambda b, h, i, j: j < lengths[b])


def _documents(packed: bool) -> Callable[[Sizes, torch.Generator], MadeMask]:
    """Documents one after the other, or mixed; a few places belong to none."""

    def make(sizes: Sizes, generator: torch.Generator) -> MadeMask:
        queries, keys = (
            torch.randint(0, 3, (sizes.batch, n), generator=generator) for n in (sizes.queries, sizes.keys)
        )
        if packed:
            queries, keys = queries.sort(-1).values, keys.sort(-1).values
        queries[:, -1:] = -1
        if not packed:
            keys[:, :1] = -1
        return Document(queries, keys), _rule(
            sizes, lambda b, h, i, j: queries[b, i] == keys[b, j] and queries[b, i] >= 0
        )

    return make


def _near(sizes: Sizes, generator: torch.Generator) -> MadeMask:
    centre = torch.rand(*sizes.table[:3], generator=generator, dtype=torch.float64) * (sizes.keys + 3) - 1.5
    return Near(centre, 1.5), _rule(sizes, lambda b, h, i, j: abs(j - float(centre[b, h, i])) <= 1.5)


def _intervals(axes: str) -> Callable[[Sizes, torch.Generator], MadeMask]:
    """Of keys for each query, some of them empty or beyond the table; given with the axes named only."""

    def make(sizes: Sizes, generator: torch.Generator) -> MadeMask:
        length = {"b": sizes.batch, "h": sizes.heads, "q": sizes.queries, "1": 1}
        shape = [length[axis] for axis in axes]
        start = torch.randint(-2, sizes.keys + 1, shape, generator=generator)
        stop = start + torch.randint(-1, sizes.keys + 3, shape, generator=generator)
        first, last = (x.expand(sizes.table[:3]).tolist() for x in (start, stop))
        return Interval(start, stop), _rule(sizes, lambda b, h, i, j: first[b][h][i] <= j < last[b][h][i])

    return make


def _one_of(
    *parts: Callable[[Sizes, torch.Generator], MadeMask],
) -> Callable[[Sizes, torch.Generator], MadeMask]:
    def make(sizes: Sizes, generator: torch.Generator) -> MadeMask:
        (mask, table), *others = [part(sizes, generator) for part in parts]
        for other, other_table in others:
            mask, table = mask | other, table | other_table
        return mask, table

    return make


MASKS: dict[str, Callable[[Sizes, torch.Generator], MadeMask] | None] = {
    "none": None,
    "causal": _causal(None),
    "causal from the start": _causal(0),
    "causal two ahead": _causal(2),
    "causal two behind": _causal(-2),
    "padding": _padding,
    "dense": _dense("bhqk"),
    "dense per batch": _dense("b1qk"),
    "dense per head": _dense("hqk"),
    "dense per key": _dense("k"),
    "dense per query": _dense("q1"),
    "causal & padding": _all_of(_causal(None), _padding),
    "padding & causal from the start": _all_of(_padding, _causal(0)),
    "causal & dense": _all_of(_causal(None), _dense("qk")),
    "padding & dense": _all_of(_padding, _dense("bhqk")),
    "padding & dense per key": _all_of(_padding, _dense("b11k")),
    "causal & causal two behind": _all_of(_causal(None), _causal(-2)),
    "causal from the start & padding & dense": _all_of(_causal(0), _padding, _dense("hqk")),
    "causal per batch": _causal_per_batch,
    "window": _window(2, 1),
    "window to the left": _window(1, 0),
    "window to the right": _window(None, 1, 0),
    "window far off": _window(1, 2, -20),
    "window per batch": _window_per_batch,
    "window & padding": _all_of(_window(3, 3), _padding),
    "window & causal from the start": _all_of(_window(2, 2), _causal(0)),
    "prefix": _prefix,
    "prefix | causal": _one_of(_prefix, _causal(None)),
    "prefix | causal & padding": _all_of(_one_of(_prefix, _causal(0)), _padding),
    "documents in a row": _documents(True),
    "documents mixed": _documents(False),
    "documents in a row & causal": _all_of(_documents(True), _causal(0)),
    "documents mixed & window": _all_of(_documents(False), _window(4, 1)),
    "near": _near,
    "near & padding": _all_of(_near, _padding),
    "intervals": _intervals("q"),
    "intervals per head": _intervals("bhq"),
    "intervals & padding": _all_of(_intervals("hq"), _padding),
    "window | dense": _one_of(_window(1, 0), _dense("b1qk")),
    "causal | causal two ahead": _one_of(_causal(0), _causal(2)),
    "(padding | documents) & causal": _all_of(_one_of(_padding, _documents(False)), _causal(1)),
}


MadeTable = tuple[
    dict[str, Tensor],
    Callable[[dict[str, Tensor]], Any],
    Callable[[dict[str, Tensor]], Tensor],
]
"""Parameters, and from them what the package is given and the table (up to broadcasting) that it stands for."""


def _bias(axes: str, barred: float = 0.0) -> Callable[[Sizes, torch.Generator], Tensor]:
    """A bias given with the axes named only; a share of it is −∞."""

    def make(sizes: Sizes, generator: torch.Generator) -> Tensor:
        length = {"b": sizes.batch, "h": sizes.heads, "q": sizes.queries, "k": sizes.keys, "1": 1}
        shape = [length[axis] for axis in axes]
        bias = torch.randn(shape, generator=generator, dtype=torch.float64)
        return bias.masked_fill(torch.rand(shape, generator=generator) < barred, -torch.inf)

    return make


def _table(axes: str, barred: float = 0.0) -> Callable[[Sizes, torch.Generator], MadeTable]:
    def make(sizes: Sizes, generator: torch.Generator) -> MadeTable:
        return {"table": _bias(axes, barred)(sizes, generator)}, lambda g: g["table"], lambda g: g["table"]

    return make


def _distances(sizes: Sizes, offset: int) -> Tensor:
    """j − (i + offset), (Q, K)."""
    return torch.tensor([[j - i - offset for j in range(sizes.keys)] for i in range(sizes.queries)])


def _alibi(learned: bool, offset: int | None) -> Callable[[Sizes, torch.Generator], MadeTable]:
    def make(sizes: Sizes, generator: torch.Generator) -> MadeTable:
        reach = sizes.keys - sizes.queries if offset is None else offset
        away = _distances(sizes, reach).abs()
        if learned:
            slopes = torch.rand(sizes.heads, generator=generator, dtype=torch.float64)
            return (
                {"slopes": slopes},
                lambda g: ALiBi(g["slopes"], offset),
                lambda g: -g["slopes"][:, None, None] * away.to(g["slopes"].dtype),
            )
        # the slopes of the paper's section 3, and of its authors' code where H is no power of two
        known = {1: [2**-8], 2: [2**-4, 2**-8], 3: [2**-4, 2**-8, 2**-2], 4: [2**-2, 2**-4, 2**-6, 2**-8]}
        known[5], known[6] = [*known[4], 2**-1], [*known[4], 2**-1, 2**-3]
        fixed = torch.tensor(known[sizes.heads], dtype=torch.float64)[:, None, None] * -away.double()
        return {}, lambda g: ALiBi(offset=offset), lambda g: fixed

    return make


def _alibi_per_batch(sizes: Sizes, generator: torch.Generator) -> MadeTable:
    offsets = torch.randint(-3, sizes.keys + 2, (sizes.batch,), generator=generator)
    slopes = torch.rand(sizes.heads, generator=generator, dtype=torch.float64)
    away = torch.stack([_distances(sizes, int(n)) for n in offsets]).abs()[:, None]
    return (
        {"slopes": slopes},
        lambda g: ALiBi(g["slopes"], offsets),
        lambda g: -g["slopes"][:, None, None] * away.to(g["slopes"].dtype),
    )


def _t5(bidirectional: bool, per_batch: bool = False) -> Callable[[Sizes, torch.Generator], MadeTable]:
    """Eight buckets up to distance 6: with both directions four each, of which two are for distances 0 and 1."""

    def bucket(away: int) -> int:
        if not bidirectional:
            away = max(0, -away)  # distances 0, 1, 2, 3 have their own; 4 and 5 are in the logarithmic half
            return away if away < 4 else min(4 + int(math.log(away / 4) / math.log(6 / 4) * 4), 7)
        side, away = (4 if away > 0 else 0), abs(away)
        return side + (away if away < 2 else min(2 + int(math.log(away / 2) / math.log(6 / 2) * 2), 3))

    def make(sizes: Sizes, generator: torch.Generator) -> MadeTable:
        table = torch.randn(8, sizes.heads, generator=generator, dtype=torch.float64)
        offsets = torch.randint(-3, sizes.keys + 2, (sizes.batch if per_batch else 1,), generator=generator)
        if not per_batch:
            offsets[:] = sizes.keys - sizes.queries
        buckets = torch.stack([_distances(sizes, int(n)).apply_(bucket) for n in offsets])  # (B or 1, Q, K)
        return (
            {"table": table},
            lambda g: RelativeBias(g["table"], bidirectional, 6, offsets if per_batch else None),
            lambda g: g["table"][buckets].movedim(-1, 1),
        )

    return make


def _diagonals(sizes: Sizes, generator: torch.Generator) -> MadeTable:
    values = torch.randn(sizes.heads, sizes.queries + sizes.keys - 1, generator=generator, dtype=torch.float64)
    places = _distances(sizes, 0) + sizes.queries - 1  # (Q, K)
    return {"values": values}, lambda g: Diagonals(g["values"]), lambda g: g["values"][:, places]


BIASES: dict[str, Callable[[Sizes, torch.Generator], MadeTable] | None] = {
    "none": None,
    "full": _table("bhqk"),
    "per head": _table("h11"),
    "per head and key": _table("h1k"),
    "per query": _table("q1"),
    "per pair, some barred": _table("qk", 0.3),
    "full, some barred": _table("bhqk", 0.3),
    "per key, some barred": _table("b11k", 0.4),
    "ALiBi": _alibi(False, None),
    "ALiBi, learned": _alibi(True, 0),
    "ALiBi per batch": _alibi_per_batch,
    "T5": _t5(True),
    "T5 in one direction": _t5(False),
    "T5 per batch": _t5(True, True),
    "diagonals": _diagonals,
}


def _given_factor(sizes: Sizes, generator: torch.Generator) -> MadeTable:
    table = torch.rand(sizes.heads, sizes.queries, sizes.keys, generator=generator, dtype=torch.float64)
    table = table.masked_fill(table < 0.1, 0.0)
    return {"table": table}, lambda g: g["table"], lambda g: g["table"]


def _gaussian_factor(sizes: Sizes, generator: torch.Generator) -> MadeTable:
    """Luong's eq. 10, one centre for each query."""
    centre = torch.rand(sizes.batch, 1, sizes.queries, generator=generator, dtype=torch.float64) * sizes.keys
    j = torch.arange(sizes.keys)
    return (
        {"centre": centre},
        lambda g: GaussianFactor(g["centre"], 2.0),
        lambda g: torch.exp(-((j.to(g["centre"].dtype) - g["centre"].unsqueeze(3)) ** 2) / 8),
    )


FACTORS: dict[str, Callable[[Sizes, torch.Generator], MadeTable] | None] = {
    "none": None,
    "given": _given_factor,
    "gaussian": _gaussian_factor,
}

SOFTCAPS: dict[str, float | None] = {"none": None, "tight": 0.7, "loose": 30.0}

SINKS: dict[str, Callable[[Sizes, torch.Generator], Tensor] | None] = {
    "none": None,
    "per head": lambda sizes, generator: torch.randn(sizes.heads, generator=generator, dtype=torch.float64),
    "without effect": lambda sizes, generator: torch.full((sizes.heads,), -torch.inf, dtype=torch.float64),
}
