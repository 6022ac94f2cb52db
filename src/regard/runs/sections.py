"""What the sections of a recipe have in common, and the types of their values."""

import difflib
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A table of a recipe: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def explain(error: ErrorDetails, key: str, known: Sequence[str]) -> str:
    """One pydantic error in words that name the key, what came and what was expected.

    Args:
        error: as pydantic gives it.
        key: its full name.
        known: the keys that there are in its place.
    """
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key.rpartition(".")[2], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    if error["type"] == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{key} is missing"
    return f"{key} is {error['input']!r}: {str(error['msg'])[0].lower()}{str(error['msg'])[1:]}"
