import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import Tokenizer, group_by_words, split_words, train_tokenizer
from regard.errors import ArgumentError, CheckpointError, DataError

ENGLISH = [
    "Two dogs play in the park on Tuesday, the fourth of March.",
    "The dogs don't play; they sleep... at half past six!",
    "It costs $3,005.20 (three thousand and five), call 555-0199.",
    "The parks and the dogs: playing, played, sleeping, slept.",
] * 3
CHINESE = [
    "三月四日星期二六点半。",
    "三千零五块，请打电话5550199。",
    "永不言弃，永不言弃！",
    "三月五日星期三两点半。",
] * 3
# What can go wrong: the space mark, specials and bytes as text, spaces, controls, rare and combined characters.
PIECES = ["▁", "<bos>", "<0x41>", "<unk>", "▁▁", " ", "  ", "\t", "\n", "\x00", "\u2028", "\xa0"]
PIECES += ["the", "dogs", "三月", "é", "e\u0301", "龘", "😀", "\ufffd", "12", "。", "'"]
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(st.sampled_from(PIECES)).map("".join)


@cache
def bpe() -> Tokenizer:
    return train_tokenizer("bpe", ENGLISH + CHINESE, 400)


@cache
def unigram() -> Tokenizer:
    return train_tokenizer("unigram", ENGLISH + CHINESE, 400)


@cache
def word() -> Tokenizer:
    return train_tokenizer("word", ENGLISH + CHINESE)


@cache
def char() -> Tokenizer:
    return train_tokenizer("char", ENGLISH + CHINESE)


ALL = pytest.mark.parametrize("tokenizer", [bpe, unigram, word, char])
SUBWORDS = pytest.mark.parametrize("tokenizer", [bpe, unigram])
Make = Callable[[], Tokenizer]


@settings(max_examples=400, deadline=None)
@given(TEXT)
def test_subwords_give_every_text_back(text: str) -> None:
    for made in (bpe(), unigram()):
        ids = made.encode(text)
        assert made.decode(ids) == text.strip()
        assert all(index >= 4 for index in ids)
        assert made.decode([1, *ids, 2, 0, 0]) == text.strip()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=sorted(set("".join(ENGLISH + CHINESE)))))
def test_char_gives_known_characters_back(text: str) -> None:
    ids = char().encode(text)
    assert len(ids) == len(text.strip())
    assert char().decode(ids) == text.strip()


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_word_gives_the_words(text: str) -> None:
    words = [text[start:end] for start, end in split_words(text)]
    known = set(word().pieces(range(4, word().vocab_size)))
    assert word().decode(word().encode(text)) == " ".join(w if w in known else "\ufffd" for w in words)


@ALL
def test_batch_is_one_by_one(tokenizer: Make) -> None:
    texts = [*ENGLISH, "", "  ", "a▁b", *CHINESE, "<eos>"]
    assert tokenizer().encode_batch(texts) == [tokenizer().encode(text) for text in texts]
    assert tokenizer().encode_batch([]) == []
    assert tokenizer().encode("") == tokenizer().encode(" \n\u3000") == []


@ALL
def test_specials_have_fixed_ids_and_are_never_found_in_text(tokenizer: Make) -> None:
    made = tokenizer()
    assert made.pieces([0, 1, 2, 3]) == ["<pad>", "<bos>", "<eos>", "<unk>"]
    assert (made.pad_id, made.bos_id, made.eos_id, made.unk_id) == (0, 1, 2, 3)
    for text in ("<pad>", "a <bos> b", "<eos>", "<unk>", "<0x41>"):
        assert not {0, 1, 2} & set(made.encode(text))
    for kind in ("bpe", "unigram"):
        made = train_tokenizer(kind, ENGLISH + CHINESE, 400)
        assert made.decode(made.encode("<0x41><bos>")) == "<0x41><bos>"
        # Also when the training text is full of them.
        greedy = train_tokenizer(kind, ["<bos> <0x41> <unk>"] * 7, 400)
        assert all(index >= 4 for index in greedy.encode("<bos> <0x41> <unk>"))
        assert 4 + 0x41 not in greedy.encode("<0x41>")


def test_specials_decode_to_nothing_unknown_and_invalid_bytes_to_the_replacement_character() -> None:
    assert bpe().decode([1, 0, 2]) == ""
    assert bpe().decode([1, 4 + 0xE4, 4 + 0xB8, 4 + 0x41, 3, 2]) == "\ufffd\ufffdA\ufffd"
    assert bpe().decode([4 + 0xE4, 4 + 0xB8, 4 + 0xAD]) == "中"
    assert bpe().decode([4 + 0xED, 4 + 0xA0, 4 + 0x80]) == "\ufffd" * 3  # an encoded surrogate
    assert word().decode([1, *word().encode("the zebra dogs"), 2]) == "the \ufffd dogs"
    assert char().decode(char().encode("三龘月")) == "三\ufffd月"


def test_pieces_for_display() -> None:
    assert "".join(bpe().pieces(bpe().encode("the dogs"))) == "▁the▁dogs"
    assert bpe().pieces(bpe().encode("龘")) == ["<0xE9>", "<0xBE>", "<0x98>"]
    assert char().pieces(char().encode("a t")) == ["a", "▁", "t"]
    assert word().pieces(word().encode("the parks zebra.")) == ["the", "parks", "<unk>", "."]


@SUBWORDS
def test_pieces_stay_inside_words_numbers_and_punctuation(tokenizer: Make) -> None:
    made = tokenizer()
    for piece in made.pieces(range(260, made.vocab_size)):
        body = piece.removeprefix("▁")
        assert "▁" not in body
        assert len(body) <= 16
        assert not any(c.isdigit() for c in body) or len(body) == 1
        assert body.isalpha() or not any(c.isalpha() for c in body)
    sentence = train_tokenizer(made.kind, ["永不言弃持之以恒一心一意自强不息厚德载物"] * 5, 1000)  # type: ignore[arg-type]
    assert max(map(len, sentence.pieces(range(260, sentence.vocab_size)))) <= 16
    # Chinese is the same piece at the start of a text and inside it.
    assert made.encode("三月") == made.encode("。三月")[1:]


def test_pieces_do_not_reach_over_a_rare_character() -> None:
    lines = [f"x{chr(0x4E00 + i)}y ab" for i in range(97)]
    for kind, others in (("bpe", {"▁x", "ab", "▁ab"}), ("unigram", {"▁x", "▁ab"})):
        made = train_tokenizer(kind, lines, 400)
        assert set(made.pieces(range(260, made.vocab_size))) == {"a", "b", "x", "y", "▁"} | others


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 399)))
def test_spans_are_those_of_decode(ids: list[int]) -> None:
    for made in (bpe(), unigram(), word(), char()):
        ids = [index for index in ids if index < made.vocab_size]
        text, spans = made.decode(ids), made.spans(ids)
        assert len(spans) == len(ids)
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert [start for start, _ in spans] == sorted(start for start, _ in spans)
        covered = {position for start, end in spans for position in range(start, end)}
        assert all(character == " " for position, character in enumerate(text) if position not in covered)
        for index, piece, (start, end) in zip(ids, made.pieces(ids), spans, strict=True):
            if index < 3 or piece == "▁":
                assert start == end
            elif index == 3:
                assert text[start:end] == "\ufffd"
            elif made.kind in ("bpe", "unigram") and index < 260:
                assert end - start <= 1  # 0 for a space
            else:
                assert text[start:end] == piece.removeprefix("▁")


def test_spans_of_bytes_and_specials() -> None:
    ids = [1, *bpe().encode("the 龘 dogs▁"), 2]
    text, spans = bpe().decode(ids), bpe().spans(ids)
    assert text == "the 龘 dogs▁"
    assert [text[start:end] for start, end in spans] == ["", "the", "", "龘", "龘", "龘", "dogs", "▁", "▁", "▁", ""]
    assert bpe().spans([4 + 0xE4, 4 + 0xB8, 4 + 0x41]) == [(0, 1), (1, 2), (2, 3)]
    assert word().spans([1, 3, 3, 2]) == [(0, 0), (0, 1), (2, 3), (3, 3)]


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_text_spans_reach_every_word_of_the_text(text: str) -> None:
    for made in (bpe(), unigram(), word(), char()):
        spans = made.text_spans(text)
        assert len(spans) == len(made.encode(text))
        assert all(group_by_words(spans, split_words(text)))


def test_text_spans_are_in_the_text_as_given() -> None:
    text = "  the zebra, dogs"
    assert [text[a:b] for a, b in word().text_spans(text)] == ["the", "zebra", ",", "dogs"]
    assert char().text_spans(" a b") == [(1, 2), (2, 2), (3, 4)]
    assert group_by_words(bpe().text_spans(text), split_words(text))[-1] == [len(bpe().encode(text)) - 1]


@ALL
def test_save_and_load(tokenizer: Make, tmp_path: Path) -> None:
    made, path = tokenizer(), tmp_path / "tokenizer.json"
    made.save(path)
    loaded = Tokenizer.load(path)
    texts = [*ENGLISH, *CHINESE, "<bos> zebra 龘"]
    assert (loaded.kind, loaded.vocab_size) == (made.kind, made.vocab_size)
    assert loaded.encode_batch(texts) == made.encode_batch(texts)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    plain = tokenizers.Tokenizer.from_file(str(path))
    for text in texts:
        assert plain.encode(text).ids == made.encode(text)
        if made.kind in ("bpe", "unigram"):
            assert plain.decode(made.encode(text), skip_special_tokens=False) == text


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    bpe().save(path)
    good = path.read_text(encoding="utf-8")
    frame = json.loads(good)

    def changed(**change: object) -> str:
        return json.dumps(frame | {"model": frame["model"] | change})

    for content in (
        good[: len(good) // 2],
        "",
        "[]",
        "{}",
        '{"model": {}, "added_tokens": []}',
        good.replace('"added_tokens": []', '"added_tokens": [{"id": 1}]'),
        good.replace('"<bos>": 1, "<eos>": 2', '"<eos>": 1, "<bos>": 2'),
        good.replace('"<eos>": 2', '"<eos>": 1'),
        good.replace("<0x0A>", "<0xZZ>"),
        changed(type="Unigram"),
        changed(vocab=[]),
        changed(vocab={"a": []}),
        changed(merges=[["no", "where"]]),
    ):
        assert content != good
        path.write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"tokenizer\.json: "):
            Tokenizer.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="UTF-8"):
        Tokenizer.load(path)
    with pytest.raises(CheckpointError, match=r"nowhere\.json: cannot read the tokenizer: No such file"):
        Tokenizer.load(tmp_path / "nowhere.json")


TRAIN = """
import sys
from regard.data import train_tokenizer
lines = sys.stdin.buffer.read().decode().split("\\n")
for kind, size in (("bpe", 400), ("unigram", 400), ("word", 37), ("char", 41)):
    train_tokenizer(kind, lines, size).save(f"{sys.argv[1]}.{kind}")
"""


def test_training_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    # Many ties in frequency, at the edge of each vocabulary too.
    lines = [f"{a}{b}{c}{a} {c}{b}" for a in "abcdefg" for b in "hijkl" for c in "三四五六七"]
    for name, seed, threads in (("a", "1", "true"), ("b", "2", "false")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": threads}
        command = [sys.executable, "-c", TRAIN, str(tmp_path / name)]
        subprocess.run(command, input="\n".join(lines).encode(), env=environment, check=True)
    for kind in ("bpe", "unigram", "word", "char"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_vocabulary_sizes() -> None:
    characters = len(bpe_alphabet())
    least = 4 + 256 + characters
    for kind in ("bpe", "unigram"):
        message = rf"vocab_size: got 263; a {kind} .* needs at least {least}: .* {characters} char"
        with pytest.raises(ArgumentError, match=message):
            train_tokenizer(kind, ENGLISH + CHINESE, 263)
        assert train_tokenizer(kind, ENGLISH + CHINESE, least).vocab_size == least
    assert bpe().vocab_size == 400
    assert least < unigram().vocab_size < 400  # the others would make the text no more probable
    assert 400 < train_tokenizer("bpe", ENGLISH + CHINESE).vocab_size < 10_000  # the text is too small for more
    for kind in ("word", "char"):
        with pytest.raises(ArgumentError, match="needs at least 5"):
            train_tokenizer(kind, ENGLISH, 4)
        assert train_tokenizer(kind, ENGLISH, 11).vocab_size == 11
    assert train_tokenizer("word", ["a b", "b a", "c"]).pieces([4, 5]) == ["a", "b"]
    assert train_tokenizer("word", ["a b", "b a", "c"]).vocab_size == 6
    assert train_tokenizer("char", ["ab", "c"]).vocab_size == 7


def bpe_alphabet() -> set[str]:
    return {piece for piece in bpe().pieces(range(260, bpe().vocab_size)) if len(piece) == 1}


def test_text_that_is_too_small() -> None:
    for kind in ("bpe", "unigram", "word", "char"):
        with pytest.raises(DataError, match="no text to train"):
            train_tokenizer(kind, ["", "  "])
    with pytest.raises(DataError, match="no word is seen twice"):
        train_tokenizer("word", ["one two three"])
    for kind in ("bpe", "unigram"):
        for text in ("abc", "▁", "aa"):
            lonely = train_tokenizer(kind, [text])
            assert lonely.decode(lonely.encode("abc 三")) == "abc 三"


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="'sentencepiece', expected 'bpe', 'unigram', 'word' or 'char'"):
        train_tokenizer("sentencepiece", ["a"])  # type: ignore[arg-type]
    for made in (bpe(), word(), char()):
        with pytest.raises(ArgumentError, match="surrogate at character 1"):
            made.encode_batch(["fine", "a\ud800"])
        with pytest.raises(ArgumentError, match="surrogate"):
            made.text_spans("a\ud800")
        for read in (made.decode, made.pieces, made.spans):
            for index in (-1, made.vocab_size):
                with pytest.raises(ArgumentError, match=f"ids: got {index}, expected ids from 0 to"):
                    read([1, index])
