"""Judging a translator for `regard evaluate`: how it is asked for, and what is shown."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regard.cli.options import one_line, progress, read_pairs
from regard.files import write_text
from regard.runs.evaluate import Evaluation, LengthBucket, read_gold, read_side
from regard.runs.evaluate import evaluate as judge
from regard.runs.translator import Translator
from regard.tasks.metrics import Figure


@dataclass(frozen=True)
class ParallelTest:
    """What `regard evaluate` is told about a test set of parallel text; see its options."""

    source: Path | None
    target: Path | None
    pairs: Path | None
    columns: str | None
    alignments: Path | None
    categories: Path | None
    beam: int | None
    tokenize: str
    moses: str | None
    limit: int | None
    out: Path | None


class Judged:
    """A translator, judged.

    Raises:
        ArgumentError, DataError: options or files that can't be used.
    """

    def __init__(self, translator: Translator, test: ParallelTest, quiet: bool) -> None:
        text = read_pairs(test.source, test.target, test.pairs, test.columns)[: test.limit]
        sides = list(zip(text.sources, text.targets, strict=True))
        whole = test.limit is None
        gold = None if test.alignments is None else read_gold(test.alignments, sides, whole=whole)
        names = None if test.categories is None else read_side(test.categories, len(text), whole=whole)
        with progress(quiet) as show:
            self._found = judge(
                translator,
                text.sources,
                text.targets,
                beam=test.beam,
                tokenize=test.tokenize,
                moses=test.moses,
                gold=gold,
                categories=names,
                progress=show,
            )
        self._data = text.name
        self._width = translator.decoding["beam"] if test.beam is None else test.beam
        if test.out is not None:
            write_text(test.out, "".join(f"{one_line(line)}\n" for line in self._found.translations))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"data": self._data, "beam": self._width} | self._found.to_json()

    def show(self) -> None:
        """Print tables of everything that was measured."""
        _show(self._found, f"{self._data}, beam {self._width}")


def _show(found: Evaluation, title: str) -> None:
    """Print tables of everything that was measured."""
    figures: dict[str, Figure | None] = {
        "BLEU": found.quality.bleu,
        "BLEU lowercased": found.bleu_lowercase,
        "BLEU lowercased, Moses": found.bleu_moses,
        "chrF": found.quality.chrf,
    }
    given = {name: figure for name, figure in figures.items() if figure is not None}
    console = Console(file=sys.stdout, highlight=False)
    console.print(f"{title}\n", style="bold", markup=False, soft_wrap=True)
    rows = [[name, f"{one.score:.2f}", _half_width(one.interval)] for name, one in given.items()]
    console.print(_table(["", "score", "95 %"], rows))
    console.print()
    console.print(_facts(found))
    if len(found.by_length) > 1:
        rows = [
            [_words(one), f"{one.sentences:,}", f"{one.bleu:.2f}", _half_width(one.interval)] for one in found.by_length
        ]
        console.print()
        console.print(_table(["words of the source", "sentences", "BLEU", "95 %"], rows))
    if found.categories:
        rows = [[name, f"{one.sentences:,}", f"{one.exact:.1f} %"] for name, one in found.categories.items()]
        console.print()
        console.print(_table(["category", "sentences", "exact match"], rows))
    console.print()
    for name, figure in given.items():
        console.print(f"{name}: {figure.signature}", style="dim", markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)


def _half_width(interval: float | None) -> str:
    return "" if interval is None else f"± {interval:.2f}"


def _words(bucket: LengthBucket) -> str:
    if bucket.longest is None:
        return f"{bucket.shortest} or more"
    return f"{bucket.shortest} to {bucket.longest}"


def _table(head: list[str], rows: list[list[str]]) -> Table:
    """Words on the left, numbers on the right."""
    table = Table(head[0], box=None, pad_edge=False)
    for name in head[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))  # categories are the user's, and may hold what Rich takes for markup
    return table


def _facts(found: Evaluation) -> Table:
    rows = {"sentences": f"{found.sentences:,}", "exact match": f"{found.quality.exact:.1f} %"}
    if found.likelihood is not None:
        rows["perplexity"] = f"{found.likelihood.perplexity:.3f} ({found.likelihood.tokens:,} target tokens)"
    if found.alignment is not None:
        one = found.alignment
        rows["alignment error rate"] = (
            f"{100 * one.error_rate:.1f} % (precision {100 * one.precision:.1f} %, recall {100 * one.recall:.1f} %, "
            f"{one.predicted:,} links for {one.sure:,} sure ones)"
        )
    speed = found.speed
    rows["speed"] = (
        f"{speed.sentences_per_second:,.1f} sentences/s, {speed.tokens_per_second:,.0f} tokens/s "
        f"({speed.seconds:.1f} s)"
    )
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table
