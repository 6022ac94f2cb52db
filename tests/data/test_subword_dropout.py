import json
from collections import Counter
from functools import cache
from itertools import pairwise, product
from math import prod, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.given_examples import ENGLISH, MAKERS, sentencepiece_model, write
from regard.data import Tokenizer, train_tokenizer
from regard.data.given_tokenizers import read_tokenizer
from regard.data.subword_dropout import BPEDropout
from regard.errors import ArgumentError, UnsupportedError

PIECES = [
    "▁",
    " ",
    "  ",
    "a",
    "the",
    "dogs",
    "e\u0301",
    "ﬁ",
    "龘",
    "😀",
    "<s>",
    "<unk>",
    "<0x41>",
    "...",
    "aaaa",
    "hehehe",
]
PIECES += ["\u3000", "\t", "\n", "각", "½", "--", "ä", "\u200b", "¨", "Two", "<tool>", "'", "March", "playing"]
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\U0010ffff")
TEXT = st.text(CHARACTERS) | st.lists(st.sampled_from(PIECES)).map("".join)
NEVER = 1e-300  # a probability of dropping that never does


@cache
def tokenizer(name: str) -> Tokenizer:
    if name in ("own", "lower"):
        return train_tokenizer("bpe", ENGLISH, 400, normalize=["nfkc", "lower"] if name == "lower" else [])
    with TemporaryDirectory() as folder:
        if name in MAKERS:
            return read_tokenizer(write(Path(folder), name))
        path = Path(folder) / "some.model"
        fallback = name == "sentencepiece bytes"
        path.write_bytes(
            sentencepiece_model(model_type="bpe", byte_fallback=fallback, split_by_whitespace=name != "whole")
        )
        return read_tokenizer(path)


NAMES = ("own", "lower", "gpt2", "roberta", "llama3", "sentencepiece", "sentencepiece bytes", "whole")


@cache
def dropout(name: str, probability: float) -> BPEDropout:
    return BPEDropout(tokenizer(name), probability)


@settings(max_examples=200, deadline=None)
@given(TEXT, st.lists(st.integers(), max_size=3))
def test_the_text_stays_and_no_dropping_gives_the_ordinary_ids(text: str, seed: list[int]) -> None:
    for name in NAMES:
        ids = tokenizer(name).encode(text)
        assert dropout(name, 0)(ids, seed) == ids
        if name != "llama3":  # which first looks up whole words, without merges
            assert dropout(name, NEVER)(ids, seed) == ids
        for probability in (0.1, 0.5, 1):
            found = dropout(name, probability)(ids, seed)
            assert tokenizer(name).decode(found) == tokenizer(name).decode(ids)
            assert dropout(name, probability)(ids, seed) == found


def test_dropping_everything_gives_characters_or_bytes() -> None:
    for name in NAMES:
        made = tokenizer(name)
        found = made.pieces(dropout(name, 1)(made.encode("the dogs"), [1]))
        start = [] if name in ("gpt2", "llama3") else ["▁"]
        assert found == [*start, *"the▁dogs"]


def test_special_tokens_stay() -> None:
    for name in NAMES:
        made = tokenizer(name)
        ids = [made.bos_id, *made.encode("dogs"), made.unk_id, *made.encode("a dogs"), made.eos_id, made.pad_id]
        for probability in (NEVER, 1):
            found = dropout(name, probability)(ids, [0])
            assert [index for index in found if index in (made.bos_id, made.eos_id, made.pad_id, made.unk_id)] == [
                made.bos_id,
                made.unk_id,
                made.eos_id,
                made.pad_id,
            ]
            assert made.decode(found) == made.decode(ids)


def test_seeds() -> None:
    ids = tokenizer("own").encode(" ".join(ENGLISH[:5]))
    cut = {tuple(dropout("own", 0.3)(ids, [seed, 1])) for seed in range(9)}
    assert len(cut) == 9
    first = BPEDropout(tokenizer("own"), 0.3)
    _ = [first(tokenizer("own").encode(text), [7]) for text in ENGLISH]  # what came before doesn't matter
    assert first(ids, (3, 1)) == dropout("own", 0.3)(ids, [3, 1])
    assert first(ids, [1, 23]) != first(ids, [12, 3])


def hand_made(folder: Path) -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate(["a", "b", "ab", "bb", "abb", "aba", "abab", "aa"])}
    merges = [["a", "b"], ["ab", "ab"], ["b", "b"], ["ab", "b"], ["a", "bb"], ["ab", "a"], ["a", "a"]]
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    path = folder / "x.json"
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "decoder": {"type": "Fuse"}, "model": model}))
    return read_tokenizer(path)


RANKS = {("a", "b"): 0, ("ab", "ab"): 1, ("b", "b"): 2, ("ab", "b"): 3, ("a", "bb"): 4, ("ab", "a"): 5, ("a", "a"): 6}


def exact(symbols: tuple[str, ...], dropped: float) -> Counter[tuple[str, ...]]:
    """The probability of each way to cut a word, by Algorithm 1 of the paper over all outcomes of all draws."""
    possible = [(RANKS[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in RANKS]
    found: Counter[tuple[str, ...]] = Counter()
    for stays in product([False, True], repeat=len(possible)):
        chance = prod(1 - dropped if stay else dropped for stay in stays)
        left = [merge for merge, stay in zip(possible, stays, strict=True) if stay]
        if not left:
            found[symbols] += chance
            continue
        _, place = min(left)
        merged = (*symbols[:place], symbols[place] + symbols[place + 1], *symbols[place + 2 :])
        for way, share in exact(merged, dropped).items():
            found[way] += chance * share
    return found


@pytest.mark.parametrize("word", ["abb", "aabab", "ababb"])
@pytest.mark.parametrize("probability", [0.1, 0.6])
def test_the_distribution_is_that_of_the_paper(word: str, probability: float, tmp_path: Path) -> None:
    made = hand_made(tmp_path)
    expected, cut = exact(tuple(word), probability), BPEDropout(made, probability)
    assert sum(expected.values()) == pytest.approx(1)
    draws = 8000
    found = Counter(tuple(made.pieces(cut(made.encode(word), [draw]))) for draw in range(draws))
    assert set(found) <= set(expected)
    for way, chance in expected.items():
        assert abs(found[way] / draws - chance) <= 4.5 * sqrt(chance * (1 - chance) / draws) + 1e-9


def test_unsupported_tokenizers(tmp_path: Path) -> None:
    for kind in ("unigram", "word", "char"):
        with pytest.raises(UnsupportedError, match=f"BPE dropout needs a bpe tokenizer.*; this is {kind}"):
            BPEDropout(train_tokenizer(kind, ENGLISH), 0.1)
    for name, kind in (("wordpiece", "WordPiece"), ("unigram", "Unigram")):
        with pytest.raises(UnsupportedError, match=f"this is {kind}"):
            BPEDropout(read_tokenizer(write(tmp_path, name)), 0.1)
    frame = json.loads((tmp_path / "unigram.json").read_text()) | {"added_tokens": [], "decoder": None}
    plain = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    path = tmp_path / "x.json"
    for change, model, message in (
        ({"pre_tokenizer": {"type": "Whitespace"}}, plain, "pieces that hold the spaces"),
        ({}, plain | {"end_of_word_suffix": "b"}, "a mark inside or at the end of words"),
    ):
        path.write_text(json.dumps(frame | change | {"model": model}))
        with pytest.raises(UnsupportedError, match=message):
            BPEDropout(read_tokenizer(path), 0.1)


def test_wrong_arguments() -> None:
    for probability in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match=r"probability: got .*, expected a number from 0 to 1"):
            BPEDropout(tokenizer("own"), probability)
    cut = dropout("own", 0.1)
    for ids in ([5, 400], [-1], [0, 10**9]):
        with pytest.raises(ArgumentError, match="ids: got"):
            cut(ids, [1])
    with pytest.raises(ArgumentError, match="ids: their bytes are not UTF-8 text"):
        cut([4 + 0xE4], [1])
