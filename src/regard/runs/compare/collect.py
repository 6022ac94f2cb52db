"""What the logs of finished runs say: curves, and how far each run was at a step or a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regard.errors import CheckpointError, DataError
from regard.runs.compare.results import CurvePoint

LOG = "log.jsonl"
POINTS = 200  # of the curve of the training loss
TOLERANCE = 0.02  # by which a snapshot may come after the common seconds: clocks and calibrations are no better

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """What happened in a run.

    Attributes:
        tokens: target tokens after each step, from step 1 on.
        seconds: of training after each step, validations not counted.
        losses: mean training loss of each step.
        gradients: norm of each step's gradients before clipping.
        validations: metrics by step.
    """

    tokens: Numbers
    seconds: Numbers
    losses: Numbers
    gradients: Numbers
    validations: dict[int, Mapping[str, float]]

    def __len__(self) -> int:
        return len(self.tokens)

    def tokens_at(self, step: int) -> int:
        """Target tokens seen until a step."""
        return int(self.tokens[step - 1])

    def seconds_at(self, step: int) -> float:
        """Seconds of training until a step."""
        return float(self.seconds[step - 1])

    def tokens_per_second(self) -> float:
        """The median over steps, so that other work on the machine for a while doesn't count."""
        pace = np.diff(self.tokens, prepend=0.0) / np.diff(self.seconds, prepend=0.0)
        return float(np.median(pace))

    def curve(self) -> tuple[CurvePoint, ...]:
        """The validations."""
        return tuple(
            CurvePoint(
                step,
                self.tokens_at(step),
                self.seconds_at(step),
                metrics["loss"],
                metrics.get("bleu"),
                metrics.get("exact"),
            )
            for step, metrics in sorted(self.validations.items())
        )

    def training_loss(self, points: int = POINTS) -> tuple[tuple[int, int, float, float], ...]:
        """At most so many points of the training loss: (step, tokens, seconds, mean loss of a token since the last)."""
        ends = np.unique(np.linspace(0, len(self), min(points, len(self)) + 1).round().astype(int))[1:]
        each = np.diff(self.tokens, prepend=0.0)
        total = np.concatenate([[0.0], np.cumsum(each * self.losses)])
        seen = np.concatenate([[0.0], self.tokens])
        starts = [0, *ends[:-1]]
        return tuple(
            (
                int(end),
                self.tokens_at(int(end)),
                self.seconds_at(int(end)),
                float((total[end] - total[start]) / (seen[end] - seen[start])),
            )
            for start, end in zip(starts, ends, strict=True)
        )

    def first_at_most(self, loss: float) -> int | None:
        """The step of the first validation whose loss is at most `loss`."""
        return next((step for step, one in sorted(self.validations.items()) if one["loss"] <= loss), None)

    def last_within(self, seconds: float) -> tuple[int, bool]:
        """The last validated step that was reached in the time, and True; else the first one, and False."""
        within = [step for step in self.validations if self.seconds_at(step) <= seconds * (1 + TOLERANCE)]
        return (max(within), True) if within else (min(self.validations), False)


def read_history(directory: Path, steps: int) -> History:
    """Read the log of a finished run; where a step was taken again after an interruption, the later line counts.

    Args:
        directory: of the run.
        steps: that it has taken.

    Raises:
        CheckpointError: the log cannot be read, or lacks a step.
    """
    path = directory / LOG
    taken: dict[int, tuple[float, float, float, float]] = {}
    validations: dict[int, Mapping[str, float]] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    for line in lines:
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut off by a power cut; the step was taken again
        if one["event"] == "validation":
            validations[one["step"]] = one["metrics"]
        else:
            taken[one["step"]] = one["tokens"], one["seconds"], one["loss"], one["grad_norm"]
    missing = next((step for step in range(1, steps + 1) if step not in taken), None)
    if missing is not None:
        raise CheckpointError(
            f"{path}: lacks step {missing}, whose line may have been lost in a power cut; remove {directory} to train "
            "this run again"
        )
    columns = np.array([taken[step] for step in range(1, steps + 1)], np.float64)
    tokens, seconds, losses, gradients = columns.T
    within = {step: metrics for step, metrics in validations.items() if step <= steps}
    if not within:
        raise CheckpointError(f"{path}: has no validation; remove {directory} to train this run again")
    return History(tokens.cumsum(), seconds.cumsum(), losses, gradients, within)


def check_same_batches(histories: Mapping[Path, History]) -> None:
    """Check that runs of one seed were given the same batches, by the target tokens of each step.

    Raises:
        DataError: two runs differ; the message names the step.
    """
    (first, one), *others = histories.items()
    for directory, other in others:
        count = min(len(one), len(other))
        different = np.flatnonzero(one.tokens[:count] != other.tokens[:count])
        if len(different):
            raise DataError(
                f"{directory / LOG}: step {different[0] + 1} has other target tokens than in {first / LOG}: the runs "
                "were not given the same batches"
            )


def lowest_common_loss(histories: Sequence[History]) -> float:
    """The lowest validation loss that every run reached."""
    return max(min(one["loss"] for one in history.validations.values()) for history in histories)
