"""A comparison as plain tables, for CSV files and for the page's last part."""

import csv
import io
import math
from dataclasses import dataclass

from regard.runs.compare.results import Comparison, Estimate, Judged, ModelResult, SeedRun

Cell = str | int | float | None

NAMES = ("models", "judged", "by_length", "curves", "training", "speed", "reach", "probes", "sentences")
"""All tables that there can be, in reading order."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its CSV file, without ending.
        title: what is in it.
        columns: names of the columns.
        rows: cells; None where there is no value.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(comparison: Comparison) -> dict[str, Table]:
    """Return the tables that the comparison has rows for, by name, in the order of `NAMES`."""
    made = (
        _models(comparison),
        _judged(comparison),
        _by_length(comparison),
        _curves(comparison),
        _training(comparison),
        _speed(comparison),
        _reach(comparison),
        _probes(comparison),
        _sentences(comparison),
    )
    return {table.name: table for table in made if table.rows}


def to_csv(table: Table) -> str:
    """Write a table as CSV (RFC 4180, `\\n` line ends): full precision, nothing for None, a heading line first.

    Text is as it is: a spreadsheet that takes what begins with = + - @ for a formula has to be told that it is text.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_plain(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def _plain(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return repr(cell) if math.isfinite(cell) else str(cell)
    return str(cell)


def _runs(comparison: Comparison) -> list[tuple[ModelResult, SeedRun]]:
    return [(model, run) for model in comparison.models for run in model.runs]


def _models(comparison: Comparison) -> Table:
    columns = (
        "model", "words", "parameters", "seed", "steps", "tokens", "seconds", "tokens_per_second",
        "peak_memory_bytes", "largest_gradient", "median_gradient", "target_loss", "steps_to_target",
        "seconds_to_target",
    )  # fmt: skip
    rows = tuple(
        (
            model.label, model.words, model.parameters, run.seed, run.steps, run.tokens, run.seconds,
            run.tokens_per_second, run.peak_memory, run.largest_gradient, run.median_gradient,
            comparison.target_loss, run.steps_to_target, run.seconds_to_target,
        )
        for model, run in _runs(comparison)
    )  # fmt: skip
    return Table("models", "Models and their trainings", columns, rows)


def _judged(comparison: Comparison) -> Table:
    columns = (
        "model", "seed", "at", "step", "tokens", "seconds", "loss", "bleu", "bleu_low", "bleu_high", "chrf",
        "chrf_low", "chrf_high", "exact", "alignment_error", "sentences_per_second", "signature",
    )  # fmt: skip
    rows = tuple(
        (
            model.label, run.seed, at, judged.step, judged.tokens, judged.seconds, judged.loss,
            *_estimate(judged.bleu), *_estimate(judged.chrf), judged.exact, judged.alignment_error,
            judged.sentences_per_second, judged.signature,
        )
        for model, run in _runs(comparison)
        for at, judged in _points(run)
    )  # fmt: skip
    return Table("judged", "Quality on the test part", columns, rows)


def _by_length(comparison: Comparison) -> Table:
    columns = ("model", "seed", "at", "shortest", "longest", "sentences", "bleu", "bleu_low", "bleu_high")
    rows = tuple(
        (model.label, run.seed, at, q.shortest, q.longest, q.sentences, *_estimate(q.bleu))
        for model, run in _runs(comparison)
        for at, judged in _points(run)
        for q in judged.by_length
    )
    return Table("by_length", "Quality by words of the source", columns, rows)


def _curves(comparison: Comparison) -> Table:
    columns = ("model", "seed", "step", "tokens", "seconds", "loss", "bleu", "exact")
    rows = tuple(
        (model.label, run.seed, p.step, p.tokens, p.seconds, p.loss, p.bleu, p.exact)
        for model, run in _runs(comparison)
        for p in run.curve
    )
    return Table("curves", "Validations", columns, rows)


def _training(comparison: Comparison) -> Table:
    columns = ("model", "seed", "step", "tokens", "seconds", "loss")
    rows = tuple((model.label, run.seed, *point) for model, run in _runs(comparison) for point in run.training_loss)
    return Table("training", "Loss of the training steps", columns, rows)


def _speed(comparison: Comparison) -> Table:
    columns = ("model", "length", "training_us_per_token", "decoding_us_per_token")
    rows = tuple((model.label, s.length, s.training, s.decoding) for model in comparison.models for s in model.speed)
    return Table("speed", "Time per token by length", columns, rows)


def _reach(comparison: Comparison) -> Table:
    columns = ("model", "of", "distance", "median", "lower", "upper", "count")
    rows = tuple(
        (model.label, of, p.distance, p.median, p.lower, p.upper, p.count)
        for model in comparison.models
        if model.reach
        for of, points in (("encoder", model.reach.encoder), ("output", model.reach.output))
        for p in points
    )
    return Table("reach", "Gradient norms by distance", columns, rows)


def _probes(comparison: Comparison) -> Table:
    columns = (
        "probe", "model", "words", "parameters", "seed", "steps", "tokens", "seconds", "shortest_trained",
        "longest_trained", "vocabulary", "length", "strings", "exact",
        "exact_low", "exact_high", "tokens_right",
    )  # fmt: skip
    rows = tuple(
        (
            probe.name, run.label, run.words, run.parameters, run.seed, run.steps, run.tokens, run.seconds,
            probe.shortest, probe.longest, probe.vocabulary, at.length, at.strings, at.exact,
            at.exact_low, at.exact_high, at.tokens,
        )
        for probe in comparison.probes
        for run in probe.runs
        for at in run.lengths
    )  # fmt: skip
    return Table("probes", "Probes by length", columns, rows)


def _sentences(comparison: Comparison) -> Table:
    columns = ("number", "source", "reference", "model", "translation")
    rows = tuple(
        (number, sentence.source, sentence.reference, said.label, said.text)
        for number, sentence in enumerate(comparison.sentences, 1)
        for said in sentence.said
    )
    return Table("sentences", "Sentences", columns, rows)


def _points(run: SeedRun) -> tuple[tuple[str, Judged], tuple[str, Judged]]:
    return ("tokens", run.at_tokens), ("seconds", run.at_seconds)


def _estimate(estimate: Estimate) -> tuple[Cell, Cell, Cell]:
    return estimate.value, estimate.low, estimate.high
