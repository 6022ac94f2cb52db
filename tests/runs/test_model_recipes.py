"""The section [model]: one for each family of models, with the keys of its configuration."""

from dataclasses import fields
from typing import get_args

import pytest

from regard.errors import ArgumentError, RecipeError
from regard.models.families import FAMILIES
from regard.runs.model_recipes import MODEL_RECIPES, LuongRecipe, TransformerRecipe
from regard.runs.recipe import make_recipe
from regard.runs.recipe_files import differences

DATA = {"source": "a", "target": "b"}


def test_every_family_has_a_section() -> None:
    assert list(MODEL_RECIPES) == list(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_keys_are_the_fields_of_the_configuration(name: str) -> None:
    keys = set(MODEL_RECIPES[name].model_fields) - {"name", "preset"}
    assert keys == {field.name for field in fields(FAMILIES[name].config)} - {"source_vocabulary", "target_vocabulary"}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_choices_are_those_of_the_configuration(name: str) -> None:
    section, config = MODEL_RECIPES[name], FAMILIES[name].config
    assert set(get_args(section.model_fields["preset"].annotation)) == set(config.PRESETS)
    for field, choices in config.CHOICES.items():
        literal, _ = get_args(section.model_fields[field].annotation)
        assert set(get_args(literal)) == set(choices)


def test_the_name_says_which_keys_there_are() -> None:
    assert make_recipe({"data": DATA}).model == TransformerRecipe()
    model = make_recipe({"data": DATA, "model": {"name": "luong", "score": "dot", "window": 3}}).model
    assert model == LuongRecipe(name="luong", score="dot", window=3)
    again = make_recipe(make_recipe({"data": DATA, "model": {"name": "luong"}}).model_dump(exclude_none=True))
    assert again.model == LuongRecipe(name="luong")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "lstm"}, "model.name is 'lstm': there are transformer, rnn_seq2seq, bahdanau, luong"),
        ({"name": "luong", "scores": "dot"}, "unknown key 'model.scores'; did you mean 'score'"),
        ({"name": "luong", "heads": 4}, "dropout (model.name is 'luong')"),
        ("luong", "model is 'luong': expected a table [model]"),
        ({"name": "luong", "score": "cosine"}, "model.score is 'cosine': input should be 'dot', 'general' or 'concat'"),
        ({"name": "bahdanau", "preset": "base"}, "model.preset is 'base'"),
        ({"name": "rnn_seq2seq", "maxout": -1}, "model.maxout is -1"),
        ({"width": "128"}, "model.width is '128'"),
        ({"widht": 128}, "unknown key 'model.widht'; did you mean 'width'"),
    ],
)
def test_what_is_wrong_is_said_with_the_key(model: object, message: str) -> None:
    with pytest.raises(RecipeError, match="recipe: ") as error:
        make_recipe({"data": DATA, "model": model})
    assert message in str(error.value)


def test_another_family_is_the_only_difference_that_is_named() -> None:
    old = make_recipe({"data": DATA, "model": {"heads": 2, "dropout": 0.1}})
    new = make_recipe({"data": DATA, "model": {"name": "luong", "dropout": 0.2}})
    assert differences(old, new, set()) == ["model.name: 'transformer' → 'luong'"]
    assert differences(new, old, set()) == ["model.name: 'luong' → 'transformer'"]


def test_one_table_for_two_vocabularies_needs_a_joint_tokenizer() -> None:
    assert TransformerRecipe(shared="all").settings(joint=True)["shared"] == "all"
    with pytest.raises(ArgumentError, match='shared = "all" needs a joint tokenizer'):
        TransformerRecipe(shared="all").settings(joint=False)
