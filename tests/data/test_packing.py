from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.packing import cut_documents, pack
from regard.data.packing_rows import PackedRows, ShuffledRows, StreamRows, padded
from regard.data.token_store import TokenRows
from regard.errors import ArgumentError, DataError

SIZES = st.lists(st.integers(1, 12), max_size=60)


def documents(sizes: list[int]) -> TokenRows:
    """Documents whose ids are all different: their places."""
    return TokenRows(np.arange(sum(sizes), dtype=np.uint16), np.array([0, *accumulate(sizes)], dtype=np.int64))


def best_fit_decreasing(sizes: list[int], length: int) -> list[int]:
    """Rooms left in the rows, by the definition: one piece after the other."""
    room: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [row for row, free in enumerate(room) if free >= size]
        if fitting:
            room[min(fitting, key=lambda row: room[row])] -= size
        else:
            room.append(length - size)
    return sorted(room)


@settings(max_examples=300, deadline=None)
@given(sizes=SIZES, more=st.integers(0, 20))
def test_packing_is_best_fit_decreasing(sizes: list[int], more: int) -> None:
    length = max(sizes, default=1) + more
    plan = pack(np.array(sizes, dtype=np.int64), length)
    assert sorted(plan.order.tolist()) == list(range(len(sizes)))
    filled = Counter[int]()
    for piece, row in zip(plan.order.tolist(), plan.rows.tolist(), strict=True):
        filled[row] += sizes[piece]
    assert sorted(length - one for one in filled.values()) == best_fit_decreasing(sizes, length)
    assert plan.count == len(filled)


def test_packing_refuses_what_has_no_room() -> None:
    with pytest.raises(ArgumentError, match="got 1 to 5, expected 1 to 4"):
        pack(np.array([1, 5]), 4)
    with pytest.raises(ArgumentError, match="got 0 to 1"):
        pack(np.array([1, 0]), 4)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12), longest=st.integers(1, 9), leave=st.integers(0, 1))
def test_cut_documents_lose_nothing(sizes: list[int], longest: int, leave: int) -> None:
    rows = documents(sizes)
    pieces = cut_documents(rows, longest, leave)
    found = [
        (int(document), list(range(int(start), int(start + size))), bool(first))
        for start, size, document, first in zip(
            pieces.starts, pieces.sizes, pieces.documents, pieces.first, strict=True
        )
    ]
    for number in range(len(rows)):
        own = [(ids, first) for document, ids, first in found if document == number]
        whole = rows[number].tolist()[: max(sizes[number] - leave, 0)]
        assert [one for ids, _ in own for one in ids] == whole
        assert [first for _, first in own] == [True] + [False] * (len(own) - 1) if whole else not own
        assert all(len(ids) == longest for ids, _ in own[:-1])


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=25),
    length=st.integers(3, 12),
    extra=st.integers(0, 2),
    epoch=st.none() | st.integers(0, 3),
)
def test_packed_rows_hold_each_piece_once_in_one_place(
    sizes: list[int], length: int, extra: int, epoch: int | None
) -> None:
    pieces = cut_documents(documents(sizes), length - extra)
    rows = PackedRows(pieces, extra, length, seed=3)
    everything = np.arange(len(rows))
    seen = []
    for chosen in (everything[::2], everything[1::2]):
        if not len(chosen):
            continue
        batch = rows.take(chosen, epoch)
        shape = (len(chosen), length)
        table, numbers, inside = (
            padded(batch, values, shape, -1) for values in (batch.pieces, batch.numbers, batch.inside)
        )
        assert ((table >= 0).sum(1) == rows.filled[chosen]).all()
        assert rows.pieces_of(chosen).tolist() == (numbers.max(1) + 1).tolist()
        for row in range(len(chosen)):
            for number in range(int(numbers[row].max()) + 1):
                places = np.flatnonzero(numbers[row] == number)
                (piece,) = set(table[row, places].tolist())
                assert (np.diff(places) == 1).all()  # side by side, and counted from 0
                assert inside[row, places].tolist() == list(range(int(pieces.sizes[piece]) + extra))
                seen.append(piece)
            filled = numbers[row] >= 0
            assert (np.diff(numbers[row][filled]) >= 0).all() and (np.diff(filled.astype(int)) <= 0).all()
    assert sorted(seen) == list(range(len(pieces)))


def test_packing_is_drawn_anew_each_epoch_and_nothing_else_matters() -> None:
    pieces = cut_documents(documents([3, 5, 4, 3, 3, 5, 2, 2, 4] * 20), 8)

    def order(seed: int, epoch: int | None) -> list[int]:
        rows = PackedRows(pieces, 0, 8, seed)
        return rows.take(np.arange(len(rows)), epoch).pieces.tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) != order(2, 1)
    rows = PackedRows(pieces, 0, 8, 1)
    rows.take([0], 4)
    assert rows.take(np.arange(len(rows)), 1).pieces.tolist() == order(1, 1)
    assert rows.padding < 0.02
    with pytest.raises(DataError, match="no tokens to pack"):
        PackedRows(cut_documents(documents([0, 0]), 8), 0, 8, 1)


@settings(max_examples=100, deadline=None)
@given(total=st.integers(4, 200), length=st.integers(1, 12), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_a_stream_shows_each_place_once_but_less_than_a_row(total: int, length: int, seed: int, epoch: int) -> None:
    stream = documents([total])
    if total < length:
        with pytest.raises(DataError, match=f"the text has {total} tokens, fewer than one row of data.length"):
            StreamRows(stream, length, seed)
        return
    rows = StreamRows(stream, length, seed)
    table = rows.take(np.arange(len(rows)), epoch, more=1)  # (R, L + 1)
    assert table.shape == (total // length, length + 1)
    assert (np.diff(table) % total == 1 % total).all()  # running text, the first after the last
    targets = table[:, 1:].ravel().tolist()
    assert len(set(targets)) == len(targets) > total - length
    assert (rows.take([0], epoch)[0] == table[0, :-1]).all()


def test_the_cuts_of_a_stream_move() -> None:
    rows = StreamRows(documents([1000]), 50, 1)
    phases = [rows.phase(epoch) for epoch in range(40)]
    assert len(set(phases)) > 20 and min(phases) >= 0 and max(phases) < 50
    assert phases == [StreamRows(documents([1000]), 50, 1).phase(epoch) for epoch in range(40)]
    assert phases != [StreamRows(documents([1000]), 50, 2).phase(epoch) for epoch in range(40)]


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 50), size=st.integers(1, 9), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_batches_have_every_row_once(rows: int, size: int, seed: int, epoch: int) -> None:
    batches = ShuffledRows(rows, size, seed, epoch)
    every = [int(one) for batch in batches for one in batch]
    assert sorted(every) == list(range(rows))
    assert [len(batch) for batch in batches][:-1] == [size] * (len(batches) - 1)
    assert every == [int(one) for batch in ShuffledRows(rows, size, seed, epoch)[0:] for one in batch]
    assert batches[-1].tolist() == batches[len(batches) - 1].tolist()
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_batches_are_shuffled_by_seed_and_epoch() -> None:
    orders = {tuple(ShuffledRows(100, 100, seed, epoch)[0].tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    with pytest.raises(ArgumentError, match="expected size ≥ 1"):
        ShuffledRows(3, 0, 0, 0)
