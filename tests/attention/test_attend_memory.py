"""`attend` takes memory linear in length, forward and backward, measured in a process of its own."""

import math
import os

import pytest

from oracles.probes import probe

SHORT, LONG = 1024, 6144


@pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forks")
def test_memory_is_linear_in_length() -> None:
    found = probe("attend_memory_probe.py", SHORT, LONG)
    table = 4 * LONG**2
    for name, (short, long) in found["growth"].items():
        exponent = math.log(max(long, 1) / max(short, 1)) / math.log(LONG / SHORT)
        assert exponent <= 1.1, f"{name}: {short} bytes at {SHORT}, {long} at {LONG}"
        # the growth at the short length is mostly what a first call takes once
        assert long - short < table / 16, f"{name}: {short} bytes at {SHORT}, {long} at {LONG}, the table has {table}"
    assert "reference" not in found["backends"].values()
