"""The recipes of all tasks: which there are, and how one is opened by its `task`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regard.errors import RecipeError
from regard.runs.base_recipe import BaseRecipe
from regard.runs.label_recipes import ClassificationRecipe, TaggingRecipe
from regard.runs.recipe import Recipe
from regard.runs.recipe_files import apply_setting, checked, read_content, refuse_comparison
from regard.runs.text_recipes import LanguageModellingRecipe, MaskedModellingRecipe

RECIPES: dict[str, type[BaseRecipe]] = {
    "translation": Recipe,
    "language_modelling": LanguageModellingRecipe,
    "masked_language_modelling": MaskedModellingRecipe,
    "classification": ClassificationRecipe,
    "tagging": TaggingRecipe,
}
"""By what a recipe has as `task`."""


def open_recipe(path: Path, settings: Sequence[str] = ()) -> BaseRecipe:
    """Read a TOML recipe of any task and apply `section.key=value` settings to it.

    Raises:
        RecipeError: the file is missing or not TOML, or a key is unknown or has a wrong value; the message names the
            key, what came and what was expected.
    """
    return parse_recipe(read_content(path, settings), origin=str(path))


def parse_recipe(content: dict[str, Any], settings: Sequence[str] = (), origin: str = "recipe") -> BaseRecipe:
    """Check a recipe of any task, given as nested tables.

    Raises:
        RecipeError: as for `open_recipe`.
    """
    for setting in settings:
        apply_setting(content, setting)
    refuse_comparison(content, origin)
    task = content.get("task", "translation")
    if not isinstance(task, str) or task not in RECIPES:
        raise RecipeError(f"{origin}: task is {task!r}: there are {', '.join(RECIPES)}")
    return checked(RECIPES[task], content, origin)
