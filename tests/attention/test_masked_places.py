"""Rows that see no key, and what stands in masked places."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, Problem
from oracles.attention_options import DTYPES, Sizes
from oracles.attention_runners import RUNNERS, run
from regard.attention import AttentionMap, Causal, Dense, Padding, attend

SIZES = Sizes(batch=3, heads=4, groups=2, queries=5, keys=7, width=5, value_width=3)


def _rows_barred(rows: list[int]) -> Tensor:
    bias = torch.zeros(SIZES.queries, SIZES.keys)
    bias[rows] = -torch.inf
    return bias


def _row_seen(rows: list[int]) -> Tensor:
    table = torch.ones(SIZES.queries, SIZES.keys, dtype=torch.bool)
    table[rows] = False
    return table


# What makes dead rows, and which: (B or 1, Q) True = dead.
DEAD: dict[str, tuple[Callable[[Problem], Problem], Tensor]] = {
    "padding of length 0": (
        lambda p: replace(p, mask=Padding(torch.tensor([3, 0, 7]))),
        torch.tensor([[False] * 5, [True] * 5, [False] * 5]),
    ),
    "causal behind": (
        lambda p: replace(p, mask=Causal(-2)),
        torch.tensor([[True, True, False, False, False]]),
    ),
    "causal far behind": (lambda p: replace(p, mask=Causal(-100)), torch.tensor([[True] * 5])),
    "dense": (lambda p: replace(p, mask=Dense(_row_seen([1, 4]))), torch.tensor([[False, True, False, False, True]])),
    "bias": (
        lambda p: replace(p, dense_bias=_rows_barred([0, 3]).to(p.q.dtype)),
        torch.tensor([[True, False, False] * 2])[:, :5],
    ),
    "causal & padding of length 0": (
        lambda p: replace(p, mask=Causal(0) & Padding(torch.tensor([0, 1, 7]))),
        torch.tensor([[True] * 5, [False] * 5, [False] * 5]),
    ),
    "padding & dense, which meet nowhere": (
        lambda p: replace(p, mask=Padding(torch.tensor([2, 7, 7])) & Dense(torch.arange(7) >= 2)),
        torch.tensor([[True] * 5, [False] * 5, [False] * 5]),
    ),
    "bias & causal": (
        lambda p: replace(p, mask=Causal(0), dense_bias=_rows_barred([0, 1]).to(p.q.dtype)),
        torch.tensor([[True, True, False, False, False]]),
    ),
}
EXTRAS: dict[str, Callable[[Problem], Problem]] = {
    "plain": lambda p: p,
    "softcap": lambda p: replace(p, softcap=2.0),
    "sink": lambda p: replace(p, sink=torch.tensor([0.5, -torch.inf, 0.0, 3.0], dtype=p.q.dtype)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DEAD)
def test_dead_rows_are_zero_with_finite_gradients(name: str, dtype: torch.dtype) -> None:
    make, dead_queries = DEAD[name]
    dead = dead_queries[:, None].expand(SIZES.batch, SIZES.heads, SIZES.queries)
    for extra in EXTRAS.values():
        problem = extra(make(Case(SIZES).make(dtype)))
        for runner in RUNNERS:
            leaves = problem.in_dtype(dtype, requires_grad=True)
            done = run(runner, leaves)
            if done is None:
                continue
            context = done[0]
            assert (context[dead] == 0).all(), runner
            assert context.isfinite().all(), runner
            assert (context[~dead].abs().sum(-1) > 0).all(), runner
            context.float().square().sum().backward()
            for leaf in leaves.inputs.values():
                assert leaf.grad is None or leaf.grad.isfinite().all(), runner
            assert leaves.q.grad is not None
            assert (leaves.q.grad[dead] == 0).all(), runner
        for runner in RUNNERS:
            done = run(runner, problem, need_lse=True)
            if done is None:
                continue
            lse = done[1]
            assert lse is not None
            assert (lse[dead] == -torch.inf).all(), runner
            assert lse[~dead].isfinite().all(), runner


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DEAD)
def test_dead_rows_of_the_map(name: str, dtype: torch.dtype) -> None:
    make, dead_queries = DEAD[name]
    dead = dead_queries[:, None].expand(SIZES.batch, SIZES.heads, SIZES.queries)
    for extra in EXTRAS.values():
        leaves = extra(make(Case(SIZES).make(dtype))).in_dtype(dtype, requires_grad=True)
        table = AttentionMap(leaves.q, leaves.k, **leaves.options)
        assert (table.dense()[dead] == 0).all()
        assert (table.lse()[dead] == -torch.inf).all()
        for statistic in (table.mass(), table.entropy(), table.entropy(of_mass=True)):
            assert (statistic[dead] == 0).all()
            assert statistic.isfinite().all()
        assert table.received().isfinite().all()
        weights, indices = table.top(3)
        assert (weights[dead] == 0).all()
        assert (indices[dead] == -1).all()
        (table[..., 1:5].sum() + table.dense().square().sum() + table.lse()[~dead].sum()).backward()
        for leaf in (leaves.q, leaves.k):
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all()


# Masks under which some keys are seen by no query of a batch element: mask, bias and the table (B, K) of those keys.
UNSEEN: dict[str, tuple[Callable[[Problem], Problem], Tensor]] = {
    "padding": (
        lambda p: replace(p, mask=Padding(torch.tensor([4, 0, 7]))),
        torch.arange(7) >= torch.tensor([4, 0, 7])[:, None],
    ),
    "dense column": (
        lambda p: replace(p, mask=Dense(torch.arange(7) != 2)),
        (torch.arange(7) == 2).expand(3, 7),
    ),
    "dense, unseen in all": (
        lambda p: replace(p, mask=Dense((torch.arange(7) != 5).expand(3, 4, 5, 7).clone())),
        (torch.arange(7) == 5).expand(3, 7),
    ),
    "causal tail": (
        lambda p: replace(p, mask=Causal(-1)),
        (torch.arange(7) >= 4).expand(3, 7),
    ),
    "bias column": (
        lambda p: replace(p, dense_bias=torch.zeros(7, dtype=p.q.dtype).masked_fill(torch.arange(7) == 3, -torch.inf)),
        (torch.arange(7) == 3).expand(3, 7),
    ),
    "causal & padding": (
        lambda p: replace(p, mask=Causal(1) & Padding(torch.tensor([7, 2, 5]))),
        torch.arange(7) >= torch.tensor([6, 2, 5])[:, None],
    ),
    "padding & dense column": (
        lambda p: replace(p, mask=Padding(torch.tensor([6, 7, 1])) & Dense(torch.arange(7) != 0)),
        (torch.arange(7) >= torch.tensor([6, 7, 1])[:, None]) | (torch.arange(7) == 0),
    ),
}


def _poisoned(problem: Problem, unseen: Tensor, poison: float) -> Problem:
    hidden = unseen[:, None, :, None]
    inputs = problem.inputs
    return problem.with_inputs({**inputs, **{n: inputs[n].masked_fill(hidden, poison) for n in ("k", "v")}})


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", UNSEEN)
def test_keys_that_no_query_sees_never_leak(name: str, dtype: torch.dtype, poison: float) -> None:
    make, unseen = UNSEEN[name]
    for extra in EXTRAS.values():
        clean = extra(make(Case(SIZES).make(dtype)))
        bad = _poisoned(clean, unseen, poison)
        for runner in RUNNERS:
            results = []
            for problem in (clean, bad):
                leaves = problem.in_dtype(dtype, requires_grad=True)
                done = run(runner, leaves)
                if done is None:
                    continue
                done[0].float().square().sum().backward()
                results.append((done[0], leaves.q.grad, leaves.k.grad, leaves.v.grad))
            for expected, got in zip(*results, strict=True) if results else ():
                assert torch.equal(expected, got), runner
            if results:
                hidden = unseen[:, None, :, None].expand(leaves.k.shape)
                assert (leaves.k.grad[hidden] == 0).all(), runner
        expected_map, got_map = (AttentionMap(p.q, p.k, **p.options) for p in (clean, bad))
        for ask in (
            AttentionMap.dense,
            AttentionMap.lse,
            AttentionMap.received,
            AttentionMap.entropy,
            lambda t: t[..., 2:6],
            lambda t: t.top(4)[1],
        ):
            assert torch.equal(ask(expected_map), ask(got_map))


def test_a_key_unseen_by_all_heads_of_its_group_does_not_leak() -> None:
    visible = torch.ones(1, 4, 1, 7, dtype=torch.bool)
    visible[:, :2, :, 3] = False  # heads 0 and 1 share key head 0
    visible[:, 1, :, 5] = False  # which head 0 sees: this key must stay
    problem = replace(Case(replace(SIZES, batch=1)).make(torch.float32), mask=Dense(visible))
    k, v = problem.k.clone(), problem.v.clone()
    k[:, 0, 3], v[:, 0, 3] = torch.nan, torch.nan
    took = []
    for runner in RUNNERS:
        clean, bad = run(runner, problem), run(runner, problem.with_inputs({"q": problem.q, "k": k, "v": v}))
        if clean is None:  # the backend refuses the call
            assert bad is None
            continue
        assert bad is not None
        assert torch.equal(clean[0], bad[0]), runner
        took.append(runner)
    assert {"sdpa", "reference"} <= set(took)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["causal", "dense", "bias", "padding"])
def test_finite_values_in_masked_places_are_harmless(name: str, dtype: torch.dtype) -> None:
    """The last key is huge and seen by the last query alone: nothing changes in the other rows."""
    huge = 6e4 if dtype == torch.float16 else 1e30
    last_only = torch.ones(5, 7, dtype=torch.bool)
    last_only[:-1, -1] = False
    options = {
        "causal": {"mask": Causal()},
        "dense": {"mask": Dense(last_only)},
        "bias": {"dense_bias": torch.zeros(5, 7, dtype=dtype).masked_fill(~last_only, -torch.inf)},
        "padding": {"mask": Padding(torch.tensor([6, 6, 6]))},
    }
    clean = replace(Case(SIZES).make(dtype), **options[name])
    k, v = clean.k.clone(), clean.v.clone()
    k[:, :, -1], v[:, :, -1] = huge, -huge
    for extra in EXTRAS.values():
        for runner in RUNNERS:
            results = []
            for problem in (clean, clean.with_inputs({**clean.inputs, "k": k, "v": v})):
                leaves = extra(problem).in_dtype(dtype, requires_grad=True)
                done = run(runner, leaves)
                if done is None:
                    continue
                context = done[0][:, :, :-1]
                context.float().square().sum().backward()
                assert leaves.q.grad is not None
                assert leaves.k.grad is not None
                results.append((context, leaves.q.grad[:, :, :-1], leaves.k.grad[:, :, :-1]))
            for expected, got in zip(*results, strict=True) if results else ():
                assert torch.equal(expected, got), runner


def test_masked_places_that_would_overflow_are_harmless() -> None:
    """A key so large that its product with a query is infinite, behind padding and behind a causal limit."""
    for mask in (Padding(torch.tensor([5, 5])), Causal(), Causal() & Padding(torch.tensor([5, 7]))):
        q, k, v = (torch.randn(2, 3, 7, 4, requires_grad=True) for _ in range(3))
        calm = attend(q[:, :, :5], k[:, :, :5], v[:, :, :5], mask=mask if isinstance(mask, Causal) else None)
        with torch.no_grad():
            k[:, :, 5:] = 3e38
        context = attend(q, k, v, mask=mask)[:, :, :5]
        assert context.isfinite().all()
        if isinstance(mask, Causal):
            torch.testing.assert_close(context, calm)
        context.sum().backward()
        assert q.grad is not None and q.grad[:, :, :5].isfinite().all()
