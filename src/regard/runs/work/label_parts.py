"""What the works of classification and tagging share: classes and their numbers, the held-out part, fingerprints."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor, nn

from regard.data.row_batches import RowBatches
from regard.errors import DataError
from regard.models.bert import BERTConfig, SentenceClassifier, TokenTagger
from regard.runs.directory import JOINT, write_model
from regard.runs.label_origin import Begun
from regard.runs.label_recipes import LabelTrainingRecipe
from regard.runs.work.contract import Work
from regard.training import Metric

B = TypeVar("B")


def hold_out(count: int, share: float, seed: int, name: str) -> tuple[list[int], list[int]]:
    """The examples to train on, and those held out, in order.

    Raises:
        DataError: there are too few for both.
    """
    if count < 2:
        raise DataError(f"{name}: has {count} example; expected two or more, so that one can be held out")
    number = min(count - 1, max(1, round(share * count)))
    held = set(np.random.default_rng(seed).permutation(count)[:number].tolist())
    return [i for i in range(count) if i not in held], sorted(held)


def class_names(labels: Iterable[str], given: Sequence[str] | None, name: str, what: str) -> list[str]:
    """The names of the classes, in the order of their numbers: those given, else sorted, numbers by their size.

    Args:
        labels: of the training part.
        given: by the recipe.
        name: of the training part.
        what: "label" or "tag".

    Raises:
        DataError: there is only one.
    """
    if given is not None:
        return list(given)
    found = set(labels)
    if len(found) < 2:
        raise DataError(f"{name}: the only {what} in it is {found.pop()!r}: expected two or more to tell apart")
    numbers = all(one.removeprefix("-").isdecimal() for one in found)
    return sorted(found, key=lambda one: (int(one), one)) if numbers else sorted(found)


def class_numbers(
    labels: Sequence[str], names: Sequence[str], where: Callable[[int], str], what: str, source: str
) -> list[int]:
    """The number of each label.

    Args:
        labels: those.
        names: of the classes.
        where: says where a label stands.
        what: "label" or "tag".
        source: where the names are from.

    Raises:
        DataError: a label is none of them.
    """
    numbers = {name: number for number, name in enumerate(names)}
    for index, label in enumerate(labels):
        if label not in numbers:
            known = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
            raise DataError(
                f"{where(index)}: the {what} {label!r} is not among those of {source} ({known}); "
                "data.labels can name them all"
            )
    return [numbers[label] for label in labels]


def fingerprint(content: Any) -> str:
    """A digest of plain values."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


class LabelWork(Work[B]):
    """What the works of classification and of tagging do alike, whatever the head on the encoder.

    Args:
        task: what is learned.
        begun: tokenizer, sizes, and the model that is fine-tuned.
        training: section of the recipe.
        names: of the classes.
        content: what config.json says besides.
        lengths: tokens of each training example.
    """

    config: BERTConfig

    def __init__(
        self,
        task: str,
        begun: Begun,
        training: LabelTrainingRecipe,
        names: Sequence[str],
        content: dict[str, Any],
        lengths: Sequence[int],
    ) -> None:
        self.task, self.begun, self.training, self.names = task, begun, training, tuple(names)
        self.config = begun.config
        self.content = {"labels": list(names), **content}
        self.metric = Metric(training.metric, "min" if training.metric == "loss" else "max")
        self.batches = RowBatches(lengths, training.sentences_per_batch, training.seed)

    def start_from(self, model: nn.Module, origin: Path) -> None:
        """See `Work.start_from`: the encoder's weights are taken over, the head stays fresh."""
        if self.begun.origin is not None:
            self.begun.origin.put_into(cast(SentenceClassifier | TokenTagger, model).encoder)

    def keep(self, directory: Path) -> None:
        """See `Work.keep`: the tokenizer."""
        self.begun.tokenizer.save(directory / JOINT)

    def save(self, directory: Path, weights: dict[str, Tensor]) -> None:
        """See `Work.save`."""
        write_model(directory, self.task, self.config, weights, self.content)

    def words(self) -> list[str]:
        """See `Work.words`."""
        sizes = self.sizes()
        lines = [f"{sizes['training part']}, {sizes['validation part']} for validation; {sizes['classes']}"]
        if self.begun.origin is not None:
            lines.append(f"encoder and tokenizer of {self.begun.origin.path}; what is put on the encoder is fresh")
        return lines

    def shared_sizes(self) -> dict[str, str]:
        """The part of `sizes` that is alike."""
        shown = ", ".join(self.names[:8]) + (", …" if len(self.names) > 8 else "")
        return {"vocabulary": f"{self.config.vocabulary:,} tokens", "classes": f"{len(self.names)} classes ({shown})"}


def too_long(count: int, what: str, length: int) -> str:
    """A note about examples with more tokens than the recipe allows."""
    return f"{count:,} {what} (data.length = {length} tokens)"
