"""Runs on running text that start from models of Hugging Face directories, or from runs of this package."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data.given_examples import gpt2, wordpiece
from regard.data import read_tokenizer
from regard.errors import CheckpointError, RecipeError
from regard.interop.huggingface.weights import write_weights
from regard.models.bert import BERTConfig, build_masked_language_model
from regard.models.gpt import GPTConfig, build_gpt
from regard.runs.directory import read_config, read_joint_tokenizer
from regard.runs.recipes import parse_recipe
from regard.runs.train import Run
from regard.training import unpack_weights
from runs.text_examples import language_recipe, masked_recipe, write_text

GPT2 = {"layers": 2, "width": 16, "feedforward": 64, "heads": 2, "activation": "gelu_tanh", "max_length": 32}
BERT = {"layers": 1, "width": 16, "feedforward": 32, "heads": 2, "max_length": 24}


def theirs(folder: Path, next_sentence: bool = False) -> tuple[Path, Path, nn.Module, nn.Module]:
    """A GPT-2 and a BERT, as `save_pretrained` writes them."""
    models: list[nn.Module] = []
    for name, made in (("gpt2", gpt2()), ("bert", wordpiece())):
        (folder / f"{name}.json").write_text(made.to_str(), "utf-8")
        tokenizer = read_tokenizer(folder / f"{name}.json")
        torch.manual_seed(1)
        # their vocabulary is that of their tokenizer's file: what was added to it here has no row
        if name == "gpt2":
            models.append(build_gpt(GPTConfig(made.get_vocab_size(), **GPT2)))
            content: dict[str, Any] = {"generation": {"begin": tokenizer.eos_id, "end": [tokenizer.eos_id]}}
            write_weights(folder / name, "language_modelling", models[-1], [tokenizer], content)
        else:
            config = BERTConfig(made.get_vocab_size(), **BERT)
            models.append(build_masked_language_model(config, next_sentence))
            content = {"mask": tokenizer.mask_id, "next_sentence": next_sentence}
            write_weights(folder / name, "masked_language_modelling", models[-1], [tokenizer], content)
    return folder / "gpt2", folder / "bert", models[0], models[1]


def run(content: dict[str, Any], folder: Path, origin: Path, **training: Any) -> dict[str, torch.Tensor]:
    """The weights after a step that changes nothing."""
    content["training"] |= {"init_from": str(origin), "steps": 1, "validate_every": 1, "learning_rate": 1e-9} | training
    Run(parse_recipe(content), folder / "run", lambda words: None).train()
    return unpack_weights((folder / "run" / "model.safetensors").read_bytes())


def same(found: dict[str, torch.Tensor], model: nn.Module) -> bool:
    known = model.state_dict()
    return set(found) <= set(known) and all(torch.allclose(found[name], known[name], atol=1e-6) for name in found)


@pytest.mark.parametrize("layout", ["stream", "packed"])
def test_a_gpt2_is_trained_on(tmp_path: Path, layout: str) -> None:
    origin, _, model, _ = theirs(tmp_path)
    write_text(tmp_path)
    content = language_recipe(tmp_path, layout=layout, document="line")
    content["model"] = {"dropout": 0.0}
    assert same(run(content, tmp_path, origin), model)
    saved, tokenizer = read_config(tmp_path / "run"), read_joint_tokenizer(tmp_path / "run")
    config = saved.config({"gpt": GPTConfig})
    assert config.vocabulary < tokenizer.vocab_size and config.max_length == 32 and config.dropout == 0.0
    assert saved.content["generation"]["begin"] == tokenizer.eos_id


@pytest.mark.parametrize("layout", ["stream", "packed"])
def test_a_bert_is_trained_on(tmp_path: Path, layout: str) -> None:
    """Its next-sentence part is left out where there are no pairs."""
    _, origin, _, model = theirs(tmp_path, next_sentence=True)
    write_text(tmp_path)
    content = masked_recipe(tmp_path, layout=layout, document="line")
    content["model"] = {}
    found = run(content, tmp_path, origin)
    assert same(found, model) and not any(name.startswith("next_sentence") for name in found)
    saved = read_config(tmp_path / "run")
    assert saved.content["mask"] == read_joint_tokenizer(tmp_path / "run").mask_id
    assert saved.config({"bert": BERTConfig}).max_length == 24


def test_pairs_need_a_model_that_has_learned_them(tmp_path: Path) -> None:
    write_text(tmp_path)
    _, origin, _, model = theirs(tmp_path, next_sentence=True)
    content = masked_recipe(tmp_path, layout="pairs")
    content["model"] = {}
    assert same(run(content, tmp_path, origin), model)
    (tmp_path / "other").mkdir()
    _, other, _, _ = theirs(tmp_path / "other")
    write_text(tmp_path / "other")
    content["data"]["folder"] = str(tmp_path / "other")
    with pytest.raises(CheckpointError, match="next_sentence"):
        run(content, tmp_path / "other", other)


def test_what_cannot_be_started_from(tmp_path: Path) -> None:
    write_text(tmp_path)
    gpt, bert, _, _ = theirs(tmp_path)
    content = language_recipe(tmp_path)
    with pytest.raises(CheckpointError, match="a model for masked_language_modelling: expected one for language_model"):
        run(content, tmp_path, bert)
    with pytest.raises(RecipeError, match=r"model\.layers = 1, but it is 2 in the model of training\.init_from"):
        run(content, tmp_path, gpt)
    content["model"] = {}
    content["data"]["length"] = 64
    with pytest.raises(RecipeError, match=r"data\.length = 64 needs as many positions, but model\.max_length = 32"):
        run(content, tmp_path, gpt)
    with pytest.raises(CheckpointError, match=r"nowhere \(training\.init_from\): no such directory"):
        run(content, tmp_path, tmp_path / "nowhere")


def test_a_run_of_another_task_or_size(tmp_path: Path) -> None:
    write_text(tmp_path)
    content = language_recipe(tmp_path)
    content["training"] |= {"steps": 2, "validate_every": 1}
    Run(parse_recipe(content), tmp_path / "first", lambda words: None).train()
    with pytest.raises(CheckpointError, match="a model for language_modelling: expected one for masked"):
        run(masked_recipe(tmp_path), tmp_path, tmp_path / "first")
    content["model"]["width"] = 32
    with pytest.raises(RecipeError, match=r"model\.width = 32, but it is 16"):
        run(content, tmp_path, tmp_path / "first")
