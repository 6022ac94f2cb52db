"""A table of weights that owns what it is made of: for keeping one beyond the call it was seen in."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from regard.attention.operands import Operand
from regard.attention.scoring import Scoring
from regard.attention.visibility import Visibility
from regard.errors import ArgumentError

T = TypeVar("T")


def owned(table: Scoring, heads: Sequence[int] | None = None) -> Scoring:
    """The same table, or that of some heads, made of detached copies.

    Nothing of the caller's is held: no graph, no storage of a larger tensor, none that may be written to later.

    Args:
        table: the table.
        heads: which heads, in this order; None is all.

    Raises:
        ArgumentError: `heads` is empty, names a head twice, or one that isn't there.
    """
    sizes = table.extent
    if heads is not None:
        wrong = [h for h in heads if not 0 <= h < sizes.heads]
        if wrong:
            raise ArgumentError(f"heads={[*heads]}: this attention has heads 0 to {sizes.heads - 1}, so no {wrong[0]}")
        if not heads or len(set(heads)) < len(heads):
            raise ArgumentError(f"heads={[*heads]}: expected one or more, each once")

    def own(x: Tensor, share: int = 1) -> Tensor:
        return _copy(x, None if heads is None else [h // share for h in heads])

    operands = {
        name: Operand(own(x.tensor, table.share if x.kind == "key" else 1), x.kind)
        for name, x in table.operands.items()
    }
    if heads is not None:
        count = len(heads)
        leading = (*sizes.leading[:-1], count) if len(sizes.leading) > 1 else sizes.leading
        groups = operands["k"].tensor.shape[1]
        sizes = replace(sizes, leading=leading, heads=count, groups=groups)
    return replace(
        table,
        operands=operands,
        visibility=_each(table.visibility, own),
        bias=_emptied(table.bias),
        factor=_emptied(table.factor),
        extent=sizes,
    )


def _copy(x: Tensor, heads: list[int] | None) -> Tensor:
    """A detached copy, of some heads, in storage of its own size; axes that were only expanded stay so."""
    size = list(x.shape)
    if heads is not None and size[1] > 1:
        size[1] = len(heads)
    x = x.detach()
    for axis in range(x.ndim):
        if x.stride(axis) == 0 and x.shape[axis] > 1:
            x = x.narrow(axis, 0, 1)
    if heads is not None and x.shape[1] > 1:
        return x.index_select(1, torch.tensor(heads, device=x.device)).expand(size)
    return x.clone(memory_format=torch.contiguous_format).expand(size)


def _each(x: Any, own: Callable[[Tensor], Tensor]) -> Any:
    """A visibility, or a part of it, with every tensor replaced; those of documents have one head."""
    if isinstance(x, Tensor):
        return own(x)
    if isinstance(x, tuple):
        return tuple(_each(part, own) for part in x)
    if isinstance(x, Visibility):
        return replace(x, **{field.name: _each(getattr(x, field.name), own) for field in fields(x) if field.init})
    return x


def _emptied(rule: T) -> T:
    """A bias or factor without its tensors: a block is made of those among the operands."""
    bare = copy.copy(rule)
    if rule is not None:
        for name, x in vars(rule).items():
            if isinstance(x, Tensor):
                object.__setattr__(bare, name, x.detach().new_empty((0,) * x.ndim))
    return bare
