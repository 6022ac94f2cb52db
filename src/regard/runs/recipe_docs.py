"""The page about recipes, made from the recipe's own definitions so that it cannot go stale.

python -m regard.runs.recipe_docs > docs/recipes.md
"""

import re
from typing import Any

from pydantic import BaseModel

from regard.runs.model_recipes import MODEL_RECIPES, TransformerRecipe
from regard.runs.recipe import (
    DataRecipe,
    DecodingRecipe,
    PartRecipe,
    Recipe,
    SideRecipe,
    TokenizerRecipe,
    TrainingRecipe,
)

HEAD = """\
# Recipes

A recipe is a TOML file that determines a training run. `regard train RECIPE.toml` trains it;
`--set section.key=value` replaces a key, `--data FOLDER` says where the data are, `--out DIRECTORY` where the run goes.
Paths are relative to the recipe's own folder, or to `data.folder`. An unknown key or a wrong value is an error that
names it. A smallest recipe:

```toml
[data]
source = "train.en"
target = "train.de"
```

A run that was interrupted goes on when it is started again with the same recipe. Its budget (`epochs`, `steps`,
`tokens`, `minutes`), `patience`, `save_minutes`, `device`, `threads`, `sharding`, `gradient_checkpointing` and the
section `[decoding]` may change, and so may the number of processes; the rest may not. Minutes are measured at the
start and frozen into a number of steps, of which the schedules alone know.

This page is made by `python -m regard.runs.recipe_docs`.
"""

SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataRecipe,
    "tokenizer": TokenizerRecipe,
    "model": TransformerRecipe,
    "training": TrainingRecipe,
    "decoding": DecodingRecipe,
}

PARTS: dict[str, list[tuple[str, type[BaseModel]]]] = {
    "data": [("Each `[[data.train]]`", PartRecipe)],
    "tokenizer": [("`[tokenizer.source]` and `[tokenizer.target]`", SideRecipe)],
    "model": [(str(recipe.__doc__), recipe) for recipe in MODEL_RECIPES.values() if recipe is not TransformerRecipe],
}


def recipe_page() -> str:
    """The page in Markdown: every key with its type, default and meaning."""
    parts = [HEAD]
    for name, section in SECTIONS.items():
        doc = " ".join((section.__doc__ or "").split())
        parts.append(f"## {doc}\n\n| key | type | default | meaning |\n|---|---|---|---|")
        parts += _rows(section, f"{name}.")
        parts.append("")
        for title, part in PARTS.get(name, []):
            parts += _part(title, part, "model." if name == "model" else "")
    out = " ".join((Recipe.model_fields["out"].description or "").split())
    parts.append(f"Outside the sections: `out`: {out}\n")
    return "\n".join(parts)


def _rows(section: type[BaseModel], prefix: str) -> list[str]:
    """The rows of a section's table."""
    schema, rows = section.model_json_schema(), []
    for key, field in section.model_fields.items():
        meaning = " ".join((field.description or "").split())
        default = "" if field.default is None or field.is_required() else f"`{shown(field.default)}`"
        rows.append(f"| `{prefix}{key}` | {kind(schema['properties'][key])} | {default} | {meaning} |")
    return rows


def _part(title: str, section: type[BaseModel], prefix: str) -> list[str]:
    """The table of what a key with a table of its own holds."""
    return [f"### {title}\n\n| key | type | default | meaning |\n|---|---|---|---|", *_rows(section, prefix), ""]


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
