"""Recipes: what is accepted, and what an error says."""

from pathlib import Path

import pytest

from regard.errors import RecipeError
from regard.runs.recipe import make_recipe, read_recipe
from regard.runs.recipe_files import differences, recipe_toml
from regard.runs.recipes import open_recipe

MINIMAL = {"data": {"source": "a.en", "target": "a.de"}}
FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(set(FOLDER.glob("*.toml")) - set(FOLDER.glob("compare-*.toml")))


def with_settings(*settings: str):
    return make_recipe({"data": dict(MINIMAL["data"])}, settings)


def test_defaults_and_settings() -> None:
    recipe = with_settings("training.minutes=2.5", "model.preset=small", 'training.schedule="cosine"')
    assert recipe.training.minutes == 2.5
    assert recipe.model.preset == "small"
    assert recipe.training.schedule == "cosine"
    assert recipe.tokenizer.kind == "bpe"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.learning_rat=1", ["training.learning_rat", "'learning_rate'"]),
        ("trainig.minutes=1", ["unknown key 'trainig'", "'training'"]),
        ("tokenizer.source.knd=1", ["tokenizer.source.knd", "'kind'"]),
        ("training.minutes=soon", ["training.minutes", "'soon'", "number"]),
        ("training.minutes=-3", ["training.minutes", "-3", "greater than 0"]),
        ("training.epochs=2.5", ["training.epochs", "2.5", "integer"]),
        ("model.preset=huge", ["model.preset", "'huge'", "'tiny'"]),
        ("model.dropout=1.5", ["model.dropout", "1.5", "less than 1"]),
        ("training.betas=[0.9]", ["training.betas", "2 items"]),
        ("training", ["training", "section.key=value"]),
        ("data.source.x=1", ["source is not a section"]),
        ("data.pairs=x.tsv", ["data.source and data.target, or data.pairs"]),
        ("data.valid_source=x", ["data.valid_source and data.valid_target"]),
        ('tokenizer.source={kind="char"}', ["tokenizer.source and tokenizer.target"]),
    ],
)
def test_errors_name_key_value_and_expectation(setting: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        with_settings(setting)
    for word in words:
        assert word in str(error.value)


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml: no such recipe"):
        read_recipe(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[data\n")
    with pytest.raises(RecipeError, match=r"broken\.toml: not valid TOML.*line 1"):
        read_recipe(broken)
    broken.write_bytes(b"[data]\nsource = '\xff'\n")
    with pytest.raises(RecipeError, match=r"broken\.toml: cannot be read"):
        read_recipe(broken)


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[data]\nsource = "a"\ntarget = "b"\n')
    assert read_recipe(path).data.folder == str(tmp_path)
    path.write_text('[data]\nfolder = "sub"\nsource = "a"\ntarget = "b"\n')
    assert read_recipe(path).data.folder == str(tmp_path / "sub")
    assert read_recipe(path, ['data.folder="/elsewhere"']).data.folder == "/elsewhere"


def test_written_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    recipe = with_settings('tokenizer.source={kind="word"}', 'tokenizer.target={kind="char"}', "training.steps=7")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_toml(recipe))
    again = read_recipe(path)
    assert differences(recipe, again, {"data.folder"}) == []


def test_differences_are_named_and_free_keys_are_not() -> None:
    old, new = with_settings("training.steps=3"), with_settings("training.steps=4", "model.dropout=0.2")
    assert differences(old, new, {"training.steps"}) == ["model.dropout: None → 0.2"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_are_valid(path: Path) -> None:
    training = open_recipe(path).training
    assert training.minutes is not None or training.steps is not None


def test_a_comparison_is_sent_to_its_own_command() -> None:
    with pytest.raises(
        RecipeError, match=r"its table \[compare\] is for several models: regard compare .*compare-example.toml"
    ):
        read_recipe(FOLDER / "compare-example.toml")
