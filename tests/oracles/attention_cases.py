"""What attention is tested on: sizes, scores, masks, biases, soft-caps and sinks, each a table with one entry a choice.

A new score, mask or option joins every test that draws cases by one entry here; the entry says what the package is
given and, independently, what that means.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from oracles.plain_attention import Formula, PlainResult, plain_attention
from regard.attention import Causal, Dense, Dot, Mask, Padding, ScaledDot, Score

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


SCORES: dict[str, tuple[Score, Formula]] = {
    "dot": (Dot(), _scaled(1.0)),
    "scaled": (ScaledDot(), _scaled(None)),
    "scaled by 0.37": (ScaledDot(0.37), _scaled(0.37)),
    "scaled by -0.5": (ScaledDot(-0.5), _scaled(-0.5)),
    "scaled by 0": (ScaledDot(0.0), _scaled(0.0)),
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
}


def _bias(axes: str, barred: float = 0.0) -> Callable[[Sizes, torch.Generator], Tensor]:
    """A bias given with the axes named only; a share of it is −∞."""

    def make(sizes: Sizes, generator: torch.Generator) -> Tensor:
        length = {"b": sizes.batch, "h": sizes.heads, "q": sizes.queries, "k": sizes.keys, "1": 1}
        shape = [length[axis] for axis in axes]
        bias = torch.randn(shape, generator=generator, dtype=torch.float64)
        return bias.masked_fill(torch.rand(shape, generator=generator) < barred, -torch.inf)

    return make


BIASES: dict[str, Callable[[Sizes, torch.Generator], Tensor] | None] = {
    "none": None,
    "full": _bias("bhqk"),
    "per head": _bias("h11"),
    "per head and key": _bias("h1k"),
    "per query": _bias("q1"),
    "per pair, some barred": _bias("qk", 0.3),
    "full, some barred": _bias("bhqk", 0.3),
    "per key, some barred": _bias("b11k", 0.4),
}

SOFTCAPS: dict[str, float | None] = {"none": None, "tight": 0.7, "loose": 30.0}

SINKS: dict[str, Callable[[Sizes, torch.Generator], Tensor] | None] = {
    "none": None,
    "per head": lambda sizes, generator: torch.randn(sizes.heads, generator=generator, dtype=torch.float64),
    "without effect": lambda sizes, generator: torch.full((sizes.heads,), -torch.inf, dtype=torch.float64),
}


@dataclass(frozen=True)
class Case:
    """A choice from each table; `make` draws the tensors."""

    sizes: Sizes = Sizes()
    score: str = "scaled"
    mask: str = "none"
    bias: str = "none"
    softcap: str = "none"
    sink: str = "none"
    spread: float = 1.0
    seed: int = 0

    def make(self, dtype: torch.dtype) -> "Problem":
        """Draw q, k, v and the options, rounded to the dtype."""
        sizes, generator = self.sizes, torch.Generator().manual_seed(self.seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        q = (draw(sizes.batch, sizes.heads, sizes.queries, sizes.width) * self.spread).to(dtype)
        k = draw(sizes.batch, sizes.groups, sizes.keys, sizes.width)
        v = draw(sizes.batch, sizes.groups, sizes.keys, sizes.value_width)
        make_mask, make_bias, make_sink = MASKS[self.mask], BIASES[self.bias], SINKS[self.sink]
        mask, visible = (None, torch.ones(sizes.table, dtype=torch.bool))
        if make_mask is not None:
            mask, visible = make_mask(sizes, generator)
        bias = None if make_bias is None else make_bias(sizes, generator).to(dtype)
        sink = None if make_sink is None else make_sink(sizes, generator).to(dtype)
        score, formula = SCORES[self.score]
        return Problem(q, k, v, score, formula, mask, visible, bias, SOFTCAPS[self.softcap], sink)


@dataclass(frozen=True)
class Problem:
    """Tensors and options of one call, for the package and for the plain computation."""

    q: Tensor
    k: Tensor
    v: Tensor
    score: Score
    formula: Formula
    mask: Mask | None
    visible: Tensor
    bias: Tensor | None
    softcap: float | None
    sink: Tensor | None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The tensors that have a gradient."""
        named = {"q": self.q, "k": self.k, "v": self.v, "bias": self.bias, "sink": self.sink}
        return {name: x for name, x in named.items() if x is not None}

    def with_inputs(self, inputs: dict[str, Tensor]) -> "Problem":
        return replace(self, **inputs)

    def in_dtype(self, dtype: torch.dtype, requires_grad: bool = False) -> "Problem":
        """The same numbers as new leaves in another dtype."""
        return self.with_inputs({n: x.detach().to(dtype).requires_grad_(requires_grad) for n, x in self.inputs.items()})

    @property
    def options(self) -> dict[str, object]:
        """Keyword arguments of `AttentionMap` and `attend`."""
        return {
            "score": self.score,
            "mask": self.mask,
            "bias": self.bias,
            "softcap": self.softcap,
            "sink": self.sink,
        }

    def plain(self) -> PlainResult:
        """The plain computation in the dtype of the tensors."""
        bias = None if self.bias is None else self.bias.expand(self.visible.shape)
        return plain_attention(self.q, self.k, self.v, self.formula, self.visible, bias, self.softcap, self.sink)


def oracle(problem: Problem) -> PlainResult:
    """The plain computation in float64."""
    return problem.in_dtype(torch.float64).plain()


def sizes_strategy() -> st.SearchStrategy[Sizes]:
    """Small sizes, unequal and mostly prime, one included."""
    length = st.sampled_from([1, 2, 3, 5, 7, 11, 13])
    return st.builds(
        lambda batch, grouping, q, k, d, dv: Sizes(batch, *grouping, q, k, d, dv),
        st.sampled_from([1, 2, 3]),
        st.sampled_from([(1, 1), (2, 1), (3, 3), (6, 2), (5, 1)]),
        length,
        length,
        st.sampled_from([1, 2, 3, 5, 8, 11, 17]),
        st.sampled_from([1, 2, 3, 5, 8, 11, 17]),
    )


def case_strategy() -> st.SearchStrategy[Case]:
    """Any cell of the tables."""
    return st.builds(
        Case,
        sizes=sizes_strategy(),
        score=st.sampled_from(sorted(SCORES)),
        mask=st.sampled_from(sorted(MASKS)),
        bias=st.sampled_from(sorted(BIASES)),
        softcap=st.sampled_from(sorted(SOFTCAPS)),
        sink=st.sampled_from(sorted(SINKS)),
        spread=st.sampled_from([0.3, 1.0, 4.0]),
        seed=st.integers(0, 2**20),
    )


def one_option_cases(sizes: Sizes = Sizes()) -> list[Case]:
    """Each entry of each table once, the rest plain."""
    cases = [Case(sizes, score=name) for name in SCORES]
    cases += [Case(sizes, mask=name) for name in MASKS if name != "none"]
    cases += [Case(sizes, bias=name) for name in BIASES if name != "none"]
    cases += [Case(sizes, softcap=name) for name in SOFTCAPS if name != "none"]
    cases += [Case(sizes, sink=name) for name in SINKS if name != "none"]
    return [replace(case, seed=i) for i, case in enumerate(cases)]


def case_id(case: Case) -> str:
    """What is not plain about a case."""
    named = {"score": case.score, "mask": case.mask, "bias": case.bias, "softcap": case.softcap, "sink": case.sink}
    return ", ".join(f"{key} {value}" for key, value in named.items() if value not in ("none", "scaled")) or "plain"
