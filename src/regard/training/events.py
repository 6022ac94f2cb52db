"""What the training loop tells its listeners. The loop itself prints nothing and writes no log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Reason = Literal["epochs", "steps", "tokens", "minutes", "patience", "interrupted"]


@dataclass(frozen=True)
class Started:
    """The loop begins, or goes on: the last step of the plan, and which part of the budget that is."""

    step: int  # steps already taken
    steps: int
    bound: str


@dataclass(frozen=True)
class StepDone:
    """One optimizer step was taken."""

    step: int
    epoch: int  # counted from 0
    loss: float  # mean over the step's target tokens, in nats
    grad_norm: float  # of all gradients together, before clipping
    rate: float  # the learning rate
    tokens: int  # target tokens of this step
    seconds: float  # wall-clock time; where the device runs ahead, the mean over the steps read back together


@dataclass(frozen=True)
class Validated:
    """A validation has ended."""

    step: int
    metrics: Mapping[str, float]
    improved: bool  # this is the best validation so far
    stale: int  # validations since the best one
    seconds: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on disk."""

    step: int
    path: Path
    seconds: float


@dataclass(frozen=True)
class Resumed:
    """Training goes on from a checkpoint. `notes` says what differs from where it was written, if anything."""

    step: int
    path: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Damaged:
    """A checkpoint could not be read and an earlier one is used instead: say this loudly."""

    path: Path  # where the damaged checkpoint was moved
    problem: str  # names the file and what is wrong with it
    fallback: Path  # the checkpoint used instead


@dataclass(frozen=True)
class Finished:
    """The run has ended; the last checkpoint holds its state.

    `reason` is the bound of the budget that was reached first, `"patience"` (early stopping) or `"interrupted"`.
    """

    reason: Reason
    step: int


Event = Started | StepDone | Validated | Saved | Resumed | Damaged | Finished
Listener = Callable[[Event], None]
