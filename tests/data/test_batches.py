import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import PartWeights, TokenBatches, inference_batches
from regard.errors import ArgumentError, DataError


def token_batches(source, target, budget, seed, epoch):
    return TokenBatches(source, target, budget, seed).epoch(epoch)


LENGTHS = st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)), min_size=1, max_size=101)


def flat(batches: Sequence[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


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


def test_an_epoch_is_a_sequence_that_makes_its_batches_when_asked() -> None:
    source, target = realistic(211)
    epoch = TokenBatches(source, target, 499, seed=3).epoch(2)
    batches = list(epoch)
    assert len(batches) == len(epoch) > 5
    assert flat(epoch[1:4]) == flat(batches[1:4])
    assert flat(epoch[-2:]) == flat([epoch[-2], epoch[-1]])
    with pytest.raises(IndexError):
        epoch[len(epoch)]


def test_any_dtype_of_lengths_gives_the_same_batches() -> None:
    source, target = realistic(1009)
    expected = flat(token_batches(source, target, 499, 1, 1))
    for dtype in (np.uint8, np.uint16, np.int32, np.uint64):
        assert flat(token_batches(source.astype(dtype), target.astype(dtype), 499, 1, 1)) == expected
    long = np.array([300, 70_000, 5])
    assert sorted(map(len, token_batches(long.astype(np.uint32), long, 70_000, 1, 0))) == [1, 2]


def test_memory_is_a_few_bytes_an_example() -> None:
    """At any time, with two epochs in use, at most 16 bytes of each example beyond those of a smaller corpus."""

    def peak(count: int) -> int:
        source, target = (side.astype(np.uint16) for side in realistic(count))
        tracemalloc.start()
        held = [source.copy(), target.copy()]  # lengths count
        plan = TokenBatches(held[0], held[1], 4096, seed=1)
        epoch = plan.epoch(0)
        assert len(epoch[0])
        following = plan.epoch(1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(following) == len(epoch)
        return most

    small, large = 150_000, 650_000
    assert peak(large) - peak(small) <= 16 * (large - small)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([0.01, 0.25, 1 / 3, 0.9, 1.0, 1.5, 2.0, 3.7])),
        min_size=1,
        max_size=3,
    ).filter(lambda parts: sum(size for size, _ in parts) > 0),
    st.integers(0, 3),
)
def test_weights_give_every_pair_its_turn(parts: list[tuple[int, float]], seed: int) -> None:
    sizes, values = zip(*parts, strict=True)
    weights = PartWeights(sizes, values, seed)
    count = sum(sizes)
    random = np.random.default_rng(5)
    source, target = random.integers(1, 9, count), random.integers(1, 9, count)
    plan = TokenBatches(source, target, 40, 1, weights)
    shown = np.zeros(count, dtype=int)
    for epoch in range(7):
        times = Counter(index for batch in plan.epoch(epoch) for index in batch.tolist())
        once = np.array([times[index] for index in range(count)])
        assert np.array_equal(once, weights.times(epoch, 0, count))
        assert np.array_equal(once[3:], weights.times(epoch, min(3, count), count))
        shown += once
        for batch in plan.epoch(epoch):
            assert len(batch) * max(source[batch].max(), target[batch].max()) <= 40
        first = 0
        for size, weight in parts:
            part = slice(first, first + size)
            first += size
            if size:
                assert shown[part].max() - shown[part].min() <= 1
                assert abs(shown[part].sum() - (epoch + 1) * weight * size) < 1 + 1e-6
    assert flat(TokenBatches(source, target, 40, 1, weights).epoch(6)) == flat(plan.epoch(6))


def test_turns_are_spread_over_a_part() -> None:
    turns = PartWeights([10_007], [0.25]).times(3, 0, 10_007)
    for start in range(0, 10_007, 1000):
        assert turns[start : start + 1000].mean() == pytest.approx(0.25, abs=0.01) or start > 9000


def test_weights_of_one_change_nothing_and_whole_ones_repeat() -> None:
    source, target = realistic(307)
    plain = TokenBatches(source, target, 499, 1)
    assert flat(TokenBatches(source, target, 499, 1, PartWeights([300, 7], [1.0, 1.0])).epoch(3)) == flat(
        plain.epoch(3)
    )
    doubled = TokenBatches(source, target, 499, 1, PartWeights([300, 7], [1.0, 2.0]))
    times = Counter(index for batch in doubled.epoch(0) for index in batch.tolist())
    assert times == Counter(range(307)) + Counter(range(300, 307))
    assert len(doubled.epoch(1)) == len(doubled)
    rare = TokenBatches([3], [3], 9, 1, PartWeights([1], [0.4]))
    assert [len(rare.epoch(number)) for number in range(5)] == [1, 0, 1, 0, 0]
    for problem, arguments in (
        ("parts of 306", ([300, 6], [1.0, 2.0])),
        ("above 0", ([300, 7], [1.0, 0.0])),
        ("above 0", ([300, 7], [1.0, float("inf")])),
        ("got 1 for 2 parts", ([300, 7], [1.0])),
        ("whole numbers from 0", ([308, -1], [1.0, 1.0])),
    ):
        with pytest.raises(ArgumentError, match=problem):
            TokenBatches(source, target, 499, 1, PartWeights(*arguments))


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
