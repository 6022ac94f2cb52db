"""Prints, as JSON, the growth of peak memory in bytes that parts of an `AttentionMap` take at two lengths or more.

`test_map_memory.py` and `test_factorised.py` run it in a process of its own: lengths, and then the names of what is
measured, all of the map if none is given. Each measurement runs in a fork, whose peak starts where the parent stands.
"""

import json
import sys
from collections.abc import Callable
from functools import partial

import torch
from peak_memory import growth_in_fork
from torch import Tensor

from regard.attention import Additive, AttentionMap, Causal, Kernel, Mask, Score, Window, attend
from regard.attention import scoring as scoring_module


def _lse_with_gradient(x: Tensor) -> None:
    x.requires_grad_()
    AttentionMap(x, x, mask=Causal()).lse().sum().backward()


def _ask(part: Callable[[AttentionMap], object]) -> Callable[[Tensor], object]:
    return lambda x: part(AttentionMap(x, x, mask=Causal()))


def _of_score(score: Score, part: Callable[[AttentionMap], object]) -> Callable[[Tensor], object]:
    return lambda x: part(AttentionMap(x, x, score=score, mask=Causal()))


def _numbers(table: AttentionMap) -> Tensor:
    return torch.rand(table.shape[-1], 3)


def _kernel(mask: Mask | None, gradient: bool) -> Callable[[Tensor], None]:
    """Kernel attention by sums over keys, so wide that what grows with length can be told from what doesn't."""

    def run(x: Tensor) -> None:
        x = torch.rand(1, 4, x.shape[2], 64, requires_grad=gradient)
        context = attend(x, x, x, score=Kernel(), mask=mask)
        if gradient:
            context.sum().backward()

    return run


MAP: dict[str, Callable[[Tensor], object]] = {
    "received": _ask(AttentionMap.received),
    "entropy": _ask(AttentionMap.entropy),
    "lse": _ask(AttentionMap.lse),
    "top": _ask(lambda table: table.top(8)),
    "survey": _ask(lambda table: table.survey(top=8, cells=(16, 100))),
    "rows": _ask(lambda table: table[0, 0, -8:]),
    "column": _ask(lambda table: table[..., 3]),
    "pool": _ask(lambda table: table.pool((16, 100))),
    "pool of maxima": _ask(lambda table: table.pool((100, 16), how="max")),
    "apply": _ask(lambda table: table.apply(_numbers(table))),
    "apply in a window": lambda x: AttentionMap(x, x, mask=Window(9, 9)).apply(x),
    "apply transposed": _ask(lambda table: table.apply_transposed(_numbers(table))),
    "additive, apply": _of_score(Additive(torch.ones(4)), lambda table: table.apply(_numbers(table))),
    "additive, received": _of_score(Additive(torch.ones(4)), AttentionMap.received),
    "lse with its gradient": _lse_with_gradient,
    "the table itself": _ask(AttentionMap.dense),
}

KERNEL: dict[str, Callable[[Tensor], object]] = {
    "kernel": _kernel(None, False),
    "kernel with gradients": _kernel(None, True),
    "causal kernel": _kernel(Causal(), False),
    "causal kernel with gradients": _kernel(Causal(), True),
}

ASK = MAP | KERNEL


def ask(name: str, length: int) -> None:
    """Make the map and ask for the part."""
    ASK[name](torch.rand(1, 1, length, 4))


def main() -> None:
    """Measure with blocks of 2¹⁶ scores, small beside a whole table."""
    torch.set_num_threads(1)
    scoring_module.BLOCK = 1 << 16
    lengths = [int(word) for word in sys.argv[1:] if word.isdigit()]
    names = [word for word in sys.argv[1:] if not word.isdigit()] or list(MAP)
    for name in names:
        ask(name, 127)  # what is loaded at first use is not the map's
    print(json.dumps({name: [growth_in_fork(partial(ask, name, n)) for n in lengths] for name in names}))


main()
