"""Prints, as JSON, the peak memory in bytes that parts of an `AttentionMap` take at two lengths. Run by test_map_memory.

Each measurement runs in a fork of its own, whose peak starts where the parent stands.
"""

import json
import os
import resource
import sys

import torch

from regard.attention import AttentionMap, Causal
from regard.attention import scoring as scoring_module

ASK = {
    "received": AttentionMap.received,
    "entropy": AttentionMap.entropy,
    "lse": AttentionMap.lse,
    "top": lambda table: table.top(8),
    "crop": lambda table: table[0, 0, -64:, 5:9],
    "column": lambda table: table[..., 3],
}


def measure(name: str, length: int) -> int:
    """Growth of the peak in a fork that makes the map and asks for the part."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        x = torch.ones(1, 1, length, 4)
        ASK[name](AttentionMap(x, x, mask=Causal()))
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, str(growth * (1 if sys.platform == "darwin" else 1024)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        growth = int(answer.read())
    os.waitpid(child, 0)
    return growth


def main() -> None:
    """Measure everything with blocks of 2¹⁶ scores, small beside what is linear in length."""
    torch.set_num_threads(1)
    scoring_module.BLOCK = 1 << 16
    warm = torch.ones(1, 1, 8, 4)
    for ask in ASK.values():
        ask(AttentionMap(warm, warm, mask=Causal())) if ask is not ASK["crop"] else None
    print(json.dumps({name: [measure(name, int(length)) for length in sys.argv[1:]] for name in ASK}))


main()
