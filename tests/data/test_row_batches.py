"""Batches of a fixed number of examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.data.row_batches import RowBatches
from regard.errors import ArgumentError


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 5))
def test_every_example_once_in_an_epoch(lengths: list[int], rows: int, epoch: int) -> None:
    batches = RowBatches(lengths, rows, seed=3).epoch(epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= rows for batch in batches)
    assert len(batches) == -(-len(lengths) // rows)


def test_epochs_differ_and_repeat() -> None:
    lengths = list(range(1, 101))
    first, again = (RowBatches(lengths, 8, seed=1) for _ in range(2))
    assert [b.tolist() for b in first.epoch(0)] == [b.tolist() for b in again.epoch(0)]
    assert [b.tolist() for b in first.epoch(0)] != [b.tolist() for b in first.epoch(1)]
    assert [b.tolist() for b in first.epoch(0)] != [b.tolist() for b in RowBatches(lengths, 8, seed=2).epoch(0)]


def test_batches_have_like_lengths() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 100, 2000)
    batches = RowBatches(lengths, 16, seed=1).epoch(0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.15 * lengths.sum()  # at random it is 1.9 times


def test_nothing_to_batch_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="expected at least one example"):
        RowBatches([], 4, 0)
    with pytest.raises(ArgumentError, match="rows: got 0"):
        RowBatches([1], 0, 0)
