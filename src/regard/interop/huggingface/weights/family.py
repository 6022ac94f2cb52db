"""What a family of Hugging Face models is to reading and writing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from regard.interop.huggingface.weights.fields import Fields
from regard.interop.huggingface.weights.generation import Generation
from regard.interop.huggingface.weights.stored import Stored
from regard.interop.huggingface.weights.table import Table


@dataclass(frozen=True)
class Given:
    """A directory that is read.

    Attributes:
        file: its config.json.
        architecture: the class that it names.
        config: the whole content of config.json.
        values: the fields of it that the family uses, checked.
        stored: the weights.
        generation: what it says about generating.
    """

    file: Path
    architecture: str
    config: Mapping[str, Any]
    values: Mapping[str, Any]
    stored: Stored
    generation: Generation


@dataclass(frozen=True)
class Opened:
    """A model of ours that can be built, and where its weights are found.

    Attributes:
        task: what it is for.
        build: makes it, of `regard.models`, with fresh weights.
        table: of all its weights.
        content: what else config.json says of such a model here.
    """

    task: str
    build: Callable[[], nn.Module]
    table: Table
    content: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A model of ours as one of a family.

    Attributes:
        config: content of config.json.
        table: of all its weights.
        generation: content of generation_config.json, None if there is none.
    """

    config: dict[str, Any]
    table: Table
    generation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        model_type: its name in config.json.
        architectures: the classes that are read.
        fields: of config.json.
        rename: what stored names are called in the table: some directories leave out the part that all have.
        open: makes the model of a directory.
    """

    model_type: str
    architectures: tuple[str, ...]
    fields: Fields
    rename: Callable[[Stored], None]
    open: Callable[[Given], Opened]


def with_prefix(prefix: str, heads: tuple[str, ...]) -> Callable[[Stored], None]:
    """Puts the part that all names have in front, where they are stored without it, as base models are.

    Args:
        prefix: such as "transformer.".
        heads: beginnings of names that never have it.
    """

    def rename(stored: Stored) -> None:
        if not any(name.startswith(prefix) for name in stored.names):
            stored.rename(lambda name: name if name.startswith(heads) else prefix + name)

    return rename


def none_fits(problems: Mapping[str, str | None]) -> str:
    """That no family computes what a model does, and what each hasn't, by its name."""
    reasons = "; ".join(f"{name} has no {problem}" for name, problem in problems.items())
    return f"no model of transformers that is written here computes the same as this one: {reasons}"
