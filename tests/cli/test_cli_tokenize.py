"""`regard tokenize` and `regard detokenize`: there and back, ids, JSON, what can't be read."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.data import Tokenizer, train_tokenizer
from regard.data.pieces import PieceNames
from regard.errors import ArgumentError

TEXT = "two dogs play\n\n  ein  Hund schläft \n狗▁<0x41> <bos>\tx\n"
LINES = ["two dogs play", "", "ein  Hund schläft", "狗▁<0x41> <bos>\tx"]


@pytest.mark.parametrize("options", [[], ["--ids"]], ids=["names", "ids"])
def test_there_and_back(regard, tiny_model, options: list[str]) -> None:
    there = regard("tokenize", tiny_model.directory, *options, stdin=TEXT.encode())
    assert (there.code, there.err, len(there.lines)) == (0, "", 4)
    assert there.lines[1] == ""
    back = regard("detokenize", tiny_model.directory, *options, stdin=there.out.encode())
    assert (back.code, back.err) == (0, "")
    assert back.lines == LINES


def test_names_ids_and_json_agree(regard, tiny_model) -> None:
    tokenizer = Tokenizer.load(tiny_model.directory / "tokenizer.json")
    run = ("tokenize", tiny_model.directory)
    names, ids = (regard(*run, *options, stdin=TEXT.encode()).lines for options in ([], ["--ids"]))
    for number, line in enumerate(regard(*run, "--json", stdin=TEXT.encode()).lines):
        found = json.loads(line)
        text = TEXT.split("\n")[number]
        assert (found["line"], found["text"]) == (number + 1, text)
        assert found["ids"] == tokenizer.encode(text) == [int(part) for part in ids[number].split()]
        assert found["tokens"] == tokenizer.pieces(found["ids"]) and " ".join(found["tokens"]) == names[number]
        assert [tuple(span) for span in found["spans"]] == tokenizer.text_spans(text)


def test_json_of_the_way_back(regard, tiny_model) -> None:
    ran = regard("detokenize", tiny_model.directory, "--ids", "--json", stdin=b"2 70 1\n")
    tokenizer = Tokenizer.load(tiny_model.directory / "tokenizer.json")
    assert json.loads(ran.out) == {
        "line": 1,
        "text": tokenizer.decode([70]),
        "tokens": ["<eos>", tokenizer.pieces([70])[0], "<bos>"],
        "ids": [2, 70, 1],
    }


def test_sides_files_and_out(regard, tmp_path: Path) -> None:
    train_tokenizer("word", ["one dog", "two dogs"] * 2, None).save(tmp_path / "source.tokenizer.json")
    train_tokenizer("char", ["ein Hund"], None).save(tmp_path / "target.tokenizer.json")
    (tmp_path / "in.gz").write_bytes(gzip.compress(b"one dog barks\n"))
    out = tmp_path / "out"
    ran = regard("tokenize", tmp_path, tmp_path / "in.gz", "--out", out)
    assert (ran.code, ran.out, out.read_text("utf-8")) == (0, "", "one dog <unk>\n")
    ran = regard("tokenize", tmp_path, "--side", "target", stdin=b"ein Hund\n")
    assert ran.out == "e i n ▁ H u n d\n"
    assert regard("detokenize", tmp_path, stdin=ran.out.encode()).out == "ein Hund\n"
    alone = tmp_path / "source.tokenizer.json"
    assert regard("detokenize", alone, stdin=b"dogs two <unk>\n").out == "dogs two �\n"


def test_a_sentencepiece_model_is_a_tokenizer_file(regard, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    with open(tmp_path / "a.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["two dogs play", "ein Hund"] * 20), model_writer=file, vocab_size=19, minloglevel=2
        )
    ran = regard("tokenize", tmp_path / "a.model", stdin=b"two dogs\n")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "a.model"))
    assert (ran.code, ran.lines) == (0, [" ".join(processor.encode("two dogs", out_type=str))])
    assert regard("detokenize", tmp_path / "a.model", stdin=ran.out.encode()).lines == ["two dogs"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere", "missing.txt"], "missing.txt: no such file"),  # before the tokenizer is looked at
        (["source.tokenizer.json", "--side", "target"], "--side target: source.tokenizer.json is one tokenizer"),
        (["source.tokenizer.json", "--ids", "--json"], "--ids and --json: the ids are written already"),
    ],
)
def test_options_without_effect_and_missing_files(regard, tmp_path: Path, monkeypatch, options, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    train_tokenizer("word", ["one dog", "two dogs"] * 2, None).save(tmp_path / "source.tokenizer.json")
    ran = regard("tokenize", *options, stdin=b"one\n")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"regard: error: {message}") and ran.err.count("\n") == 1


def test_a_token_that_breaks_the_line_shifts_no_other(regard, tiny_model) -> None:
    newline = Tokenizer.load(tiny_model.directory / "tokenizer.json").encode("a\nb")
    row = " ".join(map(str, newline))
    assert regard("detokenize", tiny_model.directory, "--ids", stdin=f"{row}\n{row}".encode()).lines == ["a b"] * 2


@pytest.mark.parametrize(
    ("command", "options", "stdin", "message"),
    [
        ("detokenize", [], "▁two\n\n▁qqq\n", "standard input, line 3: no piece '▁qqq' in the vocabulary"),
        ("detokenize", [], "17 18\n", "line 1: no piece '17' in the vocabulary; are these numbers? Then add --ids"),
        ("detokenize", ["--ids"], "1 x\n", "standard input, line 1: 'x' is not a number"),
        ("detokenize", ["--ids"], "-1\n", "standard input, line 1: '-1' is not a number"),
        ("detokenize", ["--ids"], "9" * 5000, "in the vocabulary, which has ids from 0 to"),
        ("tokenize", ["--out", "no/x"], "x\n", "--out no/x: there is no folder no"),
        ("tokenize", [], b"x\n\xff\n", "standard input, line 2: not valid UTF-8"),
    ],
)
def test_bad_input(regard, tiny_model, command: str, options: list[str], stdin: str | bytes, message: str) -> None:
    content = stdin if isinstance(stdin, bytes) else stdin.encode()
    ran = regard(command, tiny_model.directory, *options, stdin=content)
    assert ran.code == 2
    assert ran.err.startswith("regard: error: ") and ran.err.count("\n") == 1
    assert message in ran.err


def test_no_tokenizer(regard, tmp_path: Path) -> None:
    assert "has no tokenizer; expected a directory made by" in regard("tokenize", tmp_path).err
    assert "cannot read the tokenizer" in regard("tokenize", tmp_path / "nothing").err
    (tmp_path / "other.json").write_text("[]")
    assert regard("tokenize", tmp_path / "other.json").err.startswith("regard: error: ")


CHARACTERS = train_tokenizer("char", ["a b▁"], None)
UNIGRAMS = train_tokenizer("unigram", ["two dogs play", "zwei Hunde spielen"] * 3, 290)
SUBWORDS = train_tokenizer("bpe", ["two dogs play", "zwei Hunde spielen"], 300)


def test_a_name_that_two_ids_have_is_refused() -> None:
    space, mark = CHARACTERS.encode("a a")[1], CHARACTERS.encode("a▁a")[1]
    known = PieceNames(CHARACTERS)
    assert CHARACTERS.pieces([space, mark]) == ["▁", "▁"]
    with pytest.raises(ArgumentError, match=rf"'▁' is the name of the ids {min(space, mark)}, {max(space, mark)}"):
        known.ids(["a", "▁"])
    assert known.ids(["a", "b"]) == CHARACTERS.encode("ab")


NAMES = {tokenizer: PieceNames(tokenizer) for tokenizer in (SUBWORDS, UNIGRAMS)}


@given(st.sampled_from([SUBWORDS, UNIGRAMS]), st.text())
def test_names_lead_back_to_ids(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert NAMES[tokenizer].ids(tokenizer.pieces(ids)) == ids
    assert all(" " not in piece and piece for piece in tokenizer.pieces(ids))
