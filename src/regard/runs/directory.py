"""The directory of a finished model: config.json, model.safetensors, tokenizer files and the recipe.

config.json               format version, task, kind of model and its configuration, decoding defaults
model.safetensors         the weights
tokenizer.json            the joint tokenizer, or
source.tokenizer.json, target.tokenizer.json
recipe.toml               what made it
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.files import write_bytes, write_json
from regard.models.config import ModelConfig
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.families import FAMILIES
from regard.training import load_weights_into, pack_weights, unpack_weights

FORMAT = 1
CONFIG, WEIGHTS, RECIPE = "config.json", "model.safetensors", "recipe.toml"
CHECKPOINTS = "checkpoints"
JOINT, SOURCE, TARGET = "tokenizer.json", "source.tokenizer.json", "target.tokenizer.json"


@dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of both languages; the same object where they are one."""

    source: Tokenizer
    target: Tokenizer

    @property
    def joint(self) -> bool:
        """Whether both languages share one."""
        return self.source is self.target

    def save(self, directory: Path) -> None:
        """Write the tokenizer files into `directory`."""
        if self.joint:
            self.source.save(directory / JOINT)
        else:
            self.source.save(directory / SOURCE)
            self.target.save(directory / TARGET)

    @staticmethod
    def load(directory: Path) -> "Tokenizers | None":
        """Read the tokenizer files of `directory`; None if they are not there (yet).

        Raises:
            CheckpointError: a file is damaged.
        """
        if (directory / JOINT).exists():
            joint = Tokenizer.load(directory / JOINT)
            return Tokenizers(joint, joint)
        if (directory / SOURCE).exists() and (directory / TARGET).exists():
            return Tokenizers(Tokenizer.load(directory / SOURCE), Tokenizer.load(directory / TARGET))
        return None


@dataclass(frozen=True)
class SavedModel:
    """What a model directory holds."""

    model: EncoderDecoder
    tokenizers: Tokenizers
    decoding: dict[str, Any]


def save_model(directory: Path, config: ModelConfig, weights: dict[str, Tensor], decoding: dict[str, Any]) -> None:
    """Write weights, then config.json, which makes the directory loadable; the tokenizers are there already."""
    write_bytes(directory / WEIGHTS, pack_weights(weights))
    content = {
        "format": FORMAT,
        "task": "translation",
        "model": {"name": config.NAME, **asdict(config)},
        "decoding": decoding,
    }
    write_json(directory / CONFIG, content)


def load_model(directory: Path, device: torch.device) -> SavedModel:
    """Read a model directory.

    Raises:
        CheckpointError: it is missing, unfinished, damaged, or of another kind or version; the message names the file.
    """
    config_file = directory / CONFIG
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such model directory")
    if not config_file.exists():
        if (directory / RECIPE).exists():
            raise CheckpointError(
                f"{directory}: training has not finished; continue it with: regard train {directory / RECIPE} "
                f"--out {directory}"
            )
        raise CheckpointError(f"{directory}: not a model directory, it has no {CONFIG}")
    content = _read_config(config_file)
    try:
        settings = dict(content["model"])
        name = settings.pop("name")
        if name not in FAMILIES or content["task"] != "translation":
            known = ", ".join(FAMILIES)
            raise CheckpointError(f"{config_file}: supported are the models {known} for the task translation")
        family = FAMILIES[name]
        config = family.config(**settings)
        decoding = dict(content["decoding"])
    except (KeyError, TypeError, ArgumentError) as error:
        raise CheckpointError(f"{config_file}: not a configuration this version understands ({error})") from error
    tokenizers = Tokenizers.load(directory)
    if tokenizers is None:
        raise CheckpointError(f"{directory}: has no {JOINT}, nor {SOURCE} and {TARGET}")
    model = family.build(config)
    load_weights_file(directory / WEIGHTS, model)
    return SavedModel(model.to(device).eval(), tokenizers, decoding)


def load_weights_file(path: Path, model: EncoderDecoder) -> None:
    """Put the weights of a safetensors file into a model.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    try:
        weights = unpack_weights(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not safetensors ({error})") from error
    load_weights_into(model, weights, path)


def read_json(path: Path) -> Any:
    """The content of a JSON file of a run.

    Raises:
        CheckpointError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: damaged or not readable ({error})") from error


def _read_config(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise CheckpointError(f"{path}: format {found!r}; this version reads format {FORMAT}")
    return content
