"""Every backend against the float64 oracle, forward and backward, over sizes, dtypes and every option."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import (
    DTYPES,
    SCORES,
    Case,
    Problem,
    Sizes,
    case_id,
    case_strategy,
    one_option_cases,
    oracle,
)
from oracles.attention_runners import RUNNERS, run
from oracles.error_rule import assert_as_accurate
from oracles.plain_attention import PlainResult, loop_attention

LOOP_SCALES = {"dot": 1.0, "scaled": 11**-0.5, "scaled by 0.37": 0.37, "scaled by -0.5": -0.5, "scaled by 0": 0.0}


@pytest.mark.parametrize("case", one_option_cases(), ids=case_id)
def test_oracle_is_attention_written_in_loops(case: Case) -> None:
    problem = case.make(torch.float64)
    bias = None if problem.bias is None else problem.bias.expand(problem.visible.shape)
    looped = loop_attention(
        problem.q, problem.k, problem.v, LOOP_SCALES[case.score], problem.visible, bias, problem.softcap, problem.sink
    )
    exact = oracle(problem)
    for name in ("context", "lse", "weights", "mass", "entropy"):
        torch.testing.assert_close(getattr(exact, name), getattr(looped, name), atol=1e-12, rtol=1e-12, msg=name)


def test_every_score_of_the_inner_form_has_a_loop() -> None:
    assert set(LOOP_SCALES) == set(SCORES)


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
            assert_as_accurate(f"{runner}: gradient of {name}", grad, plain[name], exact[name], slack=4)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("case", one_option_cases(Sizes(2, 2, 1, 3, 5, 2, 3)), ids=case_id)
def test_gradcheck(case: Case, runner: str) -> None:
    problem = case.make(torch.float64).in_dtype(torch.float64, requires_grad=True)
    names = [name for name, x in problem.inputs.items() if x.isfinite().all() or name == "bias"]

    for need_lse in (False, True):
        if run(runner, problem, need_lse) is None:
            continue

        def call(*tensors: Tensor, need_lse: bool = need_lse) -> tuple[Tensor, ...]:
            given_inputs = dict(zip(names, tensors, strict=True))
            if problem.bias is not None:  # −∞ can't be nudged: only the finite part varies
                barred = problem.bias.detach() == -torch.inf
                given_inputs["bias"] = given_inputs["bias"].masked_fill(barred, -torch.inf)
            done = run(runner, problem.with_inputs(given_inputs), need_lse)
            assert done is not None
            context, lse = done
            return (context,) if lse is None else (context, lse.masked_fill(lse == -torch.inf, 0.0))

        leaves = [problem.inputs[name].detach().nan_to_num(neginf=0.5).requires_grad_() for name in names]
        assert torch.autograd.gradcheck(call, leaves)
