"""Classification as work for a training run: labelled texts in memory, BERT with a head, accuracy and F1."""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from regard.data.labelled import LabelledTexts, default_columns, read_labelled
from regard.errors import RecipeError
from regard.models.bert import SentenceClassifier, build_classifier
from regard.runs.label_origin import Begun, begin
from regard.runs.label_reading import class_log_probs, frame_of, text_rows
from regard.runs.label_recipes import ClassificationDataRecipe, ClassificationRecipe
from regard.runs.work.contract import Place, Validator
from regard.runs.work.label_parts import LabelWork, class_names, class_numbers, fingerprint, hold_out, too_long
from regard.tasks.classification import ClassificationBatch, ClassificationObjective, collate
from regard.tasks.framing import Frame, FramedRow
from regard.tasks.label_metrics import label_report
from regard.training import Indices, Problem


class ClassificationValidator(Validator):
    """Judges a classifier on labelled texts: loss (of a text, nats, unsmoothed), accuracy, and f1, the mean of the
    classes' F1s; both from 0 to 1.

    Args:
        model: see `Validator`.
        rows: the texts.
        numbers: of their classes.
        names: of the classes.
        frame: the special tokens.
    """

    def __init__(
        self, model: SentenceClassifier, rows: list[FramedRow], numbers: list[int], names: tuple[str, ...], frame: Frame
    ) -> None:
        super().__init__(model)
        self._judged = model
        self.rows, self.numbers, self.names, self.frame = rows, numbers, names, frame

    def __call__(self, step: int) -> dict[str, float]:
        """See `Validator`."""
        self.model.eval()
        log_probs = class_log_probs(self._judged, self.rows, self.frame)  # (N, C)
        right = log_probs.double().gather(1, torch.tensor(self.numbers)[:, None])
        report = label_report(
            [self.names[number] for number in self.numbers],
            [self.names[number] for number in log_probs.argmax(1).tolist()],
        )
        return {"loss": -float(right.mean()), "accuracy": report.accuracy, "f1": report.macro_f1}

    def seconds(self) -> float:
        """See `Validator.seconds`."""
        started = time.perf_counter()
        self(0)
        return time.perf_counter() - started


class ClassificationWork(LabelWork[ClassificationBatch]):
    """A classifier to be trained.

    Args:
        recipe: of the run.
        begun: tokenizer and sizes.
        train, valid: the data.
        names: of the classes.
        device: where batches go.

    Raises:
        DataError: a label is none of the classes.
    """

    def __init__(
        self,
        recipe: ClassificationRecipe,
        begun: Begun,
        train: LabelledTexts,
        valid: LabelledTexts,
        names: list[str],
        device: torch.device,
    ) -> None:
        data, self.device = recipe.data, device
        source = "data.labels" if data.labels is not None else train.name
        self._numbers = [class_numbers(part.labels, names, part.where, "label", source) for part in (train, valid)]
        self._rows = [text_rows(begun.tokenizer, part.texts, data.length) for part in (train, valid)]
        self.frame = frame_of(begun.tokenizer)
        super().__init__(
            "classification",
            begun,
            recipe.training,
            names,
            {"length": data.length, "pairs": data.second is not None},
            [len(row.ids) for row in self._rows[0]],
        )
        self.facts = {
            "train_texts": len(train),
            "valid_texts": len(valid),
            "classes": len(names),
            "sha256": fingerprint([names, train.texts, train.labels, valid.texts, valid.labels]),
        }
        self._as_read = _as_read(data)
        self.notes = _notes(data, (train, valid), self._rows)

    def build(self) -> nn.Module:
        """See `Work.build`."""
        return build_classifier(self.config, len(self.names))

    def objective(self, model: nn.Module) -> nn.Module:
        """See `Work.objective`."""
        return ClassificationObjective(cast(SentenceClassifier, model), self.training.label_smoothing)

    def problem(self, loss: Callable[[ClassificationBatch], Tensor]) -> Problem[ClassificationBatch]:
        """See `Work.problem`."""
        return Problem(self.batches.epoch, self._collate, lambda batch: len(batch.labels), loss)

    def target_tokens(self, indices: Indices) -> int:
        """See `Work.target_tokens`: one label a text."""
        return len(indices)

    def validator(self, model: nn.Module) -> ClassificationValidator:
        """See `Work.validator`."""
        judged = cast(SentenceClassifier, model)
        return ClassificationValidator(judged, self._rows[1], self._numbers[1], self.names, self.frame)

    def real(self, batch: ClassificationBatch) -> Mapping[str, Tensor]:
        """See `Work.real`."""
        return {"text": batch.texts.real()}

    def sizes(self) -> dict[str, str]:
        """See `Work.sizes`."""
        train, valid = (f"{len(rows):,} texts" for rows in self._rows)
        return {"training part": train, "validation part": valid, **self.shared_sizes()}

    def next_commands(self, directory: Path) -> list[str]:
        """See `Work.next_commands`."""
        return [
            f"regard label {directory} < input > output",
            f"regard evaluate {directory} --labelled FILE{self._as_read}",
        ]

    def _collate(self, indices: Indices, epoch: int) -> ClassificationBatch:
        chosen = [int(i) for i in indices]
        rows, numbers = self._rows[0], self._numbers[0]
        return collate([rows[i] for i in chosen], [numbers[i] for i in chosen], self.frame, self.device)


def open_classification(recipe: ClassificationRecipe, place: Place) -> ClassificationWork:
    """Read and tokenise the data of a recipe.

    Raises:
        RecipeError: the recipe doesn't fit together.
        DataError: the data cannot be used; the message names file and line.
        CheckpointError: `training.init_from` cannot be used.
    """
    data = recipe.data
    train = _read(data, data.train)
    if data.valid is not None:
        valid = _read(data, data.valid)
    else:
        kept, held = hold_out(len(train), data.held_out, data.seed, train.name)
        train, valid = replace(train.subset(kept), empty=train.empty), train.subset(held)
    names = class_names(train.labels, data.labels, train.name, "label")
    begun = begin(recipe, place, lambda: (text for texts in train.texts for text in texts))
    if data.second is not None and begun.config.types < 2:
        raise RecipeError(
            f"data.second = {data.second!r}: pairs need two segment types, the model has {begun.config.types} "
            "(model.types)"
        )
    return ClassificationWork(recipe, begun, train, valid, names, place.device)


def _read(data: ClassificationDataRecipe, name: str) -> LabelledTexts:
    return read_labelled(Path(data.folder or ".") / name, data.label, data.text, data.second, data.header)


def _as_read(data: ClassificationDataRecipe) -> str:
    """Options of `regard evaluate` with which it reads a table as the training part is read."""
    given = (data.label, data.text, data.second)
    if given == (None, None, None):
        options = ""
    else:
        plain = default_columns(Path(data.folder or ".") / data.train)
        columns = [one if one is not None else usual for one, usual in zip(given, (*plain, None), strict=True)]
        options = " --columns " + shlex.quote(",".join(str(one) for one in columns if one is not None))
    return options + (" --header" if data.header else "")


def _notes(
    data: ClassificationDataRecipe, parts: tuple[LabelledTexts, LabelledTexts], rows: list[list[FramedRow]]
) -> list[str]:
    notes = []
    for what, part, framed in zip(("training", "validation"), parts, rows, strict=True):
        if part.empty:
            notes.append(f"{part.empty:,} {what} texts that are empty are left out")
        if cut := sum(row.cut for row in framed):
            notes.append(too_long(cut, f"{what} texts are cut at their end", data.length))
    if data.valid is None:
        notes.append(f"no validation part is given: {len(parts[1]):,} training texts are held out for it")
    return notes
