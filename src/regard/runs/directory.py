"""The directory of a finished model: config.json, model.safetensors, tokenizer files and the recipe.

config.json               format version, task, kind of model and its configuration, decoding defaults
model.safetensors         the weights
tokenizer.json            the joint tokenizer, or
source.tokenizer.json, target.tokenizer.json
recipe.toml               what made it
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

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
C = TypeVar("C", bound=ModelConfig)

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
class SavedConfig:
    """What the config.json of a model directory says.

    Attributes:
        task: what the model was trained for.
        name: the kind of model.
        settings: the fields of its configuration.
        content: all of it.
        path: the file, for messages.
    """

    task: str
    name: str
    settings: dict[str, Any]
    content: dict[str, Any]
    path: Path

    def config(self, kinds: Mapping[str, type[C]]) -> C:
        """The configuration of the model.

        Args:
            kinds: configurations that the task can have, by the name of the model.

        Raises:
            CheckpointError: it is of another kind, or not one that this version understands.
        """
        if self.name not in kinds:
            raise CheckpointError(
                f"{self.path}: the model is {self.name!r}; supported for the task {self.task} are {', '.join(kinds)}"
            )
        try:
            return kinds[self.name](**self.settings)
        except (TypeError, ArgumentError) as error:
            raise not_understood(self.path, error) from error


@dataclass(frozen=True)
class SavedModel:
    """What the directory of a translation model holds."""

    model: EncoderDecoder
    tokenizers: Tokenizers
    decoding: dict[str, Any]


def write_model(
    directory: Path, task: str, config: ModelConfig, weights: dict[str, Tensor], content: Mapping[str, Any]
) -> None:
    """Write weights, then config.json, which makes the directory loadable; the tokenizers are there already.

    Args:
        directory: of the model.
        task: what it was trained for.
        config: of the model.
        weights: its state.
        content: what else config.json says.
    """
    write_bytes(directory / WEIGHTS, pack_weights(weights))
    model = {"name": config.NAME, **asdict(config)}
    write_json(directory / CONFIG, {"format": FORMAT, "task": task, "model": model, **content})


def save_model(directory: Path, config: ModelConfig, weights: dict[str, Tensor], decoding: dict[str, Any]) -> None:
    """Write a translation model, as `write_model` does, with the defaults of its decoding."""
    write_model(directory, "translation", config, weights, {"decoding": decoding})


def read_config(directory: Path) -> SavedConfig:
    """Read the config.json of a model directory.

    Raises:
        CheckpointError: it is missing, unfinished, damaged, or of another version; the message names the file.
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
        return SavedConfig(str(content["task"]), str(settings.pop("name")), settings, content, config_file)
    except (KeyError, TypeError, ValueError) as error:
        raise not_understood(config_file, error) from error


def load_model(directory: Path, device: torch.device) -> SavedModel:
    """Read the directory of a translation model.

    Raises:
        CheckpointError: it is missing, unfinished, damaged, or of another kind or version; the message names the file.
    """
    return open_model(directory, read_config(directory), device)


def open_model(directory: Path, saved: SavedConfig, device: torch.device) -> SavedModel:
    """The translation model of a directory whose config.json has been read.

    Raises:
        CheckpointError: as for `load_model`.
    """
    if saved.task != "translation":
        raise CheckpointError(f"{saved.path}: the task is {saved.task!r}: expected a model for translation")
    config = saved.config({name: family.config for name, family in FAMILIES.items()})
    try:
        decoding = dict(saved.content["decoding"])
    except (KeyError, TypeError, ValueError) as error:
        raise not_understood(saved.path, error) from error
    tokenizers = Tokenizers.load(directory)
    if tokenizers is None:
        raise CheckpointError(f"{directory}: has no {JOINT}, nor {SOURCE} and {TARGET}")
    model = FAMILIES[saved.name].build(config)
    load_weights_file(directory / WEIGHTS, model)
    return SavedModel(model.to(device).eval(), tokenizers, decoding)


def read_joint_tokenizer(directory: Path) -> Tokenizer:
    """The one tokenizer of a model that reads one text.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    if not (directory / JOINT).exists():
        raise CheckpointError(f"{directory}: has no {JOINT}")
    return Tokenizer.load(directory / JOINT)


def not_understood(path: Path, error: Exception) -> CheckpointError:
    """The error for a config.json that lacks something, or has what this version doesn't know."""
    return CheckpointError(f"{path}: not a configuration this version understands ({error})")


def load_weights_file(path: Path, model: nn.Module) -> None:
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
        if isinstance(content, dict) and "format" not in content:
            raise CheckpointError(
                f"{path}: it has no format, as directories of this package have (this version reads format {FORMAT}), "
                "and no model_type and architectures, as those of Hugging Face have; if it is one of theirs, add them, "
                'such as "model_type": "bert", "architectures": ["BertForMaskedLM"]'
            )
        found = content.get("format") if isinstance(content, dict) else None
        raise CheckpointError(f"{path}: format {found!r}; this version reads format {FORMAT}")
    return content
