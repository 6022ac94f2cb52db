"""Recipes as text: TOML read, settings applied, every key checked, and written again; for the recipes of all tasks."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from regard.errors import RecipeError
from regard.runs.base_recipe import BaseRecipe
from regard.runs.model_recipes import MODEL_RECIPES, model_name
from regard.runs.sections import explain

R = TypeVar("R", bound=BaseRecipe)


def read_content(path: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """A TOML recipe with `section.key=value` settings as nested tables, unchecked but for its paths: made absolute.

    Raises:
        RecipeError: the file is missing or not TOML, or a setting has no place.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    for setting in settings:
        apply_setting(content, setting)
    make_absolute(content, path.parent)
    return content


def refuse_comparison(content: dict[str, Any], origin: str) -> None:
    """Send a recipe for several models to its own command.

    Raises:
        RecipeError: it is one.
    """
    if "compare" in content:
        raise RecipeError(f"{origin}: its table [compare] is for several models: regard compare {origin}")


def make_absolute(content: dict[str, Any], root: Path) -> None:
    """Make the paths of a recipe absolute: it is kept with the run, and must lead to the same files from there.

    Args:
        content: nested tables, unchecked.
        root: what the paths are relative to.
    """
    data = content.setdefault("data", {})
    if isinstance(data, dict) and isinstance(data.get("folder", ""), str):
        data["folder"] = str((root / data.get("folder", "")).absolute())
    tokenizer = content.get("tokenizer", {})
    sides = [tokenizer, *(tokenizer.get(side) for side in ("source", "target"))] if isinstance(tokenizer, dict) else []
    for table, key in [(data, "prepared"), (content.get("training"), "init_from"), *((side, "file") for side in sides)]:
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str((root / table[key]).absolute())


def checked(kind: type[R], content: dict[str, Any], origin: str) -> R:
    """Check a recipe given as nested tables.

    Raises:
        RecipeError: a key is unknown or has a wrong value; the message names the key, what came and what was expected.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{origin}: " + "; ".join(_explain(one, kind, content) for one in error.errors())) from None


def apply_setting(content: dict[str, Any], setting: str) -> None:
    """Put `section.key=value` into nested tables; the value is TOML, or a bare string.

    Raises:
        RecipeError: there is no `=`, or a key on the way is not a table.
    """
    name, equals, text = setting.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or not all(keys):
        raise RecipeError(f"--set {setting}: expected section.key=value, for example training.minutes=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = content
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {setting}: {key} is not a section")
    table[keys[-1]] = value


def recipe_toml(recipe: BaseRecipe) -> str:
    """The recipe with every default written out, as TOML; keys without a value are left out."""
    return tomli_w.dumps(recipe.model_dump(exclude_none=True))


def differences(old: BaseRecipe, new: BaseRecipe, free: set[str]) -> list[str]:
    """Keys whose values differ, as `section.key: old → new`; those in `free` don't count."""
    a, b = _flat(old.model_dump()), _flat(new.model_dump())
    if old.task != new.task:
        return [f"task: {old.task!r} → {new.task!r}"]
    if a.get("model.name") != b.get("model.name"):  # its other keys say nothing about the same model
        a, b = ({key: x[key] for key in x if key == "model.name" or not key.startswith("model.")} for x in (a, b))
    return [f"{key}: {a[key]!r} → {b[key]!r}" for key in a if key not in free and a[key] != b[key]]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and prefix == "":
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _explain(error: ErrorDetails, kind: type[BaseRecipe], content: dict[str, Any]) -> str:
    """One pydantic error in words that name the key, what came and what was expected."""
    place = [part for part in error["loc"] if isinstance(part, str)]
    named = len(sections_in(kind.model_fields["model"].annotation)) > 1  # several kinds of models, told by their name
    if named and place[:1] == ["model"] and len(place) > 1 and place[1] in MODEL_RECIPES:
        del place[1]  # pydantic names the kind of model it chose
    key = ".".join(place)
    if error["type"] == "model_type" and len(place) == 1:
        return f"{key} is {error['input']!r}: expected a table [{key}]"
    if error["type"] == "union_tag_invalid":
        return f"model.name is {model_name(error['input'])!r}: there are {', '.join(MODEL_RECIPES)}"
    if any(part in ("columns", "valid_columns") for part in place):
        until = ".".join(place[: 1 + next(i for i, part in enumerate(place) if part.endswith("columns"))])
        return f"{until}: expected two numbers from 1, or two names"
    words = explain(error, key, list(_section(kind, place[:-1], content).model_fields))
    of_model = named and place[:1] == ["model"] and error["type"] == "extra_forbidden"
    return f"{words} (model.name is {model_name(content.get('model'))!r})" if of_model else words


def _section(kind: type[BaseModel], place: Sequence[str], content: dict[str, Any]) -> type[BaseModel]:
    """The section of a recipe at a place in it, such as `["tokenizer", "source"]`."""
    for key in place:
        field = kind.model_fields.get(key)
        found = [] if field is None else sections_in(field.annotation)
        if len(found) > 1:
            found = [MODEL_RECIPES.get(model_name(content.get("model")), found[0])]
        if not found:
            break
        kind = found[0]
    return kind


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that the type of a field speaks of."""
    return list(dict.fromkeys(_walk(annotation)))


def _walk(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _walk(part)
