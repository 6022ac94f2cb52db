"""Texts as BERT reads them: special tokens, types, cutting, padding."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard.errors import ArgumentError
from regard.tasks.framing import Frame, collate_rows, frame_texts
from regard.tasks.tagging import word_rows

FRAME = Frame(begin=101, end=102, pad=0)
ids = st.lists(st.integers(1, 99), max_size=30)


def test_one_text_and_a_pair() -> None:
    one = frame_texts([7, 8], None, FRAME, 10)
    assert (one.ids, one.types, one.cut) == ([101, 7, 8, 102], [0, 0, 0, 0], False)
    pair = frame_texts([7, 8], [9], FRAME, 10)
    assert (pair.ids, pair.types, pair.cut) == ([101, 7, 8, 102, 9, 102], [0, 0, 0, 0, 1, 1], False)


@given(ids, ids, st.integers(5, 40))
def test_pairs_are_cut_as_in_the_paper_s_code(first: list[int], second: list[int], longest: int) -> None:
    row = frame_texts(first, second, FRAME, longest)
    a, b = list(first), list(second)
    while len(a) + len(b) > longest - 3:
        (a if len(a) > len(b) else b).pop()
    assert row.ids == [101, *a, 102, *b, 102]
    assert row.types == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert row.cut == (len(first) + len(second) > longest - 3)
    assert len(row.ids) <= longest


@given(ids, st.integers(3, 40))
def test_one_text_is_cut_at_its_end(first: list[int], longest: int) -> None:
    row = frame_texts(first, None, FRAME, longest)
    assert row.ids == [101, *first[: longest - 2], 102]
    assert row.cut == (len(first) > longest - 2)


def test_no_room_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="longest: got 2, expected at least 3"):
        frame_texts([1], None, FRAME, 2)
    with pytest.raises(ArgumentError, match="longest: got 4, expected at least 5"):
        frame_texts([1], [2], FRAME, 4)


def test_a_batch_is_padded_at_the_end() -> None:
    rows = [frame_texts([7, 8], [9], FRAME, 10), frame_texts([5], None, FRAME, 10)]
    batch = collate_rows(rows, FRAME, torch.device("cpu"))
    assert batch.tokens.tolist() == [[101, 7, 8, 102, 9, 102], [101, 5, 102, 0, 0, 0]]
    assert batch.types.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]]
    assert batch.lengths.tolist() == [6, 3]
    assert batch.real().sum(1).tolist() == [6, 3]
    assert batch.real()[1].tolist() == [True] * 3 + [False] * 3


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=6), max_size=20), st.integers(3, 20))
def test_rows_of_words_hold_every_word_once_and_whole_where_it_fits(words: list[list[int]], longest: int) -> None:
    rows = word_rows(words, FRAME, longest)
    assert all(len(one.row.ids) <= longest for one in rows)
    found = []
    for one in rows:
        assert one.row.ids[0] == 101
        assert one.row.ids[-1] == 102
        stops = [*one.firsts[1:], len(one.row.ids) - 1]
        found += [one.row.ids[start:stop] for start, stop in zip(one.firsts, stops, strict=True)]
    assert found == [word[: longest - 2] for word in words]
    # as few rows as possible: the next row's first word did not fit any more
    for one, following in pairwise(rows):
        first = following.firsts[1] - 1 if len(following.firsts) > 1 else len(following.row.ids) - 2
        assert len(one.row.ids) + first > longest


def test_a_word_without_pieces_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="word 1 has no piece"):
        word_rows([[1], []], FRAME, 10)
