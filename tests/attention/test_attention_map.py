"""`AttentionMap` against the dense oracle: every part it gives, in one block and in many."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import Case, Problem, case_id, case_strategy, one_option_cases, oracle
from oracles.attention_options import DTYPES, Sizes
from oracles.error_rule import assert_as_accurate
from oracles.plain_attention import PlainResult
from regard.attention import AttentionMap, Causal, Dot, Padding, attend
from regard.attention import scoring as scoring_module

# A block of 11 scores: fewer than a row of most cases, so that everything is put together from pieces.
BLOCKS = {"one block": 1 << 20, "many blocks": 11}


@pytest.fixture(params=BLOCKS)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Runs the test with large and with small blocks."""
    size = BLOCKS[request.param]
    monkeypatch.setattr(scoring_module, "BLOCK", size)
    yield size


def _map_of(case: Case, dtype: torch.dtype = torch.float64) -> AttentionMap:
    problem = case.make(dtype)
    return AttentionMap(problem.q, problem.k, **problem.options)


def _close(got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(got.double(), expected, atol=tolerance, rtol=tolerance)


# Masks that name no axis in front of queries and keys.
FREE = ("none", "causal", "causal two ahead", "causal & causal two behind", "window", "window & causal from the start")


def _in_layout(case: Case, axes: int) -> AttentionMap:
    """The map of a case in a layout of so many axes: options that name others are left out."""
    if axes == 4:
        return _map_of(case)
    one = {2: {"batch": 1, "heads": 1, "groups": 1}, 3: {"heads": 1, "groups": 1}}.get(axes, {})
    mask = case.mask if case.mask in FREE else "none"
    case = replace(case, sizes=replace(case.sizes, **one), mask=mask, bias="none", factor="none")
    problem = case.make(torch.float64)
    q, k = problem.q, problem.k
    q, k = {
        2: (q[0, 0], k[0, 0]),
        3: (q[:, 0], k[:, 0]),
        5: (torch.stack([q, -q]), torch.stack([k, k * 0.5])),
    }[axes]
    return AttentionMap(q, k, **problem.options)


@pytest.mark.parametrize("case", one_option_cases(Sizes(3, 6, 3, 5, 7, 11, 3)), ids=case_id)
def test_every_statistic_of_every_option(case: Case, block: int) -> None:
    exact = oracle(case.make(torch.float64))
    _check_statistics(_map_of(case), exact, torch.float64)


@settings(max_examples=60, deadline=None)
@given(case=case_strategy(), dtype=st.sampled_from(DTYPES), size=st.sampled_from([7, 64, 1 << 20]))
def test_every_statistic_of_any_combination(case: Case, dtype: torch.dtype, size: int) -> None:
    # a lift in half precision rounds as the plain computation does: the statistics are those of its result
    rounded = dtype.itemsize == 2 and not _keeps(case.make(dtype))
    if rounded:
        case = replace(case, sink="none", factor="none")  # may leave so little that it vanishes in the table
    problem = case.make(dtype)
    exact, plain = oracle(problem), problem.plain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring_module, "BLOCK", size)
        table = _map_of(case, dtype)
        assert_as_accurate("dense", table.dense(), plain.weights, exact.weights)
        assert_as_accurate("lse", table.lse(), plain.lse, exact.lse)
        if rounded:
            exact = _statistics_of(table.dense().double(), table.lse().double())
        _check_statistics(table, exact, dtype)


def _keeps(problem: Problem) -> bool:
    """Whether lifting leaves queries and keys as they are."""
    lifted = problem.score.lift(problem.q, problem.k)
    return torch.equal(lifted.q.abs(), problem.q.abs()) and torch.equal(lifted.k, problem.k)


def _statistics_of(weights: Tensor, lse: Tensor) -> PlainResult:
    """What a given table of weights has for statistics."""
    mass = weights.sum(-1)
    row = weights / mass.masked_fill(mass == 0, 1.0)[..., None]
    return PlainResult(weights, lse, weights, mass, -torch.xlogy(row, row).sum(-1))


def _check_statistics(table: AttentionMap, exact: PlainResult, dtype: torch.dtype) -> None:
    wide, weights = torch.promote_types(dtype, torch.float32), exact.weights
    assert table.shape == weights.shape
    statistics = {
        "dense": (table.dense(), weights),
        "lse": (table.lse(), exact.lse),
        "mass": (table.mass(), exact.mass),
        "entropy": (table.entropy(), exact.entropy),
        "entropy of the mass": (table.entropy(of_mass=True), -torch.xlogy(weights, weights).sum(-1)),
        "received": (table.received(), weights.sum(-2)),
    }
    for name, (got, expected) in statistics.items():
        assert got.dtype == wide, name
        _close(got, expected, dtype)
    n = min(3, weights.shape[-1])
    got, index = table.top(n)
    assert got.dtype == wide
    assert index.dtype == torch.int64
    _close(got, weights.sort(-1, descending=True).values[..., :n], dtype)
    seen = index >= 0
    assert (got[~seen] == 0).all()
    _close(got[seen], weights.gather(-1, index.clamp(min=0))[seen], dtype)


class TestCrops:
    @settings(max_examples=80, deadline=None)
    @given(data=st.data(), case=case_strategy(), axes=st.sampled_from([2, 3, 4, 5]))
    def test_a_crop_is_that_part_of_the_table(self, data: st.DataObject, case: Case, axes: int) -> None:
        table = _in_layout(case, axes)
        size = data.draw(st.sampled_from([13, 1 << 20]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scoring_module, "BLOCK", size)
            dense = table.dense()
            index = data.draw(_indices(table.shape))
            got = table[index]
        expected = dense[index]
        assert got.shape == expected.shape, index
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12, msg=str(index))

    @pytest.mark.parametrize(
        "index",
        [
            0,
            -1,
            (1, 2),
            (0, 1, slice(1, 3), slice(None)),
            (..., 3),
            (..., slice(-3, None)),
            (slice(None), 1),
            (0, ..., slice(0, 7, 3), 2),
            (1, -2, -1, -1),
            (slice(2, 2), ...),
            (slice(None), slice(4, 1), 0),
            (slice(5, 9), 0, slice(-100, 100), slice(6, 100, 5)),
            ...,
            (),
        ],
        ids=str,
    )
    def test_indices_one_by_one(self, index: Any, block: int) -> None:
        for case in (Case(mask="causal & padding"), Case(sink="per head", bias="per head and key")):
            table = _map_of(case)
            torch.testing.assert_close(table[index], oracle(case.make(torch.float64)).weights[index])

    def test_only_the_asked_rows_are_computed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[int, ...]] = []
        scores = scoring_module.Scoring.scores_from

        def spy(self: scoring_module.Scoring, *arguments: Any) -> Tensor:
            block = scores(self, *arguments)
            asked.append(tuple(block.shape))
            return block

        monkeypatch.setattr(scoring_module.Scoring, "scores_from", spy)
        _map_of(Case())[1, 4, 2:4, 3]
        assert asked == [(1, 1, 2, 1), (1, 1, 2, 7)]

    def test_crops_stay_exact_when_scores_are_large(self) -> None:
        """Equal scores of 12345.67 share the weight exactly, in the whole row and in a part of it."""
        q, k = torch.full((1, 1), 12345.67), torch.ones(3, 1)
        table = AttentionMap(q, k, score=Dot())
        assert table[0].tolist() == pytest.approx([1 / 3] * 3, rel=1e-6)
        assert table[0, 1:].tolist() == pytest.approx([1 / 3] * 2, rel=1e-6)


def _indices(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Integers, negative ones, slices with steps forwards, and an ellipsis in any place."""

    def axis(size: int) -> st.SearchStrategy[Any]:
        bound = st.none() | st.integers(-size - 2, size + 2)
        slices = st.builds(slice, bound, bound, st.none() | st.integers(1, 4))
        return slices | st.integers(-size, size - 1) if size else slices

    def cut(items: tuple[Any, ...], start: int, stop: int) -> tuple[Any, ...]:
        start, stop = min(start, stop), max(start, stop)
        return (*items[:start], ..., *items[stop:])

    whole = st.tuples(*(axis(size) for size in shape))
    place = st.integers(0, len(shape))
    return whole | st.builds(cut, whole, place, place) | whole.map(lambda items: items[:2])


class TestTop:
    def test_equal_scores_come_by_lower_index(self, block: int) -> None:
        q, k = torch.ones(1, 1), torch.tensor([2.0, 1.0, 2.0, 0.0, 1.0, 2.0, 1.0])[:, None]
        table = AttentionMap(q, k, score=Dot())
        assert table.top(7)[1].tolist() == [[0, 2, 5, 1, 4, 6, 3]]
        assert table.top(2)[1].tolist() == [[0, 2]]
        assert table.top(5)[1].tolist() == [[0, 2, 5, 1, 4]]

    def test_all_scores_equal(self, block: int) -> None:
        table = AttentionMap(torch.zeros(2, 3, 5, 4), torch.zeros(2, 3, 13, 4))
        for n in (1, 4, 13):
            weights, index = table.top(n)
            assert (index == torch.arange(n)).all()
            torch.testing.assert_close(weights, torch.full_like(weights, 1 / 13))

    def test_minus_one_where_fewer_keys_can_be_seen(self, block: int) -> None:
        q, k = torch.ones(3, 1), torch.tensor([1.0, 3.0, 2.0])[:, None]
        weights, index = AttentionMap(q, k, score=Dot(), mask=Causal()).top(3)
        assert index.tolist() == [[0, -1, -1], [1, 0, -1], [1, 2, 0]]
        assert weights[0].tolist() == [1.0, 0.0, 0.0]
        assert weights[1, 2] == 0.0
        torch.testing.assert_close(weights.sum(-1), torch.ones(3))

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 999), keys=st.sampled_from([1, 2, 7, 13]), data=st.data())
    def test_ties_of_whole_numbers(self, seed: int, keys: int, data: st.DataObject) -> None:
        generator = torch.Generator().manual_seed(seed)
        q = torch.randint(-1, 2, (2, 3, 5, 2), generator=generator).float()
        k = torch.randint(-1, 2, (2, 3, keys, 2), generator=generator).float()
        lengths = torch.randint(0, keys + 1, (2,), generator=generator)
        n = data.draw(st.integers(1, keys))
        _, index = AttentionMap(q, k, score=Dot(), mask=Padding(lengths)).top(n)
        scores = (q @ k.transpose(-1, -2)).tolist()
        for b in range(2):
            for h in range(3):
                for i in range(5):
                    order = sorted(range(int(lengths[b])), key=lambda j: (-scores[b][h][i][j], j))[:n]
                    assert index[b, h, i].tolist() == order + [-1] * (n - len(order))


class TestEntropyAndMass:
    def test_uniform_rows_have_the_logarithm_of_their_length(self) -> None:
        table = AttentionMap(torch.zeros(5, 2), torch.zeros(5, 2), mask=Causal())
        assert table.entropy().tolist() == pytest.approx([math.log(n) for n in range(1, 6)], abs=1e-6)

    def test_a_sink_leaves_the_entropy_of_the_row_and_lowers_that_of_the_mass(self) -> None:
        """Four equal keys beside a sink as heavy as they are together: mass 1/2, weights 1/8."""
        sink = torch.tensor([math.log(4.0)])
        table = AttentionMap(torch.zeros(1, 2), torch.zeros(4, 2), sink=sink)
        assert table[0].tolist() == pytest.approx([1 / 8] * 4)
        assert table.mass().item() == pytest.approx(0.5)
        assert table.lse().item() == pytest.approx(math.log(4))
        assert table.entropy().item() == pytest.approx(math.log(4))
        assert table.entropy(of_mass=True).item() == pytest.approx(0.5 * math.log(8))

    def test_a_sink_of_minus_infinity_takes_nothing(self) -> None:
        case = Case(mask="causal two behind")
        with_sink, without = _map_of(replace(case, sink="without effect")), _map_of(case)
        assert torch.equal(with_sink.mass(), without.mass())
        torch.testing.assert_close(with_sink.dense(), without.dense())

    def test_received_adds_up_to_the_mass(self, block: int) -> None:
        table = _map_of(Case(mask="padding", sink="per head"))
        torch.testing.assert_close(table.received().sum(-1), table.mass().sum(-1))


class TestGradients:
    @pytest.mark.parametrize("case", one_option_cases(Sizes(2, 2, 1, 3, 5, 2, 3)), ids=case_id)
    def test_lse_dense_and_crops(self, case: Case, block: int) -> None:
        problem = case.make(torch.float64)
        wanted = problem.in_dtype(torch.float64, requires_grad=True)
        exact = wanted.plain()
        alive = exact.lse > -torch.inf
        leaves = problem.in_dtype(torch.float64, requires_grad=True)
        table = AttentionMap(leaves.q, leaves.k, **leaves.options)
        names = [name for name in wanted.inputs if name != "v"]
        for got, expected in (
            (table.lse()[alive], exact.lse[alive]),
            (table.dense(), exact.weights),
            (table[:, 1, 1:, 2:4], exact.weights[:, 1, 1:, 2:4]),
            (table[0, 0, -1, ::2], exact.weights[0, 0, -1, ::2]),
        ):
            direction = torch.randn(got.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            grads, exact_grads = (
                torch.autograd.grad(
                    (x * direction).sum(), [p.inputs[n] for n in names], allow_unused=True, retain_graph=True
                )
                for x, p in ((got, leaves), (expected, wanted))
            )
            for name, grad, exact_grad in zip(names, grads, exact_grads, strict=True):
                grad, exact_grad = (
                    torch.zeros_like(wanted.inputs[name]) if g is None else g for g in (grad, exact_grad)
                )
                torch.testing.assert_close(grad, exact_grad, atol=1e-10, rtol=1e-8, msg=name)

    def test_gradcheck_of_lse(self, block: int) -> None:
        q = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
        k = torch.randn(1, 1, 5, 2, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda q, k, bias: AttentionMap(q, k, mask=Causal(1), bias=bias, softcap=3.0).lse(), (q, k, bias)
        )

    def test_the_other_statistics_are_not_differentiable(self) -> None:
        problem = Case(sink="per head").make(torch.float32)
        leaves = problem.in_dtype(torch.float32, requires_grad=True)
        table = AttentionMap(leaves.q, leaves.k, **leaves.options)
        x = torch.rand(6, 1, 2)
        of_keys, of_queries = table.apply(x.expand(-1, 7, -1)), table.apply_transposed(x.expand(-1, 5, -1))
        overview = table.pool((2, 3))
        for statistic in (
            table.top(2)[0],
            table.entropy(),
            table.received(),
            table.mass(),
            of_keys,
            of_queries,
            overview,
        ):
            assert not statistic.requires_grad
        assert table.lse().requires_grad
        with torch.no_grad():
            assert not table.lse().requires_grad


def test_the_table_is_what_attend_applies(block: int) -> None:
    for case in one_option_cases():
        problem = case.make(torch.float64)
        values = problem.v[:, [h // 2 for h in range(6)]]
        table = AttentionMap(problem.q, problem.k, **problem.options)
        context, lse = attend(problem.q, problem.k, problem.v, **problem.options, return_lse=True)
        torch.testing.assert_close(table.dense() @ values, context)
        torch.testing.assert_close(table.lse(), lse)


def test_repr_says_the_shape() -> None:
    assert repr(_map_of(Case())) == "AttentionMap(2, 6, 5, 7)"
