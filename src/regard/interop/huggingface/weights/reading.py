"""Directories of Hugging Face models as models of this package."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.interop.huggingface.directory import CONFIG, architecture, read_object
from regard.interop.huggingface.weights.family import Family, Given
from regard.interop.huggingface.weights.generation import read_generation
from regard.interop.huggingface.weights.known import FAMILIES
from regard.interop.huggingface.weights.stored import Stored
from regard.interop.huggingface.weights.table import fill
from regard.interop.huggingface.weights.tokenizer_reading import framed, read_tokenizers


@dataclass(frozen=True)
class Converted:
    """A model that was read from a directory of transformers.

    Attributes:
        task: "translation", "language_modelling", "masked_language_modelling", "classification", "tagging", or
            "encoder" for a BERT without a head.
        model: of `regard.models`, in evaluation mode, float32.
        tokenizers: none, if the directory has no files of one; one; or the source's and the target's.
        content: what else the config.json of such a model says here: "generation", "decoding" and "frame", "mask" and
            "next_sentence", "labels".
    """

    task: str
    model: nn.Module
    tokenizers: tuple[Tokenizer, ...]
    content: dict[str, Any]


def read_weights(directory: str | Path, device: torch.device | str = "cpu") -> Converted:
    """Read the directory of a GPT-2, Llama, Qwen2, BERT, Marian, BART, Pegasus or M2M-100 model.

    transformers isn't needed. Weights become float32. A weight without a place, a missing one, and a field of
    config.json that would change what is computed are errors, so that the model computes what the directory's does.

    Args:
        directory: what `save_pretrained` of a model and its tokenizer wrote; only safetensors are read.
        device: where the model goes.

    Raises:
        CheckpointError: the directory is missing or damaged, its weights are pickled or incomplete, or it is of a model
            that this package doesn't compute; the message names the file, and the weight or field.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such model directory")
    file = directory / CONFIG
    name, config = architecture(directory), read_object(file)
    family = _family(file, config, name)
    values = family.fields.understood(config, file)
    stored = Stored(directory, name)
    family.rename(stored)
    with torch.random.fork_rng(devices=[]):  # fresh weights, which are all replaced, take no random numbers
        try:
            opened = family.open(Given(file, name, config, values, stored, read_generation(directory, config)))
        except ArgumentError as error:
            raise CheckpointError(f"{file}: {error}") from error
    fill(opened.model, opened.table, stored)
    tokenizers = read_tokenizers(directory, family.model_type, config)
    content = framed(opened.task, opened.content, directory, tokenizers)
    return Converted(opened.task, opened.model.to(device).eval(), tokenizers, content)


def _family(file: Path, config: dict[str, Any], name: str) -> Family:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise CheckpointError(f"{file}: model_type is {kind!r:.80}; weights are read of {', '.join(FAMILIES)}")
    family = FAMILIES[kind]
    if name not in family.architectures:
        raise CheckpointError(f"{file}: the model is a {name}; weights are read of {_listed(family.architectures)}")
    return family


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
