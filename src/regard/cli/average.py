"""`regard average`: one model from several."""

from pathlib import Path
from typing import Annotated

import typer

from regard.cli.options import JsonOption, QuietOption, print_json, say
from regard.errors import ArgumentError
from regard.runs.averaging import average_models, average_run, best_checkpoints, last_checkpoints


def average(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Directories made by `regard train`.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Directory to make.", show_default=False)],
    last: Annotated[int | None, typer.Option(min=1, help="Of one RUN: its last N checkpoints.")] = None,
    best: Annotated[int | None, typer.Option(min=1, help="Of one RUN: the N checkpoints that validated best.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="How much each counts, for example 2,1,1; else equally much.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Average the weights of several models into one that is often a little better than each.

        regard average runs/en-de --last 5 --out runs/en-de-mean

        regard average runs/a runs/b runs/c --out runs/mean

    Checkpoints of one run (a run keeps its best one and the last training.average), or models that have the same sizes
    and the same tokenizers and come from the same start: one run continued in several ways, or runs with init_from.
    Models trained from different random weights average to nonsense: judge the result with `regard evaluate`.

    DIR is a model like any other: `regard translate DIR`. Its result.json says what was averaged.
    """
    shares = None if weights is None else _numbers(weights)
    if last is not None and best is not None:
        raise ArgumentError("give --last or --best, not both")
    if last is None and best is None:
        if len(runs) == 1:
            raise ArgumentError("one RUN: say which of its checkpoints with --last N or --best N, or give several runs")
        parts = runs
        average_models(parts, out, shares)
    else:
        if len(runs) > 1:
            raise ArgumentError(f"--{'best' if last is None else 'last'} is for one RUN, not for {len(runs)}")
        [run] = runs
        parts = last_checkpoints(run, last) if last is not None else best_checkpoints(run, best or 1)
        average_run(run, parts, out, shares)
    if as_json:
        print_json({"directory": str(out), "averaged": [str(part) for part in parts]})
        return
    say(f"wrote the mean of {len(parts)} {'models' if parts is runs else 'checkpoints'} into {out}:", quiet)
    for part in parts:
        say(f"  {part}", quiet)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(f"--weights {text}: expected numbers with commas between, for example 2,1,1") from None
