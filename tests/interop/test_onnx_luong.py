"""Luong's model as ONNX graphs says what it says here: LSTM, a window around a predicted place, additive scores."""

from pathlib import Path

import pytest

from interop.onnx_translators import SIZES, check
from regard.models.luong import LuongConfig


def test_step_by_step_and_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"layers": 2, "embedding": 6, "width": 8, "window": 1}
    config = LuongConfig(*SIZES, attention="local-p", score="concat", input_feeding=False, **sizes)
    check(config, tmp_path, monkeypatch)
