"""`AttentionMap.by_distance` against the dense table, block sizes, layouts and every option."""

import pytest
import torch
from torch import Tensor

from oracles.attention_cases import Case, case_id, one_option_cases, oracle
from oracles.attention_options import Sizes
from regard.attention import AttentionMap, Causal, Padding, Window
from regard.attention import scoring as scoring_module
from regard.attention.distances import by_distance
from regard.errors import ArgumentError

EDGES = (-3, -1, 0, 1, 2, 5)


def _expected(weights: Tensor, edges: tuple[int, ...], share: Tensor | None = None) -> Tensor:
    """By the definition, place by place."""
    queries, keys = weights.shape[-2:]
    result = weights.new_zeros(*weights.shape[:-2], len(edges) + 1)
    for i in range(queries):
        for j in range(keys):
            n = sum(edge <= i + keys - queries - j for edge in edges)
            result[..., n] += weights[..., i, j] * (1 / queries if share is None else share[..., i])
    return result


@pytest.mark.parametrize("block", [11, 1 << 20])
@pytest.mark.parametrize("case", one_option_cases(Sizes(3, 6, 3, 5, 7, 11, 3)), ids=case_id)
def test_every_option(case: Case, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "BLOCK", block)
    problem = case.make(torch.float64)
    table = AttentionMap(problem.q, problem.k, **problem.options)
    torch.testing.assert_close(table.by_distance(EDGES), _expected(oracle(problem).weights, EDGES), atol=1e-10, rtol=0)


@pytest.mark.parametrize("shape", [(9, 4), (2, 9, 4), (2, 3, 9, 4), (2, 5, 3, 9, 4)])
def test_layouts_and_more_queries_than_keys(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "BLOCK", 30)
    torch.manual_seed(1)
    q, k = torch.randn(shape), torch.randn(*shape[:-2], 6, 4)
    table = AttentionMap(q, k)
    torch.testing.assert_close(table.by_distance((0,)), _expected(table.dense(), (0,)))
    torch.testing.assert_close(table.by_distance((-20, 2, 40)), _expected(table.dense(), (-20, 2, 40)))


def test_the_parts_add_up_to_the_mass() -> None:
    torch.manual_seed(2)
    table = AttentionMap(
        torch.randn(2, 4, 50, 8, dtype=torch.bfloat16), torch.randn(2, 2, 50, 8, dtype=torch.bfloat16), mask=Causal(),
        sink=torch.randn(4),
    )  # fmt: skip
    got = table.by_distance((0, 1, 2, 4, 8, 16, 32))
    assert got.dtype == torch.float32 and got.shape == (2, 4, 8)
    assert bool((got[..., 0] == 0).all())  # nothing lies ahead
    torch.testing.assert_close(got.sum(-1), table.mass().mean(-1))


def test_a_window_reaches_as_far_as_it_says_in_a_long_text() -> None:
    table = AttentionMap(torch.randn(1, 1, 3000, 2), torch.randn(1, 1, 3000, 2), mask=Causal() & Window(7, 0))
    got = table.by_distance((0, 8))
    torch.testing.assert_close(got, torch.tensor([[[0.0, 1.0, 0.0]]]))


def test_queries_that_count_differently() -> None:
    torch.manual_seed(3)
    table = AttentionMap(
        torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4), mask=Causal() & Padding(torch.tensor([5, 3]))
    )
    share = torch.rand(2, 1, 5)
    got = by_distance(table.scoring, EDGES, share)
    torch.testing.assert_close(got, _expected(table.dense(), EDGES, share.expand(2, 3, 5)))
    with pytest.raises(ArgumentError, match=r"share is \(2, 5\)"):
        by_distance(table.scoring, EDGES, share[:, 0])


def test_no_queries_and_no_batch() -> None:
    assert AttentionMap(torch.zeros(1, 2, 0, 4), torch.zeros(1, 2, 3, 4)).by_distance((0,)).tolist() == [[[0, 0]] * 2]
    assert AttentionMap(torch.zeros(0, 2, 3, 4), torch.zeros(0, 2, 3, 4)).by_distance((0,)).shape == (0, 2, 2)


@pytest.mark.parametrize("edges", [(), (1, 1), (2, 0), (0.5,), (True,)])
def test_edges_that_do_not_grow(edges: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="edges must be integers that grow"):
        AttentionMap(torch.zeros(3, 2), torch.zeros(3, 2)).by_distance(edges)
