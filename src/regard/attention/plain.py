"""Reading plain JSON data that may be damaged: each value is asked for with what it must be."""

from collections.abc import Mapping, Sequence
from typing import Any

from regard.errors import ArgumentError


def text_of(name: str, x: Any) -> str:
    """A string; raises `ArgumentError` for anything else, as all here do."""
    if not isinstance(x, str):
        raise wrong(name, "a string", x)
    return x


def integer_of(name: str, x: Any, least: int, most: int) -> int:
    """An integer from `least` to `most`."""
    if isinstance(x, bool) or not isinstance(x, int) or not least <= x <= most:
        raise wrong(name, f"an integer from {least} to {most}", x)
    return x


def list_of(name: str, x: Any) -> list[Any]:
    """A list."""
    if not isinstance(x, list):
        raise wrong(name, "a list", x)
    return x


def texts_of(name: str, x: Any) -> tuple[str, ...]:
    """A list of strings."""
    return tuple(text_of(f"{name}[{i}]", one) for i, one in enumerate(list_of(name, x)))


def integers_of(name: str, x: Any, least: int, most: int) -> tuple[int, ...]:
    """A list of integers from `least` to `most`."""
    return tuple(integer_of(f"{name}[{i}]", one, least, most) for i, one in enumerate(list_of(name, x)))


def fields_of(name: str, x: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """An object with exactly the fields `wanted`."""
    if not isinstance(x, dict):
        raise wrong(name, "an object", x)
    for problem, found in (("lacks", set(wanted) - x.keys()), ("has an unknown", x.keys() - set(wanted))):
        if found:
            raise ArgumentError(f"{name} {problem} field {min(found)[:80]!r}")
    return x


def object_of(name: str, x: Any) -> Mapping[str, Any]:
    """An object with any fields."""
    if not isinstance(x, dict):
        raise wrong(name, "an object", x)
    return x


def wrong(name: str, expected: str, x: Any) -> ArgumentError:
    """The error for a value that is something else."""
    shown = repr(x) if isinstance(x, str | int | float | None) else type(x).__name__
    return ArgumentError(f"{name} is {shown[:80]}: expected {expected}")
