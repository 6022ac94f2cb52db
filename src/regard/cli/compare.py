"""`regard compare`: several models on the same data with the same budget, on one page."""

import json
import signal
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regard.cli.options import JsonOption, QuietOption, print_json, progress, say
from regard.errors import ArgumentError
from regard.runs.compare.compare import compare as run_comparison
from regard.runs.compare.group import Reporter
from regard.runs.compare.results import Comparison, Judged, ModelResult, ProbeResult
from regard.runs.compare.settings import read_setup


def compare(
    recipes: Annotated[
        list[Path],
        typer.Argument(help="One recipe with a table [compare], or several ordinary ones.", metavar="RECIPE..."),
    ],
    out: Annotated[Path | None, typer.Option(help="Directory of the comparison; runs/NAME if not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that the recipe's data paths are relative to.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Replace a key: --set training.minutes=20, --set compare.sentences=10. Can be repeated."
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Train each model once for each of these seeds: 1,2,3.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Short for --set training.minutes=…")] = None,
    probe: Annotated[
        list[str] | None, typer.Option(help="Also this probe: copy, reverse or recall. Can be repeated.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train several models on the same data, tokens, batches and budget, and show on one page what each of them does.

        regard example demo/data
        regard compare recipes/compare-example.toml --data demo/data

        regard compare a.toml b.toml --out runs/a-b --set training.schedule=inverse_sqrt

        regard compare recipes/compare-probes.toml

    Models are judged after equally many target tokens and after equally many minutes of training: quality, also by
    length of the source, speed, memory, how far gradients reach back, and sentences side by side. The page needs
    nothing but a browser; its figures, JSON and tables lie beside it. See docs/compare.md.

    What is there already is not done again: an interrupted comparison goes on with the same command, and models, seeds
    and probes can be added.
    """
    overrides = list(settings or [])
    for key, value in {"training.minutes": minutes, "training.device": device, "training.threads": threads}.items():
        if value is not None:
            overrides.append(f"{key}={json.dumps(value)}")
    if data is not None:
        overrides.insert(0, f"data.folder={json.dumps(str(data.absolute()), ensure_ascii=False)}")
    setup = read_setup(recipes, overrides, seeds=None if seeds is None else _numbers(seeds), probes=probe or ())
    directory = out or setup.out
    report = Reporter(lambda message: say(message, quiet), lambda: progress(quiet), quiet)
    try:
        found = run_comparison(setup, directory, report)
        from regard.runs.compare.report import write_comparison  # brings a drawing library that only this command needs

        page, *others = write_comparison(found, directory)
    except KeyboardInterrupt:
        say("stopped; the same command goes on", quiet)
        raise typer.Exit(128 + signal.SIGINT) from None
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    say(f"the page: {page} (open it in a browser); beside it {len(others)} more files", quiet)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ArgumentError(f"--seeds {text}: expected whole numbers with commas between them, for example 1,2,3")
    return [int(part) for part in parts]


def _show(found: Comparison) -> None:
    """Print what was found in short."""
    console = Console(highlight=False)
    if found.models:
        console.print(f"{found.title}\n", style="bold", markup=False, soft_wrap=True)
        head = ["model", "parameters", "BLEU, equal tokens", "BLEU, equal minutes", "tokens/s", "MiB"]
        console.print(_table(head, [_row(model) for model in found.models]))
        console.print(f"\nequal tokens: {found.common_tokens:,} target tokens", soft_wrap=True)
        console.print(f"equal minutes: {found.common_seconds / 60:.1f} of training steps", soft_wrap=True)
    for probe in found.probes:
        lengths = [one.length for one in probe.runs[0].lengths]
        seeds = len({run.seed for run in probe.runs})
        of = f", mean of {seeds} seeds" if seeds > 1 else ""
        console.print(f"\n{probe.name}: per cent exact by length, trained to {probe.longest}{of}\n", style="bold")
        console.print(_table(["model", *map(str, lengths)], _exact(probe)))


def _row(model: ModelResult) -> list[str]:
    peaks = [run.peak_memory for run in model.runs if run.peak_memory is not None]
    return [
        model.label,
        f"{model.parameters:,}",
        _bleu([run.at_tokens for run in model.runs]),
        _bleu([run.at_seconds for run in model.runs]),
        f"{mean(run.tokens_per_second for run in model.runs):,.0f}",
        f"{max(peaks) / 2**20:,.0f}" if peaks else "",
    ]


def _bleu(judged: list[Judged]) -> str:
    """The score with its interval; of several seeds the mean, and the lowest and the highest."""
    scores = [one.bleu.value for one in judged]
    if len(scores) > 1:
        return f"{mean(scores):.1f} ({min(scores):.1f} to {max(scores):.1f})"
    high = judged[0].bleu.high
    return f"{scores[0]:.1f}" + (f" ± {high - scores[0]:.1f}" if high is not None else "")


def _exact(probe: ProbeResult) -> list[list[str]]:
    """Of each model, in per cent by length; of several seeds the mean."""
    rows: dict[str, list[list[float]]] = {}
    for run in probe.runs:
        rows.setdefault(run.label, []).append([one.exact for one in run.lengths])
    return [[label, *(f"{mean(column):.0f}" for column in zip(*of, strict=True))] for label, of in rows.items()]


def _table(head: list[str], rows: list[list[str]]) -> Table:
    """Words on the left, numbers on the right."""
    table = Table(head[0], box=None, pad_edge=False)
    for name in head[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))  # labels are the user's, and may hold what Rich takes for markup
    return table
