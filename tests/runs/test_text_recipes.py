"""Recipes agree with the configurations that they are for, and every key says what it means."""

from dataclasses import fields
from typing import get_args

import pytest
from pydantic import BaseModel

from regard.errors import RecipeError
from regard.models.bert import BERTConfig
from regard.models.config import TextConfig
from regard.models.gpt import GPTConfig
from regard.runs import text_recipes
from regard.runs.recipes import parse_recipe
from regard.runs.sections import Section
from regard.runs.text_recipes import BERTRecipe, GPTRecipe, LanguageModellingRecipe, MaskedModellingRecipe

PAIRS = [(GPTRecipe, GPTConfig), (BERTRecipe, BERTConfig)]


def choices(section: type[BaseModel], key: str) -> set[str]:
    """The strings that a key may have."""
    found = set()
    waiting = [section.model_fields[key].annotation]
    while waiting:
        one = waiting.pop()
        found |= {one} if isinstance(one, str) else set()
        waiting += get_args(one)
    return found


@pytest.mark.parametrize(("section", "config"), PAIRS)
def test_a_section_has_the_fields_of_its_model(section: type[GPTRecipe | BERTRecipe], config: type[TextConfig]) -> None:
    assert set(section.model_fields) - {"name", "preset"} == {field.name for field in fields(config)} - {"vocabulary"}
    assert choices(section, "preset") == set(config.PRESETS)
    assert choices(section, "name") == {config.NAME}
    for key, known in config.CHOICES.items():
        assert choices(section, key) == set(known)
    assert section().settings() == {}
    assert section(max_length=8, dropout=0.0).settings() == {"max_length": 8, "dropout": 0.0}


def test_every_key_says_what_it_means() -> None:
    found = (x for x in vars(text_recipes).values() if isinstance(x, type) and issubclass(x, Section))
    sections = [x for x in found if x.__module__ == text_recipes.__name__]
    assert len(sections) > 8
    for section in sections:
        for key, field in section.model_fields.items():
            if not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
                assert field.description, f"{section.__name__}.{key}"


def test_a_smallest_recipe() -> None:
    language = LanguageModellingRecipe.model_validate({"data": {"text": "a.txt"}})
    assert (language.data.layout, language.data.length, language.model.preset) == ("stream", 256, "gpt-nano")
    masked = MaskedModellingRecipe.model_validate({"data": {"text": ["a.txt", "b.txt"], "layout": "pairs"}})
    assert (masked.masking.share, masked.masking.masked, masked.masking.random) == (0.15, 0.8, 0.1)
    assert masked.prepared_folder() is None


@pytest.mark.parametrize("seed", [-1, 1 << 63])
def test_a_seed_has_room_in_what_draws(seed: int) -> None:
    with pytest.raises(RecipeError, match=r"training\.seed"):
        parse_recipe({"task": "language_modelling", "data": {"text": "a.txt"}, "training": {"seed": seed}})
