"""Tokenizers on running text: nothing is stripped, and parts can be put together."""

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from data.given_examples import MAKERS, gpt2, wordpiece, write
from data.test_tokenizers import ALL, CHINESE, ENGLISH, SUBWORDS, TEXT, Make, bpe, char, unigram
from regard.data import Tokenizer, read_tokenizer, train_tokenizer
from regard.errors import ArgumentError


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
@pytest.mark.parametrize("tokenizer", [bpe, unigram])
def test_subwords_give_running_text_back_to_the_byte(tokenizer: Make, text: str) -> None:
    assert tokenizer().text_of(tokenizer().encode_text(text)) == text.encode()


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(TEXT, max_size=4))
def test_parts_can_be_put_together(parts: list[str]) -> None:
    ids = [one for part in parts for one in bpe().encode_text(part)]
    assert bpe().text_of(ids) == "".join(parts).encode()


@SUBWORDS
def test_a_text_begins_without_a_space_and_line_ends_are_tokens(tokenizer: Make) -> None:
    pieces = tokenizer().pieces(tokenizer().encode_text("dogs play\n dogs\n"))
    assert pieces[0] != "▁dogs" and "▁dogs" in pieces
    assert pieces.count("<0x0A>") == 2
    assert tokenizer().pieces(tokenizer().encode("dogs play"))[0].startswith("▁")


@ALL
def test_texts_are_one_by_one(tokenizer: Make) -> None:
    texts = ["", " ", "The dogs\nplay. ", "\n\n", *ENGLISH]
    assert tokenizer().encode_texts(texts) == [tokenizer().encode_text(text) for text in texts]


def test_text_of_keeps_everything_but_specials() -> None:
    ids = [char().bos_id, *char().encode_text(" The "), char().unk_id, char().eos_id]
    assert char().text_of(ids) == " The �".encode()
    with pytest.raises(ArgumentError, match="expected ids from 0"):
        char().text_of([char().vocab_size])


def test_parts_of_a_character_are_bytes() -> None:
    ids = bpe().encode_text("😀")
    assert b"".join(bpe().text_of([one]) for one in ids) == "😀".encode()
    assert len(ids) == 4


def test_trained_on_running_text_line_ends_and_outer_spaces_are_learned() -> None:
    text = "one dog\n two cats\n"
    plain, running = train_tokenizer("char", [text]), train_tokenizer("char", [text], strip=False)
    assert running.text_of(running.encode_text(text)) == text.encode()
    assert plain.vocab_size == running.vocab_size  # an inner line end is there in both
    assert (
        train_tokenizer("char", ["dog\n"]).vocab_size + 1 == train_tokenizer("char", ["dog\n"], strip=False).vocab_size
    )


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_trained_on_running_text_the_first_word_has_no_space(kind: str) -> None:
    lines = ["dogs", "dogs", "dogs"]
    running = train_tokenizer(kind, lines, 300, strip=False)  # type: ignore[arg-type]
    assert running.pieces(running.encode_text("dogs")) == ["dogs"]
    sentences = train_tokenizer(kind, lines, 300)  # type: ignore[arg-type]
    assert sentences.pieces(sentences.encode("dogs")) == ["▁dogs"]
    assert len(sentences.encode_text("dogs")) > 1


@pytest.mark.parametrize("name", list(MAKERS))
def test_given_tokenizers_do_what_they_do(name: str, tmp_path: Path) -> None:
    mine = read_tokenizer(write(tmp_path, name))
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / f"{name}.json"))
    theirs.no_truncation()
    theirs.no_padding()
    for text in (" The dogs\nplay ", "dogs", *ENGLISH):
        assert mine.encode_text(text) == theirs.encode(text, add_special_tokens=False).ids


def test_the_mask_of_given_tokenizers(tmp_path: Path) -> None:
    (tmp_path / "bert.json").write_text(wordpiece().to_str(), "utf-8")
    (tmp_path / "gpt2.json").write_text(gpt2().to_str(), "utf-8")
    bert, other = read_tokenizer(tmp_path / "bert.json"), read_tokenizer(tmp_path / "gpt2.json")
    assert bert.mask_id == wordpiece().token_to_id("[MASK]")
    assert Tokenizer(bert.content).mask_id == bert.mask_id
    assert other.mask_id is None and bpe().mask_id is None
    assert bert.mask_id not in bert.encode_text("a [MASK] b")


def test_surrogates_are_refused() -> None:
    with pytest.raises(ArgumentError, match="surrogate"):
        bpe().encode_text("\ud800")


def test_chinese_is_the_same_everywhere() -> None:
    assert bpe().encode_text(CHINESE[0]) == bpe().encode(CHINESE[0])
