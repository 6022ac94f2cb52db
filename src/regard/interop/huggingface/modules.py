"""Which modules of a Hugging Face model attend, where they look their function up, and which models are refused."""

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedModel

from regard.errors import UnsupportedError
from regard.interop.huggingface.entry import Entry, Place, Registered, Variable

MAPPING = "ALL_ATTENTION_FUNCTIONS"
"""The variable by which the source files of transformers know the functions of attention."""

IMPLEMENTATIONS = ("sdpa", "eager")
"""Those whose arguments say all of the table."""

VERSION = f" (transformers {transformers.__version__})"
"""At the end of messages about what another version may do otherwise."""


def forward_of(kind: type[nn.Module]) -> FunctionType | None:
    """The function that a class of modules runs, without what decorates it; None where it isn't written in Python."""
    function = inspect.unwrap(kind.forward)
    return function if isinstance(function, FunctionType) else None


def names_in(code: CodeType) -> Iterator[str]:
    """Names that a function, or one inside it, looks up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def attention_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The modules whose attention runs through the functions that transformers lets choose, by path.

    Raises:
        UnsupportedError: attention of the model, or of a part of it, runs in another way; the message names the class
            and the reason.
    """
    for path, part in model.named_modules():
        compiled = vars(part).get("_compiled_call_impl") is not None or path.rpartition(".")[2] == "_orig_mod"
        if compiled:
            where = f"its part {path!r} is" if path else "it is"
            raise _refused(model, f"{where} compiled, and what is compiled tells nothing: record it uncompiled")
        if isinstance(part, PreTrainedModel) and not _can_choose(type(part)):
            where = f"its part {path!r}, a {type(part).__name__}, computes" if path else "it computes"
            raise _refused(
                model,
                f"{where} attention in code of its own, not through the functions of transformers that can be heard"
                + VERSION,
            )
    found = {path: part for path, part in model.named_modules() if _attends(type(part))}
    if not found:
        raise _refused(
            model,
            "none of its modules attends through the functions of transformers that can be heard" + VERSION,
        )
    for path in found:
        used = owner_of(model, path).config._attn_implementation
        if used not in (*IMPLEMENTATIONS, None):
            raise _refused(
                model, f"its attention runs by {used!r}: load it with attn_implementation='sdpa', or 'eager'"
            )
    return found


def owner_of(model: PreTrainedModel, path: str) -> PreTrainedModel:
    """The innermost model of transformers that a module belongs to."""
    return next(part for part in ancestors(model, path) if isinstance(part, PreTrainedModel))


def ancestors(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """The module at a path and those around it, from inside to outside."""
    parts = path.split(".") if path else []
    for count in range(len(parts), -1, -1):
        yield model.get_submodule(".".join(parts[:count]))


def places_of(kind: type[nn.Module]) -> dict[tuple[int, str], Place]:
    """Where a class of attention modules looks its function up, by a key that is the same for the same place."""
    function = forward_of(kind)
    assert function is not None  # it is one of `attention_modules`
    variables = function.__globals__
    mapping = variables[MAPPING]
    found: dict[tuple[int, str], Place] = {
        (id(mapping), name): Registered(mapping, name) for name in IMPLEMENTATIONS if name in mapping
    }
    for name in names_in(function.__code__):
        # the eager function, which each file has for itself
        if isinstance(variables.get(name), FunctionType | Entry) and "eager" in name:
            found[id(variables), name] = Variable(variables, name)
    return found


def _can_choose(kind: type[PreTrainedModel]) -> bool:
    """Whether transformers lets the implementation of a model's attention be chosen."""
    try:
        return bool(kind._can_set_attn_implementation())
    except (AttributeError, OSError):  # in 4.57, of a class that was written into no file
        return False


def _attends(kind: type[nn.Module]) -> bool:
    function = forward_of(kind)
    return function is not None and MAPPING in function.__globals__ and MAPPING in names_in(function.__code__)


def _refused(model: Any, why: str) -> UnsupportedError:
    return UnsupportedError(f"{type(model).__name__} can't be recorded: {why}")
