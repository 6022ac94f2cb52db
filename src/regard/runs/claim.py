"""Whose directory is it: a run writes only where nothing is, or where the very same run has begun."""

import fcntl
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.errors import CheckpointError, DataError, RecipeError
from regard.runs.base_recipe import BaseRecipe
from regard.runs.directory import RECIPE, read_json
from regard.runs.recipe_files import differences
from regard.runs.recipes import parse_recipe

DATA, PREPARED = "data.json", "prepared"

# What may change between two starts of the same run: how long it goes on and where, how it is decoded afterwards, but
# not what each step does.
FREE_KEYS = {
    "out",
    "data.folder",
    "data.prepared",
    "training.epochs",
    "training.steps",
    "training.tokens",
    "training.minutes",
    "training.patience",
    "training.save_minutes",
    "training.attention_every",
    "training.device",
    "training.threads",
    "training.gradient_checkpointing",
    "training.sharding",
    "decoding.beam",
    "decoding.penalty",
    "decoding.alpha",
    "decoding.max_ratio",
    "generation.max_tokens",
    "generation.temperature",
    "generation.top_k",
    "generation.top_p",
}


def check_directory(recipe: BaseRecipe, out: Path) -> None:
    """Check that a run may use a directory: it isn't there, is empty, or holds this run.

    Raises:
        RecipeError: it holds something else, or a run whose recipe differs in more than budget and place.
        CheckpointError: the recipe in it cannot be read.
    """
    stored = out / RECIPE
    if not stored.exists():
        if out.exists() and (not out.is_dir() or any(_foreign(entry) for entry in out.iterdir())):
            raise RecipeError(f"{out} exists and is not a run: choose another --out")
        return
    try:
        old = parse_recipe(tomllib.loads(stored.read_text("utf-8")), origin=str(stored))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointError(f"{stored}: damaged or not readable ({error})") from error
    changed = differences(old, recipe, FREE_KEYS)
    if changed:
        raise RecipeError(
            f"{out} holds another run; it differs in {'; '.join(changed)}. Choose another --out, or the same recipe"
        )


def _foreign(entry: Path) -> bool:
    """Whether something in a folder is neither hidden nor a preparation that was interrupted."""
    return not entry.name.startswith(".") and entry.name != PREPARED


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Keep other processes out of a run's directory while the block runs.

    Raises:
        RecipeError: another process is training in it.
    """
    with open(out / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecipeError(f"{out} is in use: another process is training there") from None
        yield


def check_data(out: Path, facts: dict[str, Any]) -> None:
    """Check that a run's data are those that it began with, if it has begun.

    Raises:
        DataError: they have changed.
        CheckpointError: what is known of them cannot be read.
    """
    path = out / DATA
    if not path.exists():
        return
    known = read_json(path)
    if known != facts:
        changed = ", ".join(f"{key} {known.get(key)} → {new}" for key, new in facts.items() if known.get(key) != new)
        raise DataError(f"the data have changed since the run in {out} began ({changed}); choose another --out")
