"""The part of docs/compare.md about keys, made from their definitions so that it cannot go stale.

python -m regard.runs.compare.settings_docs
"""

from typing import Any

from pydantic import BaseModel

from regard.runs.compare.settings import CompareRecipe, EntryRecipe, ProbeRecipe
from regard.runs.recipe_docs import kind, shown

SECTIONS: dict[str, tuple[str, type[BaseModel]]] = {
    "`[compare]`": ("compare.", CompareRecipe),
    "Each `[[compare.models]]`": ("", EntryRecipe),
    "`[compare.probe]`": ("compare.probe.", ProbeRecipe),
}


def key_tables() -> str:
    """A table for each section: every key with its type, default and meaning."""
    parts = []
    for title, (prefix, section) in SECTIONS.items():
        parts.append(f"### {title}\n\n| key | type | default | meaning |\n|---|---|---|---|")
        properties = section.model_json_schema()["properties"]
        for key, field in section.model_fields.items():
            meaning = " ".join((field.description or "").split())
            parts.append(f"| `{prefix}{key}` | {_type(properties[key])} | {_default(field.default)} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def _type(schema: dict[str, Any]) -> str:
    if schema.get("type") == "object" or "$ref" in schema:
        return "table"
    if "$ref" in schema.get("items", {}):
        return "tables"
    return kind(schema)


def _default(value: Any) -> str:
    given = value is not None and value not in ([], {}) and not isinstance(value, BaseModel)
    return f"`{shown(value)}`" if given and "Undefined" not in repr(value) else ""


if __name__ == "__main__":
    print(key_tables(), end="")
