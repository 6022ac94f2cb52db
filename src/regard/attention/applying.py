"""Products of a table of weights with numbers for its keys or its queries, in memory linear in length."""

from dataclasses import replace

import torch
from torch import Tensor

from regard.attention.backends.contract import Call
from regard.attention.dispatch import choose
from regard.attention.extent import Extent, shape
from regard.attention.operands import Operand
from regard.attention.scoring import Scoring, check_tensor, zero_unseen
from regard.attention.statistics import Transposed
from regard.attention.survey import survey
from regard.errors import ArgumentError


def applied(table: Scoring, x: Tensor) -> Tensor:
    """P · x (B, H, Q, F) of numbers x (B, G or H, K, F) in the dtype of the scores; without gradient."""
    sizes = table.extent
    # half precision would be enough for a context, not for a statistic
    operands = {
        name: replace(operand, tensor=operand.tensor.to(table.dtype)) if name in ("q", "k", "weight") else operand
        for name, operand in table.operands.items()
    }
    if x.shape[1] != sizes.groups:  # numbers for each query head: its keys stand beside them
        operands["k"] = Operand(operands["k"].tensor.repeat_interleave(table.share, 1), "key")
        sizes = replace(sizes, groups=sizes.heads)
    wide = replace(table, operands=operands, extent=sizes)
    with torch.no_grad():
        call = Call(wide, zero_unseen(x, wide.visibility, sizes), 0.0, need_lse=False, differentiated=False)
        return choose(call).run(call)[0]


def applied_transposed(table: Scoring, x: Tensor) -> Tensor:
    """Pᵀ · x (B, H, K, F) of numbers x (B, H, Q, F) in the dtype of the scores; without gradient."""
    found = Transposed(table, x)
    survey(table, [found])
    return found.gathered


def beside(sizes: Extent, name: str, x: Tensor, length: int, *, grouped: bool) -> Tensor:
    """Bring numbers beside the keys or the queries of a table, in the caller's layout, to four axes.

    Args:
        sizes: of the table.
        name: of the argument, for messages.
        x: (…, length, F), its axes in front broadcast to those of the table.
        length: Q or K.
        grouped: whether there may be one for each key head, instead of each query head.

    Returns:
        (B, H, length, F); (B, G, length, F) if grouped, unless x has H heads. Axes of length 1 are expanded.

    Raises:
        ArgumentError: it doesn't fit, or is on another device.
    """
    check_tensor(name, x)
    if x.device != sizes.device:
        raise ArgumentError(f"{name} is on {x.device}, queries and keys are on {sizes.device}")
    target = sizes.leading
    if grouped and len(target) > 1 and not (x.ndim > 2 and x.shape[-3] == sizes.heads):
        target = (*target[:-1], sizes.groups)
    fits = 2 <= x.ndim <= len(target) + 2 and all(
        given in (1, wanted) for given, wanted in zip(reversed(x.shape[:-2]), reversed(target), strict=False)
    )
    if not fits or x.shape[-2] != length:
        expected = ", ".join(map(str, (*target, length, "F")))
        raise ArgumentError(f"{name} is {shape(x)}: expected a shape that broadcasts to ({expected})")
    return sizes.heads_first(x.expand(*target, length, x.shape[-1]))
