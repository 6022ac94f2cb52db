"""What `regard train` asks of a task. The run itself (`regard.runs.train`) knows no more of any of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from regard.models.config import ModelConfig
from regard.runs.initial import load_initial
from regard.training import Indices, Metric, Problem

B = TypeVar("B")

Say = Callable[[str], None]
Progress = Callable[[str, int, int | None], None]
"""Told what is counted, how much of it is done, and of how much, if that is known."""


class TrainedModel(Protocol):
    """What a run asks of a model, besides being an `nn.Module`."""

    @property
    def config(self) -> ModelConfig:
        """Its sizes and choices."""
        ...

    def blocks(self) -> list[nn.Module]:
        """The parts that are computed one after the other; see `EncoderDecoder.blocks`."""
        ...


class Validator(ABC):
    """Judges the model it was made for, as it stands.

    Args:
        model: put into evaluation mode; the run puts it back.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @abstractmethod
    def __call__(self, step: int) -> dict[str, float]:
        """Metrics by name; `loss` (mean of a target token, nats) is always one of them."""

    @abstractmethod
    def seconds(self) -> float:
        """The measured time of one validation of a model that may be untrained."""

    def shown(self) -> list[str]:
        """Lines about the last validation for people to read, such as what the model says now."""
        return []


@dataclass(frozen=True)
class Place:
    """Where and how the data of a run are made ready.

    Attributes:
        out: the run's directory; it need not exist.
        folder: where what is prepared goes.
        begun: whether the run has begun, so that what it was trained on isn't replaced.
        main: whether this process prepares; others find it prepared (several processes).
        device: where batches go.
        say, progress: told in words, and in numbers.
    """

    out: Path
    folder: Path
    begun: bool
    main: bool
    device: torch.device
    say: Say
    progress: Progress


class Work(ABC, Generic[B]):
    """A task made ready for training: its data, model, loss and validation.

    Attributes:
        config: of the model.
        facts: sizes of the data, and a fingerprint "sha256"; a resumed run must meet them again.
        notes: what was left out and why, in words.
        metric: what decides which checkpoint is the best.
    """

    config: ModelConfig
    facts: Mapping[str, Any]
    notes: Sequence[str]
    metric: Metric

    @abstractmethod
    def build(self) -> nn.Module:
        """A model (`TrainedModel`) with fresh weights, from torch's default generator, on the CPU."""

    @abstractmethod
    def objective(self, model: nn.Module) -> nn.Module:
        """A module that holds the model and gives the summed loss of a batch; several processes wrap it."""

    @abstractmethod
    def problem(self, loss: Callable[[B], Tensor]) -> Problem[B]:
        """The learning problem with this summed loss, which calls the objective."""

    @abstractmethod
    def target_tokens(self, indices: Indices) -> int:
        """The target tokens of a micro-batch, which budgets in tokens count."""

    @abstractmethod
    def validator(self, model: nn.Module) -> Validator:
        """What judges the model."""

    def start_from(self, model: nn.Module, origin: Path) -> None:
        """Put the weights of `training.init_from` into a fresh model: those of a model just like it, here.

        Raises:
            CheckpointError: there are none, or they are of another model.
        """
        load_initial(model, origin)

    @abstractmethod
    def real(self, batch: B) -> Mapping[str, Tensor]:
        """Which positions of a batch are not padding, by the name of the sequence ("source", "target", "text") that
        attention roles use: bool (B, L). For measurements of attention in training."""

    @abstractmethod
    def keep(self, directory: Path) -> None:
        """Write what belongs to the run from its beginning, such as tokenizer files."""

    @abstractmethod
    def save(self, directory: Path, weights: dict[str, Tensor]) -> None:
        """Write the finished model: weights, then config.json, which makes the directory loadable."""

    @abstractmethod
    def words(self) -> list[str]:
        """The data and the vocabulary in a line or two, said before training."""

    @abstractmethod
    def sizes(self) -> dict[str, str]:
        """Sizes for `--dry-run`, by name: vocabulary, training part, validation part."""

    def less_validated(self) -> str:
        """What a user can do to shorten a validation, for messages: "…, or {this}"."""
        return "have a smaller validation part"

    @abstractmethod
    def next_commands(self, directory: Path) -> list[str]:
        """What a user would type now that the model in `directory` is trained."""
