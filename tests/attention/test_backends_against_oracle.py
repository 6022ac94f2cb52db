"""Every backend against the float64 oracle, forward and backward, over sizes, dtypes and every option."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import Case, Problem, case_id, case_strategy, one_option_cases, oracle
from oracles.attention_options import DTYPES, SCORES, Sizes
from oracles.attention_runners import RUNNERS, run
from oracles.error_rule import assert_as_accurate
from oracles.plain_attention import PlainResult, loop_attention

Parameters = dict[str, Tensor]
Vector = list[float]


def _product(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def _scaled(factor: float) -> Callable[[Parameters, int, Vector, Vector], float]:
    return lambda given, head, q, k: factor * _product(q, k)


def _cosine(factor: float) -> Callable[[Parameters, int, Vector, Vector], float]:
    return lambda given, head, q, k: factor * _product(q, k) / math.hypot(*q) / math.hypot(*k)


def _general(given: Parameters, head: int, q: Vector, k: Vector) -> float:
    weight = given["weight"] if given["weight"].ndim == 2 else given["weight"][head]
    return math.fsum(q[d] * float(weight[d, e]) * k[e] for d in range(len(q)) for e in range(len(k)))


def _gaussian(sigma: float) -> Callable[[Parameters, int, Vector, Vector], float]:
    return lambda given, head, q, k: -(math.dist(q, k) ** 2) / (2 * sigma**2)


def _additive(given: Parameters, head: int, q: Vector, k: Vector) -> float:
    v = given["v"] if given["v"].ndim == 1 else given["v"][head]
    return math.fsum(float(w) * math.tanh(x + y) for w, x, y in zip(v, q, k, strict=True))


def _kernel(feature: Callable[[float], Vector]) -> Callable[[Parameters, int, Vector, Vector], float]:
    def score(given: Parameters, head: int, q: Vector, k: Vector) -> float:
        similarity = math.fsum(_product(feature(x), feature(y)) for x, y in zip(q, k, strict=True))
        return math.log(similarity) if similarity > 0 else -math.inf

    return score


LOOPS: dict[str, Callable[[Parameters, int, Vector, Vector], float]] = {
    "dot": _scaled(1.0),
    "scaled": _scaled(11**-0.5),
    "scaled by 0.37": _scaled(0.37),
    "scaled by -0.5": _scaled(-0.5),
    "scaled by 0": _scaled(0.0),
    "cosine": _cosine(1.0),
    "cosine by -8": _cosine(-8.0),
    "general": _general,
    "general per head": _general,
    "gaussian": _gaussian(2.0),
    "narrow gaussian": _gaussian(0.7),
    "additive": _additive,
    "additive per head": _additive,
    "kernel elu+1": _kernel(lambda x: [x + 1 if x > 0 else math.exp(x)]),
    "kernel relu": _kernel(lambda x: [max(x, 0.0)]),
    "kernel of a function": _kernel(lambda x: [math.log1p(math.exp(x)), math.log1p(math.exp(-x))]),
}


@pytest.mark.parametrize("case", one_option_cases(), ids=case_id)
def test_oracle_is_attention_written_in_loops(case: Case) -> None:
    problem = case.make(torch.float64)
    looped = loop_attention(
        problem.q,
        problem.k,
        problem.v,
        partial(LOOPS[case.score], {name.removeprefix("score."): x for name, x in problem.parameters.items()}),
        problem.visible,
        problem.plain_table("bias"),
        problem.softcap,
        problem.sink,
        problem.plain_table("factor"),
    )
    exact = oracle(problem)
    for name in ("context", "lse", "weights", "mass", "entropy"):
        torch.testing.assert_close(getattr(exact, name), getattr(looped, name), atol=1e-12, rtol=1e-12, msg=name)


def test_every_score_has_a_loop() -> None:
    assert set(LOOPS) == set(SCORES)


@settings(max_examples=150, deadline=None)
@given(case=case_strategy(), dtype=st.sampled_from(DTYPES))
def test_forward_within_twice_the_plain_error(case: Case, dtype: torch.dtype) -> None:
    problem = case.make(dtype)
    exact, plain = oracle(problem), problem.plain()
    for runner in RUNNERS:
        for need_lse in (False, True):
            done = run(runner, problem, need_lse)
            if done is None:
                continue
            context, lse = done
            assert context.dtype == dtype
            assert_as_accurate(f"{runner}: context", context, plain.context, exact.context)
            if need_lse:
                assert lse is not None
                assert lse.dtype == torch.promote_types(dtype, torch.float32)
                assert_as_accurate(f"{runner}: lse", lse, plain.lse, exact.lse)


def _gradients(
    problem: Problem, context: Tensor, lse: Tensor | None, weights_of_loss: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    to_context, to_lse = weights_of_loss
    loss = (context.to(to_context.dtype) * to_context).sum()
    if lse is not None:
        loss = loss + (lse.masked_fill(lse == -torch.inf, 0.0).to(to_lse.dtype) * to_lse).sum()
    inputs = problem.inputs
    grads = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    return {
        name: torch.zeros_like(x) if grad is None else grad
        for (name, x), grad in zip(inputs.items(), grads, strict=True)
    }


@settings(max_examples=100, deadline=None)
@given(case=case_strategy(), dtype=st.sampled_from(DTYPES), need_lse=st.booleans())
def test_gradients_within_twice_the_plain_error(case: Case, dtype: torch.dtype, need_lse: bool) -> None:
    problem = case.make(dtype)
    generator = torch.Generator().manual_seed(case.seed + 1)
    sizes = case.sizes
    loss_weights = (
        torch.randn(*sizes.table[:3], sizes.value_width, generator=generator).to(dtype),
        torch.randn(*sizes.table[:3], generator=generator).to(dtype),
    )

    def of_plain(problem: Problem, weights: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        result: PlainResult = problem.plain()
        return _gradients(problem, result.context, result.lse if need_lse else None, weights)

    plain = of_plain(problem.in_dtype(dtype, requires_grad=True), loss_weights)
    wide = (loss_weights[0].double(), loss_weights[1].double())
    exact = of_plain(problem.in_dtype(torch.float64, requires_grad=True), wide)
    for runner in RUNNERS:
        leaves = problem.in_dtype(dtype, requires_grad=True)
        done = run(runner, leaves, need_lse)
        if done is None:
            continue
        for name, grad in _gradients(leaves, *done, loss_weights).items():
            assert grad.dtype == dtype
            # that of a broadcast bias is a sum of terms that cancel, each of them rounded
            assert_as_accurate(f"{runner}: gradient of {name}", grad, plain[name], exact[name], slack=8)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("case", one_option_cases(Sizes(2, 2, 1, 3, 5, 2, 3)), ids=case_id)
def test_gradcheck(case: Case, runner: str) -> None:
    problem = case.make(torch.float64).in_dtype(torch.float64, requires_grad=True)
    names = [name for name, x in problem.inputs.items() if x.isfinite().all() or name == "bias.table"]

    for need_lse in (False, True):
        if run(runner, problem, need_lse) is None:
            continue

        def call(*tensors: Tensor, need_lse: bool = need_lse) -> tuple[Tensor, ...]:
            given_inputs = dict(zip(names, tensors, strict=True))
            if "bias.table" in given_inputs:  # −∞ can't be nudged: only the finite part varies
                barred = problem.parameters["bias.table"].detach() == -torch.inf
                given_inputs["bias.table"] = given_inputs["bias.table"].masked_fill(barred, -torch.inf)
            if "factor.table" in given_inputs:  # nor can 0 be, which would become negative
                nothing = problem.parameters["factor.table"].detach() == 0.0
                given_inputs["factor.table"] = given_inputs["factor.table"].masked_fill(nothing, 0.0)
            done = run(runner, problem.with_inputs(given_inputs), need_lse)
            assert done is not None
            context, lse = done
            return (context,) if lse is None else (context, lse.masked_fill(lse == -torch.inf, 0.0))

        leaves = [problem.inputs[name].detach().nan_to_num(neginf=0.5).requires_grad_() for name in names]
        assert torch.autograd.gradcheck(call, leaves)
