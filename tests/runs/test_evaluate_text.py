"""`evaluate_text`: the figures of a language model on a text, as data and as lines; reading running text."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from models.small_language_models import TEXT, small_language_model
from regard.errors import ArgumentError, DataError
from regard.runs.evaluate_text import evaluate_text
from regard.runs.text_input import read_text


@pytest.mark.parametrize("begin", [True, False])
def test_what_is_found_is_the_models_perplexity(begin):
    model = small_language_model(begin=begin)
    told = []
    found = evaluate_text(model, TEXT, stride=3, length=12, progress=lambda *what: told.append(what))
    assert found.figures == model.perplexity(TEXT, 3, 12)
    assert found.context == 9
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


def test_nothing_to_predict_is_an_error():
    with pytest.raises(ArgumentError, match="no token to predict"):
        evaluate_text(small_language_model(), "")


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
