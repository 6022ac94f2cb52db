"""`regard.load`: what a model directory holds, as the object that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regard.errors import CheckpointError
from regard.interop.huggingface.directory import CONFIG as HUGGINGFACE_CONFIG
from regard.interop.huggingface.directory import is_directory
from regard.interop.huggingface.weights import read_weights
from regard.runs.build import torch_device
from regard.runs.converted import CONVERTED
from regard.runs.directory import SavedConfig, read_config, read_json
from regard.runs.labels import Classifier, Tagger, open_classification, open_tagging
from regard.runs.language_model import LanguageModel, open_language_modelling
from regard.runs.masked_model import MaskedModel, open_masked_language_modelling
from regard.runs.translator import Translator, open_translation

Runner = Translator | LanguageModel | MaskedModel | Classifier | Tagger
"""What runs a model on texts; each has `.model`."""

OPENERS: dict[str, Callable[[Path, SavedConfig, torch.device], Runner]] = {
    "translation": open_translation,
    "language_modelling": open_language_modelling,
    "masked_language_modelling": open_masked_language_modelling,
    "classification": open_classification,
    "tagging": open_tagging,
}
"""By the task that a directory's model was trained for."""


@dataclass(frozen=True)
class Opened:
    """A model directory, opened.

    Attributes:
        task: what the model was trained for.
        runner: what runs it.
        origin: "regard", or "Hugging Face transformers".
    """

    task: str
    runner: Runner
    origin: str


def load(directory: str | Path, *, device: str = "auto") -> Any:
    """Open the directory of a model: one that `regard train` made, or one of Hugging Face's with safetensors.

    Args:
        directory: what `regard train` made, or what `save_pretrained` of a model and its tokenizer wrote (GPT-2, Llama,
            Qwen2, BERT, Marian, BART and their like: docs/language-models.md). Special tokens that are typed in a text
            are plain text here, which they aren't there.
        device: "auto" (CUDA or MPS where there is one), "cpu", "cuda:0", …

    Returns:
        By its task a `Translator`, `LanguageModel`, `MaskedModel`, `Classifier` or `Tagger`. Each has `.model` and runs
        on texts.

    Raises:
        CheckpointError: it is missing, unfinished or damaged, or has what isn't understood; the message names the file.
        RecipeError: there is no such device.
    """
    return open_model_directory(directory, device=device).runner


def open_model_directory(directory: str | Path, *, device: str = "auto") -> Opened:
    """As `load`, with what the model is for and where it is from."""
    path, place = Path(directory), torch_device(device)
    if (path / HUGGINGFACE_CONFIG).exists() and is_directory(read_json(path / HUGGINGFACE_CONFIG)):
        found = read_weights(path, place)
        if found.task not in CONVERTED:
            raise CheckpointError(
                f"{path}: a model without a head ({type(found.model).__name__}): there is nothing that it says; "
                "training.init_from can start from it"
            )
        return Opened(found.task, CONVERTED[found.task](path, found), "Hugging Face transformers")
    saved = read_config(path)
    if saved.task not in OPENERS:
        raise CheckpointError(f"{saved.path}: the task is {saved.task!r}: there are {', '.join(OPENERS)}")
    return Opened(saved.task, OPENERS[saved.task](path, saved, place), "regard")


def load_translator(directory: str | Path, *, device: str = "auto") -> Translator:
    """As `load`, for what needs a model for translation.

    Raises:
        CheckpointError: as for `load`, or it is for another task.
    """
    opened = open_model_directory(directory, device=device)
    if not isinstance(opened.runner, Translator):
        raise CheckpointError(f"{directory}: a model for {opened.task}: expected one for translation")
    return opened.runner
