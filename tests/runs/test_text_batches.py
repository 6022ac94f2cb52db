"""Rows of text as batches: every token is predicted once, documents see themselves only, nothing but seed and epoch
matters."""

from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.masking import Masking
from regard.data.token_store import TokenRows
from regard.errors import DataError
from regard.runs.masked_batches import Frame, MaskedPacked, MaskedPairs, MaskedRows, MaskedStream
from regard.runs.text_batches import PackedText, StreamText, TextRows, packed_in_order, stream_in_order
from regard.tasks.language_modelling import TextBatch
from regard.tasks.masked_language_modelling import MaskedBatch

CPU = torch.device("cpu")
PAD, BOS, EOS, MASK = 0, 1, 2, 60_000
FRAME = Frame(BOS, EOS, PAD)
DOCUMENTS = st.lists(st.integers(1, 30), min_size=1, max_size=20)


def documents(sizes: list[int]) -> TokenRows:
    """Documents of ids that are all different, from 10 on, each closed by <eos>."""
    rows, start = list[int](), 10
    for size in sizes:
        rows += [*range(start, start + size), EOS]
        start += size
    return TokenRows(np.array(rows, dtype=np.uint16), np.array([0, *accumulate(s + 1 for s in sizes)], dtype=np.int64))


def pairs(batch: TextBatch) -> list[tuple[int, int]]:
    """What is predicted after what."""
    return list(zip(batch.tokens[batch.real].tolist(), batch.targets[batch.real].tolist(), strict=True))


def everything(rows: TextRows, epoch: int) -> list[TextBatch]:
    return [rows.collate(indices, epoch) for indices in rows.epoch(epoch)]


@settings(max_examples=60, deadline=None)
@given(sizes=DOCUMENTS, length=st.integers(2, 12), epoch=st.integers(0, 3))
def test_a_stream_predicts_each_token_once_but_less_than_a_row(sizes: list[int], length: int, epoch: int) -> None:
    text = documents(sizes)
    if len(text.tokens) < length:
        return
    rows = StreamText(text, length, 3, 1, CPU)
    flat = text.tokens.tolist()
    allowed = Counter(zip([flat[-1], *flat], flat, strict=False))
    found = Counter(pair for batch in everything(rows, epoch) for pair in pairs(batch))
    assert not found - allowed
    assert (allowed - found).total() < length
    for indices in rows.epoch(epoch):
        batch = rows.collate(indices, epoch)
        assert batch.full and batch.count == rows.targets(indices) == len(indices) * length
        assert batch.mask is None and batch.positions is None


@settings(max_examples=60, deadline=None)
@given(sizes=DOCUMENTS, length=st.integers(2, 12), epoch=st.integers(0, 3))
def test_packing_predicts_every_token_once_and_sees_one_document(sizes: list[int], length: int, epoch: int) -> None:
    text = documents(sizes)
    rows = PackedText(text, length, BOS, PAD, 3, 1, CPU)
    expected = Counter[tuple[int, int]]()
    for number in range(len(text)):
        row = text[number].tolist()
        expected.update(zip([BOS, *row], row, strict=False))
    assert Counter(pair for batch in everything(rows, epoch) for pair in pairs(batch)) == expected
    for indices in rows.epoch(epoch):
        batch = rows.collate(indices, epoch)
        assert batch.count == int(batch.real.sum()) == rows.targets(indices)
        assert (batch.tokens[~batch.real] == PAD).all()
        numbers, positions = batch.mask.query_ids, batch.positions
        assert ((numbers >= 0) == batch.real).all()
        for row in range(len(indices)):
            for number in range(int(numbers[row].max()) + 1):
                here = numbers[row] == number
                said, read = batch.targets[row][here].tolist(), batch.tokens[row][here].tolist()
                assert positions[row][here].tolist() == list(range(len(said)))
                whole = next(
                    text[i].tolist()
                    for i in range(len(text))
                    if set(said) & set(text[i].tolist()) - {EOS} or said == [EOS]
                )
                if said != [EOS]:
                    at = whole.index(said[0])
                    assert said == whole[at : at + len(said)]
                    assert read == [BOS if at == 0 else whole[at - 1], *said[:-1]]


@settings(max_examples=60, deadline=None)
@given(sizes=DOCUMENTS, length=st.integers(1, 12), most=st.integers(1, 400), many=st.sampled_from([1, 7, 100]))
def test_a_text_in_order_is_judged_once(sizes: list[int], length: int, most: int, many: int) -> None:
    text = documents(sizes)
    flat = text.tokens.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.runs.text_batches.JUDGED", many)
        batches = list(stream_in_order(text, length, EOS, most, CPU))
        assert [pair for batch in batches for pair in pairs(batch)] == list(zip([EOS, *flat], flat, strict=False))[
            :most
        ]
        assert all(batch.full and batch.tokens.shape[1] <= length for batch in batches)
        packed = list(packed_in_order(text, max(length, 2), BOS, PAD, most, CPU))
    said = Counter(one for batch in packed for one in batch.targets[batch.real].tolist())
    ends = [end for end in text.offsets.tolist() if end <= most]
    judged = flat[: max(ends[-1], int(text.offsets[1]))]
    assert said == Counter(judged)


@pytest.mark.parametrize("kind", [StreamText, PackedText])
def test_batches_depend_on_seed_and_epoch_alone(kind: type) -> None:
    text = documents([5, 9, 3, 4, 4, 9, 30] * 6)
    more = () if kind is StreamText else (BOS, PAD)

    def ids(seed: int, epoch: int, before: int = 0) -> list[list[int]]:
        rows = kind(text, 8, *more, 4, seed, CPU)
        rows.collate([0], before)
        return [row for batch in everything(rows, epoch) for row in batch.tokens.tolist()]

    assert ids(1, 2) == ids(1, 2, before=3)
    assert ids(1, 2) != ids(1, 3) and ids(1, 2) != ids(2, 2)


def masked(kind: type[MaskedRows], text: TokenRows, length: int, seed: int = 1, share: float = 0.15) -> MaskedRows:
    hide = Masking(MASK, range(10, 50), seed, share)
    return kind(text, length, FRAME, 3, seed, hide, CPU)  # type: ignore[call-arg, arg-type]


def whole(batch: MaskedBatch) -> torch.Tensor:
    """The rows before anything was hidden."""
    tokens = batch.tokens.clone()
    tokens[batch.chosen] = batch.targets
    return tokens


@settings(max_examples=60, deadline=None)
@given(
    sizes=DOCUMENTS,
    length=st.integers(4, 12),
    epoch=st.integers(0, 3),
    kind=st.sampled_from([MaskedStream, MaskedPacked]),
)
def test_masked_rows_hold_every_token_once(sizes: list[int], length: int, epoch: int, kind: type[MaskedRows]) -> None:
    text = documents(sizes)
    if kind is MaskedStream and len(text.tokens) < length - 2:
        return
    rows = masked(kind, text, length)
    seen = Counter[int]()
    for indices in rows.epoch(epoch):
        batch = rows.collate(indices, epoch)
        tokens = whole(batch)
        assert (batch.tokens == tokens)[~batch.chosen].all()
        assert batch.count == int(batch.chosen.sum()) <= rows.targets(indices)
        assert (tokens[~batch.real] == PAD).all() and not (batch.chosen & (tokens < 10)).any()
        assert (tokens[:, 0] == BOS).all()
        last = tokens.gather(1, batch.lengths[:, None] - 1)
        assert (last == EOS).all()
        seen.update(tokens[batch.real].tolist())
        if kind is MaskedPacked:
            assert batch.count == rows.targets(indices)
            starts = batch.positions == 0
            assert (tokens[starts & batch.real] == BOS).all()
            assert ((tokens == BOS).sum(1) == batch.mask.query_ids.max(1).values + 1).all()
    missing = Counter(range(10, 10 + sum(sizes))) - seen
    assert missing.total() < length and (kind is MaskedStream or not missing)
    assert max(count for index, count in seen.items() if index >= 10) == 1


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=20), length=st.integers(5, 12), epoch=st.integers(0, 3))
def test_pairs_are_two_segments(sizes: list[int], length: int, epoch: int) -> None:
    text = documents(sizes)
    rows = masked(MaskedPairs, text, length)
    origin = {int(one): number for number in range(len(text)) for one in text[number].tolist() if one != EOS}
    for indices in rows.epoch(epoch):
        batch = rows.collate(indices, epoch)
        assert batch.follows is not None and batch.types is not None
        for row, tokens in enumerate(whole(batch).tolist()):
            used = tokens[: int(batch.lengths[row])]
            assert len(used) <= length and set(tokens[len(used) :]) <= {PAD}
            end = used.index(EOS)
            first, second = used[1:end], used[end + 1 : -1]
            assert used == [BOS, *first, EOS, *second, EOS] and first and second
            types = batch.types[row].tolist()
            assert types[: len(used)] == [0] * (end + 1) + [1] * (len(second) + 1) and not any(types[len(used) :])
            assert first + second == list(range(first[0], first[0] + len(first))) + list(
                range(second[0], second[0] + len(second))
            )
            if batch.follows[row] == 0:
                assert second[0] == first[-1] + 1
            else:
                assert origin[second[0]] != origin[first[0]]


def test_half_of_the_pairs_are_random() -> None:
    rows = masked(MaskedPairs, documents([400] * 20), 23)
    follows = torch.cat([rows.collate(indices, 0).follows for indices in rows.epoch(0)])
    assert len(follows) == 400 and abs(float(follows.float().mean()) - 0.5) < 0.08
    cuts = torch.cat([rows.collate(indices, 0).types.sum(1) for indices in rows.epoch(0)])
    assert set(cuts.tolist()) == set(range(2, 21))


def test_pairs_of_one_document_and_too_little_text() -> None:
    rows = masked(MaskedPairs, documents([100]), 13)
    batch = rows.collate(np.arange(10), 0)
    tokens = whole(batch)
    for row in range(10):  # the random one is another piece
        ids = [one for one in tokens[row].tolist() if one >= 10]
        assert len(set(ids)) == len(ids)
    with pytest.raises(DataError, match="needs two rows of text at least"):
        masked(MaskedPairs, documents([10]), 13)


@pytest.mark.parametrize("kind", [MaskedStream, MaskedPacked, MaskedPairs])
def test_what_is_hidden_depends_on_seed_and_epoch_alone(kind: type[MaskedRows]) -> None:
    text = documents([5, 9, 3, 4, 4, 9, 30] * 6)

    def ids(seed: int, epoch: int, before: int = 0) -> list[list[int]]:
        rows = masked(kind, text, 12, seed)
        rows.collate(np.array([0]), before)
        batches = [rows.collate(indices, epoch) for indices in rows.epoch(epoch)]
        return [
            [*row, *map(int, chosen)]
            for batch in batches
            for row, chosen in zip(batch.tokens.tolist(), batch.chosen.tolist(), strict=True)
        ]

    assert ids(1, 2) == ids(1, 2, before=3)
    assert ids(1, 2) != ids(1, 3) and ids(1, 2) != ids(2, 2)


@pytest.mark.parametrize("kind", [MaskedStream, MaskedPacked, MaskedPairs])
def test_a_row_is_the_same_in_any_batch(kind: type[MaskedRows]) -> None:
    """So a resumed run, and one on several processes, hides the same tokens."""
    rows = masked(kind, documents([5, 9, 3, 4, 4, 9, 30] * 6), 12)
    together = rows.collate(np.array([3, 0, 5]), 1)
    for place, row in enumerate((3, 0, 5)):
        alone = rows.collate(np.array([row]), 1)
        size = int(alone.lengths[0])
        assert (together.tokens[place, :size] == alone.tokens[0, :size]).all()
        assert (together.chosen[place, :size] == alone.chosen[0, :size]).all()


def test_a_share_of_each_row_is_hidden() -> None:
    rows = masked(MaskedStream, documents([1000] * 4), 102)
    batch = rows.collate(np.arange(30), 0)
    assert batch.chosen.sum(1).tolist() == [15] * 30 and batch.count == 450
    assert batch.tokens.shape == (30, 102)
    assert 0.7 < float((batch.tokens[batch.chosen] == MASK).float().mean()) < 0.9
