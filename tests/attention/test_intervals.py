"""`intervals_of`: a mask as two numbers a query, or the news that it has gaps; against a look at every row."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import Case, sizes_strategy
from oracles.attention_options import MASKS, Sizes
from regard.attention import AttentionMap, Causal, Dense, Interval, Padding, Prefix, Window, intervals
from regard.attention.extent import Extent
from regard.attention.intervals import intervals as intervals_of_table
from regard.attention.intervals import intervals_of
from regard.attention.visibility import EVERYTHING, Visibility

NAMES = sorted(name for name, make in MASKS.items() if make is not None)


def _looked_at(table: Tensor) -> tuple[Tensor, Tensor] | None:
    """Start and stop of the rows (N, K) of a table, by looking at each; None where one has a gap."""
    found = []
    for row in table.flatten(0, -2).tolist():
        seen = [j for j, one in enumerate(row) if one]
        if seen and seen != list(range(seen[0], seen[-1] + 1)):
            return None
        found.append((seen[0], seen[-1] + 1) if seen else (0, 0))
    start, stop = zip(*found, strict=True) if found else ((), ())
    return torch.tensor(start).view(table.shape[:-1]), torch.tensor(stop).view(table.shape[:-1])


def _assert_right(seen: Visibility, table: Tensor) -> None:
    batch, heads, queries, keys = table.shape
    got, expected = intervals_of(seen, queries, keys, torch.device("cpu")), _looked_at(table)
    assert (got is None) == (expected is None)
    if got is None or expected is None:
        return
    for one, right in zip(got, expected, strict=True):
        assert one.dtype == torch.long and one.shape[2:] == (queries, 1)
        assert torch.equal(one.expand(batch, heads, queries, 1)[..., 0], right)


@settings(max_examples=200, deadline=None)
@given(sizes_strategy(), st.sampled_from(NAMES), st.integers(0, 999), st.sampled_from([1, 20, 1 << 20]))
def test_every_mask(sizes: Sizes, name: str, seed: int, block: int) -> None:
    """Also in blocks of few rows, as long tables are looked at."""
    problem = Case(sizes, mask=name, seed=seed).make(torch.float32)
    assert problem.mask is not None
    with mock.patch.object(intervals, "BLOCK", block):
        _assert_right(problem.mask.resolve(Extent.of(problem.q, problem.k)), problem.visible)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=7))
def test_every_table(rows: list[list[bool]]) -> None:
    table = torch.tensor(rows)
    got, expected = intervals_of_table(table), _looked_at(table)
    assert (got is None) == (expected is None)
    if got is not None and expected is not None:
        assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 9), st.integers(-3, 9)), min_size=1, max_size=6),
    st.sampled_from(["as it is", "as a table", "with causal", "with a window", "with padding"]),
)
def test_intervals_come_back_as_they_were_given(given_ones: list[tuple[int, int]], how: str) -> None:
    keys, queries = 7, len(given_ones)
    start, stop = (torch.tensor(side) for side in zip(*given_ones, strict=True))
    j, i = torch.arange(keys), torch.arange(queries)[:, None]
    table = (j >= start[:, None]) & (j < stop[:, None])
    made: Interval | Dense = Dense(table) if how == "as a table" else Interval(start, stop)
    others = {
        "with causal": (Causal(1), j <= i + 1),
        "with a window": (Window(2, 1, 0), (j >= i - 2) & (j <= i + 1)),
        "with padding": (Padding(torch.tensor([4])), (j < 4).expand(queries, keys)),
    }
    mask, table = (made & others[how][0], table & others[how][1]) if how in others else (made, table)
    extent = Extent.of(torch.zeros(1, 1, queries, 1), torch.zeros(1, 1, keys, 1))
    _assert_right(mask.resolve(extent), table[None, None])


def test_without_a_mask_and_without_queries() -> None:
    device = torch.device("cpu")
    got = intervals_of(EVERYTHING, 3, 5, device)
    assert got is not None and [x.flatten().tolist() for x in got] == [[0, 0, 0], [5, 5, 5]]
    for keys in (0, 4):
        for mask in (Causal(), Prefix(2), Dense(torch.zeros(0, keys, dtype=torch.bool))):
            seen = mask.resolve(Extent.of(torch.zeros(1, 1, 0, 1), torch.zeros(1, 1, keys, 1)))
            empty = intervals_of(seen, 0, keys, device)
            assert empty is not None and all(x.numel() == 0 for x in empty)


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_of_what_was_found_is_the_same_mask(name: str) -> None:
    problem = Case(Sizes(2, 6, 3, 13, 11), mask=name, seed=5).make(torch.float32)
    before = AttentionMap(problem.q, problem.k, **problem.options)
    found = intervals_of(before.scoring.visibility, 13, 11, torch.device("cpu"))
    if found is None:
        return
    after = AttentionMap(problem.q, problem.k, mask=Interval(*(x[..., 0] for x in found)))
    assert torch.equal(before.dense(), after.dense())
