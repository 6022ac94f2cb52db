"""Lets the tests of this folder import the shared `oracles`, which are plain modules and not a part of the package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
