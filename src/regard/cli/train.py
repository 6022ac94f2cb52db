"""`regard train`: train a model from a recipe, or from two files."""

import json
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from regard.cli.options import JsonOption, QuietOption, finite, print_json, progress
from regard.cli.progress import TrainingDisplay, print_outlook
from regard.errors import ArgumentError, RecipeError
from regard.runs.base_recipe import BaseRecipe
from regard.runs.logs import log_listener, tensorboard_listener
from regard.runs.recipe_files import apply_setting, make_absolute
from regard.runs.recipes import open_recipe, parse_recipe
from regard.runs.train import Run


def train(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe in TOML; see recipes/ and docs/recipes.md.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="Without a recipe: source sentences, one a line (.gz too).")
    ] = None,
    target: Annotated[Path | None, typer.Option(help="Without a recipe: their translations, line by line.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Without a recipe: a table, tab-separated or .jsonl, .parquet, .csv (see docs/recipes.md)."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="With --pairs: the columns of source and target: 1,2 or names: en,de.")
    ] = None,
    valid_source: Annotated[Path | None, typer.Option(help="Validation sources; else some pairs are held out.")] = None,
    valid_target: Annotated[Path | None, typer.Option(help="Validation targets.")] = None,
    valid_pairs: Annotated[Path | None, typer.Option(help="The validation part as a table.")] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Without a recipe: plain text, for a language model. Can be repeated (.gz, .jsonl too)."),
    ] = None,
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
        bool,
        typer.Option(
            "--dry-run", help="Only say what would happen and how long it takes (tokenises into a temporary folder)."
        ),
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model: from a recipe, from two aligned files (a translator), or from plain text (a language model).

        regard train recipes/multi30k-en-de.toml --data path/to/multi30k

        regard train --source a.en --target a.de --out runs/en-de --minutes 20

        regard train --text book.txt --out runs/book --minutes 10

        torchrun --nproc-per-node 2 -m regard train recipe.toml

    A recipe's `task` says what is learned: translation (if it has none), language_modelling, masked_language_modelling,
    classification or tagging. The result is a directory for `regard translate`, `generate`, `fill` or `label`, for
    `regard evaluate`, `regard attend`, `regard export`, or `regard.load("runs/en-de")` in Python.

    An interrupted run (Ctrl-C, a kill, a power cut) goes on where it was when the same command is given again; with a
    larger budget a finished run is extended. What is wrong with your data, `regard check-data` tells in full.
    """
    files = {"source": source, "target": target, "pairs": pairs, "valid_source": valid_source}
    files |= {"valid_target": valid_target, "valid_pairs": valid_pairs}
    if text:
        if columns is not None:
            raise RecipeError(
                "--columns is for --pairs; with --text, give --set data.column=NAME (of a .jsonl, .parquet, …)"
            )
        chosen = _recipe_from_text(recipe, files, text, settings or [], data)
    else:
        chosen = recipe_from_options(recipe, files, columns, settings or [], data)
    overrides = {"minutes": minutes, "device": device, "threads": threads}
    if init_from is not None:
        overrides["init_from"] = str(init_from.absolute())
    chosen = _override(chosen, {key: value for key, value in overrides.items() if value is not None})
    directory = out or Path(chosen.out or f"runs/{recipe.stem if recipe is not None else 'model'}")
    main = os.environ.get("RANK", "0") == "0"
    display = TrainingDisplay(quiet=quiet or not main)
    if dry_run:
        _estimate(chosen, directory, display, as_json)
        return
    with progress(quiet or not main) as show:
        run = Run(chosen, directory, display.say, show)
    listeners: list[Any] = [display, log_listener(directory / "log.jsonl")]
    if tensorboard:
        listeners.append(tensorboard_listener(directory / "tensorboard"))
    display.start(run, directory)
    with display:
        outcome = run.train(listeners)
    if main:
        display.finish(outcome)
    if main and as_json:
        metrics = {name: finite(value) for name, value in outcome.metrics.items()}
        print_json(asdict(outcome) | {"metrics": metrics, "directory": str(outcome.directory)})
    if outcome.reason == "interrupted":
        raise typer.Exit(128 + signal.SIGINT)


def _estimate(recipe: BaseRecipe, directory: Path, display: TrainingDisplay, as_json: bool) -> None:
    """Say what a run would do; what has to be tokenised for that goes to a folder that is removed again."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ArgumentError("--dry-run: estimates one process; give it without torchrun")
    with tempfile.TemporaryDirectory(prefix="regard-dry-run-") as folder, progress(display.quiet) as show:
        outlook = Run(recipe, directory, display.say, show, prepared=Path(folder)).outlook()
    if as_json:
        print_json(asdict(outlook))
    else:
        print_outlook(outlook)


def recipe_from_options(
    recipe: Path | None,
    files: dict[str, Path | None],
    columns: str | None,
    settings: Sequence[str],
    data: Path | None,
) -> BaseRecipe:
    """The recipe that a command line asks for: a file, or the files of the data themselves.

    Args:
        recipe: a TOML file, or None.
        files: keys of [data] with the paths that were given for them.
        columns: of a table, "1,2" or "en,de".
        settings: `section.key=value`.
        data: folder that a recipe's data paths are relative to.

    Raises:
        RecipeError: neither or both are given, or the recipe is wrong.
    """
    given: dict[str, Any] = {key: str(path) for key, path in files.items() if path is not None}
    if columns is not None:
        names = [name.strip() for name in columns.split(",")]
        given["columns"] = [int(name) if name.isdecimal() else name for name in names]
    if recipe is not None:
        if given:
            options = ", ".join("--" + key.replace("_", "-") for key in given)
            raise RecipeError(f"give a recipe or {options}, not both (--set data.source=… replaces a recipe's file)")
        folder = [] if data is None else [f"data.folder={json.dumps(str(data.absolute()), ensure_ascii=False)}"]
        return open_recipe(recipe, [*folder, *settings])
    if not any(key in given for key in ("source", "target", "pairs")):
        raise RecipeError("no data: give a recipe, or --source and --target, or --pairs, or --text")
    return _parsed({"data": given}, settings, data or Path())


def _recipe_from_text(
    recipe: Path | None, files: dict[str, Path | None], text: Sequence[Path], settings: Sequence[str], data: Path | None
) -> BaseRecipe:
    """The recipe of a language model of plain text, every other key as it is by default.

    Raises:
        RecipeError: a recipe or other files are given too, or a setting is wrong.
    """
    if recipe is not None or any(path is not None for path in files.values()):
        raise RecipeError("--text goes without a recipe and without pairs (--set data.text=… replaces a recipe's file)")
    content = {"task": "language_modelling", "data": {"text": [str(path) for path in text]}}
    return _parsed(content, settings, data or Path())


def _parsed(content: dict[str, Any], settings: Sequence[str], folder: Path) -> BaseRecipe:
    """The recipe of options and settings, whose paths are relative to `folder`."""
    for setting in settings:
        apply_setting(content, setting)
    make_absolute(content, folder)
    return parse_recipe(content, origin="options")


def _override(recipe: BaseRecipe, training: dict[str, Any]) -> BaseRecipe:
    content = recipe.model_dump(exclude_none=True)
    content["training"] |= training
    return parse_recipe(content, origin="options")
