"""The blockwise backend: dropout, what it keeps, what it refuses; whether it is right is tested for all backends."""

from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, Problem, case_id, one_option_cases
from oracles.attention_options import Sizes
from oracles.attention_runners import few_weights
from oracles.plain_attention import PlainResult
from regard.attention import Causal, Dense, ScaledDot, attend, attention_plan
from regard.attention import scoring as scoring_module
from regard.attention.backends.blockwise import BLOCKWISE
from regard.attention.backends.contract import Call
from regard.attention.operator import build_call

SIZES = Sizes(2, 6, 3, 13, 11, 5, 3)
NO_FACTOR = ({}, lambda given: None, lambda given: None)
RICH = Case(SIZES, mask="causal & padding", bias="T5", softcap="loose", sink="per head", factor="given", seed=3)


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "BLOCK", 300)


def call_of(problem: Problem, dropout: float = 0.0, need_lse: bool = True) -> Call:
    call = build_call(problem.q, problem.k, problem.v, **problem.options, dropout=dropout, need_lse=need_lse)
    assert BLOCKWISE.refuses(call) is None
    return call


def run(problem: Problem, dropout: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    context, lse = BLOCKWISE.run(call_of(problem, dropout))
    assert lse is not None
    return context, lse


def kept_weights(problem: Problem, dropout: float, seed: int = 0) -> Tensor:
    """What of the weights (B, H, Q, K) is left of them by dropout: the context of values that are unit vectors."""
    batch, groups, keys = problem.k.shape[:3]
    units = torch.eye(keys, dtype=problem.v.dtype).expand(batch, groups, keys, keys)
    return run(replace(problem, v=units), dropout, seed)[0]


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.999])
def test_dropout_drops_and_scales(dropout: float) -> None:
    problem = Case(replace(SIZES, queries=97, keys=101)).make(torch.float64)
    weights, left = problem.plain().weights, kept_weights(problem, dropout)
    dropped = left == 0
    count = left.numel()
    assert abs(int(dropped.sum()) - dropout * count) < 5 * (count * dropout * (1 - dropout)) ** 0.5
    level = round(dropout * 2**16) / 2**16
    torch.testing.assert_close(left, (weights / (1 - level)).masked_fill(dropped, 0.0))
    for axis in range(4):  # no pattern along any axis
        ends = dropped.narrow(axis, 0, 1) != dropped.narrow(axis, 1, 1)
        if 0.05 < dropout < 0.95:
            assert 0.5 * 2 * dropout * (1 - dropout) < float(ends.double().mean()) < 1.6 * 2 * dropout * (1 - dropout)


def test_dropout_follows_from_the_global_seed() -> None:
    problem = RICH.make(torch.float32)
    first, again, other = (run(problem, 0.4, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(1)
    one, two = (BLOCKWISE.run(call_of(problem, 0.4))[0] for _ in range(2))
    assert torch.equal(one, first)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("dropout", [0.3, 1.0])
@pytest.mark.parametrize("name", ["plain", "rich"])
def test_gradients_under_dropout(name: str, dropout: float) -> None:
    """Against the plain computation with the same weights dropped; ℓ knows nothing of dropout."""
    case = RICH if name == "rich" else Case(SIZES, score="additive", mask="window")
    problem = case.make(torch.float64)
    # without the factor, which may itself be 0 where a weight isn't dropped
    parameters = {name: x for name, x in problem.parameters.items() if not name.startswith("factor.")}
    bare = replace(problem, tables={**problem.tables, "factor": NO_FACTOR}, parameters=parameters)
    weights, left = bare.plain().weights, kept_weights(bare, dropout)
    ratio = torch.where(weights > 0, left / weights, torch.zeros_like(left))
    to_context, to_lse = torch.randn(2, 6, 13, 3, dtype=torch.float64), torch.randn(2, 6, 13, dtype=torch.float64)

    def gradients(context: Tensor, lse: Tensor, leaves: Problem) -> tuple[Tensor, ...]:
        loss = (context * to_context).sum() + (lse.masked_fill(lse == -torch.inf, 0.0) * to_lse).sum()
        return torch.autograd.grad(loss, list(leaves.inputs.values()))

    leaves = problem.in_dtype(torch.float64, requires_grad=True)
    context, lse = run(leaves, dropout)
    got = gradients(context, lse, leaves)
    leaves = problem.in_dtype(torch.float64, requires_grad=True)
    plain: PlainResult = leaves.plain()
    expected_context = (plain.weights * ratio) @ leaves.v.repeat_interleave(2, 1)
    torch.testing.assert_close(context, expected_context)
    torch.testing.assert_close(lse, plain.lse)
    for name, x, y in zip(leaves.inputs, got, gradients(expected_context, plain.lse, leaves), strict=True):
        torch.testing.assert_close(x, y, msg=name)


def test_dropping_all_gives_zero() -> None:
    context, lse = run(RICH.make(torch.float32), 1.0)
    assert (context == 0).all()
    assert torch.equal(lse, run(RICH.make(torch.float32))[1])


def test_a_probability_too_small_for_a_draw_drops_nothing() -> None:
    problem = RICH.make(torch.float32)
    assert torch.equal(run(problem, 1e-6)[0], run(problem)[0])


def test_the_way_back_takes_the_blocks_of_the_way_forth() -> None:
    """Else other weights would be dropped there."""
    grads = []
    for changed in (300, 40):
        leaves = RICH.make(torch.float64).in_dtype(torch.float64, requires_grad=True)
        context, _ = run(leaves, 0.5)
        with mock.patch.object(scoring_module, "BLOCK", changed):
            grads.append(torch.autograd.grad(context.sum(), leaves.inputs["v"])[0])
    assert torch.equal(*grads)


@pytest.mark.parametrize("case", one_option_cases(SIZES), ids=case_id)
def test_nothing_is_kept_but_inputs_and_results(case: Case) -> None:
    leaves = case.make(torch.float32).in_dtype(torch.float32, requires_grad=True)
    call = call_of(leaves)
    inputs = {x.tensor.untyped_storage().data_ptr() for x in call.scoring.operands.values()}
    inputs |= {call.v.untyped_storage().data_ptr()}
    kept: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        BLOCKWISE.run(call)
    assert kept
    assert all(x.untyped_storage().data_ptr() in inputs for x in kept)


def test_only_the_gradients_asked_for_are_made() -> None:
    for name in RICH.make(torch.float64).inputs:
        problem, whole = (RICH.make(torch.float64).in_dtype(torch.float64) for _ in range(2))
        problem.inputs[name].requires_grad_()
        for x in whole.inputs.values():
            x.requires_grad_()
        run(problem)[0].square().sum().backward()
        run(whole)[0].square().sum().backward()
        grads = {key: x.grad for key, x in problem.inputs.items()}
        torch.testing.assert_close(grads.pop(name), whole.inputs[name].grad)
        assert not any(grad is not None for grad in grads.values())


def test_a_second_derivative_is_refused() -> None:
    leaves = RICH.make(torch.float64).in_dtype(torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(run(leaves)[0].square().sum(), leaves.q, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()


def test_inputs_changed_in_place_are_noticed() -> None:
    leaves = RICH.make(torch.float64).in_dtype(torch.float64, requires_grad=True)
    q = leaves.q * 1.0
    context, _ = run(leaves.with_inputs({**leaves.inputs, "q": q}))
    with torch.no_grad():
        q.zero_()
    with pytest.raises(RuntimeError, match="inplace"):
        context.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_come_back_as_halves(dtype: torch.dtype) -> None:
    leaves = RICH.make(dtype).in_dtype(dtype, requires_grad=True)
    context, lse = run(leaves, 0.2)
    assert (context.dtype, lse.dtype) == (dtype, torch.float32)
    context.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == dtype for x in leaves.inputs.values())


def test_autocast_changes_nothing() -> None:
    def both(leaves: Problem) -> tuple[Tensor, ...]:
        context = run(leaves)[0]
        return context, *torch.autograd.grad(context.square().sum(), list(leaves.inputs.values()))

    calm = both(RICH.make(torch.float32).in_dtype(torch.float32, requires_grad=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        warm = both(RICH.make(torch.float32).in_dtype(torch.float32, requires_grad=True))
    for x, y in zip(calm, warm, strict=True):
        assert torch.equal(x, y)


def test_queries_that_see_nothing_at_all() -> None:
    """Whole blocks without a key, and a table without any."""
    q, k = torch.randn(1, 2, 40, 5, requires_grad=True), torch.randn(1, 1, 20, 5, requires_grad=True)
    for mask, dead in ((Causal(-25), 25), (Causal(-40), 40), (Dense(torch.arange(40)[:, None] >= 30), 30)):
        call = build_call(q, k, k, ScaledDot(), mask, None, None, 5.0, None, 0.2, True)
        context, lse = BLOCKWISE.run(call)
        assert lse is not None
        assert (context[:, :, :dead] == 0).all()
        assert (lse[:, :, :dead] == -torch.inf).all()
        assert lse[:, :, dead:].isfinite().all()
        for grad in torch.autograd.grad(context.sum() + lse[:, :, dead:].sum(), (q, k)):
            assert grad.isfinite().all()


def test_what_it_refuses() -> None:
    def why(queries: int) -> str | None:
        x = torch.ones(1, 1, queries, 2)
        return BLOCKWISE.refuses(build_call(x, x, x, ScaledDot(), None, None, None, 1.0, None, 0.0, False))

    assert why(18) is None
    assert "324" not in (why(17) or "")
    assert "one block" in (why(17) or "")
    assert "one block" in (why(0) or "")
    with mock.patch.object(torch.compiler, "is_compiling", lambda: True):
        assert "compiled" in (why(18) or "")
    refused: list[str | None] = []
    torch.func.vmap(lambda x: (refused.append(why(18)), x)[1])(torch.zeros(2))
    assert "torch.func" in (refused[0] or "")
    with torch.device("meta"):
        assert "meta" in (why(18) or "")


def test_the_plan_says_what_memory_it_takes() -> None:
    q = torch.randn(1, 2, 67, 5, requires_grad=True)
    for options in ({"softcap": 1.0}, {"dropout": 0.1}, {"factor": torch.ones(67, 67)}):
        told = attention_plan(q, q, q, **options)
        assert told.backend == "blockwise", options
        assert "linear" in told.how
        assert "gradient" in told.how
    with few_weights():
        assert attend(q, q, q, softcap=1.0).shape == q.shape


def test_blocks_of_very_many_keys_keep_rows_together() -> None:
    """A gradient of all keys is added up once a block."""
    q, k = torch.randn(1, 1, 64, 1), torch.randn(1, 1, 1 << 15, 1)
    with mock.patch.object(scoring_module, "BLOCK", 1 << 18):
        table = build_call(q, k, k, ScaledDot(), None, None, None, None, None, 0.0, False).scoring
        assert {region.rows.stop - region.rows.start for region in table.blocks(slice(0, 64))} == {16}
