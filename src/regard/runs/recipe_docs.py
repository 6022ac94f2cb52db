"""The page about recipes, made from the recipe's own definitions so that it cannot go stale.

python -m regard.runs.recipe_docs > docs/recipes.md
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from regard.runs.base_recipe import BaseRecipe, TrainingSection
from regard.runs.model_recipes import MODEL_RECIPES, TransformerRecipe
from regard.runs.recipe import DataRecipe, PartRecipe, SideRecipe, TokenizerRecipe
from regard.runs.recipe_files import sections_in
from regard.runs.recipes import RECIPES

HEAD = """\
# Recipes

A recipe is a TOML file that determines a training run. `regard train RECIPE.toml` trains it;
`--set section.key=value` replaces a key, `--data FOLDER` says where the data are, `--out DIRECTORY` where the run goes.
Paths are relative to the recipe's own folder, or to `data.folder`. An unknown key or a wrong value is an error that
names it. The smallest recipes, of a translator and of a language model:

```toml
[data]
source = "train.en"
target = "train.de"
```

```toml
task = "language_modelling"

[data]
text = "book.txt"
```

A run that was interrupted goes on when it is started again with the same recipe. Its budget (`epochs`, `steps`,
`tokens`, `minutes`), `patience`, `save_minutes`, `device`, `threads`, `sharding`, `gradient_checkpointing` and the
sections `[decoding]` and `[generation]` may change, and so may the number of processes; the rest may not. Minutes are
measured at the start and frozen into a number of steps, of which the schedules alone know.

This page is made by `python -m regard.runs.recipe_docs`.
"""

PARTS: dict[type[BaseModel], list[tuple[str, type[BaseModel]]]] = {
    DataRecipe: [("Each `[[data.train]]`", PartRecipe)],
    TokenizerRecipe: [("`[tokenizer.source]` and `[tokenizer.target]`", SideRecipe)],
    TransformerRecipe: [
        (str(recipe.__doc__), recipe) for recipe in MODEL_RECIPES.values() if recipe is not TransformerRecipe
    ],
}
"""Tables that belong to a section."""

TABLE = "\n\n| key | type | default | meaning |\n|---|---|---|---|"


def recipe_page() -> str:
    """The page in Markdown: every key with its type, default and meaning."""
    out = " ".join((BaseRecipe.model_fields["out"].description or "").split())
    parts = [HEAD, f"Outside the sections stand `task`, and `out`: {out}\n", "## For all tasks\n"]
    parts += _section("training", TrainingSection)
    for task, recipe in RECIPES.items():
        parts.append(f'## task = "{task}"\n')
        parts.append(" ".join((recipe.model_fields["task"].description or "").split()) + "\n")
        # [training] is a field of all, so it comes first; it is read after what is trained
        for name in sorted(recipe.model_fields, key="training".__eq__):
            sections = sections_in(recipe.model_fields[name].annotation)
            if sections:
                parts += _section(name, sections[0])
    return "\n".join(parts).rstrip() + "\n"


def _section(name: str, section: type[BaseModel]) -> list[str]:
    """A section's table; of [training] what is a task's own."""
    known = TrainingSection.model_fields if issubclass(section, TrainingSection) else {}
    own = section is not TrainingSection and bool(known)
    rows = _rows(section, f"{name}.", [key for key in known if own and _alike(section.model_fields[key], known[key])])
    doc = "[training]: besides the keys for all tasks" if own else " ".join((section.__doc__ or "").split())
    lines = [f"### {doc}{TABLE}", *rows, ""] if rows else []
    for title, part in PARTS.get(section, []):
        lines += [f"#### {title}{TABLE}", *_rows(part, "model." if name == "model" else ""), ""]
    return lines


def _alike(one: FieldInfo, other: FieldInfo) -> bool:
    return (one.annotation, one.default, one.description) == (other.annotation, other.default, other.description)


def _rows(section: type[BaseModel], prefix: str, without: Sequence[str] = ()) -> list[str]:
    """The rows of a section's table."""
    schema, rows = section.model_json_schema(), []
    for key, field in section.model_fields.items():
        if key in without:
            continue
        meaning = " ".join((field.description or "").split())
        default = "" if field.default is None or field.is_required() else f"`{shown(field.default)}`"
        rows.append(f"| `{prefix}{key}` | {kind(schema['properties'][key])} | {default} | {meaning} |")
    return rows


def shown(value: Any) -> str:
    """A default as it would stand in TOML."""
    return f'"{value}"' if isinstance(value, str) else str(value)


def kind(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f'"{value}"' for value in schema["enum"])
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "$ref" in schema:
        return "table, see below"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    if schema.get("type") == "array":
        count = f"{schema['minItems']}, each a " if "minItems" in schema else ""
        return f"list of {count}{kind(schema['items'])}"
    name = names[schema["type"]]
    bounds = [
        f"{words} {schema[key]}"
        for key, words in {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}.items()
        if key in schema
    ]
    return " ".join([name, *(re.sub(r"\.0$", "", bound) for bound in bounds)])


if __name__ == "__main__":
    print(recipe_page(), end="")
