"""Models of this package as directories of Hugging Face transformers."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from torch import nn

from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, UnsupportedError
from regard.files import sync_folder, umask, write_json, write_whole
from regard.interop.huggingface.directory import CONFIG
from regard.interop.huggingface.weights import bert, encoder_decoders, gpt2, llama
from regard.interop.huggingface.weights.family import Written, none_fits
from regard.interop.huggingface.weights.generation import GENERATION_CONFIG
from regard.interop.huggingface.weights.stored import WEIGHTS
from regard.interop.huggingface.weights.table import spread
from regard.interop.huggingface.weights.tokenizer_writing import frame_of, write_tokenizers
from regard.models.bert import BERTConfig
from regard.models.config import ModelConfig
from regard.models.gpt import GPTConfig
from regard.models.transformer import TransformerConfig


def write_weights(
    directory: str | Path, task: str, model: nn.Module, tokenizers: Sequence[Tokenizer], content: Mapping[str, Any]
) -> None:
    """Write a directory that transformers opens, whole or not at all: weights in float32, configuration, tokenizer.

    A Transformer becomes a Marian, BART, Pegasus or M2M-100 model, a GPT a GPT-2, Llama or Qwen2, a BERT a BERT:
    whichever computes the same. The tokenizer becomes a `tokenizer.json` whose ids are the same; the tokenizer of a
    target language of its own lies in the folder `target`. Special tokens that are typed in a text are found there,
    which they never are here, and the character ▁ is a space there.

    Args:
        directory: a new one, or an empty one.
        task: what the model is for, see `Converted`.
        model: of `regard.models`.
        tokenizers: none, one, or the source's and the target's.
        content: what else the config.json of such a model says here.

    Raises:
        ArgumentError: the directory is there and holds something; the task isn't one of those of `Converted`.
        UnsupportedError: no model of transformers computes the same, or the tokenizers have ids that the model hasn't.
        OSError: the directory can't be written.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ArgumentError(f"{directory} is there already: expected a new directory")
    if task not in WRITERS:
        raise ArgumentError(f"task is {task!r}: expected {', '.join(WRITERS)}")
    config: ModelConfig = model.config  # type: ignore[assignment]
    whole = dict(content)
    if task == "translation" and "frame" not in whole:
        whole["frame"] = frame_of(tokenizers)
    written = WRITERS[task](config, task, whole)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
    try:
        os.chmod(temporary, 0o777 & ~umask())  # mkdtemp's 0700 would hide the result from other users
        write_json(temporary / CONFIG, written.config)
        if written.generation is not None:
            write_json(temporary / GENERATION_CONFIG, written.generation)
        tensors = spread(model, written.table)
        # transformers asks for the framework's name
        write_whole(
            temporary / WEIGHTS, lambda path: safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
        )
        write_tokenizers(temporary, task, config, tokenizers, whole)
        os.replace(temporary, directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(directory.parent)


def _translation(config: ModelConfig, task: str, content: Mapping[str, Any]) -> Written:
    if not isinstance(config, TransformerConfig):
        raise UnsupportedError(f"transformers has no model like this one: {config.words()}")
    return encoder_decoders.write(config, content)


def _language(config: ModelConfig, task: str, content: Mapping[str, Any]) -> Written:
    assert isinstance(config, GPTConfig)
    problems = {"gpt2": gpt2.problem(config), "llama": llama.problem(config)}
    if problems["gpt2"] is None:
        return gpt2.write(config, content)
    if problems["llama"] is None:
        return llama.write(config, content)
    raise UnsupportedError(none_fits(problems))


def _bert(config: ModelConfig, task: str, content: Mapping[str, Any]) -> Written:
    assert isinstance(config, BERTConfig)
    return bert.write(config, task, content)


WRITERS: Final[Mapping[str, Callable[[ModelConfig, str, Mapping[str, Any]], Written]]] = {
    "translation": _translation,
    "language_modelling": _language,
    "masked_language_modelling": _bert,
    "classification": _bert,
    "tagging": _bert,
    "encoder": _bert,
}
"""What makes a model one of transformers, by its task."""
