"""A model that has no attention: what commands do with it, and what they refuse before any work."""

import json
from pathlib import Path

import pytest
import torch

from regard.models.rnn_seq2seq import RNNSeq2SeqConfig, build_rnn_seq2seq
from regard.runs.directory import load_model, save_model
from regard.runs.translator import Translator

SOURCE, TARGET = "two dogs play", "zwei Hunde spielen"
NO_ATTENTION = "this model has no attention to look at: Sequence to sequence, 1+1 LSTM layers of width 8"


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sequence-to-sequence model with random weights, for the tiny model's tokens."""
    directory = tmp_path_factory.mktemp("without-attention")
    saved = load_model(tiny_model.directory, torch.device("cpu"))
    saved.tokenizers.save(directory)
    size = saved.tokenizers.source.vocab_size
    config = RNNSeq2SeqConfig(size, size, embedding=8, width=8, max_length=tiny_model.max_tokens + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        save_model(directory, config, build_rnn_seq2seq(config).state_dict(), saved.decoding)
    return directory


@pytest.fixture
def folder(tiny_model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text with gold links."""
    (tmp_path / "in.en").write_text("".join(f"{line}\n" for line in tiny_model.sources), "utf-8")
    (tmp_path / "in.de").write_text("".join(f"{line}\n" for line in tiny_model.targets), "utf-8")
    (tmp_path / "in.align").write_text("0-0\n" * len(tiny_model.pairs))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["attend", SOURCE],
        ["attend", SOURCE, TARGET, "--html", "x.html", "--heads", "x.png"],
        ["attend", SOURCE, TARGET, "--json"],
        ["attend", "--source", "in.en"],
        ["attend", "--source", "in.en", "--target", "in.de", "--html", "x.html"],
        ["evaluate", "--source", "in.en", "--target", "in.de", "--alignments", "in.align", "--out", "x.de"],
    ],
    ids=["own", "given", "json", "text", "page", "evaluate"],
)
def test_what_needs_attention_is_refused_at_once(
    regard, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("it works before it says that there is no attention")

    for name in ("translate", "score"):
        monkeypatch.setattr(Translator, name, work)
    ran = regard(arguments[0], model, *arguments[1:])
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"regard: error: {NO_ATTENTION}") and ran.err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["in.align", "in.de", "in.en"]


def test_what_needs_none_works(regard, model: Path, folder: Path) -> None:
    ran = regard("evaluate", model, "--source", "in.en", "--target", "in.de", "--json")
    found = json.loads(ran.out)
    assert ran.code == 0 and found["alignment"] is None and found["likelihood"]["loss"] > 0
    facts = json.loads(regard("info", model, "--json").out)
    assert (
        facts["model"]
        == NO_ATTENTION.partition(": ")[2] + ", source reversed, embedding 8, one context vector at the start"
    )
    assert facts["parameters"] > 0


def test_a_model_of_another_family_is_not_averaged_with_it(regard, tiny_model, model: Path, folder: Path) -> None:
    ran = regard("average", tiny_model.directory, model, "--out", "mean")
    assert (ran.code, ran.out) == (2, "")
    assert "another model than" in ran.err and "rnn_seq2seq there, here transformer" in ran.err
    assert not (folder / "mean").exists()
