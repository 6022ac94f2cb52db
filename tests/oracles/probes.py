"""Running a probe of memory in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def probe(script: str, *arguments: object) -> Any:
    """What a script of tests/attention prints as JSON, run with one thread."""
    path = Path(__file__).parents[1] / "attention" / script
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout)
