"""`regard check-data`: what is wrong with parallel text, where, and what to do about it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regard.cli.options import JsonOption, QuietOption, print_json, progress, say
from regard.cli.train import recipe_from_options
from regard.data.checks import Finding, Report, Severity
from regard.errors import RecipeError
from regard.runs.check import check_recipe
from regard.runs.recipe import Recipe

_STYLE = {Severity.error: "bold red", Severity.warning: "yellow", Severity.note: "cyan"}


def check_data(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe in TOML, as for `regard train`.")] = None,
    source: Annotated[Path | None, typer.Option(help="Without a recipe: source sentences, one a line.")] = None,
    target: Annotated[Path | None, typer.Option(help="Without a recipe: their translations, line by line.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Without a recipe: a table of pairs.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns of source and target in tables: 1,2 or names, en,de.")
    ] = None,
    valid_source: Annotated[Path | None, typer.Option(help="Validation sources.")] = None,
    valid_target: Annotated[Path | None, typer.Option(help="Validation targets.")] = None,
    valid_pairs: Annotated[Path | None, typer.Option(help="The validation part as a table.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that the recipe's data paths are relative to.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a key: --set data.max_length=100. Can be repeated.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="A model's directory or a tokenizer's file to check with; else one is trained on a sample."),
    ] = None,
    limit_examples: Annotated[int, typer.Option(min=0, help="How many lines to show for each finding.")] = 5,
    write_clean: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write a cleaned copy into this folder, which must be free.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look for what is wrong with training and validation data, before training on them.

        regard check-data recipe.toml

        regard check-data --source train.en --target train.de --valid-source valid.en --valid-target valid.de

        regard check-data --pairs train.jsonl --columns en,de --write-clean clean

    Errors are what can't be right: sides that are shifted against each other, exchanged or of different length, text
    that isn't UTF-8, validation that is all in training. Warnings are worth a look, notes good to know. Each comes with
    line numbers and advice; docs/check-data.md explains them all.

    --write-clean keeps what is good, as plain files: without empty, unreadable, damaged, copied, exchanged or
    repeated pairs, far too long sides, and validation pairs in training; invisible characters are taken out. The
    folder appears whole or not at all.

    The exit code is 1 if there are errors, else 0.
    """
    files = {
        "source": source,
        "target": target,
        "pairs": pairs,
        "valid_source": valid_source,
        "valid_target": valid_target,
        "valid_pairs": valid_pairs,
    }
    parallel = recipe_from_options(recipe, files, columns, settings or [], data)
    if not isinstance(parallel, Recipe):
        raise RecipeError(f"{recipe}: its task is {parallel.task}: check-data judges parallel text, for translation")
    with progress(quiet) as show:
        report = check_recipe(parallel, tokenizer=tokenizer, examples=limit_examples, clean=write_clean, progress=show)
    if as_json:
        written = None if write_clean is None or report.spoiled else str(write_clean)
        print_json(report.to_json() | {"written": written})
    else:
        _print(report)
    if write_clean is not None:
        if report.spoiled:
            names = ", ".join(dict.fromkeys(finding.name for finding in report.spoiled))
            say(f"nothing was written to {write_clean}: cleaning can't mend {names}")
        elif not as_json:
            _print_copy(report, write_clean)
    if report.of(Severity.error):
        raise typer.Exit(1)


def _print(report: Report) -> None:
    console = Console(file=sys.stdout, highlight=False)
    rows = {part.name: part.rows for part in report.parts}
    for part in report.parts:
        console.print(f"{part.name}: {part.rows:,} pairs of {part.place}", markup=False, soft_wrap=True)
    console.print()
    if report.findings:
        console.print(_summary(report, rows))
        console.print()
    for finding in report.findings:
        _print_finding(console, finding, rows)
    counts = [len(report.of(severity)) for severity in Severity]
    words = [
        f"{count} {severity.value}{'' if count == 1 else 's'}" for severity, count in zip(Severity, counts, strict=True)
    ]
    console.print(", ".join(words) if any(counts) else "nothing was found", style="bold", markup=False)


def _summary(report: Report, rows: dict[str, int]) -> Table:
    table = Table("", "finding", "part", box=None, pad_edge=False)
    table.add_column("lines", justify="right")
    table.add_column("share", justify="right")
    for finding in report.findings:
        share = f"{finding.count / rows[finding.part]:.2%}" if finding.count else ""
        count = f"{finding.count:,}" if finding.count else ""
        cells = finding.severity.value, finding.name, finding.part, count, share
        table.add_row(*map(Text, cells), style=_STYLE[finding.severity])
    return table


def _print_finding(console: Console, finding: Finding, rows: dict[str, int]) -> None:
    """What was found, where, an example of it, and what to do."""

    def line(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, soft_wrap=True)

    where = f" in {finding.part}" if finding.part else ""
    count = f": {finding.count:,} of {rows[finding.part]:,}" if finding.count else ""
    line(
        f"{finding.severity.value.upper()} {finding.name}{where}: {finding.rule.title}{count}", _STYLE[finding.severity]
    )
    if finding.detail:
        line(f"  {finding.detail}")
    for example in finding.examples:
        number = f"line {example.line:,}: " if example.line else ""
        line(f"    {number}{example.text}")
    if finding.examples and finding.more:
        line(f"    and {finding.more:,} more", "dim")
    line(f"  → {finding.rule.advice}\n")


def _print_copy(report: Report, folder: Path) -> None:
    console = Console(file=sys.stdout, highlight=False)
    console.print(f"\nwrote a cleaned copy into {folder}", style="bold", markup=False, soft_wrap=True)
    for part in report.parts:
        reasons = ", ".join(f"{name} {count:,}" for name, count in part.dropped.items() if count)
        dropped = f"; left out: {reasons}" if reasons else ""
        console.print(f"  {part.name}: {part.kept:,} of {part.rows:,} pairs{dropped}", markup=False, soft_wrap=True)
