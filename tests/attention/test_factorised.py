"""Kernel attention by sums over keys, against the oracle and the paper's loop; in linear time and memory."""

import math
import os
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from oracles.attention_cases import Case, Problem, oracle, sizes_strategy
from oracles.attention_options import DTYPES, SINKS, Sizes
from oracles.attention_runners import run
from oracles.error_rule import assert_as_accurate
from oracles.probes import probe
from regard.attention import Causal, Kernel, Mask, Padding, Prefix, ScaledDot, Window, attend, attention_plan
from regard.attention.backends import factorised
from regard.attention.operator import build_call

KERNELS = ["kernel elu+1", "kernel relu", "kernel of a function"]
TAKEN = [
    "none",
    "causal",
    "causal from the start",
    "causal two ahead",
    "causal two behind",
    "causal & causal two behind",
    "padding",
    "prefix",
    "dense per key",
    "padding & dense per key",
    "causal & padding",
    "padding & causal from the start",
    "causal | causal two ahead",
]
REFUSED = ["window", "causal per batch", "documents mixed", "dense per head", "dense", "near", "window | dense"]


def _cases() -> st.SearchStrategy[Case]:
    """Everything that the backend takes."""
    return st.builds(
        Case,
        sizes=sizes_strategy(),
        score=st.sampled_from(KERNELS),
        mask=st.sampled_from(TAKEN),
        sink=st.sampled_from(sorted(SINKS)),
        spread=st.sampled_from([0.3, 1.0, 4.0]),
        seed=st.integers(0, 2**20),
    )


def _context_and_lse(problem: Problem) -> tuple[Tensor, Tensor]:
    done = run("factorised", problem, need_lse=True)
    assert done is not None
    context, lse = done
    assert lse is not None
    return context, lse


@settings(max_examples=60, deadline=None)
@given(case=_cases(), dtype=st.sampled_from(DTYPES), chunk=st.sampled_from([1, 2, 3, 64]))
def test_forward_and_gradients_within_twice_the_plain_error(case: Case, dtype: torch.dtype, chunk: int) -> None:
    problem = case.make(dtype)
    generator = torch.Generator().manual_seed(case.seed + 1)
    with mock.patch.object(factorised, "CHUNK", chunk):
        leaves = problem.in_dtype(dtype, requires_grad=True)
        context, lse = _context_and_lse(leaves)
    plain_leaves, exact_leaves = (problem.in_dtype(d, requires_grad=True) for d in (dtype, torch.float64))
    plain, exact = plain_leaves.plain(), exact_leaves.plain()
    assert context.dtype == dtype
    assert lse.dtype == torch.promote_types(dtype, torch.float32)
    assert_as_accurate("context", context, plain.context, exact.context.detach())
    assert_as_accurate("lse", lse, plain.lse, exact.lse.detach())
    alive = exact.lse > -torch.inf
    to_context = torch.randn(exact.context.shape, generator=generator, dtype=torch.float64)
    to_lse = torch.randn(exact.lse.shape, generator=generator, dtype=torch.float64)
    grads = [
        torch.autograd.grad(
            (c * to_context.to(c.dtype)).sum() + (torch.where(alive, e, 0.0) * to_lse.to(e.dtype)).sum(),
            list(p.inputs.values()),
            allow_unused=True,
        )
        for c, e, p in (
            (context, lse, leaves),
            (plain.context, plain.lse, plain_leaves),
            (exact.context, exact.lse, exact_leaves),
        )
    ]
    for name, got, of_plain, of_exact in zip(leaves.inputs, *grads, strict=True):
        assert_as_accurate(f"gradient of {name}", got, of_plain, of_exact, slack=4)


@pytest.mark.parametrize("offset", [-5, -1, 0, 1, 3, 60, 127, 200])
@pytest.mark.parametrize("lengths", [(127, 127), (128, 128), (129, 131), (61, 193), (193, 61), (1, 64), (65, 1)])
def test_causal_at_the_edges_of_chunks(lengths: tuple[int, int], offset: int) -> None:
    """Prime lengths and powers of two, and one beside them, with the chunk as it is."""
    queries, keys = lengths
    sizes = Sizes(2, 4, 2, queries, keys, 5, 3)
    problem = replace(Case(sizes, "kernel elu+1").make(torch.float64), mask=Causal(offset))
    seen = torch.arange(keys) <= torch.arange(queries)[:, None] + offset
    problem = replace(problem, visible=seen.expand(sizes.table))
    exact = oracle(problem)
    context, lse = _context_and_lse(problem)
    torch.testing.assert_close(context, exact.context, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(lse, exact.lse, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("mask", ["none", "causal", "causal two behind", "causal & padding"])
@pytest.mark.parametrize("sink", ["none", "per head"])
def test_gradcheck_through_chunks(mask: str, sink: str) -> None:
    problem = Case(Sizes(2, 2, 1, 5, 7, 2, 3), "kernel elu+1", mask, sink=sink).make(torch.float64)
    names = list(problem.inputs)

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        context, lse = _context_and_lse(problem.with_inputs(dict(zip(names, tensors, strict=True))))
        return context, lse.masked_fill(lse == -torch.inf, 0.0)

    leaves = [x.detach().requires_grad_() for x in problem.inputs.values()]
    with mock.patch.object(factorised, "CHUNK", 2):
        assert torch.autograd.gradcheck(call, leaves)


def test_it_is_the_loop_of_the_paper() -> None:
    """Katharopoulos et al. 2020, algorithm 1: the state grows by one outer product a position."""
    generator = torch.Generator().manual_seed(5)
    q, k = torch.randn(2, 2, 131, 7, generator=generator, dtype=torch.float64)
    v = torch.randn(2, 131, 3, generator=generator, dtype=torch.float64)

    def feature(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    for b in range(2):
        state, norm = torch.zeros(7, 3, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)
        expected = []
        for i in range(131):
            state = state + torch.outer(feature(k[b, i]), v[b, i])
            norm = norm + feature(k[b, i])
            expected.append(feature(q[b, i]) @ state / (feature(q[b, i]) @ norm))
        context = attend(q[b], k[b], v[b], score=Kernel(), mask=Causal())
        torch.testing.assert_close(context, torch.stack(expected), atol=1e-12, rtol=1e-12)


class TestNumbers:
    @pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
    def test_features_of_any_size_leave_the_weights(self, size: float) -> None:
        """A factor of all features changes nothing but ℓ, even where products of them would overflow."""
        generator = torch.Generator().manual_seed(3)
        q, k, v = torch.rand(3, 1, 2, 70, 5, generator=generator) + 0.1
        v = v * 1e30
        plain = Kernel(lambda x: x)
        large = Kernel(lambda x: x * size)
        for mask in (None, Causal()):
            context, lse = attend(q, k, v, score=plain, mask=mask, return_lse=True)
            got, got_lse = attend(q, k, v, score=large, mask=mask, return_lse=True)
            torch.testing.assert_close(got, context, rtol=1e-5, atol=0.0)
            torch.testing.assert_close(got_lse, lse + 2 * math.log(size), rtol=1e-5, atol=0.0)

    def test_a_large_key_later_leaves_earlier_rows_right(self) -> None:
        q, k, v = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(3)) + 0.1
        k[-1] *= 1e35
        context = attend(q, k, v, score=Kernel("relu"), mask=Causal())
        weights = (q.double() @ k.double().T).tril()
        torch.testing.assert_close(context.double(), weights / weights.sum(-1, keepdim=True) @ v.double())

    def test_rows_and_tables_without_a_weight_are_dead(self) -> None:
        q, k, v = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(3))
        q[:, 1] = -1.0
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        context, lse = attend(*leaves, score=Kernel("relu"), return_lse=True)
        assert (context[:, 1] == 0).all()
        assert (lse[:, 1] == -torch.inf).all()
        (context.sum() + lse[:, [0, 2]].nan_to_num(neginf=0.0).sum()).backward()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves)
        for keys in (0, 5):
            context, lse = attend(q, k[:, :keys], v[:, :keys] * 0, score=Kernel("relu"), return_lse=True)
            assert (context == 0).all()
        assert attend(q[:, :0], k, v, score=Kernel(), mask=Causal()).shape == (2, 0, 4)

    def test_nothing_of_an_unseen_key_gets_through(self) -> None:
        q, k, v = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(3))
        expected = attend(q[:1], k[:1, :3], v[:1, :3], score=Kernel())
        k[:, 3:], v[:, 3:] = torch.nan, torch.inf
        got = attend(q[:1], k[:1], v[:1], score=Kernel(), mask=Padding(torch.tensor([3])))
        torch.testing.assert_close(got, expected)


class TestGrowth:
    SHORT, LONG = 1024, 16384

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forks")
    def test_memory_is_linear_in_length(self) -> None:
        names = ["kernel", "kernel with gradients", "causal kernel", "causal kernel with gradients"]
        growth = probe("map_memory_probe.py", 64, self.SHORT, self.LONG, *names)
        assert list(growth) == names
        for name, (least, short, long) in growth.items():  # what 64 positions take is not of the length
            exponent = math.log((long - least) / (short - least)) / math.log(self.LONG / self.SHORT)
            assert exponent <= 1.1, f"{name}: {least}, {short} and {long} bytes"

    @pytest.mark.parametrize("mask", [None, Causal(), Causal(-5), Causal(7)], ids=str)
    def test_time_is_linear_in_length(self, mask: Mask | None) -> None:
        """Counted in operations of matrix products, forward and backward."""

        def operations(length: int) -> int:
            x = torch.rand(1, 2, length, 16, requires_grad=True)
            with FlopCounterMode(display=False) as counter:
                attend(x, x, x, score=Kernel(), mask=mask).sum().backward()
            return counter.get_total_flops()

        short, long = operations(self.SHORT), operations(self.LONG)
        assert short > 0
        assert math.log(long / short) / math.log(self.LONG / self.SHORT) <= 1.1


class TestPlan:
    @pytest.mark.parametrize("mask", TAKEN)
    def test_what_it_takes(self, mask: str) -> None:
        p = Case(score="kernel elu+1", mask=mask).make(torch.float32)
        assert attention_plan(p.q, p.k, p.v, **p.options).backend == "factorised"

    @pytest.mark.parametrize("mask", REFUSED)
    def test_what_it_refuses(self, mask: str) -> None:
        assert run("factorised", Case(score="kernel elu+1", mask=mask).make(torch.float32)) is None

    def test_why(self) -> None:
        p = Case(score="kernel elu+1").make(torch.float32)
        for options, why in (
            ({"mask": Window(1, 1)}, "the same for all queries"),
            ({"bias": torch.zeros(5, 7)}, "bias"),
            ({"factor": torch.ones(5, 7)}, "factor"),
            ({"dropout": 0.5}, "drop"),
        ):
            plan = attention_plan(p.q, p.k, p.v, score=Kernel(), **options)
            assert why in plan.refused["factorised"]
        call = build_call(p.q, p.k, p.v, **p.options | {"score": ScaledDot()}, dropout=0.0, need_lse=False)
        assert "this one is inner" in str(factorised.FACTORISED.refuses(call))
        one_step = attention_plan(p.q[:, :, -1:], p.k, p.v, score=Kernel(), mask=Causal() & Prefix(3))
        assert one_step.backend == "factorised"
        assert "linear" in one_step.how
