"""The work of a recipe, by its task."""

from collections.abc import Callable
from typing import Any

from regard.runs.base_recipe import BaseRecipe
from regard.runs.work.classification import open_classification
from regard.runs.work.contract import Place, Work
from regard.runs.work.language_modelling import open_language_modelling
from regard.runs.work.masked_language_modelling import open_masked_language_modelling
from regard.runs.work.tagging import open_tagging
from regard.runs.work.translation import open_translation

OPENERS: dict[str, Callable[[Any, Place], Work[Any]]] = {
    "translation": open_translation,
    "language_modelling": open_language_modelling,
    "masked_language_modelling": open_masked_language_modelling,
    "classification": open_classification,
    "tagging": open_tagging,
}


def open_work(recipe: BaseRecipe, place: Place) -> Work[Any]:
    """Make a recipe's data ready and everything that training needs of its task.

    Raises:
        RecipeError, DataError, CheckpointError: the recipe doesn't fit together, or its data cannot be used.
    """
    return OPENERS[recipe.task](recipe, place)
