"""Each entry of `EXAMPLES` is the score that its formula says: values, gradients and map, under masks, on all backends.

A score joins these tests by its entry there.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, Problem, oracle
from oracles.attention_options import Sizes
from oracles.attention_runners import RUNNERS, run
from oracles.error_rule import assert_as_accurate
from regard.attention import AttentionMap, Score
from regard.attention.scores import EXAMPLES

MASKED = ("none", "causal", "window & padding", "documents mixed")
# So wide that no product of ReLU features is 0: the formula's logarithm would then have an infinite gradient.
SIZES = Sizes(batch=2, heads=6, groups=3, queries=5, keys=7, width=53, value_width=3)


def _problem(name: str, mask: str = "none") -> Problem:
    """A case with the example as its score and the example's own formula as the oracle's."""
    score = EXAMPLES[name](SIZES.heads, SIZES.width, torch.Generator().manual_seed(3))
    parameters = {f"score.{key}": x.double() for key, x in vars(score).items() if isinstance(x, Tensor)}

    def made(given: dict[str, Tensor]) -> Score:
        return replace(score, **given)  # type: ignore[type-var]

    problem = Case(SIZES, mask=mask, seed=7).make(torch.float64)
    tables = problem.tables | {"score": ({}, made, lambda given: made(given).formula)}
    return replace(problem, tables=tables, parameters=problem.parameters | parameters)


@pytest.mark.parametrize("name", EXAMPLES)
def test_lifted_scores_are_the_formula(name: str) -> None:
    """Also with many queries to a key head."""
    problem = _problem(name)
    table = AttentionMap(problem.q, problem.k, **problem.options)
    exact = oracle(problem)
    torch.testing.assert_close(table.lse(), exact.lse, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(table.dense(), exact.weights, atol=1e-11, rtol=1e-11)
    lifted = problem.score.lift(problem.q, problem.k)
    assert lifted.scale > 0
    assert lifted.q.shape[-1] == lifted.k.shape[-1]


@pytest.mark.parametrize("mask", MASKED)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_backend_computes_it(name: str, mask: str) -> None:
    problem = _problem(name, mask)
    exact = oracle(problem)
    ran = 0
    for runner in RUNNERS:
        for need_lse in (False, True):
            done = run(runner, problem, need_lse)
            if done is None:
                continue
            ran += 1
            torch.testing.assert_close(done[0], exact.context, atol=1e-11, rtol=1e-11, msg=runner)
            if done[1] is not None:
                torch.testing.assert_close(done[1], exact.lse, atol=1e-11, rtol=1e-11, msg=runner)
    assert ran


@pytest.mark.parametrize("mask", MASKED)
@pytest.mark.parametrize("name", EXAMPLES)
def test_gradients_are_those_of_the_formula(name: str, mask: str) -> None:
    drawn = _problem(name, mask)
    upstream = torch.randn(drawn.q.shape[:-1] + drawn.v.shape[-1:], dtype=torch.float64)

    def gradients(problem: Problem, context: Tensor) -> dict[str, Tensor]:
        inputs = problem.inputs
        return dict(zip(inputs, torch.autograd.grad(context, list(inputs.values()), upstream), strict=True))

    leaves = drawn.in_dtype(torch.float64, requires_grad=True)
    expected = gradients(leaves, leaves.plain().context)
    for runner in RUNNERS:
        leaves = drawn.in_dtype(torch.float64, requires_grad=True)
        done = run(runner, leaves)
        if done is None:
            continue
        for key, gradient in gradients(leaves, done[0]).items():
            torch.testing.assert_close(
                gradient, expected[key], atol=1e-10, rtol=1e-10, msg=lambda m, r=runner, k=key: f"{r}: {k}: {m}"
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", EXAMPLES)
def test_error_is_at_most_twice_that_of_the_formula(name: str, dtype: torch.dtype) -> None:
    problem = _problem(name, "window & padding").in_dtype(dtype)
    exact, plain = oracle(problem), problem.plain()
    for runner in RUNNERS:
        done = run(runner, problem)
        if done is not None:
            assert_as_accurate(f"{runner}: context", done[0], plain.context, exact.context)
