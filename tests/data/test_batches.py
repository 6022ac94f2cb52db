import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import TokenBatches, inference_batches
from regard.errors import ArgumentError, DataError


def token_batches(source, target, budget, seed, epoch):
    return TokenBatches(source, target, budget, seed).epoch(epoch)


LENGTHS = st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)), min_size=1, max_size=101)


def realistic(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths like those of sentences and their translations."""
    random = np.random.default_rng(7)
    source = np.clip(random.lognormal(2.7, 0.4, count), 1, 100).astype(int)
    return source, np.clip(source * random.lognormal(0.05, 0.2, count), 1, 100).astype(int)


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.integers(23, 211), st.integers(0, 5), st.integers(0, 3))
def test_every_example_once_and_every_batch_within_the_budget(
    lengths: list[tuple[int, int]], budget: int, seed: int, epoch: int
) -> None:
    source, target = np.array(lengths).T
    batches = token_batches(source, target, budget, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert batch.dtype == np.int64
        assert 0 < len(batch) * max(source[batch].max(), target[batch].max(), 1) <= budget
    again = token_batches(source.tolist(), target.tolist(), budget, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    source, target = realistic(1009)
    plan = TokenBatches(source, target, 499, seed=3)
    np.random.seed(1)
    first = plan.epoch(0)
    np.random.seed(2)
    np.random.rand(5)
    plan.epoch(4)

    def flat(batches: list[np.ndarray]) -> list[list[int]]:
        return [batch.tolist() for batch in batches]

    assert flat(plan.epoch(0)) == flat(first)
    assert flat(token_batches(source, target, 499, 3, 1)) == flat(plan.epoch(1))
    others = [plan.epoch(1), TokenBatches(source, target, 499, seed=4).epoch(0)]
    for other in others:
        assert len(other) == len(plan) == len(first)
        assert flat(other) != flat(first)
        assert sorted(map(sorted, flat(other))) != sorted(map(sorted, flat(first)))  # not only the batch order
        assert sorted(map(len, flat(other))) == sorted(map(len, flat(first)))


def test_known_plan() -> None:
    # By hand: in order 1 1 2 2 3 3, three rows of 2 fill a budget of 6, then two rows of 3, then one is left.
    lengths = np.array([3, 1, 2, 3, 1, 2])
    plan = TokenBatches(lengths, lengths, 6, seed=1)
    assert sorted(sorted(lengths[batch].tolist()) for batch in plan.epoch(0)) == [[1, 1, 2], [2, 3], [3]]
    assert plan.padding == pytest.approx(1 - 12 / 15)


def test_little_padding() -> None:
    source, target = realistic(29009)
    plan = TokenBatches(source, target, 4096, seed=1)
    batches = plan.epoch(0)
    padded = sum(len(batch) * int(source[batch].max() + target[batch].max()) for batch in batches)
    assert plan.padding == pytest.approx(1 - (source.sum() + target.sum()) / padded)
    assert plan.padding < 0.05
    full = [len(batch) * max(source[batch].max(), target[batch].max()) / 4096 for batch in batches]
    assert np.mean(full) > 0.97


def test_a_million_examples_take_seconds() -> None:
    source, target = realistic(1_000_000)
    start = time.process_time()
    batches = token_batches(source, target, 4096, 1, 0)
    assert time.process_time() - start < 15  # a loop over examples takes minutes
    assert sum(map(len, batches)) == 1_000_000


def test_errors_name_the_example_or_argument() -> None:
    with pytest.raises(DataError, match=r"example 2 has 13 tokens, more than the 11 .*\(2 examples"):
        token_batches([1, 2, 3, 12], [1, 2, 13, 1], 11, 0, 0)
    with pytest.raises(ArgumentError, match="target_lengths: got 1 lengths for 2"):
        token_batches([1, 2], [1], 11, 0, 0)
    with pytest.raises(ArgumentError, match="source_lengths: got no example"):
        token_batches([], [], 11, 0, 0)
    with pytest.raises(ArgumentError, match="source_lengths: got -1 at index 1"):
        token_batches([1, -1], [1, 1], 11, 0, 0)
    with pytest.raises(ArgumentError, match="whole numbers"):
        token_batches([1.5], [1.0], 11, 0, 0)
    with pytest.raises(ArgumentError, match="shape"):
        token_batches([[1]], [[1]], 11, 0, 0)
    with pytest.raises(ArgumentError, match="tokens_per_batch"):
        token_batches([1], [1], 0, 0, 0)
    with pytest.raises(ArgumentError, match="seed"):
        token_batches([1], [1], 11, -1, 0)
    with pytest.raises(ArgumentError, match="epoch"):
        token_batches([1], [1], 11, 0, -1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 41), max_size=101), st.integers(1, 97), st.integers(1, 13))
def test_inference_batches_go_from_long_to_short(lengths: list[int], budget: int, max_rows: int) -> None:
    array = np.array(lengths, dtype=int)
    batches = inference_batches(lengths, budget, max_rows)
    order = [int(index) for batch in batches for index in batch]
    assert order == sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for batch in batches:
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * array[batch].max() <= budget


def test_inference_batches_are_full() -> None:
    assert [b.tolist() for b in inference_batches([2, 30, 5, 3, 2], 10, 3)] == [[1], [2, 3], [0, 4]]
    with pytest.raises(ArgumentError, match="max_rows"):
        inference_batches([1], 10, 0)
    with pytest.raises(ArgumentError, match="tokens_per_batch"):
        inference_batches([1], 0, 1)
