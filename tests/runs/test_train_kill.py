"""Killed at any moment and started again, `regard train` ends with the same weights, bit for bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(280)
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    script = Path(__file__).parent / "kill_train.py"
    command = [sys.executable, str(script), str(tmp_path), "20", "11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=270, check=False)
    log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    assert done.returncode == 0, done.stderr + log[-3000:]
    result = json.loads(done.stdout)
    assert result["kills"] == 20
    assert len(set(result["digests"])) == 1, "a killed run ended with other weights"
