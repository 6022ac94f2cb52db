"""`evaluate_text`: the figures of a language model on a text, as data and as lines; reading running text."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

import regard
from models.small_language_models import TEXT, save, small_language_model
from regard.errors import ArgumentError, CheckpointError, DataError
from regard.runs.evaluate_text import evaluate_text
from regard.runs.text_input import read_text
from regard.runs.windows import windows_of


@pytest.mark.parametrize("begin", [True, False])
def test_what_is_found_is_the_models_perplexity(begin):
    model = small_language_model(begin=begin)
    told = []
    found = evaluate_text(model, TEXT, stride=3, length=12, progress=lambda *what: told.append(what))
    assert found.figures == model.perplexity(TEXT, 3, 12)
    assert found.context == 10
    assert told[-1] == (found.figures.tokens, found.figures.tokens)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert bool(found.notes) != begin
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["perplexity"] == found.figures.perplexity and content["notes"] == list(found.notes)
    assert {"bits_per_byte", "loss", "accuracy", "tokens", "bytes", "stride", "length", "context"} <= set(content)
    text = "\n".join(found.lines())
    for part in (
        f"{found.figures.perplexity:,.2f}",
        f"{found.figures.bits_per_byte:.4f}",
        "each 3 further",
        *found.notes,
    ):
        assert part in text


def test_what_the_tokenizer_does_not_know_is_said():
    (note,) = evaluate_text(small_language_model("char"), "The §dog ¶").notes
    assert note.startswith("2 tokens are <unk>")


@pytest.mark.parametrize("begin", [True, False])
def test_documents_of_a_model_that_says_nothing_of_its_own(begin):
    model = small_language_model(begin=begin)
    found = evaluate_text(model, TEXT, document="line")
    lines = [line for line in TEXT.splitlines() if line.strip()]
    scores = [value for each in model.score(lines) for value in each]
    assert found.documents == len(lines) == 4 and found.apart and not found.closed
    assert found.figures.tokens == len(scores)
    assert found.figures.loss == pytest.approx(-sum(scores) / len(scores), rel=1e-5)
    unseen = 0 if begin else sum(len(model.tokenizer.surfaces[ids[0]]) for ids in model.tokenizer.encode_texts(lines))
    assert found.figures.bytes == sum(len(line.encode()) for line in lines) - unseen
    assert [note.startswith("the first token of a document") for note in found.notes] == ([] if begin else [True])
    assert evaluate_text(model, TEXT).figures == evaluate_text(model, TEXT, document="file").figures
    assert evaluate_text(model, TEXT, document="paragraph").documents == 2


def test_the_first_token_is_never_predicted_from_fewer_than_context_says():
    for length, stride in ((8, 3), (8, 8), (5, 1)):
        least = min(one.first + 1 - one.begin for one in windows_of(0, 40, length, stride)[1:])
        assert least == length - stride + 1


def test_a_directory_may_say_what_a_document_was(tmp_path: Path):
    directory = save(small_language_model(), tmp_path / "model")
    content = json.loads((directory / "config.json").read_text())
    for said, closed in (({}, None), ({"document": "line", "layout": "packed"}, True)):
        (directory / "config.json").write_text(json.dumps(content | said))
        model = regard.load(directory)
        found = evaluate_text(model, TEXT)
        assert found.documents == (4 if closed else None) and found.closed == bool(closed)
    (directory / "config.json").write_text(json.dumps(content | {"document": "line", "layout": "heap"}))
    with pytest.raises(CheckpointError, match="layout 'heap'"):
        regard.load(directory)


def test_nothing_to_predict_is_an_error():
    with pytest.raises(ArgumentError, match="no token to predict"):
        evaluate_text(small_language_model(), "")
    with pytest.raises(ArgumentError, match="no token to predict"):
        evaluate_text(small_language_model(), " \n", document="line")


def test_text_is_read_as_for_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    raw = b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()
    (tmp_path / "a.txt").write_bytes(raw)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(raw))
    assert read_text(tmp_path / "a.txt") == read_text(tmp_path / "a.txt.gz") == TEXT
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert read_text(Path("-")) == TEXT
    with pytest.raises(DataError, match="no such file"):
        read_text(tmp_path / "b.txt")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        read_text(Path("-"))
