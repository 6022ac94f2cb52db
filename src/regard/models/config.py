"""What the configurations of all models have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, ClassVar, Self, get_args

from torch import nn

from regard.errors import ArgumentError
from regard.layers import LearnedPositions, TokenEmbedding


@dataclass(frozen=True)
class ModelConfig(ABC):
    """Sizes and choices of a model: plain values, saved beside the weights.

    A model's own configuration adds its fields, each with a default and a docstring, and the class variables. Integers
    are sizes, 1 or more unless a field's metadata has another "least"; numbers with a fraction are shares, from 0 to
    less than 1, unless the metadata say "positive".

    Raises:
        ArgumentError: a field has a value that it cannot have.
    """

    NAME: ClassVar[str]
    """What recipes and saved models call the model."""
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    """Settings by the name of a preset."""
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}
    """The values that a field may have, where they are few."""

    max_length: int = field(default=1024, kw_only=True)
    """Most positions of a sequence, special tokens included."""

    def __post_init__(self) -> None:
        for name, known in self.CHOICES.items():
            if getattr(self, name) not in known:
                expected = " or ".join(repr(choice) for choice in known)
                raise ArgumentError(f"{name} is {getattr(self, name)!r}: expected {expected}")
        for x in fields(self):
            value, kinds = getattr(self, x.name), get_args(x.type) or (x.type,)
            if value is None and NoneType in kinds:
                continue
            least = x.metadata.get("least", 1)
            if int in kinds and not (type(value) is int and value >= least):
                raise ArgumentError(f"{x.name} is {value!r}: expected {least} or more")
            if float in kinds:
                _check_number(x.name, value, x.metadata.get("positive", False))

    @abstractmethod
    def words(self) -> str:
        """The architecture in one line."""

    @classmethod
    def preset(cls, name: str, **settings: Any) -> Self:
        """The preset `name` with `settings` put in or replaced.

        Raises:
            ArgumentError: there is no such preset, or the settings don't fit each other.
        """
        if name not in cls.PRESETS:
            raise ArgumentError(f"no preset {name!r}: there are {', '.join(cls.PRESETS)}")
        return cls(**(cls.PRESETS[name] | settings))


@dataclass(frozen=True)
class TextConfig(ModelConfig):
    """Sizes and choices of a model that reads one sequence of tokens; see `ModelConfig`."""

    vocabulary: int
    """V of the embedding and of the output."""


def _check_number(name: str, value: object, positive: bool) -> None:
    number = float("nan") if isinstance(value, bool) or not isinstance(value, int | float) else value
    if positive and not 0 < number < float("inf"):
        raise ArgumentError(f"{name} is {value!r}: expected a number above 0")
    if not positive and not 0 <= number < 1:
        raise ArgumentError(f"{name} is {value!r}: expected 0 or more and less than 1")


def table_names(model: nn.Module) -> set[str]:
    """The names of a model's tables, of which a step uses few rows: embeddings of tokens and of positions."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, TokenEmbedding | LearnedPositions)
        for name, _ in module.named_parameters()
    }


def parameter_count(model: nn.Module) -> int:
    """How many numbers a model learns; shared tables count once."""
    return sum(parameter.numel() for parameter in model.parameters())
