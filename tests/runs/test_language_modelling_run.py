"""Language models trained from recipes, end to end, on a tiny generated language."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import regard
from regard.errors import DataError, RecipeError
from regard.models.gpt import GPTConfig, build_gpt
from regard.runs.directory import read_config, read_joint_tokenizer
from regard.runs.evaluate_text import evaluate_text
from regard.runs.language_model import LanguageModel
from regard.runs.recipes import open_recipe, parse_recipe
from regard.runs.train import Outcome, Run
from regard.runs.work.language_modelling import LanguageModelling, bytes_of, greedy_tokens, open_language_modelling
from regard.training import unpack_weights
from runs.text_examples import language_recipe, place_of, sentences, write_text


def train(content: dict[str, Any], out: Path, **listeners: Any) -> tuple[Outcome, list[str]]:
    said: list[str] = []
    return Run(parse_recipe(content), out, said.append).train(**listeners), said


def weights(out: Path) -> Mapping[str, torch.Tensor]:
    return unpack_weights((out / "model.safetensors").read_bytes())


def work(folder: Path, **data: Any) -> LanguageModelling:
    write_text(folder)
    recipe: Any = parse_recipe(language_recipe(folder, **data))
    return open_language_modelling(recipe, place_of(folder / "run"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    write_text(folder)
    outcome, _ = train(language_recipe(folder), folder / "run")
    assert outcome.metrics["perplexity"] < 2.5  # the grammar's own is about 1.7 with a word at each place
    return folder / "run"


def test_a_language_model_learns_and_its_directory_says_what_it_is(trained: Path) -> None:
    saved = read_config(trained)
    assert (saved.task, saved.name) == ("language_modelling", "gpt")
    tokenizer = read_joint_tokenizer(trained)
    assert saved.content["generation"] == {
        "begin": None,  # one document: nothing was seen at a beginning
        "end": [tokenizer.eos_id],
        "max_tokens": 200,
        "temperature": 0.8,
        "top_k": None,
        "top_p": None,
    }
    config = saved.config({"gpt": GPTConfig})
    assert config.max_length == 16 and config.vocabulary == tokenizer.vocab_size
    model = build_gpt(config)
    model.load_state_dict(dict(weights(trained)))
    said = greedy_tokens(model.eval(), tokenizer.encode_text("here . a bird"), 1, tokenizer.eos_id, torch.device("cpu"))
    assert tokenizer.text_of(said) == b" sings"


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path, trained: Path) -> None:
    """Batches, and all that is drawn, depend on seed and epoch alone."""
    content = language_recipe(trained.parent)
    write_text(tmp_path)
    content["data"]["folder"] = str(tmp_path)
    content["training"] |= {"steps": 30}  # in the middle of an epoch
    train(content, tmp_path / "run")
    content["training"] |= {"steps": 60}
    train(content, tmp_path / "run")
    once, twice = weights(trained), weights(tmp_path / "run")
    assert all(torch.equal(once[name], twice[name]) for name in once)


@pytest.mark.parametrize("document", ["file", "line"])
def test_packed_documents(tmp_path: Path, document: str) -> None:
    write_text(tmp_path)
    outcome, said = train(language_recipe(tmp_path, layout="packed", document=document), tmp_path / "run")
    assert outcome.metrics["perplexity"] < 2.6
    assert read_config(tmp_path / "run").content["generation"]["begin"] == 1
    assert not said or all("rows" not in line for line in said)


def test_what_stands_before_a_text(tmp_path: Path) -> None:
    found = work(tmp_path, document="line")
    assert found.generation()["begin"] == found.corpus.tokenizer.eos_id
    assert work(tmp_path / "packed", document="line", layout="packed").generation()["begin"] == 1
    assert work(tmp_path / "one").generation()["begin"] is None


@pytest.mark.parametrize("layout", ["stream", "packed"])
def test_validation_is_the_mean_of_all_tokens(tmp_path: Path, layout: str) -> None:
    found = work(tmp_path, document="line", layout=layout, length=64)  # a line has room in a row
    torch.manual_seed(0)
    model = found.build()
    nn.init.normal_(model.embedding.tokens.weight)
    metrics = found.validator(model)(0)
    tokenizer, valid = found.corpus.tokenizer, found.corpus.tokens.valid
    total, count = 0.0, 0
    with torch.no_grad():
        if layout == "packed":
            rows = [[tokenizer.bos_id, *valid[i].tolist()] for i in range(len(valid))]
        else:
            flat = [tokenizer.eos_id, *valid.tokens.tolist()]
            rows = [flat[start : start + 65] for start in range(0, len(flat) - 1, 64)]
        for row in rows:
            tokens = torch.tensor([row])
            logits = model.output(model(tokens[:, :-1]))[0]
            total += float(nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))
            count += len(row) - 1
    assert count == len(valid.tokens)
    assert metrics["loss"] == pytest.approx(total / count, rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    size = len("".join((tmp_path / "text.txt").read_text().splitlines()[-len(valid) :]))
    assert metrics["bits_per_byte"] == pytest.approx(total / count * count / size / math.log(2), rel=1e-5)


def test_the_first_tokens_of_a_long_validation_part(tmp_path: Path) -> None:
    write_text(tmp_path)
    content = language_recipe(tmp_path)
    content["tokenizer"] = {"kind": "char"}
    content["training"] |= {"validation_tokens": 100}
    recipe: Any = parse_recipe(content)
    found = open_language_modelling(recipe, place_of(tmp_path / "run"))
    assert bytes_of(found.corpus, 100) == 100
    assert bytes_of(found.corpus, len(found.corpus.tokens.valid.tokens)) == found.facts["valid_bytes"]
    metrics = found.validator(found.build())(0)
    assert metrics["bits_per_byte"] == pytest.approx(metrics["loss"] / math.log(2), rel=1e-6)


def test_shown_is_a_beginning_and_what_is_said_then(tmp_path: Path) -> None:
    found = work(tmp_path)
    validator = found.validator(found.build())
    assert validator.shown() == []
    validator(0)
    (line,) = validator.shown()
    before, after = line.split("│")
    start = found.corpus.tokenizer.text_of(found.corpus.tokens.valid.tokens[:8].tolist()).decode()
    assert before == start and 0 < len(found.corpus.tokenizer.encode_text(after)) <= 8
    assert validator.seconds() > 0


def test_words_sizes_and_next_commands(tmp_path: Path) -> None:
    found = work(tmp_path, document="line", layout="packed")
    assert "training tokens in" in found.words()[0] and "% padding" in found.words()[0]
    assert found.sizes()["training part"].startswith("270 documents, ")
    assert found.next_commands(Path("runs/x"))[0] == 'regard generate runs/x "a beginning"'
    batch = found.problem(lambda batch: torch.zeros(())).collate([0], 0)
    assert found.real(batch)["text"] is batch.real


def test_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.length = 16 needs as many positions, but model\.max_length = 8"):
        content = language_recipe(tmp_path)
        content["model"]["max_length"] = 8
        Run(parse_recipe(content), tmp_path / "run", print)
    with pytest.raises(DataError, match=r"fewer than one row of data\.length = 16000"):
        work(tmp_path, length=16000)
    with pytest.raises(RecipeError, match=r"model\.heads = 3 doesn't divide width = 16"):
        content = language_recipe(tmp_path)
        content["model"]["heads"] = 3
        Run(parse_recipe(content), tmp_path / "run", print)


def test_recipes_from_a_file_have_absolute_paths_and_name_wrong_keys(tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "a.toml").write_text('task = "language_modelling"\n[data]\ntext = ["text.txt"]\nprepared = "shared"\n')
    recipe: Any = open_recipe(tmp_path / "a.toml")
    assert recipe.data.folder == str(tmp_path) and recipe.prepared_folder() == str(tmp_path / "shared")
    for wrong, why in (
        ("data.text=5", "data.text and data.valid_text: expected a file name or a list of them, got 5"),
        ("data.column=0", "data.column: expected a name, or a number from 1, got 0"),
        ("data.layuot=stream", "unknown key 'data.layuot'; did you mean 'layout'"),
        ("model.preset=huge", r"model\.preset is 'huge'"),
        ("data.layout=pairs", r"data\.layout is 'pairs'"),
        ("generation.top_p=2.0", r"generation\.top_p is 2.0"),
    ):
        with pytest.raises(RecipeError, match=why):
            open_recipe(tmp_path / "a.toml", [wrong])


def test_a_run_from_another(tmp_path: Path, trained: Path) -> None:
    """`init_from` takes tokenizer and weights over."""
    write_text(tmp_path)
    content = language_recipe(tmp_path)
    content["tokenizer"] = {"kind": "char"}
    content["training"] |= {"init_from": str(trained), "steps": 1, "learning_rate": 1e-9}
    train(content, tmp_path / "run")
    assert read_joint_tokenizer(tmp_path / "run").content == read_joint_tokenizer(trained).content
    once, twice = weights(trained), weights(tmp_path / "run")
    assert all(torch.allclose(once[name], twice[name], atol=1e-6) for name in once)


def test_the_data_of_a_run_may_not_change(tmp_path: Path, trained: Path) -> None:
    write_text(tmp_path)
    content = language_recipe(tmp_path)
    content["training"] |= {"steps": 2, "validate_every": 1}
    train(content, tmp_path / "run")
    write_text(tmp_path, 299)
    with pytest.raises(DataError, match=r"the data have changed since the run began: .*text\.txt has changed"):
        Run(parse_recipe(content), tmp_path / "run", print)


def test_events_and_result_have_the_metrics(tmp_path: Path) -> None:
    write_text(tmp_path)
    content = language_recipe(tmp_path)
    content["training"] |= {"steps": 4, "validate_every": 2, "attention_every": 2}
    told: list[Any] = []
    train(content, tmp_path / "run", listeners=[told.append])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(result["validation"]) == {"loss", "perplexity", "bits_per_byte"}
    assert result["target_tokens"] == 4 * 8 * 16
    assert any(type(event).__name__ == "AttentionMeasured" for event in told)


@pytest.mark.parametrize("layout", ["stream", "packed"])
@pytest.mark.parametrize("document", ["line", "paragraph"])
def test_evaluation_reads_documents_as_validation_did(tmp_path: Path, layout: str, document: str) -> None:
    between = "\n" if document == "line" else "\n\n"
    for name, seed in (("text.txt", 1), ("valid.txt", 2)):
        (tmp_path / name).write_text(between.join(sentences(150, seed)) + "\n", "utf-8")
    content = language_recipe(tmp_path, valid_text="valid.txt", layout=layout, document=document)
    outcome, _ = train(content, tmp_path / "run")
    assert read_config(tmp_path / "run").content["document"] == document
    assert read_config(tmp_path / "run").content["layout"] == layout
    model = regard.load(tmp_path / "run")
    assert isinstance(model, LanguageModel)
    text = (tmp_path / "valid.txt").read_text("utf-8")
    found = evaluate_text(model, text, stride=None if layout == "packed" else 16)  # a line has room in a row
    assert found.figures.loss == pytest.approx(outcome.metrics["loss"], rel=1e-5)
    assert found.figures.bits_per_byte == pytest.approx(outcome.metrics["bits_per_byte"], rel=1e-5)
    assert (found.documents, found.document, found.closed, found.notes) == (150, document, True, ())
    assert f"150 {document}s" in "\n".join(found.lines())
    whole = evaluate_text(model, text, document="file")
    assert whole.figures.loss > found.figures.loss and document in whole.notes[0]


def test_documents_longer_than_a_row_are_evaluated_as_validated(tmp_path: Path) -> None:
    rows = [" ".join(sentences(1 + number % 5, number)) for number in range(60)]
    (tmp_path / "text.txt").write_text("\n".join(rows), "utf-8")
    content = language_recipe(tmp_path, layout="packed", document="line")
    outcome, _ = train(content, tmp_path / "run")
    model: Any = regard.load(tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "data.json").read_text())["valid_documents"]
    found = evaluate_text(model, "\n".join(rows[-kept:]), stride=16)
    assert found.figures.loss == pytest.approx(outcome.metrics["loss"], rel=1e-5)


@pytest.mark.parametrize("layout", ["stream", "packed"])
def test_of_short_documents_a_half_is_shown(tmp_path: Path, layout: str) -> None:
    found = work(tmp_path, document="line", layout=layout)
    validator = found.validator(found.build())
    validator(0)
    before, after = validator.shown()[0].split("│")
    ids = found.corpus.tokens.valid[0][:-1].tolist()
    assert before == found.corpus.tokenizer.text_of(ids[: len(ids) // 2]).decode()
    assert after
