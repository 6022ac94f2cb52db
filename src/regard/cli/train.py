"""`regard train`: train a model from a recipe, or from two files."""

import json
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.progress import TrainingDisplay, print_outlook
from regard.errors import RecipeError
from regard.runs.logs import log_listener, tensorboard_listener
from regard.runs.recipe import Recipe, make_recipe, read_recipe
from regard.runs.train import Run


def train(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe in TOML; see recipes/ and docs/recipes.md.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="Without a recipe: source sentences, one a line (.gz too).")
    ] = None,
    target: Annotated[Path | None, typer.Option(help="Without a recipe: their translations, line by line.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Without a recipe: a table, source TAB target.")] = None,
    valid_source: Annotated[Path | None, typer.Option(help="Validation sources; else some pairs are held out.")] = None,
    valid_target: Annotated[Path | None, typer.Option(help="Validation targets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the run; runs/NAME if not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder that the recipe's data paths are relative to.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a key: --set training.minutes=20. Can be repeated.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Short for --set training.minutes=…")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Start from this model's tokenizers and weights.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard logs.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would happen and how long it takes.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only errors and the result.")] = False,
) -> None:
    """Train a translator, from a recipe or from two aligned files.

        regard train recipes/multi30k-en-de.toml --data path/to/multi30k

        regard train --source a.en --target a.de --out runs/en-de --minutes 20

    The result is a directory: `regard translate runs/en-de < in > out`, `regard evaluate`, `regard attend`, or
    `regard.load("runs/en-de")` in Python.

    An interrupted run (Ctrl-C, a kill, a power cut) goes on where it was when the same command is given again; with a
    larger budget a finished run is extended.
    """
    chosen = _recipe(recipe, source, target, pairs, valid_source, valid_target, settings or [], data)
    overrides = {"minutes": minutes, "device": device, "threads": threads}
    if init_from is not None:
        overrides["init_from"] = str(init_from.absolute())
    chosen = _override(chosen, {key: value for key, value in overrides.items() if value is not None})
    directory = out or Path(chosen.out or f"runs/{recipe.stem if recipe is not None else 'model'}")
    display = TrainingDisplay(quiet=quiet)
    run = Run(chosen, directory, display.say)
    if dry_run:
        print_outlook(run.outlook())
        return
    listeners: list[Any] = [display, log_listener(directory / "log.jsonl")]
    if tensorboard:
        listeners.append(tensorboard_listener(directory / "tensorboard"))
    display.start(run, directory)
    with display:
        outcome = run.train(listeners)
    display.finish(outcome)
    if outcome.reason == "interrupted":
        raise typer.Exit(128 + signal.SIGINT)


def _recipe(
    recipe: Path | None,
    source: Path | None,
    target: Path | None,
    pairs: Path | None,
    valid_source: Path | None,
    valid_target: Path | None,
    settings: list[str],
    data: Path | None,
) -> Recipe:
    files = {
        "source": source,
        "target": target,
        "pairs": pairs,
        "valid_source": valid_source,
        "valid_target": valid_target,
    }
    given = {key: str(path) for key, path in files.items() if path is not None}
    if recipe is not None:
        if given:
            options = ", ".join("--" + key.replace("_", "-") for key in given)
            raise RecipeError(f"give a recipe or {options}, not both (--set data.source=… replaces a recipe's file)")
        folder = [] if data is None else [f"data.folder={json.dumps(str(data.absolute()), ensure_ascii=False)}"]
        return read_recipe(recipe, [*folder, *settings])
    if not given:
        raise RecipeError("nothing to train on: give a recipe, or --source and --target, or --pairs")
    start = str((data or Path()).absolute())
    return make_recipe({"data": given | {"folder": start}}, settings, origin="options")


def _override(recipe: Recipe, training: dict[str, Any]) -> Recipe:
    content = recipe.model_dump(exclude_none=True)
    content["training"] |= training
    return make_recipe(content, origin="options")
