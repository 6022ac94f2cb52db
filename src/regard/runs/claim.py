"""Whose directory is it: a run writes only where nothing is, or where the very same run has begun."""

import json
import tomllib
from pathlib import Path
from typing import Any

from regard.errors import CheckpointError, DataError, RecipeError
from regard.files import write_json, write_text
from regard.runs.directory import RECIPE
from regard.runs.recipe import Recipe, differences, make_recipe, recipe_toml

# What may change between two starts of the same run: how long it goes on and where, how it is decoded afterwards, but
# not what each step does.
FREE_KEYS = {
    "out",
    "data.folder",
    "training.epochs",
    "training.steps",
    "training.tokens",
    "training.minutes",
    "training.patience",
    "training.save_minutes",
    "training.device",
    "training.threads",
    "decoding.beam",
    "decoding.penalty",
    "decoding.alpha",
    "decoding.max_ratio",
}


def claim_directory(recipe: Recipe, out: Path) -> None:
    """Make the directory of a run, or check that it holds this run; the recipe is written into it first.

    Raises:
        RecipeError: it holds something else, or a run whose recipe differs in more than budget and place.
        CheckpointError: the recipe in it cannot be read.
    """
    stored = out / RECIPE
    if stored.exists():
        try:
            old = make_recipe(tomllib.loads(stored.read_text("utf-8")), origin=str(stored))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CheckpointError(f"{stored}: damaged or not readable ({error})") from error
        changed = differences(old, recipe, FREE_KEYS)
        if changed:
            raise RecipeError(
                f"{out} holds another run; it differs in {'; '.join(changed)}. Choose another --out, or the same recipe"
            )
        return
    if out.exists() and (not out.is_dir() or any(not entry.name.startswith(".") for entry in out.iterdir())):
        raise RecipeError(f"{out} exists and is not a run: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_text(stored, recipe_toml(recipe))


def check_data(out: Path, facts: dict[str, Any]) -> None:
    """Write the facts about a run's data, or check that they are the same as when it began.

    Raises:
        DataError: the data have changed since the run began.
    """
    path = out / "data.json"
    if not path.exists():
        write_json(path, facts)
        return
    known = json.loads(path.read_text("utf-8"))
    if known != facts:
        changed = ", ".join(
            f"{key} {known.get(key)} → {value}" for key, value in facts.items() if known.get(key) != value
        )
        raise DataError(f"the data have changed since the run in {out} began ({changed}); choose another --out")
