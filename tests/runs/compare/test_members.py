"""Runs in processes of their own: Ctrl-C reaches them, a killed one is named, and all go on."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from regard.errors import RecipeError, TrainingError
from regard.runs.claim import only_one
from regard.runs.compare.members import Member, _relay, make_member, train_in_process
from regard.runs.recipe import Recipe
from runs.compare.small import RECIPE, setup, write_small


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    found = setup(write_small(tmp_path, RECIPE.replace("[training]", "[training]\nthreads = 1"))).entries[0].recipe
    assert found is not None
    return found


def member_of(recipe: Recipe, folder: Path, steps: int) -> Member:
    return make_member("Narrow", folder / "runs" / "narrow", recipe, steps=steps, validate_every=100, seed=1)


def steps_taken(member: Member) -> int:
    log = member.directory / "log.jsonl"
    return log.read_text().count('"event": "step"') if log.exists() else 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started."""
    processes: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        processes.append(popen(*arguments, **named))
        return processes[-1]

    monkeypatch.setattr("regard.runs.compare.members.subprocess.Popen", start)
    return processes


def once(condition: Any, action: Any) -> threading.Thread:
    def wait() -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not condition():
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_run_is_interrupted_killed_and_goes_on(
    recipe: Recipe, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    member = member_of(recipe, tmp_path, 4000)
    assert not member.finished()
    once(lambda: steps_taken(member) > 20, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_in_process(member, quiet=True)
    assert started[0].returncode == 130  # it was told, and has saved
    assert not member.finished()
    taken = steps_taken(member)
    assert taken < 4000

    once(lambda: steps_taken(member) > taken + 20, lambda: started[1].kill())
    with pytest.raises(TrainingError, match=r"Narrow, seed 1: training was killed \(SIGKILL"):
        train_in_process(member, quiet=True)
    assert not member.finished()

    shorter = member_of(recipe, tmp_path, steps_taken(member) + 50)
    train_in_process(shorter, quiet=True)
    assert shorter.finished()
    assert not member.finished()
    result = json.loads((member.directory / "result.json").read_text())
    assert result["steps"] == shorter.steps
    assert result["peak_memory"] > 2**20


def test_a_run_that_fails_is_named(recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    member = member_of(recipe, tmp_path, 10)
    Path(recipe.data.folder or "", "train.de").unlink()
    with pytest.raises(TrainingError, match="Narrow, seed 1: training ended with exit code 2") as failed:
        train_in_process(member, quiet=True)
    assert f"its log is {member.directory / 'log.jsonl'}" in str(failed.value)
    assert f"with a corrected recipe remove {member.directory} first" in str(failed.value)
    assert "train.de" in capfd.readouterr().err


def test_a_run_that_another_process_trains_is_named(recipe: Recipe, tmp_path: Path) -> None:
    member = member_of(recipe, tmp_path, 10)
    member.directory.mkdir(parents=True)
    with only_one(member.directory), pytest.raises(TrainingError, match="being trained by another process") as refused:
        train_in_process(member, quiet=True)
    assert str(member.directory) in str(refused.value)
    assert "saves as it goes: wait for its end, or stop it" in str(refused.value)
    assert not member.directory.with_suffix(".toml").exists()


class Listening:
    """What a relay sends signals to."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send_signal(self, number: int) -> None:
        self.sent.append(number)


@pytest.mark.parametrize(
    ("number", "sent"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM)],
)
def test_signals_are_passed_on_also_those_that_come_before_the_process(number: int, sent: int) -> None:
    before = signal.getsignal(number)
    process: Any = Listening()
    with _relay() as relay:
        signal.raise_signal(number)
        assert relay.heard == [sent]
        relay.begin(process)
        assert process.sent == [sent]
        signal.raise_signal(number)
        assert process.sent == [sent, sent]
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with _relay() as relay:
            signal.raise_signal(signal.SIGHUP)
        assert relay.heard == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_budget_of_a_run_is_steps_alone(recipe: Recipe, tmp_path: Path) -> None:
    member = member_of(recipe, tmp_path, 30)
    training = member.recipe.training
    assert (training.steps, training.minutes, training.epochs, training.tokens) == (30, None, None, None)
    assert (training.seed, training.validate_every, training.snapshots) == (1, 100, True)
    assert member.directory == tmp_path / "runs" / "narrow-seed-1"


def test_another_run_in_the_directory_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    member = member_of(recipe, tmp_path, 30)
    member.directory.mkdir(parents=True)
    (member.directory / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is not a run"):
        member_of(recipe, tmp_path, 30)
