"""Prints, as JSON, the growth of peak memory in bytes of `attend`, forward and backward, at the lengths given.

`test_attend_memory.py` runs it in a process of its own. Each measurement runs in a fork, whose peak starts where the
parent stands.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peak_memory import growth_in_fork

from regard.attention import Additive, Causal, RelativeBias, attend, attention_plan
from regard.attention import scoring as scoring_module

WIDTH = 4

OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "soft-cap": lambda: {"softcap": 5.0},
    "dropout": lambda: {"dropout": 0.1},
    "learned bias": lambda: {"bias": RelativeBias(torch.randn(32, 1, requires_grad=True))},
    "sink, causal": lambda: {"sink": torch.zeros(1, requires_grad=True), "mask": Causal()},
    "additive": lambda: {"score": Additive(torch.randn(WIDTH, requires_grad=True))},
    "other value width": dict,
}
"""Arguments of `attend` beside queries, keys and values."""


def attention(name: str, length: int) -> str:
    """One pass forward and backward; the backend that ran."""
    q, k, v = (torch.rand(1, 1, length, WIDTH, requires_grad=True) for _ in range(3))
    if name == "other value width":
        v = torch.rand(1, 1, length, WIDTH - 1, requires_grad=True)
    options = OPTIONS[name]()
    result = attend(q, k, v, **options)
    total = sum(x.sum() for x in result) if isinstance(result, tuple) else result.sum()
    total.backward()
    return attention_plan(q, k, v, **options).backend


def main() -> None:
    """Measure with blocks of 2¹⁶ weights, small beside a whole table."""
    torch.set_num_threads(1)
    scoring_module.BLOCK = 1 << 16
    backends = {name: attention(name, 263) for name in OPTIONS}  # and load what is loaded at first use
    lengths = [int(length) for length in sys.argv[1:]]
    growth = {name: [growth_in_fork(partial(attention, name, length)) for length in lengths] for name in OPTIONS}
    print(json.dumps({"backends": backends, "growth": growth}))


main()
