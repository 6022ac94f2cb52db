import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(tmp_path):
    """SIGKILL at 24 random moments, saves included (one every other step): weights, optimizer, random states and the
    checkpoints kept are those of two uninterrupted runs, which agree with each other."""
    script = Path(__file__).with_name("kill_runs.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path), "24", "17"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    expected, again = report["uninterrupted"]
    assert expected == again
    assert report["killed"] == 24
    assert len(report["steps"]) >= 5  # the moments were spread over the run
    assert report["in_saves"] >= 1  # some of them in the middle of a save
    assert set(report["results"]) == {expected}
