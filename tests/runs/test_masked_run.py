"""Masked-language models trained from recipes, end to end, on a tiny generated language."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from data.given_examples import wordpiece
from regard.errors import DataError, RecipeError
from regard.models.bert import BERTConfig, build_masked_language_model
from regard.runs.directory import read_config, read_joint_tokenizer
from regard.runs.recipes import parse_recipe
from regard.runs.train import Outcome, Run
from regard.runs.work.masked_language_modelling import MaskedModelling, open_masked_language_modelling
from regard.training import unpack_weights
from runs.text_examples import masked_recipe, place_of, sentences, write_text


def train(content: dict[str, Any], out: Path, **listeners: Any) -> Outcome:
    return Run(parse_recipe(content), out, lambda words: None).train(**listeners)


def weights(out: Path) -> Mapping[str, torch.Tensor]:
    return unpack_weights((out / "model.safetensors").read_bytes())


def work(folder: Path, **data: Any) -> MaskedModelling:
    write_text(folder)
    recipe: Any = parse_recipe(masked_recipe(folder, **data))
    return open_masked_language_modelling(recipe, place_of(folder / "run"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masked")
    write_text(folder)
    content = masked_recipe(folder, layout="packed", document="line")
    content["training"] |= {"steps": 120, "validate_every": 60, "learning_rate": 0.01}
    outcome = train(content, folder / "run")
    assert outcome.metrics["accuracy"] > 0.6 and outcome.metrics["perplexity"] < 2  # the grammar's own is about 1.5
    return folder / "run"


def test_a_masked_model_learns_and_its_directory_says_what_it_is(trained: Path) -> None:
    saved, tokenizer = read_config(trained), read_joint_tokenizer(trained)
    assert (saved.task, saved.name) == ("masked_language_modelling", "bert")
    assert saved.content["mask"] == tokenizer.vocab_size and saved.content["next_sentence"] is False
    config = saved.config({"bert": BERTConfig})
    assert config.vocabulary == tokenizer.vocab_size + 1 and config.max_length == 16
    model = build_masked_language_model(config)
    model.load_state_dict(dict(weights(trained)))
    ids = [tokenizer.bos_id, *tokenizer.encode_text("a bird sings there ."), tokenizer.eos_id]
    place = ids.index(tokenizer.encode_text("sings")[0])
    ids[place] = saved.content["mask"]
    with torch.no_grad():
        logits = model.eval().output(model(torch.tensor([ids]), torch.tensor([len(ids)])))
    assert tokenizer.text_of([int(logits[0, place].argmax())]) == b" sings"


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    found = []
    for name, stops in (("once", (50,)), ("twice", (27, 50))):
        write_text(tmp_path / name)
        content = masked_recipe(tmp_path / name)
        for steps in stops:
            content["training"] |= {"steps": steps, "validate_every": 25}
            train(content, tmp_path / name / "run")
        found.append(weights(tmp_path / name / "run"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("layout", ["stream", "pairs"])
def test_other_layouts(tmp_path: Path, layout: str) -> None:
    write_text(tmp_path)
    outcome = train(masked_recipe(tmp_path, layout=layout), tmp_path / "run")
    assert outcome.metrics["perplexity"] < 14  # less than the words there are
    saved = read_config(tmp_path / "run")
    for found in (
        "next_sentence" in outcome.metrics,
        saved.content["next_sentence"],
        "next_sentence.weight" in weights(tmp_path / "run"),
    ):
        assert found == (layout == "pairs")


def test_the_next_sentence_can_be_learned(tmp_path: Path) -> None:
    """Documents that hold different words: a random segment shows at once."""
    tmp_path.mkdir(exist_ok=True)
    rows = [" ".join(["one two three four five six seven eight"] * 4), " ".join(["a b c d e f g h"] * 4)] * 60
    (tmp_path / "text.txt").write_text("\n".join(rows) + "\n")
    content = masked_recipe(tmp_path, layout="pairs", document="line", length=24)
    content["training"] |= {"steps": 150, "validate_every": 150, "learning_rate": 0.01}
    outcome = train(content, tmp_path / "run")
    assert outcome.metrics["next_sentence"] > 0.68  # a random one is of the same words half of the time


def test_validation_always_hides_the_same_and_says_what_it_measures(tmp_path: Path) -> None:
    found = work(tmp_path)
    model = found.build()
    validator = found.validator(model)
    first = validator(0)
    assert first == validator(7) == found.validator(model)(0)
    assert set(first) == {"loss", "perplexity", "accuracy"}
    assert first["perplexity"] == pytest.approx(math.exp(first["loss"]))
    assert first["loss"] == pytest.approx(math.log(found.config.vocabulary), rel=0.1)  # knows nothing yet
    assert validator.seconds() > 0


def test_shown_are_filled_blanks(tmp_path: Path) -> None:
    found = work(tmp_path)
    validator = found.validator(found.build())
    validator(0)
    (line,) = validator.shown()
    assert line.count("[") == line.count("]") == 2  # 15 % of 14
    assert ", not " in line


def test_the_mask_of_a_given_tokenizer_is_used(tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "mine.json").write_text(wordpiece().to_str(), "utf-8")
    content = masked_recipe(tmp_path)
    content["tokenizer"] = {"file": "mine.json"}
    recipe: Any = parse_recipe(content)
    found = open_masked_language_modelling(recipe, place_of(tmp_path / "run"))
    assert found.mask == found.corpus.tokenizer.mask_id
    assert found.config.vocabulary == found.corpus.tokenizer.vocab_size
    batch = found.rows.collate([0, 1, 2, 3], 0)
    assert (batch.tokens == found.mask).any()
    assert (batch.tokens[:, 0] == found.corpus.tokenizer.bos_id).all()


def test_target_tokens_are_those_of_the_batches(tmp_path: Path) -> None:
    found = work(tmp_path, layout="packed", document="line")
    problem = found.problem(lambda batch: torch.zeros(()))
    for indices in problem.epoch(3):
        assert problem.tokens(problem.collate(indices, 3)) == found.target_tokens(indices)
    batch = problem.collate([0, 1], 0)
    assert (found.real(batch)["text"] == batch.real).all()


def test_what_does_not_fit(tmp_path: Path) -> None:
    content = masked_recipe(tmp_path, layout="pairs")
    content["model"]["types"] = 1
    with pytest.raises(RecipeError, match=r'data\.layout = "pairs" has two segments a row, but model\.types = 1'):
        Run(parse_recipe(content), tmp_path / "run", print)
    content = masked_recipe(tmp_path)
    content["masking"] = {"masked": 0.8, "random": 0.3}
    with pytest.raises(RecipeError, match=r"masking\.masked \+ masking\.random = 1\.1: expected 1 or less"):
        parse_recipe(content)
    (tmp_path / "text.txt").write_text("\n".join(sentences(12, 1)))
    why = r"the validation text \(data\.held_out = 0\.1\): .* \d+ tokens, fewer than one row of data\.length = 16 needs"
    with pytest.raises(DataError, match=why):
        recipe: Any = parse_recipe(masked_recipe(tmp_path))
        open_masked_language_modelling(recipe, place_of(tmp_path / "run"))


def test_words_and_next_commands(tmp_path: Path) -> None:
    found = work(tmp_path)
    assert "training tokens in" in found.words()[0] and "padding" not in found.words()[0]
    assert found.next_commands(Path("runs/x"))[0] == 'regard fill runs/x "a text with a [MASK] in it"'
    assert found.sizes()["vocabulary"] == f"{found.config.vocabulary:,} tokens"
