"""The map takes memory linear in length, measured in a process of its own; and it works in blocks."""

import math
import os

import pytest
import torch

from oracles.attention_cases import Case
from oracles.attention_options import Sizes
from oracles.probes import probe
from regard.attention import AttentionMap
from regard.attention import scoring as scoring_module
from regard.attention.survey import LARGER

SHORT, LONG = 1024, 6144


@pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forks")
def test_memory_is_linear_in_length() -> None:
    growth = probe("map_memory_probe.py", SHORT, LONG)
    table = 4 * LONG**2
    assert growth.pop("the table itself")[1] > table  # the measure sees what it should
    for name, (short, long) in growth.items():
        exponent = math.log(max(long, 1) / max(short, 1)) / math.log(LONG / SHORT)
        assert exponent <= 1.2, f"{name}: {short} bytes at {SHORT}, {long} at {LONG}"
        assert long < table / 4, f"{name}: {long} bytes at {LONG}, the table has {table}"


def test_no_block_is_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "BLOCK", 200)
    sizes: list[int] = []
    original = scoring_module.Scoring.scores_from

    def spy(self: scoring_module.Scoring, *arguments: object) -> torch.Tensor:
        scores = original(self, *arguments)
        sizes.append(scores.numel())
        return scores

    monkeypatch.setattr(scoring_module.Scoring, "scores_from", spy)
    problem = Case(Sizes(3, 6, 3, 13, 11, 5, 3), mask="causal & padding", sink="per head").make(torch.float64)
    leaves = problem.in_dtype(torch.float64, requires_grad=True)
    table = AttentionMap(leaves.q, leaves.k, **leaves.options)
    calls = {
        "lse": lambda: table.lse().masked_fill(table.mass() == 0, 0).sum().backward(),
        "top": lambda: table.top(3),
        "entropy": table.entropy,
        "received": table.received,
        "a crop": lambda: table[0, 0, :, :3].sum().backward(),
    }
    for name, call in calls.items():
        sizes.clear()
        call()
        assert len(sizes) > 1, name
        assert max(sizes) <= 200 * LARGER, name
