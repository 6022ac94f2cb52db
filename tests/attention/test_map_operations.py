"""Pooled overviews and products of `AttentionMap`, against the dense oracle; and every statistic in every layout."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import Case, case_id, case_strategy, one_option_cases, oracle
from oracles.attention_options import DTYPES, Sizes
from regard.attention import AttentionMap, Causal, Dot, Kernel, Padding, Window, attend
from regard.attention import scoring as scoring_module
from regard.errors import ArgumentError

BLOCKS = {"one block": 1 << 20, "many blocks": 11}


@pytest.fixture(params=BLOCKS)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Runs the test with large and with small blocks."""
    monkeypatch.setattr(scoring_module, "BLOCK", BLOCKS[request.param])
    yield BLOCKS[request.param]


def _map_of(case: Case, dtype: torch.dtype = torch.float64) -> AttentionMap:
    problem = case.make(dtype)
    return AttentionMap(problem.q, problem.k, **problem.options)


def _pooled(weights: Tensor, high: int, wide: int, how: str) -> Tensor:
    """By the definition, cell by cell."""
    queries, keys = weights.shape[-2:]
    result = weights.new_zeros(*weights.shape[:-2], high, wide)
    for a in range(high):
        for b in range(wide):
            rows = slice(a * queries // high, (a + 1) * queries // high)
            part = weights[..., rows, b * keys // wide : (b + 1) * keys // wide].flatten(-2)
            result[..., a, b] = part.mean(-1) if how == "mean" else part.amax(-1)
    return result


def _check_operations(table: AttentionMap, weights: Tensor, cells: tuple[int, int], dtype: torch.dtype) -> None:
    """Pooling and products of a map with the axes (B, H, Q, K)."""
    wide = torch.promote_types(dtype, torch.float32)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    (batch, heads, queries, keys), groups = weights.shape, table._scoring.extent.groups
    generator = torch.Generator().manual_seed(queries)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    of_groups, of_heads, of_all = draw(batch, groups, keys, 3), draw(batch, heads, keys, 2), draw(keys, 1)
    of_queries, of_any_query = draw(batch, heads, queries, 3), draw(1, queries, 2)
    head_of = [h // (heads // groups) for h in range(heads)]
    for name, got, expected in (
        ("mean", table.pool(cells), _pooled(weights, *cells, "mean")),
        ("max", table.pool(cells, how="max"), _pooled(weights, *cells, "max")),
        ("apply to key heads", table.apply(of_groups), weights @ of_groups.double()[:, head_of]),
        ("apply to query heads", table.apply(of_heads), weights @ of_heads.double()),
        ("apply to all", table.apply(of_all), weights @ of_all.double()),
        ("transposed", table.apply_transposed(of_queries), weights.transpose(2, 3) @ of_queries.double()),
        ("transposed, all", table.apply_transposed(of_any_query), weights.transpose(2, 3) @ of_any_query.double()),
    ):
        assert got.dtype == wide, name
        torch.testing.assert_close(
            got.double(), expected, atol=tolerance, rtol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("case", one_option_cases(Sizes(3, 6, 3, 5, 7, 11, 3)), ids=case_id)
def test_operations_of_every_option(case: Case, block: int) -> None:
    _check_operations(_map_of(case), oracle(case.make(torch.float64)).weights, (2, 3), torch.float64)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), case=case_strategy(), dtype=st.sampled_from(DTYPES), size=st.sampled_from([7, 64, 1 << 20]))
def test_operations_of_any_combination(data: st.DataObject, case: Case, dtype: torch.dtype, size: int) -> None:
    cells = data.draw(st.tuples(st.integers(1, case.sizes.queries), st.integers(1, case.sizes.keys)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring_module, "BLOCK", size)
        table = _map_of(case, dtype)
        _check_operations(table, table.dense().double(), cells, dtype)  # dense is compared with the oracle elsewhere


STATISTICS: dict[str, Callable[[AttentionMap], Tensor]] = {
    "dense": AttentionMap.dense,
    "lse": AttentionMap.lse,
    "mass": AttentionMap.mass,
    "weights of top": lambda table: table.top(3)[0],
    "keys of top": lambda table: table.top(3)[1],
    "entropy": AttentionMap.entropy,
    "received": AttentionMap.received,
    "pool": lambda table: table.pool((2, 3)),
    "apply": lambda table: table.apply(torch.arange(14.0).view(7, 2)),
    "apply_transposed": lambda table: table.apply_transposed(torch.arange(5.0).view(5, 1)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_every_layout_gives_the_same(name: str, block: int) -> None:
    problem = Case(Sizes(6, 4, 2, 5, 7, 11, 3)).make(torch.float64)
    statistic, options = STATISTICS[name], {"mask": Causal(1) & Window(3, 2), "softcap": 2.0}
    four = statistic(AttentionMap(problem.q, problem.k, **options))
    tail = four.shape[2:]
    five = statistic(AttentionMap(problem.q.view(2, 3, 4, 5, 11), problem.k.view(2, 3, 2, 7, 11), **options))
    torch.testing.assert_close(five, four.view(2, 3, 4, *tail))
    three = statistic(AttentionMap(problem.q[:, 3], problem.k[:, 1], **options))
    torch.testing.assert_close(three, four[:, 3])
    two = statistic(AttentionMap(problem.q[5, 3], problem.k[5, 1], **options))
    torch.testing.assert_close(two, four[5, 3])


@pytest.mark.parametrize(
    ("shape", "leading"),
    [
        ((7, 2), (1, 1, 1)),
        ((4, 7, 2), (1, 1, 4)),
        ((2, 7, 2), (1, 1, 2)),
        ((1, 7, 2), (1, 1, 1)),
        ((3, 1, 7, 2), (1, 3, 1)),
        ((2, 1, 4, 7, 2), (2, 1, 4)),
        ((1, 3, 2, 7, 2), (1, 3, 2)),
        ((2, 3, 1, 7, 2), (2, 3, 1)),
    ],
    ids=str,
)
def test_values_broadcast(shape: tuple[int, ...], leading: tuple[int, int, int]) -> None:
    """Five axes, four query heads and two key heads."""
    problem = Case(Sizes(6, 4, 2, 5, 7, 11, 3)).make(torch.float64)
    table = AttentionMap(problem.q.view(2, 3, 4, 5, 11), problem.k.view(2, 3, 2, 7, 11))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    of_heads = x.view(*leading, 7, 2)
    if leading[-1] == 2:
        of_heads = of_heads.repeat_interleave(2, -3)
    torch.testing.assert_close(table.apply(x), table.dense() @ of_heads)


@pytest.mark.parametrize("sizes", [(0, 7), (5, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("batch", [0, 2])
def test_empty_maps(sizes: tuple[int, int], batch: int) -> None:
    queries, keys = sizes
    for score in (Dot(), Kernel()):
        table = AttentionMap(torch.rand(batch, 4, queries, 3), torch.rand(batch, 2, keys, 3), score=score)
        assert table.shape == (batch, 4, queries, keys)
        _nothing(table.received(), (batch, 4, keys))
        _nothing(table.entropy(), (batch, 4, queries))
        _nothing(table.mass(), (batch, 4, queries))
        _nothing(table.apply(torch.ones(keys, 2)), (batch, 4, queries, 2))
        _nothing(table.apply_transposed(torch.ones(queries, 2)), (batch, 4, keys, 2))
        with pytest.raises(ArgumentError, match=f"{queries} queries × {keys} keys"):
            table.pool((1, 1))
    table = AttentionMap(torch.rand(0, 4, 5, 3), torch.rand(0, 2, 7, 3))
    _nothing(table.pool((2, 3)), (0, 4, 2, 3))
    _nothing(table.top(2)[0], (0, 4, 5, 2))
    _nothing(table.apply(torch.ones(7, 2)), (0, 4, 5, 2))


def _nothing(x: Tensor, shape: tuple[int, ...]) -> None:
    assert x.shape == shape
    assert (x == 0).all()


class TestPool:
    @settings(max_examples=40, deadline=None)
    @given(data=st.data(), size=st.sampled_from([1, 5, 23, 1 << 20]), how=st.sampled_from(["mean", "max"]))
    def test_ragged_edges(self, data: st.DataObject, size: int, how: Any) -> None:
        """Each weight is in one cell, whatever the blocks."""
        queries, keys = data.draw(st.integers(1, 17)), data.draw(st.integers(1, 17))
        cells = data.draw(st.tuples(st.integers(1, queries), st.integers(1, keys)))
        mask = data.draw(st.sampled_from([None, Causal(), Causal(-3), Window(2, 1)]))
        generator = torch.Generator().manual_seed(queries)
        table = AttentionMap(
            torch.randn(2, queries, 3, generator=generator, dtype=torch.float64),
            torch.randn(2, keys, 3, generator=generator, dtype=torch.float64),
            mask=mask,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scoring_module, "BLOCK", size)
            got = table.pool(cells, how=how)
        torch.testing.assert_close(got, _pooled(table.dense(), *cells, how))

    def test_as_many_cells_as_weights_is_the_table(self, block: int) -> None:
        table = _map_of(Case(mask="causal & padding"))
        for how in ("mean", "max"):
            torch.testing.assert_close(table.pool((5, 7), how=how), table.dense())

    def test_one_cell_has_the_mean_mass(self, block: int) -> None:
        table = AttentionMap(torch.zeros(11, 2), torch.zeros(13, 2))
        assert table.pool((1, 1)).item() == pytest.approx(1 / 13)
        assert table.pool((1, 1), how="max").item() == pytest.approx(1 / 13)

    @pytest.mark.parametrize("cells", [(0, 1), (1, 0), (6, 1), (1, 8), (-1, 2)], ids=str)
    def test_number_of_cells(self, cells: tuple[int, int]) -> None:
        with pytest.raises(ArgumentError, match=f"{cells[0]} × {cells[1]} cells .* 5 queries × 7 keys"):
            _map_of(Case()).pool(cells)

    @pytest.mark.parametrize("cells", [3, (1,), (1, 2, 3), (1.0, 2), (True, 2), None], ids=str)
    def test_kind_of_cells(self, cells: Any) -> None:
        with pytest.raises(ArgumentError, match="two integers"):
            _map_of(Case()).pool(cells)

    def test_how(self) -> None:
        how: Any = "median"
        with pytest.raises(ArgumentError, match="'mean' or 'max', not 'median'"):
            _map_of(Case()).pool((1, 1), how=how)


class TestProducts:
    def test_apply_is_attend(self, block: int) -> None:
        for case in one_option_cases():
            problem = case.make(torch.float64)
            table = AttentionMap(problem.q, problem.k, **problem.options)
            context = attend(problem.q, problem.k, problem.v, **problem.options)
            torch.testing.assert_close(table.apply(problem.v), context)

    def test_half_precision_is_summed_in_single(self) -> None:
        """A context in bfloat16 would round these to multiples of 0.25."""
        q, k = torch.zeros(1, 2, dtype=torch.bfloat16), torch.zeros(3, 2, dtype=torch.bfloat16)
        x = torch.tensor([[40.0], [41.0], [43.0]])
        assert AttentionMap(q, k).apply(x).item() == pytest.approx(124 / 3, rel=1e-6)
        assert AttentionMap(q, k).apply(x.bfloat16()).item() == pytest.approx(124 / 3, rel=1e-6)

    def test_what_no_query_sees_never_gets_through(self, block: int) -> None:
        table = AttentionMap(torch.rand(2, 5, 3), torch.rand(2, 7, 3), mask=Padding(torch.tensor([4, 2])))
        x = torch.full((2, 7, 1), torch.nan)
        x[0, :4], x[1, :2] = 1.0, 2.0
        torch.testing.assert_close(table.apply(x)[..., 0], torch.tensor([1.0, 2.0])[:, None].expand(2, 5))

    def test_transposed_ones_are_what_is_received(self, block: int) -> None:
        for case in one_option_cases():
            table = _map_of(case)
            torch.testing.assert_close(table.apply_transposed(torch.ones(5, 1))[..., 0], table.received())

    def test_the_two_products_are_transposes(self, block: int) -> None:
        """⟨y, P x⟩ = ⟨Pᵀ y, x⟩."""
        table = _map_of(Case(mask="window", sink="per head", score="additive"))
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(2, 6, 7, 1, generator=generator, dtype=torch.float64)
        y = torch.randn(2, 6, 5, 1, generator=generator, dtype=torch.float64)
        torch.testing.assert_close((y * table.apply(x)).sum(), (table.apply_transposed(y) * x).sum())

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((7,), r"\(2, 3, 7, F\)"),
            ((5, 2), r"\(2, 3, 7, F\)"),
            ((4, 7, 2), r"\(2, 3, 7, F\)"),
            ((3, 6, 7, 2), r"\(2, 6, 7, F\)"),
            ((1, 2, 3, 7, 2), r"\(2, 3, 7, F\)"),
        ],
        ids=str,
    )
    def test_shapes_of_values(self, shape: tuple[int, ...], expected: str) -> None:
        with pytest.raises(ArgumentError, match=f"apply: x is .* broadcasts to {expected}"):
            _map_of(Case()).apply(torch.ones(shape))

    @pytest.mark.parametrize("shape", [(5,), (7, 2), (3, 5, 2), (3, 6, 5, 2), (1, 2, 6, 5, 2)], ids=str)
    def test_shapes_of_numbers_for_queries(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ArgumentError, match=r"apply_transposed: x is .* broadcasts to \(2, 6, 5, F\)"):
            _map_of(Case()).apply_transposed(torch.ones(shape))

    def test_kinds_of_numbers(self) -> None:
        table, other = _map_of(Case()), torch.ones(7, 2, dtype=torch.long)
        with pytest.raises(ArgumentError, match=r"apply: x is torch\.int64"):
            table.apply(other)
        with pytest.raises(ArgumentError, match="apply: x is on meta"):
            table.apply(torch.ones(7, 2, device="meta"))


def test_a_fully_masked_row_has_nothing(block: int) -> None:
    case = Case(mask="causal two behind")
    for score in ("scaled", "additive", "kernel elu+1"):
        table = _map_of(replace(case, score=score))
        assert (table.apply(torch.ones(7, 2))[:, :, :2] == 0).all()
        assert (table.pool((5, 7))[:, :, :2] == 0).all()
        assert (table.entropy()[:, :, :2] == 0).all()
        assert (table.top(2)[1][:, :, :2] == -1).all()
