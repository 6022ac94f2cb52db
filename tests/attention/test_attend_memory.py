"""`attend` takes memory linear in length, forward and backward, measured in a process of its own."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT, LONG = 1024, 6144


@pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forks")
def test_memory_is_linear_in_length() -> None:
    probe = Path(__file__).with_name("attend_memory_probe.py")
    done = subprocess.run(
        [sys.executable, str(probe), str(SHORT), str(LONG)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout)
    table = 4 * LONG**2
    for name, (short, long) in found["growth"].items():
        exponent = math.log(max(long, 1) / max(short, 1)) / math.log(LONG / SHORT)
        assert exponent <= 1.1, f"{name}: {short} bytes at {SHORT}, {long} at {LONG}"
        # the growth at the short length is mostly what a first call takes once
        assert long - short < table / 16, f"{name}: {short} bytes at {SHORT}, {long} at {LONG}, the table has {table}"
    assert "reference" not in found["backends"].values()
