"""Directories of Hugging Face models as models of this package."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.interop.huggingface.directory import CONFIG, architecture, read_object
from regard.interop.huggingface.weights.family import Family, Given
from regard.interop.huggingface.weights.generation import read_generation
from regard.interop.huggingface.weights.known import FAMILIES
from regard.interop.huggingface.weights.stored import Stored
from regard.interop.huggingface.weights.table import check, fill
from regard.interop.huggingface.weights.tokenizer_reading import framed, read_tokenizers

LAYERS: Final = ("num_hidden_layers", "n_layer", "encoder_layers", "decoder_layers")
"""Fields that say how many layers a model has."""
LARGEST: Final = 2**28
"""Numbers of a table that follows from the sizes."""
DRAWING: Final = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
"""What fills a fresh weight with random numbers."""


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
    _check_layers(file, values, stored)
    try:
        opened = family.open(Given(file, name, config, values, stored, read_generation(directory, config)))
        with torch.device("meta"):  # nothing is allocated before it is known to fit
            outline = opened.build()
        check(outline, opened.table, stored)
        _check_tables(file, outline)
        with Unfilled():
            model = opened.build()
    except ArgumentError as error:
        raise CheckpointError(f"{file}: {error}") from error
    fill(model, opened.table, stored)
    tokenizers = read_tokenizers(directory, family.model_type, config)
    content = framed(opened.task, opened.content, directory, tokenizers)
    return Converted(opened.task, model.to(device).eval(), tokenizers, content)


class Unfilled(TorchFunctionMode):
    """Weights that are made in here have no numbers yet: all are replaced, and random ones take time."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Leaves out what draws numbers in place."""
        if func in DRAWING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _check_layers(file: Path, values: Mapping[str, Any], stored: Stored) -> None:
    """Refuse more layers than there are weights, before anything of their number is made."""
    for name in LAYERS:
        if values.get(name, 0) > len(stored.names):
            raise CheckpointError(
                f"{file}: {name} is {values[name]}, and {stored.where} has {len(stored.names)} weights"
            )


def _check_tables(file: Path, outline: nn.Module) -> None:
    """Refuse tables that aren't stored, such as sines of positions, if they are larger than any model's."""
    for name, table in outline.named_buffers():
        if table.numel() > LARGEST:
            raise CheckpointError(
                f"{file}: by its sizes {name} is {tuple(table.shape)}; supported are {LARGEST} numbers"
            )


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
