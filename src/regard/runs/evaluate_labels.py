"""How good a classifier or a tagger is on labelled text: what `regard evaluate MODEL --labelled FILE` reports."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regard.data.labelled import Column, LabelledTexts, TaggedSentences, read_labelled, read_tagged
from regard.errors import ArgumentError, DataError
from regard.runs.labels import Classifier, Tagger
from regard.tasks.label_metrics import (
    ClassScore,
    EntityReport,
    LabelReport,
    entity_report,
    label_report,
    marks_entities,
)


@dataclass(frozen=True)
class LabelEvaluation:
    """What was found; all shares are from 0 to 1.

    Attributes:
        task: "classification" or "tagging".
        examples: how many texts or sentences were judged.
        loss: mean negative natural-log probability of a true label; None where that isn't computed.
        report: accuracy, F1s, classes and confusion; of tags word by word.
        entities: of tags that mark entities, else None.
        seconds: that labelling took.
        notes: what a reader has to know.
        predictions: what the model said, text by text, or for each sentence word by word.
    """

    task: str
    examples: int
    loss: float | None
    report: LabelReport
    entities: EntityReport | None
    seconds: float
    notes: tuple[str, ...]
    predictions: tuple[str, ...] | tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions as plain values for `json.dump`; the figures of `report` stand in front."""
        content = asdict(self)
        del content["predictions"]
        head: dict[str, Any] = {
            "task": content.pop("task"),
            "examples": content.pop("examples"),
            "loss": content.pop("loss"),
        }
        return {**head, **content.pop("report"), **content}

    def figures(self) -> dict[str, str]:
        """The figures in words, by name."""
        report, unit = self.report, "texts" if self.task == "classification" else "words"
        figures = {"accuracy": f"{report.accuracy:.2%} of {report.count:,} {unit}"}
        if self.entities is not None:
            total = self.entities.total
            figures["F1 of entities"] = (
                f"{total.f1:.2%} (precision {total.precision:.2%}, recall {total.recall:.2%}; {total.support:,} "
                f"entities, {total.predicted:,} predicted)"
            )
            figures["F1, mean of types"] = f"{self.entities.macro_f1:.2%}"
        else:
            figures["F1, mean of classes (macro)"] = f"{report.macro_f1:.2%}"
            figures["F1, all decisions (micro)"] = f"{report.micro_f1:.2%}"
        if self.loss is not None:
            figures["loss"] = f"{self.loss:.4f} nats"
        figures["speed"] = f"{self.examples / max(self.seconds, 1e-9):,.0f} a second ({self.seconds:.1f} s)"
        return figures

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table of classes, or of types of entities."""
        of = "class" if self.entities is None else "entity"
        scores = self.report.classes if self.entities is None else self.entities.types
        return [of, "precision", "recall", "F1", "number", "predicted"], [_row(*one) for one in scores.items()]

    def lines(self) -> list[str]:
        """All of it for people to read, in plain text."""
        figures = self.figures()
        wide = max(map(len, figures))
        lines = [f"{name:<{wide}}  {value}" for name, value in figures.items()]
        head, rows = self.table()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines += ["", *(_aligned(row, widths) for row in (head, *rows))]
        return lines + [f"note: {note}" for note in self.notes]


def evaluate_labelled(
    model: Classifier | Tagger, path: Path, columns: Sequence[Column] = (), header: bool = False
) -> LabelEvaluation:
    """Read labelled text as training does, label it, and compare.

    Args:
        model: what is judged.
        path: a table of texts for a classifier, CoNLL's columns for a tagger.
        columns: of label, text and, for pairs, second text; of a tagger: of word and tag. As in a recipe if none.
        header: see `regard.data.labelled.read_labelled`.

    Raises:
        ArgumentError: columns that don't fit.
        DataError: the file cannot be used, or has a label that the model doesn't know; the message names the line.
    """
    if isinstance(model, Tagger):
        if len(columns) not in (0, 2) or not all(isinstance(column, int) for column in columns):
            raise ArgumentError(f"columns: got {list(columns)}, expected two numbers: of the word and of the tag")
        word, tag = (int(column) for column in columns) if columns else (None, None)
        return evaluate_tagger(model, read_tagged(path, word, tag))
    if len(columns) not in (0, 2, 3):
        raise ArgumentError(f"columns: got {list(columns)}, expected those of label, text and, for pairs, second text")
    if not columns and model.pairs:
        named = path.suffix in (".jsonl", ".ndjson", ".parquet", ".arrow", ".csv")
        raise ArgumentError(
            f"columns: this model was trained on pairs: give those of label, text and second text, for example "
            f"{'label,text,second' if named else '1,2,3'}"
        )
    label, text, second = [*columns, None, None, None][:3]
    return evaluate_classifier(model, read_labelled(path, label, text, second, header))


def evaluate_classifier(classifier: Classifier, data: LabelledTexts) -> LabelEvaluation:
    """Classify labelled texts and compare.

    Raises:
        DataError: a label is none of the model's; the message names the line.
        ArgumentError: pairs for a model of texts, or texts for one of pairs.
    """
    for index, label in enumerate(data.labels):
        if label not in classifier.labels:
            raise DataError(_unknown(data.where(index), "label", label, classifier.labels))
    began = time.perf_counter()
    found = classifier.classify([texts[0] if len(texts) == 1 else (texts[0], texts[1]) for texts in data.texts])
    seconds = time.perf_counter() - began
    said = tuple(one.label for one in found)
    # a probability that has become 0 in float32 counts with the least one above it
    losses = [-math.log(max(one.probabilities[label], 1e-38)) for one, label in zip(found, data.labels, strict=True)]
    notes = []
    if data.empty:
        notes.append(f"{data.empty:,} texts that are empty are left out")
    if cut := sum(one.cut for one in found):
        notes.append(f"{cut:,} texts are cut to {classifier.longest} tokens")
    return LabelEvaluation(
        task="classification",
        examples=len(data),
        loss=sum(losses) / len(losses),
        report=label_report(data.labels, said, classifier.labels),
        entities=None,
        seconds=seconds,
        notes=tuple(notes),
        predictions=said,
    )


def evaluate_tagger(tagger: Tagger, data: TaggedSentences) -> LabelEvaluation:
    """Tag the words of tagged sentences and compare.

    Tags that the model doesn't know are wrong whatever it says, and counted in the notes; entities of types that it
    doesn't know are not found.
    """
    began = time.perf_counter()
    found = tagger.tag(data.words)
    seconds = time.perf_counter() - began
    said = tuple(tuple(word.tag for word in sentence) for sentence in found)
    flat = [tag for tags in data.tags for tag in tags]
    unknown = {tag: flat.count(tag) for tag in sorted(set(flat) - set(tagger.labels))}
    entities = marks_entities([*tagger.labels, *unknown])
    notes = [f"{count:,} words have the tag {tag}, which the model doesn't know" for tag, count in unknown.items()]
    return LabelEvaluation(
        task="tagging",
        examples=len(data),
        loss=None,
        report=label_report(flat, [tag for tags in said for tag in tags], tagger.labels),
        entities=entity_report(data.tags, said) if entities else None,
        seconds=seconds,
        notes=tuple(notes),
        predictions=said,
    )


def _unknown(where: str, what: str, name: str, known: Sequence[str]) -> str:
    return f"{where}: the {what} {name!r} is none of the model's: {', '.join(known)}"


def _row(name: str, score: ClassScore) -> list[str]:
    shares = [f"{value:.2%}" for value in (score.precision, score.recall, score.f1)]
    return [name, *shares, f"{score.support:,}", f"{score.predicted:,}"]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """Words on the left, numbers on the right."""
    first, *rest = row
    numbers = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
    return "  ".join([f"{first:<{widths[0]}}", *numbers])
