"""The log of a run: whole lines, on the disk before the checkpoint that makes their steps final is announced."""

import json
import os
from pathlib import Path

import pytest

from regard.runs.logs import log_listener
from regard.training import Saved, StepDone, Validated


def step(number: int) -> StepDone:
    return StepDone(number, 0, 1.5, 0.5, 1e-3, 100, 0.25)


def test_a_torn_last_line_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    listen = log_listener(path)
    listen(step(1))
    listen(step(2))
    assert path.read_bytes().count(b"\n") == 2  # no empty lines
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 9)
    listen = log_listener(path)
    for event in (step(2), Validated(2, {"loss": 1.0}, True, 0, 0.5)):
        listen(event)
    first, torn, again, validation = path.read_text().splitlines()
    assert json.loads(first)["step"] == 1
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)
    assert json.loads(again) == {"event": "step", **vars(step(2))}
    assert json.loads(validation)["event"] == "validation"


def test_what_comes_before_a_checkpoint_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sizes = tmp_path / "log.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda number: sizes.append(os.fstat(number).st_size))
    listen = log_listener(path)
    listen(step(1))
    assert not sizes
    listen(Saved(1, tmp_path / "checkpoint", 0.1))
    assert sizes == [path.stat().st_size]
    assert len(path.read_text().splitlines()) == 1
