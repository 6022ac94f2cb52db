"""`regard evaluate`: judge a model on a test set."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regard.cli.options import (
    BeamOption,
    ColumnsOption,
    DeviceOption,
    JsonFileOption,
    JsonOption,
    ModelArgument,
    PairsOption,
    QuietOption,
    SourceOption,
    TargetOption,
    ThreadsOption,
    check_folder,
    one_line,
    open_model,
    print_json,
    progress,
    read_pairs,
)
from regard.files import write_json, write_text
from regard.runs.evaluate import Evaluation, LengthBucket, read_gold, read_side
from regard.runs.evaluate import evaluate as judge
from regard.tasks.metrics import Figure


def evaluate(
    model: ModelArgument,
    source: SourceOption = None,
    target: TargetOption = None,
    pairs: PairsOption = None,
    columns: ColumnsOption = None,
    alignments: Annotated[
        Path | None, typer.Option(help="Gold word alignments, a line for each pair: 0-0 1-2, possible links 1?3.")
    ] = None,
    categories: Annotated[Path | None, typer.Option(help="A category for each pair, one a line.")] = None,
    beam: BeamOption = None,
    tokenize: Annotated[
        str, typer.Option(help="sacreBLEU's tokenisation: 13a, zh, char, intl, none, …; auto goes by the script.")
    ] = "auto",
    moses: Annotated[
        str | None,
        typer.Option(help="Language code of the target: also BLEU of lowercased, Moses-tokenised text."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs.")] = None,
    as_json: JsonOption = False,
    json_file: JsonFileOption = None,
    out: Annotated[Path | None, typer.Option(help="Also write the translations, one a line.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
) -> None:
    """Translate a test set and report how good the translations, the probabilities and the word alignment are.

        regard evaluate runs/en-de --source test.en --target test.de --moses de

        regard evaluate runs/en-zh --pairs test.tsv --alignments test.align --json-file result.json

    BLEU and chrF are sacreBLEU's, with their signatures and 95 % intervals by bootstrap resampling (1,000 samples,
    fixed seed). BLEU lowercased is the same with case:lc. For the tokenised, lowercased BLEU of the literature add
    --moses LANGUAGE: punctuation normalised, lowercased and tokenised as Moses' scripts do, then scored as
    multi-bleu.perl does; needs the extra `moses`.

    Perplexity is that of a target token of the references, end of sentence included, so it depends on the tokenizer.

    The alignment judged is that of source and reference: cross-attention, the heaviest source word of each target
    word, against the gold links. The error rate is Och and Ney's (2003).

    A source that is too long for the model counts with an empty translation and is named in the notes.
    """
    check_folder("--json-file", json_file)
    check_folder("--out", out)
    text = read_pairs(source, target, pairs, columns)[:limit]
    sides = list(zip(text.sources, text.targets, strict=True))
    gold = None if alignments is None else read_gold(alignments, sides, whole=limit is None)
    names = None if categories is None else read_side(categories, len(text), whole=limit is None)
    translator = open_model(model, device, threads)
    with progress(quiet) as show:
        found = judge(
            translator,
            text.sources,
            text.targets,
            beam=beam,
            tokenize=tokenize,
            moses=moses,
            gold=gold,
            categories=names,
            progress=show,
        )
    width = translator.decoding["beam"] if beam is None else beam
    content = {"model": str(model), "data": text.name, "beam": width} | found.to_json()
    if out is not None:
        write_text(out, "".join(f"{one_line(line)}\n" for line in found.translations))
    if json_file is not None:
        write_json(json_file, content)
    if as_json:
        print_json(content)
    else:
        _show(found, f"{text.name}, beam {width}")


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
