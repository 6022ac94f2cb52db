"""How long to train: a budget in epochs, steps, target tokens or minutes becomes a number of steps, once.

The number is stored in the checkpoint, so a resumed run ends where the uninterrupted one would, and schedules, which
know steps only, draw the same curve. A budget counts from the first step of the run: to train longer, resume with a
larger one. `Cosine` and `Linear` are then built with the new total, so the learning rate rises to the longer curve.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from regard.errors import ArgumentError, TrainingError
from regard.training.processes import Alone, Processes
from regard.training.random_state import preserved_random
from regard.training.step import Indices, Problem, apply_gradients, compute_gradients, step_groups

B = TypeVar("B")
Bound = Literal["epochs", "steps", "tokens", "minutes"]


@dataclass(frozen=True)
class Budget:
    """What training may use; the bound that is reached first ends it. At least one must be given."""

    epochs: int | None = None  # passes over the training part
    steps: int | None = None  # optimizer steps
    tokens: int | None = None  # target tokens
    minutes: float | None = None  # wall-clock time of training and its validations

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not given:
            raise ArgumentError("a budget without bound never ends; expected epochs, steps, tokens or minutes")
        for name, value in given.items():
            if not (value > 0 and math.isfinite(value)):
                raise ArgumentError(f"budget: {name} is {value}; expected a number above 0")


@dataclass(frozen=True)
class Plan:
    """A budget frozen into a number of steps."""

    budget: Budget
    steps: int  # the last step of the run
    bound: Bound  # which part of the budget that is
    seconds_per_step: float | None = None  # as calibrated, when minutes were asked for

    def as_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Plan":
        """The inverse of `as_json`."""
        return Plan(**{**content, "budget": Budget(**content["budget"])})


def make_plan(
    budget: Budget,
    problem: Problem[B],
    *,
    accumulate: int = 1,
    count: Callable[[Indices], int] | None = None,
    seconds_per_step: float | None = None,
    reserved_seconds: float = 0.0,
) -> Plan:
    """Freeze `budget` into steps.

    Epochs and tokens are counted exactly, by walking through the batches of the epochs to come: the last step is the
    one that completes the epochs, or that reaches the tokens. Minutes are divided by the time of a step.

    Args:
        budget: what may be used, counted from the first step of the run.
        problem: gives the batches.
        accumulate: micro-batches per step.
        count: target tokens of a micro-batch from its indices, without collating it; only for speed.
        seconds_per_step: from `calibrate`; needed for minutes.
        reserved_seconds: part of the minutes that steps don't get: all validations together.

    Raises:
        ArgumentError: minutes without `seconds_per_step`.
        TrainingError: an epoch without batches.
    """
    steps: list[tuple[int, Bound]] = []
    if budget.steps is not None:
        steps.append((budget.steps, "steps"))
    if budget.minutes is not None:
        if seconds_per_step is None or seconds_per_step <= 0.0:
            raise ArgumentError(f"seconds_per_step is {seconds_per_step}; a budget in minutes needs a calibrated one")
        steps.append((max(1, int((60.0 * budget.minutes - reserved_seconds) / seconds_per_step)), "minutes"))
    if budget.epochs is not None or budget.tokens is not None:
        limit = min((bound[0] for bound in steps), default=None)
        steps += _walk(budget, problem, accumulate, count, limit)
    last, bound = min(steps, key=lambda entry: entry[0])
    return Plan(budget, last, bound, seconds_per_step if budget.minutes is not None else None)


def _walk(
    budget: Budget,
    problem: Problem[B],
    accumulate: int,
    count: Callable[[Indices], int] | None,
    limit: int | None,
) -> list[tuple[int, Bound]]:
    """The step that completes the epochs or reaches the tokens, unless another bound, `limit`, comes first."""
    count_tokens = count if count is not None else lambda indices: problem.tokens(problem.collate(indices, 0))
    step = tokens = epoch = 0
    while budget.epochs is None or epoch < budget.epochs:
        order = problem.epoch(epoch)
        if len(order) == 0:
            raise TrainingError(f"epoch {epoch} has no batches: the training data are empty or all were left out")
        if budget.tokens is None:
            step += math.ceil(len(order) / accumulate)
        else:
            for group in step_groups(order, accumulate):
                step += 1
                tokens += sum(count_tokens(indices) for indices in group)
                if tokens >= budget.tokens:
                    return [(step, "tokens")]
            if tokens == 0:
                raise TrainingError(f"epoch {epoch} has no target tokens")
        if limit is not None and step >= limit:
            return []
        epoch += 1
    return [(step, "epochs")]


def calibrate(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    problem: Problem[B],
    *,
    accumulate: int = 1,
    clip: float | None = None,
    warmup: int = 2,
    steps: int = 12,
    processes: Processes | None = None,
) -> float:
    """Seconds per step, measured on real batches spread evenly over the first epoch.

    Whole steps are timed: collating, forward, backward and the optimizer. Weights, buffers, the optimizer's state and
    the random generators are put back bit for bit, so a calibrated run equals one that was given the step count.

    Args:
        model: trained in place and restored.
        optimizer: used and restored.
        problem: gives batches and loss.
        accumulate: micro-batches per step.
        clip: as in training.
        warmup: steps before the clock starts (allocations, kernel selection).
        steps: steps that are timed.
        processes: those that share the work; all get the main one's result.

    Raises:
        TrainingError: the first epoch has no batches.
    """
    together = Alone() if processes is None else processes
    order = problem.epoch(0)
    if len(order) == 0:
        raise TrainingError("epoch 0 has no batches: the training data are empty or all were left out")
    count = math.ceil(len(order) / accumulate)
    starts = [number * count // steps * accumulate for number in range(steps)]
    chosen = [order[start : start + accumulate] for start in starts]
    with _restored(model, optimizer):
        model.train()
        started = 0.0
        for number, group in enumerate([*(chosen[i % steps] for i in range(warmup)), *chosen]):
            if number == warmup:
                _wait(model)
                started = time.perf_counter()
            compute_gradients(model, problem, group, 0, clip, together)
            apply_gradients(optimizer, 0.0)
        _wait(model)
        return together.on_main(lambda: (time.perf_counter() - started) / steps)


@contextmanager
def _restored(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Undo, bit for bit, what the block does to the model, the optimizer and the random generators."""
    tensors = [*model.parameters(), *model.buffers()]
    copies = [tensor.detach().clone() for tensor in tensors]
    training = {module: module.training for module in model.modules()}
    state = copy.deepcopy(optimizer.state_dict())
    with preserved_random():
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, former in zip(tensors, copies, strict=True):
                    tensor.copy_(former)
            for module, mode in training.items():
                module.training = mode
            optimizer.load_state_dict(state)
            model.zero_grad(set_to_none=True)


def _wait(model: nn.Module) -> None:
    """Let a device that runs ahead of Python catch up, so that the clock is read at the right moment."""
    for device in {parameter.device for parameter in model.parameters()}:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
