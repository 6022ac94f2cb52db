"""One call to test attention on: a choice from each table of `attention_options`, and the tensors drawn for it."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_options import BIASES, FACTORS, MASKS, SCORES, SINKS, SOFTCAPS, Sizes
from oracles.plain_attention import PlainResult, plain_attention
from regard.attention import Mask, Score

USUAL = Sizes()


@dataclass(frozen=True)
class Case:
    """A choice from each table; `make` draws the tensors."""

    sizes: Sizes = USUAL
    score: str = "scaled"
    mask: str = "none"
    bias: str = "none"
    softcap: str = "none"
    sink: str = "none"
    factor: str = "none"
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
        make_mask, make_sink = MASKS[self.mask], SINKS[self.sink]
        mask, visible = (None, torch.ones(sizes.table, dtype=torch.bool))
        if make_mask is not None:
            mask, visible = make_mask(sizes, generator)
        made = {
            "score": SCORES[self.score],
            "bias": BIASES[self.bias],
            "factor": FACTORS[self.factor],
        }
        tables = {name: make(sizes, generator) for name, make in made.items() if make is not None}
        parameters = {f"{name}.{key}": x.to(dtype) for name, (own, *_) in tables.items() for key, x in own.items()}
        sink = None if make_sink is None else make_sink(sizes, generator).to(dtype)
        return Problem(q, k, v, tables, parameters, mask, visible, SOFTCAPS[self.softcap], sink)


@dataclass(frozen=True)
class Problem:
    """Tensors and options of one call, for the package and for the plain computation."""

    q: Tensor
    k: Tensor
    v: Tensor
    tables: dict[str, Any]
    parameters: dict[str, Tensor]
    mask: Mask | None
    visible: Tensor
    softcap: float | None
    sink: Tensor | None
    dense_bias: Tensor | None = None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The tensors that have a gradient."""
        named = {"q": self.q, "k": self.k, "v": self.v, "sink": self.sink, "bias": self.dense_bias}
        return {name: x for name, x in named.items() if x is not None} | self.parameters

    def with_inputs(self, inputs: dict[str, Tensor]) -> "Problem":
        own = {"dense_bias" if n == "bias" else n: x for n, x in inputs.items() if n not in self.parameters}
        return replace(self, **own, parameters=self.parameters | {n: inputs[n] for n in self.parameters if n in inputs})

    def in_dtype(self, dtype: torch.dtype, requires_grad: bool = False) -> "Problem":
        """The same numbers as new leaves in another dtype."""
        return self.with_inputs({n: x.detach().to(dtype).requires_grad_(requires_grad) for n, x in self.inputs.items()})

    def _made(self, name: str, which: int) -> Any:
        """What the package is given (1), or the plain computation (2), of a score, bias or factor."""
        if name not in self.tables:
            return None
        own = {key.removeprefix(f"{name}."): x for key, x in self.parameters.items() if key.startswith(f"{name}.")}
        return self.tables[name][which](own)

    @property
    def score(self) -> Score:
        score: Score = self._made("score", 1)
        return score

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `AttentionMap` and `attend`."""
        return {
            "score": self.score,
            "mask": self.mask,
            "bias": self.dense_bias if self.dense_bias is not None else self._made("bias", 1),
            "factor": self._made("factor", 1),
            "softcap": self.softcap,
            "sink": self.sink,
        }

    def plain_table(self, name: str) -> Tensor | None:
        """The table (B, H, Q, K) of the bias or the factor."""
        given = self.dense_bias if name == "bias" and self.dense_bias is not None else self._made(name, 2)
        return None if given is None else given.to(self.q.dtype).expand(self.visible.shape)

    def plain(self) -> PlainResult:
        """The plain computation in the dtype of the tensors."""
        return plain_attention(
            self.q,
            self.k,
            self.v,
            self._made("score", 2),
            self.visible,
            self.plain_table("bias"),
            self.softcap,
            self.sink,
            self.plain_table("factor"),
        )


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
    cells = st.builds(
        Case,
        sizes=sizes_strategy(),
        score=st.sampled_from(sorted(SCORES)),
        mask=st.sampled_from(sorted(MASKS)),
        bias=st.sampled_from(sorted(BIASES)),
        softcap=st.sampled_from(sorted(SOFTCAPS)),
        sink=st.sampled_from(sorted(SINKS)),
        factor=st.sampled_from(sorted(FACTORS)),
        spread=st.sampled_from([0.3, 1.0, 4.0]),
        seed=st.integers(0, 2**20),
    )

    def runs(case: Case) -> Case:
        if case.score.startswith("kernel"):  # has no scores to cap
            return replace(case, softcap="none")
        if case.score.startswith("cosine") and case.sizes.width == 1:  # ±1, of which the gradient is only rounding
            return replace(case, sizes=replace(case.sizes, width=5))
        return case

    return cells.map(runs)


def one_option_cases(sizes: Sizes = USUAL) -> list[Case]:
    """Each entry of each table once, the rest plain."""
    cases = [Case(sizes, score=name) for name in SCORES]
    cases += [Case(sizes, mask=name) for name in MASKS if name != "none"]
    cases += [Case(sizes, bias=name) for name in BIASES if name != "none"]
    cases += [Case(sizes, softcap=name) for name in SOFTCAPS if name != "none"]
    cases += [Case(sizes, sink=name) for name in SINKS if name != "none"]
    cases += [Case(sizes, factor=name) for name in FACTORS if name != "none"]
    return [replace(case, seed=i) for i, case in enumerate(cases)]


def case_id(case: Case) -> str:
    """What is not plain about a case."""
    names = ("score", "mask", "bias", "softcap", "sink", "factor")
    named = {name: getattr(case, name) for name in names}
    return ", ".join(f"{key} {value}" for key, value in named.items() if value not in ("none", "scaled")) or "plain"
