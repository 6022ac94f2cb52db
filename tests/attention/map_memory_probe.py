"""Prints, as JSON, the growth of peak memory in bytes that parts of an `AttentionMap` take at the lengths given.

`test_map_memory.py` runs it in a process of its own. Each measurement runs in a fork, whose peak starts where the
parent stands.
"""

import json
import os
import resource
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from regard.attention import AttentionMap, Causal
from regard.attention import scoring as scoring_module


def _lse_with_gradient(x: Tensor) -> None:
    x.requires_grad_()
    AttentionMap(x, x, mask=Causal()).lse().sum().backward()


def _ask(part: Callable[[AttentionMap], object]) -> Callable[[Tensor], object]:
    return lambda x: part(AttentionMap(x, x, mask=Causal()))


ASK: dict[str, Callable[[Tensor], object]] = {
    "received": _ask(AttentionMap.received),
    "entropy": _ask(AttentionMap.entropy),
    "lse": _ask(AttentionMap.lse),
    "top": _ask(lambda table: table.top(8)),
    "rows": _ask(lambda table: table[0, 0, -8:]),
    "column": _ask(lambda table: table[..., 3]),
    "lse with its gradient": _lse_with_gradient,
    "the table itself": _ask(AttentionMap.dense),
}


def measure(name: str, length: int) -> int:
    """Growth of the peak in a fork that makes the map and asks for the part."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ASK[name](torch.rand(1, 1, length, 4))
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, str(growth * (1 if sys.platform == "darwin" else 1024)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        growth = int(answer.read())
    os.waitpid(child, 0)
    return growth


def main() -> None:
    """Measure with blocks of 2¹⁶ scores, small beside a whole table."""
    torch.set_num_threads(1)
    scoring_module.BLOCK = 1 << 16
    for ask in ASK.values():
        ask(torch.rand(1, 1, 11, 4))  # what is loaded at first use is not the map's
    print(json.dumps({name: [measure(name, int(length)) for length in sys.argv[1:]] for name in ASK}))


main()
