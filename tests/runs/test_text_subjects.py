"""Language models and BERTs as something to record, and on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from regard.cli.app import app
from regard.data import split_words
from regard.errors import ArgumentError
from regard.recording import load_recording, record
from regard.runs.directory import write_model
from regard.runs.recordings import open_subject, subject_of
from regard.runs.text_subjects import EncoderSubject, LanguageModelSubject
from small_texts import ENCODERS, language_model

TEXTS = ["two cats play", "the dog"]
CONTENTS: dict[str, dict[str, Any]] = {
    "masked": {"mask": ENCODERS["masked"]().mask, "next_sentence": False},
    "classifier": {"labels": ["good", "bad"]},
    "tagger": {"labels": ["N", "V", "O"]},
}
TASKS = {"masked": "masked_language_modelling", "classifier": "classification", "tagger": "tagging"}


def test_a_language_model_reads_texts_in_one_batch() -> None:
    runner = language_model("llama-nano")
    recording = LanguageModelSubject(runner).record(TEXTS)
    known = recording.tokens("layers.0.attention")[0]
    for number, text in enumerate(TEXTS):
        ids = [runner.begin, *runner.tokenizer.encode_text(text)]
        assert known[number].ids[: len(ids)] == tuple(ids)
        with torch.no_grad(), record(runner.model) as alone:
            runner.model(torch.tensor([ids]))
        for name, table in alone.items():
            found = recording[name].dense()[number, :, : len(ids), : len(ids)]
            torch.testing.assert_close(found, table.dense()[0], atol=1e-6, rtol=0)
    assert [word.text for word in known[0].words] == ["two", "cats", "play"]
    assert sum(known[1].padding) == len(TEXTS[0]) - len(TEXTS[1])


def test_a_language_model_writes() -> None:
    runner = language_model("gpt-nano")
    subject = LanguageModelSubject(runner)
    recording = subject.record(TEXTS, generate=4, heads=[2], where="layers.1.*")
    assert list(recording) == ["layers.1.attention"] and recording["layers.1.attention"].shape[:2] == (2, 1)
    for known, text, said in zip(
        recording.tokens("layers.1.attention")[0], TEXTS, runner.generate(TEXTS, max_tokens=4, beam=1), strict=True
    ):
        ids = [one for one, gone in zip(known.ids, known.padding or [False] * 99, strict=False) if not gone]
        prompt = [runner.begin, *runner.tokenizer.encode_text(text)]
        assert ids[: len(prompt)] == prompt
        assert runner.tokenizer.pieces(ids[len(prompt) :]) == list(said.tokens)[: len(ids) - len(prompt)]


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_reads_texts_as_it_was_trained_to(kind: str) -> None:
    runner = ENCODERS[kind]()
    subject = EncoderSubject(runner)
    recording = subject.record(TEXTS)
    known = recording.tokens("encoder.layers.1.attention")[0]
    whole = kind != "tagger"  # which reads word by word
    ids = runner.tokenizer.encode(TEXTS[0]) if whole else [
        one for a, b in split_words(TEXTS[0]) for one in runner.tokenizer.encode(TEXTS[0][a:b])
    ]  # fmt: skip
    assert known[0].ids == (runner.tokenizer.bos_id, *ids, runner.tokenizer.eos_id)
    assert recording["encoder.layers.0.attention"].dense()[1, :, :, len(TEXTS[1]) + 2 :].abs().max() == 0
    with pytest.raises(ArgumentError, match=f"--generate: {subject.name} can't generate, it only reads"):
        subject.record(TEXTS, generate=3)
    with pytest.raises(ArgumentError, match="positions for 24"):
        subject.record(["the dog sleeps in the shade of the house"])


def test_a_mask_in_a_text() -> None:
    runner = ENCODERS["masked"]()
    known = EncoderSubject(runner).record(["the [MASK] sleeps"]).tokens("encoder.layers.0.attention")[0][0]
    assert runner.mask in known.ids and "[MASK]" in known.texts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": []}, "there is no text"),
        ({"texts": ["a", " "]}, "text 2 is blank"),
        ({"texts": ["a"], "targets": ["b"]}, "GPT reads one text"),
        ({"texts": ["a"], "generate": 0}, "--generate is 0: expected 1 or more"),
        ({"texts": ["the"], "generate": 22}, "after a text of 4 tokens the model has positions for 21 more"),
        ({"texts": ["the", "dog " * 9]}, "text 2: the text has 37 tokens; the model has positions for 24"),
        ({"texts": ["a"], "where": "encoder.*"}, "matches no attention of the model"),
        ({"texts": ["a"], "heads": [4]}, "4"),
    ],
)
def test_what_a_language_model_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LanguageModelSubject(language_model("gpt-nano")).record(**arguments)


def test_the_last_position_can_be_written_to() -> None:
    runner = language_model("gpt-nano")
    recording = LanguageModelSubject(runner).record(["the"], generate=21)
    assert recording["layers.0.attention"].shape[-1] <= 24


@pytest.fixture
def directories(tmp_path: Path) -> dict[str, Path]:
    made = {}
    gpt: Any = language_model("llama-nano")
    for name, task, runner, content in (
        ("gpt", "language_modelling", gpt, {"generation": {"begin": gpt.begin, "end": list(gpt.end)}}),
        *((name, TASKS[name], ENCODERS[name](), CONTENTS[name]) for name in ENCODERS),
    ):
        made[name] = tmp_path / name
        made[name].mkdir()
        runner.tokenizer.save(made[name] / "tokenizer.json")
        write_model(made[name], task, runner.model.config, runner.model.state_dict(), content)
    return made


def test_directories_are_opened_as_what_they_are(directories: dict[str, Path]) -> None:
    assert isinstance(open_subject(directories["gpt"], device="cpu"), LanguageModelSubject)
    for name in ENCODERS:
        assert isinstance(open_subject(directories[name], device="cpu"), EncoderSubject)
    assert subject_of(language_model("gpt-nano")).kind == "decoder"


def run(*arguments: Any) -> Any:
    result = CliRunner().invoke(app, [str(one) for one in (*arguments, "--device", "cpu")])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("name", ["gpt", *ENCODERS])
def test_record_and_attend(directories: dict[str, Path], name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    said = json.loads(run("record", directories[name], TEXTS[0], "--out", out, "--json").stdout)
    kind = "causal" if name == "gpt" else "self"
    assert {(one["kind"], one["queries"]) for one in said["attentions"]} == {(kind, "text")}
    assert load_recording(out).model == open_subject(directories[name], device="cpu").name
    shown = json.loads(run("attend", directories[name], TEXTS[0], "--json").stdout)
    again = json.loads(run("attend", out, "--json").stdout)
    assert shown["highlights"] == again["highlights"]
    for show in ("summary", "rollout", "map"):
        run("attend", directories[name], TEXTS[0], "--show", show)


def test_generations_on_the_command_line(directories: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    run("record", directories["gpt"], TEXTS[1], "--generate", 3, "--out", out)
    assert "the" in run("attend", directories["gpt"], TEXTS[1], "--generate", 3, "--show", "text").stdout
    assert load_recording(out)["layers.0.attention"].shape[-1] >= len(TEXTS[1]) + 1
