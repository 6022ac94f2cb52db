"""The runs of a comparison: each trains in a process of its own, is resumed, and is left alone when it is finished."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from regard.errors import DataError, RecipeError, TrainingError
from regard.files import write_text
from regard.runs.claim import DATA, check_directory, only_one
from regard.runs.compare.collect import LOG
from regard.runs.compare.plan import changed
from regard.runs.compare.settings import BUDGET_KEYS
from regard.runs.directory import Tokenizers, read_json
from regard.runs.recipe import Recipe
from regard.runs.recipe_files import recipe_toml

RESULT = "result.json"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that ask for an end


@dataclass(frozen=True)
class Member:
    """One training of one model.

    Attributes:
        label: of the model.
        seed: of weights, order and dropout.
        directory: of the run.
        recipe: of the run, its budget in steps.
    """

    label: str
    seed: int
    directory: Path
    recipe: Recipe

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        assert self.recipe.training.steps is not None
        return self.recipe.training.steps

    def finished(self) -> bool:
        """Whether it has been trained to its end."""
        path = self.directory / RESULT
        if not path.exists():
            return False
        result = read_json(path)
        return bool(result["finished"] != "interrupted" and result["steps"] >= self.steps)


Train = Callable[[Member, bool], None]
"""Trains a member; the flag says whether it is to be quiet."""


def make_member(
    label: str, folder: Path, recipe: Recipe, *, steps: int, validate_every: int, seed: int, snapshots: bool = True
) -> Member:
    """The run of a model that begins from a seed; `folder` is the run's name without the seed.

    Raises:
        RecipeError, CheckpointError: the directory holds another run, or one that cannot be read.
    """
    bounds: dict[str, object] = dict.fromkeys(BUDGET_KEYS)
    own = bounds | {"steps": steps, "validate_every": validate_every, "seed": seed, "snapshots": snapshots}
    member = Member(label, seed, folder.with_name(f"{folder.name}-seed-{seed}"), changed(recipe, own))
    check_directory(member.recipe, member.directory)
    return member


def train_in_process(member: Member, quiet: bool) -> None:
    """Train a member with `regard train` in a process of its own, which shows its progress.

    Ctrl-C, SIGTERM and the end of the terminal are passed on: the process saves and ends, and then this one does.

    Raises:
        KeyboardInterrupt: training was interrupted.
        TrainingError: training failed; the process has said why. Or another process still trains this run.
    """
    _check_unused(member)
    recipe = member.directory.with_suffix(".toml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    write_text(recipe, recipe_toml(member.recipe))
    command = [sys.executable, "-m", "regard", "train", str(recipe), "--out", str(member.directory)]
    none = subprocess.DEVNULL
    with (
        _relay() as relay,
        # a session of its own, so that Ctrl-C at the terminal reaches it once: through us
        subprocess.Popen(command + ["--quiet"] * quiet, stdin=none, stdout=none, start_new_session=True) as process,
    ):
        try:
            relay.begin(process)
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    if relay.heard or code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code < 0:
        name = signal.Signals(-code).name
        raise TrainingError(
            f"{member.label}, seed {member.seed}: training was killed ({name}; too little memory?); the same command "
            "goes on"
        )
    if code:
        raise TrainingError(
            f"{member.label}, seed {member.seed}: training ended with exit code {code}, for the reason above; its log "
            f"is {member.directory / LOG}. The same command goes on; with a corrected recipe remove "
            f"{member.directory} first"
        )


def check_same_data(members: list[Member], prepared: Path) -> None:
    """Check that all runs were trained on the same text in the same tokens.

    Raises:
        DataError: a run's data or tokenizers differ.
        CheckpointError: what is known of them cannot be read.
    """
    known = Tokenizers.load(prepared)
    facts = [read_json(member.directory / DATA) for member in members]
    for member, own in zip(members, facts, strict=True):
        if own != facts[0]:
            raise DataError(f"{member.directory / DATA}: other data than in {members[0].directory / DATA}")
        tokenizers = Tokenizers.load(member.directory)
        for side in ("source", "target"):
            one, other = getattr(tokenizers, side, None), getattr(known, side, None)
            if one is None or other is None or one.content != other.content:
                raise DataError(f"{member.directory}: its {side} tokenizer is not the one in {prepared}")


def _check_unused(member: Member) -> None:
    """Refuse a run that the process of an earlier comparison still trains, because only that comparison was killed."""
    if not member.directory.is_dir():
        return
    try:
        with only_one(member.directory):
            pass
    except RecipeError:
        raise TrainingError(
            f"{member.label}, seed {member.seed}: {member.directory} is being trained by another process, which may "
            "have outlived the comparison that began it. It saves as it goes: wait for its end, or stop it (kill), "
            "and give the same command again"
        ) from None


class _Relay:
    """Passes signals on to a process, also those that came before it was there."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process  # from here on `handle` sends what comes
        for number in self.heard[:1]:
            process.send_signal(number)

    def handle(self, number: int, frame: FrameType | None) -> None:
        # training saves and ends by these two; one is enough until it is there
        passed = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        if self._process is not None:
            self._process.send_signal(passed)
        self.heard.append(passed)


@contextmanager
def _relay() -> Iterator[_Relay]:
    """While the block runs, signals that ask for an end go to the relay; those that are ignored stay ignored."""
    relay = _Relay()
    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        asking = [one for one in ENDING if signal.getsignal(one) != signal.SIG_IGN]
        former = {number: signal.signal(number, relay.handle) for number in asking}
    try:
        yield relay
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
