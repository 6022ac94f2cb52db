"""Classifiers and taggers trained from recipes, end to end, on a tiny generated language."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from label_examples import MODEL, classification_recipe, labelled, tagged, tagging_recipe, write_labelled, write_tagged
from regard.data import train_tokenizer
from regard.errors import ArgumentError, CheckpointError, DataError, RecipeError
from regard.models.bert import BERTConfig, build_classifier, build_masked_language_model
from regard.runs.directory import JOINT, write_model
from regard.runs.evaluate_labels import evaluate_labelled
from regard.runs.label_reading import sentence_rows
from regard.runs.labels import Classifier, Tagger
from regard.runs.recipes import parse_recipe
from regard.runs.train import Outcome, Run
from regard.runs.work.contract import Place
from regard.runs.work.opening import open_work

PAIRS = [("a dog", "the cat"), ("a dog", "the cup"), ("a car", "the cat")]


def train(content: dict[str, Any], out: Path) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    outcome = Run(parse_recipe(content), out, said.append).train()
    return outcome, said


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    outcome, _ = train(classification_recipe(folder, metric="f1"), folder / "run")
    assert outcome.metrics["accuracy"] == 1.0
    assert outcome.metrics["f1"] == 1.0
    return folder / "run"


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    outcome, _ = train(tagging_recipe(folder, metric="accuracy"), folder / "run")
    assert outcome.metrics["accuracy"] == 1.0
    assert outcome.metrics["f1"] == 1.0
    return folder / "run"


def test_a_classifier_learns_and_is_loaded(classifier: Path) -> None:
    config = json.loads((classifier / "config.json").read_text())
    assert config["task"] == "classification"
    assert (config["labels"], config["length"], config["pairs"]) == (["animal", "thing"], 16, False)
    found = regard.load(classifier, device="cpu")
    assert isinstance(found, Classifier)
    rows = labelled(20, seed=5)
    answers = found.classify([text for _, text in rows])
    assert [one.label for one in answers] == [label for label, _ in rows]
    for one in answers:
        assert one.probability == max(one.probabilities.values()) > 0.9
        assert sum(one.probabilities.values()) == pytest.approx(1.0, abs=1e-6)


def test_a_tagger_learns_and_is_loaded(tagger: Path) -> None:
    found = regard.load(tagger, device="cpu")
    assert isinstance(found, Tagger)
    assert found.labels == ("B-LOC", "B-PER", "I-PER", "O")
    answers = found.tag(["Alan Turing lives in Oslo.", ["Ada", "sleeps"], ""])
    assert [(one.word, one.tag) for one in answers[0]] == [
        ("Alan", "B-PER"),
        ("Turing", "I-PER"),
        ("lives", "O"),
        ("in", "O"),
        ("Oslo", "B-LOC"),
        (".", "O"),
    ]
    assert [one.tag for one in answers[1]] == ["B-PER", "O"]
    assert answers[2] == []
    assert all(0.9 < one.probability <= 1.0 for one in answers[0])


def test_answers_do_not_depend_on_the_batch(classifier: Path, tagger: Path) -> None:
    texts = [text for _, text in labelled(12, seed=8)]
    one = regard.load(classifier, device="cpu")
    for text, together in zip(texts, one.classify(texts), strict=True):
        alone = one.classify([text])[0].probabilities
        assert together.probabilities == pytest.approx(alone, abs=1e-5)
    two = regard.load(tagger, device="cpu")
    sentences = [[word for word, _ in row] for row in tagged(12, seed=8)]
    for words, together in zip(sentences, two.tag(sentences), strict=True):
        assert [each.probability for each in two.tag([words])[0]] == pytest.approx(
            [each.probability for each in together], abs=1e-5
        )


def test_long_texts_are_cut_and_long_sentences_read_in_parts(classifier: Path, tagger: Path) -> None:
    one = regard.load(classifier, device="cpu")
    short = " ".join(["I see a cat"] + ["today"] * 10)  # 14 words, as many as are read
    cut = one.classify([short, short + " I see a car" * 30])
    assert [each.cut for each in cut] == [False, True]
    assert cut[0].probabilities == pytest.approx(cut[1].probabilities, abs=1e-5)
    two = regard.load(tagger, device="cpu")
    words = ["Ada", "Lovelace", "lives", "in", "Rome", "."] * 9
    counts = [len(row.firsts) for row in sentence_rows(two.tokenizer, [words], 16)[0]]
    assert len(counts) > 3
    starts = [sum(counts[:number]) for number in range(len(counts))]
    parts = [words[start : start + count] for start, count in zip(starts, counts, strict=True)]
    alone = [word for part in two.tag(parts) for word in part]
    together = two.tag([words])[0]
    assert [(each.word, each.tag) for each in together] == [(each.word, each.tag) for each in alone]
    assert [each.word for each in together] == words


def test_the_evaluation_of_a_classifier(classifier: Path, tmp_path: Path) -> None:
    rows = [*labelled(20, seed=6), ("thing", "I see a dog")]  # the last one is labelled wrongly
    found = evaluate_labelled(regard.load(classifier, device="cpu"), write_labelled(tmp_path / "test.tsv", rows))
    assert found.report.accuracy == 20 / 21
    assert found.report.confusion[1][0] == 1
    content = json.loads(json.dumps(found.to_json()))
    assert content["accuracy"] == 20 / 21
    assert content["entities"] is None
    assert content["loss"] > 0
    text = "\n".join(found.lines())
    assert "95.24% of 21 texts" in text
    assert "animal" in text
    write_labelled(tmp_path / "other.tsv", [("animal", "a cat"), ("plant", "a rose")])
    with pytest.raises(DataError, match=r"other\.tsv, line 2: the label 'plant' is none of the model's: animal, thing"):
        evaluate_labelled(regard.load(classifier, device="cpu"), tmp_path / "other.tsv")


def test_the_evaluation_of_a_tagger(tagger: Path, tmp_path: Path) -> None:
    path = write_tagged(tmp_path / "test.conll", [*tagged(10, seed=6), [("Rome", "B-ORG"), (".", "O")]])
    found = evaluate_labelled(regard.load(tagger, device="cpu"), path)
    assert found.entities is not None
    assert found.entities.total.recall < 1.0
    assert found.entities.types["PER"].f1 == 1.0
    assert found.entities.types["ORG"].recall == 0.0
    assert found.notes == ("1 words have the tag B-ORG, which the model doesn't know",)
    assert any(line.startswith("F1 of entities") for line in found.lines())


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    content = classification_recipe(tmp_path, steps=12, validate_every=4)
    whole, _ = train(content, tmp_path / "whole")
    train(content | {"training": content["training"] | {"steps": 8}}, tmp_path / "parts")
    resumed, _ = train(content, tmp_path / "parts")
    assert (whole.step, resumed.step) == (12, 12)
    names = ["model.safetensors", "config.json", "data.json"]
    assert all((tmp_path / "whole" / n).read_bytes() == (tmp_path / "parts" / n).read_bytes() for n in names)
    write_labelled(tmp_path / "valid.tsv", labelled(5, seed=9))
    with pytest.raises(DataError, match="the data have changed since the run"):
        train(content, tmp_path / "parts")


def test_some_are_held_out_if_no_validation_part_is_given(tmp_path: Path) -> None:
    content = classification_recipe(tmp_path, steps=2)
    del content["data"]["valid"]
    _, said = train(content, tmp_path / "run")
    assert "no validation part is given: 12 training texts are held out for it" in said
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (facts["train_texts"], facts["valid_texts"], facts["classes"]) == (108, 12, 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_pairs_are_classified_by_both_texts(tmp_path: Path, smoothing: float) -> None:
    words = ("cat", "dog", "car", "cup")
    rows = [("animals" if {a, b} <= {"cat", "dog"} else "other", f"a {a}\tthe {b}") for a in words for b in words] * 6
    write_labelled(tmp_path / "pairs.tsv", rows)
    content = classification_recipe(tmp_path, label_smoothing=smoothing)
    content["data"] |= {"train": "pairs.tsv", "valid": "pairs.tsv", "label": 1, "text": 2, "second": 3}
    outcome, _ = train(content, tmp_path / "run")
    assert outcome.metrics["accuracy"] == 1.0
    found = regard.load(tmp_path / "run", device="cpu")
    assert [one.label for one in found.classify(PAIRS)] == ["animals", "other", "other"]


def masked_model(directory: Path) -> BERTConfig:
    """The directory of a masked language model with fresh weights and a trained tokenizer."""
    directory.mkdir()
    tokenizer = train_tokenizer("word", [text for _, text in labelled(100)])
    tokenizer.save(directory / JOINT)
    sizes = {key: value for key, value in MODEL.items() if key != "preset"}
    config = BERTConfig(vocabulary=tokenizer.vocab_size + 1, max_length=20, **sizes)  # type: ignore[arg-type]
    weights = build_masked_language_model(config).state_dict()
    write_model(
        directory, "masked_language_modelling", config, weights, {"mask": tokenizer.vocab_size, "next_sentence": False}
    )
    return config


def test_fine_tuning_takes_over_encoder_and_tokenizer(tmp_path: Path) -> None:
    config = masked_model(tmp_path / "bert")
    content = classification_recipe(tmp_path, init_from=str(tmp_path / "bert"))
    content["model"] = {"dropout": 0.25}
    run = Run(parse_recipe(content), tmp_path / "run", lambda text: None)
    expected = asdict(config) | {"dropout": 0.25}
    assert asdict(run.work.config) == expected
    trained = run.model.state_dict()
    origin = regard.load(tmp_path / "bert", device="cpu").model.encoder.state_dict()
    for name, weight in origin.items():
        assert torch.equal(trained[f"encoder.{name}"], weight), name
    assert any("encoder and tokenizer of" in line for line in run.work.words())
    assert run.train().metrics["accuracy"] == 1.0
    assert (tmp_path / "run" / JOINT).read_bytes() == (tmp_path / "bert" / JOINT).read_bytes()
    # a classifier is a place to start from, too
    again = content | {"training": content["training"] | {"init_from": str(tmp_path / "run"), "steps": 1}}
    assert train(again, tmp_path / "again")[0].metrics["accuracy"] > 0.4


def test_what_does_not_fit_the_model_that_is_fine_tuned(tmp_path: Path) -> None:
    masked_model(tmp_path / "bert")
    content = classification_recipe(tmp_path, init_from=str(tmp_path / "bert"))
    content["model"] = {"width": 64}
    with pytest.raises(RecipeError, match=r"model\.width = 64, but it is 32 in the model of training\.init_from"):
        train(content, tmp_path / "run")
    content["model"] = {}
    content["data"]["length"] = 21
    with pytest.raises(RecipeError, match=r"data\.length = 21: the model has 20 positions"):
        train(content, tmp_path / "run")
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config | {"task": "translation"}))
    with pytest.raises(CheckpointError, match="the task is 'translation'; there is an encoder in models for"):
        train(content, tmp_path / "run")
    shutil.rmtree(tmp_path / "bert")
    with pytest.raises(CheckpointError, match="no such model directory"):
        train(content, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        (
            "valid.tsv",
            [("animal", "a cat"), ("plant", "a rose")],
            r"valid\.tsv, line 2: the label 'plant' is not among",
        ),
        ("train.tsv", [("animal", "a cat")] * 3, r"train\.tsv: the only label in it is 'animal': expected two or more"),
    ],
)
def test_labels_that_cannot_be_learned(tmp_path: Path, name: str, rows: list[tuple[str, str]], message: str) -> None:
    content = classification_recipe(tmp_path)
    write_labelled(tmp_path / name, rows)
    with pytest.raises(DataError, match=message):
        train(content, tmp_path / "run")


def test_tags_that_training_does_not_have_can_be_named(tmp_path: Path) -> None:
    content = tagging_recipe(tmp_path, steps=1)
    write_tagged(tmp_path / "valid.conll", [[("Rome", "B-LOC"), ("sleeps", "O")], [("ACME", "B-ORG")]])
    with pytest.raises(DataError, match=r"valid\.conll, line 4: the tag 'B-ORG' is not among those of .*train\.conll"):
        train(content, tmp_path / "run")
    content["data"]["labels"] = ["O", "B-PER", "I-PER", "B-LOC", "B-ORG"]
    train(content, tmp_path / "run")
    assert regard.load(tmp_path / "run", device="cpu").labels == ("O", "B-PER", "I-PER", "B-LOC", "B-ORG")


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("data", "label", 0, r"data\.label, data\.text and data\.second: expected a name, or a number from 1, got 0"),
        ("data", "labels", ["a"], r"data\.labels is \['a'\]: expected two names or more"),
        ("data", "lables", ["a"], r"unknown key 'data\.lables'; did you mean 'labels'"),
        ("training", "metric", "bleu", r"training\.metric is 'bleu'"),
    ],
)
def test_wrong_recipes(tmp_path: Path, section: str, key: str, value: object, message: str) -> None:
    content = classification_recipe(tmp_path)
    content[section][key] = value
    with pytest.raises(RecipeError, match=message):
        parse_recipe(content)


def test_class_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    content = classification_recipe(tmp_path, steps=1)
    rows = [(str(number), f"word {number % 3}") for number in [10, 9, 1, 2, 11] * 3]
    for name in ("train.tsv", "valid.tsv"):
        write_labelled(tmp_path / name, rows)
    train(content, tmp_path / "run")
    assert regard.load(tmp_path / "run", device="cpu").labels == ("1", "2", "9", "10", "11")


@pytest.mark.parametrize("make", [classification_recipe, tagging_recipe])
def test_other_processes_find_what_the_main_one_prepared(
    tmp_path: Path, make: Callable[[Path], dict[str, Any]]
) -> None:
    recipe = parse_recipe(make(tmp_path))
    device = torch.device("cpu")
    places = [
        Place(tmp_path / "run", tmp_path / "prepared", False, main, device, lambda text: None, lambda *told: None)
        for main in (True, False)
    ]
    first, second = (open_work(recipe, place) for place in places)
    assert first.facts == second.facts
    assert first.config == second.config
    problems = [work.problem(lambda batch: torch.zeros(())) for work in (first, second)]
    orders = [[batch.tolist() for batch in problem.epoch(1)] for problem in problems]
    assert orders[0] == orders[1]
    one, two = (problem.collate(orders[0][0], 0) for problem in problems)
    assert torch.equal(one.texts.tokens, two.texts.tokens)
    assert sum(first.target_tokens(batch) for batch in orders[0]) == sum(
        problems[0].tokens(problems[0].collate(batch, 0)) for batch in orders[0]
    )
    assert torch.equal(first.real(one)["text"].sum(1), one.texts.lengths)


def test_a_begun_run_keeps_its_tokenizer_and_says_what_it_needs(tmp_path: Path) -> None:
    masked_model(tmp_path / "bert")
    content = classification_recipe(tmp_path, init_from=str(tmp_path / "bert"), steps=2)
    content["model"] = {}
    train(content, tmp_path / "run")
    kept = (tmp_path / "run" / JOINT).read_bytes()
    longer = content | {"training": content["training"] | {"steps": 4}}
    train(longer, tmp_path / "run")  # nothing has changed
    texts = [f"{text} now" for _, text in labelled(100)]
    train_tokenizer("word", texts).save(tmp_path / "bert" / JOINT)
    with pytest.raises(
        CheckpointError, match=r"bert \(training\.init_from\): its tokenizer is not the one that the run"
    ):
        train(longer, tmp_path / "run")
    assert (tmp_path / "run" / JOINT).read_bytes() == kept
    shutil.rmtree(tmp_path / "bert")
    with pytest.raises(
        CheckpointError, match=r"bert \(training\.init_from\): is not there any more; the run in .*run "
    ):
        train(longer, tmp_path / "run")


def test_pairs_need_two_segment_types(tmp_path: Path) -> None:
    rows = [("same", "a\ta"), ("other", "a\tb")] * 6
    content = classification_recipe(tmp_path, steps=1)
    write_labelled(tmp_path / "train.tsv", rows)
    write_labelled(tmp_path / "valid.tsv", rows)
    content["data"] |= {"label": 1, "text": 2, "second": 3}
    content["model"]["types"] = 1
    with pytest.raises(RecipeError, match=r"data\.second = 3: pairs need two segment types, the model has 1"):
        train(content, tmp_path / "run")
    config = BERTConfig(vocabulary=320, layers=1, width=16, feedforward=32, heads=2, max_length=20, types=1)
    tokenizer = train_tokenizer("word", ["a b", "a b"])
    model = Classifier(build_classifier(config, 2).eval(), tokenizer, ["same", "other"])
    assert len(model.classify(["a b"])) == 1
    with pytest.raises(ArgumentError, match="number 0 is a pair; this model has one segment type"):
        model.classify([("a", "b")])


@pytest.mark.parametrize(("columns", "expected"), [({}, ""), ({"label": 2, "text": 3}, " --columns 2,3 --header")])
def test_the_command_that_is_suggested_reads_the_table_as_training_did(
    tmp_path: Path, columns: dict[str, int], expected: str
) -> None:
    content = classification_recipe(tmp_path, steps=1)
    if columns:
        for name in ("train.tsv", "valid.tsv"):
            rows = (tmp_path / name).read_text().splitlines()
            (tmp_path / name).write_text("id\tlabel\ttext\n" + "".join(f"7\t{row}\n" for row in rows))
        content["data"] |= {**columns, "header": True}
    run = Run(parse_recipe(content), tmp_path / "run", lambda text: None)
    assert run.work.next_commands(Path("x"))[1] == f"regard evaluate x --labelled FILE{expected}"


def test_a_budget_too_short_claims_no_directory(tmp_path: Path) -> None:
    content = classification_recipe(tmp_path)
    del content["training"]["steps"]
    short = content | {"training": content["training"] | {"minutes": 1e-6}}
    with pytest.raises(RecipeError, match=r"training\.minutes = 1e-06: .* or have a smaller validation part$"):
        train(short, tmp_path / "run")
    content["training"] |= {"steps": 1, "seed": 4}  # another run
    train(content, tmp_path / "run")
