"""The training loop. It knows no model and no task, prints nothing, and tells its listeners what happens.

Read `Trainer.run` first: validate, save, stop or advance, at each boundary between two steps.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from regard.errors import ArgumentError, TrainingError
from regard.training.budget import Plan
from regard.training.checkpoint import Checkpoint, Progress, save_checkpoint
from regard.training.events import Event, Finished, Listener, Reason, Resumed, Saved, Started, StepDone, Validated
from regard.training.processes import Alone, Processes, naming_lost_processes
from regard.training.random_state import preserved_random, restore_random
from regard.training.schedule import Schedule
from regard.training.signals import StopRequest, graceful_stop
from regard.training.step import Gradients, Indices, Problem, apply_gradients, compute_gradients
from regard.training.store import CheckpointStore

B = TypeVar("B")

# Steps whose losses are read back together on a device that runs ahead of Python: reading makes Python wait for it.
READ_BACK = 16


@dataclass(frozen=True)
class Metric:
    """The validation figure that decides which checkpoint is the best, and when to stop early."""

    name: str = "loss"
    better: Literal["min", "max"] = "min"

    def improves(self, value: float, best: float | None) -> bool:
        """Whether `value` is strictly better than `best`; what is not finite never is."""
        if not math.isfinite(value):
            return False
        return best is None or (value < best if self.better == "min" else value > best)


@dataclass(frozen=True)
class Settings:
    """How the loop runs; what it minimises, and how long, is said elsewhere."""

    accumulate: int = 1  # micro-batches per step
    clip: float | None = 1.0  # largest norm of the gradients; None: no clipping
    validate_every: int | None = None  # steps; None: at the end only
    metric: Metric = Metric()
    patience: int | None = None  # validations without improvement before stopping; None: never stop early
    save_every: int | None = None  # steps, besides each validation and the end
    save_seconds: float | None = 600.0  # wall-clock time without a save before one is made
    keep: int = 1  # the last n regular checkpoints stay, for averaging

    def __post_init__(self) -> None:
        for name in ("accumulate", "clip", "validate_every", "patience", "save_every", "save_seconds", "keep"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ArgumentError(f"settings: {name} is {value}; expected a number above 0")

    def is_regular(self, step: int, last: int) -> bool:
        """Whether the checkpoint of `step` counts for averaging: those of validations, else those of `save_every`.

        Saves made by the clock or by an interruption do not count: the average must not depend on them.
        """
        every = self.validate_every or self.save_every
        return step == last or (every is not None and step % every == 0)


class Trainer(Generic[B]):
    """Trains a model to the end of its plan.

    Same bits: with the same versions, thread count and kind of device, a run that was stopped anywhere, by a signal,
    a kill or a power cut, and resumed from its last checkpoint, ends with the weights of an uninterrupted one. On
    several processes that holds if there are as many again; on another number the run goes on from the same place in
    the data, with other rounding and other dropout.

    Args:
        model: trained in place.
        optimizer: over the parameters of `model`; its learning rate is set at each step.
        schedule: the learning rate of each step.
        problem: the batches and their loss.
        plan: the frozen budget.
        folder: where checkpoints go; this trainer alone may write there.
        settings: accumulation, clipping, validation, saving.
        validate: called with the step, returns metrics by name, the same in every process. It may put the model into
            evaluation mode and draw random numbers; both are undone.
        listeners: called with each event, in order. They must draw no random numbers. Only the main process needs any.
        processes: those that train the model together; this one alone if not given.

    Raises:
        ArgumentError: settings about validation without `validate`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        problem: Problem[B],
        plan: Plan,
        folder: Path,
        *,
        settings: Settings | None = None,
        validate: Callable[[int], Mapping[str, float]] | None = None,
        listeners: Sequence[Listener] = (),
        processes: Processes | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.problem = problem
        self.plan = plan
        self.store = CheckpointStore(folder)
        self.settings = settings if settings is not None else Settings()
        self.validate = validate
        self.listeners = list(listeners)
        self.processes = Alone() if processes is None else processes
        self.progress = Progress()
        self._random: dict[str, Tensor] | None = None  # to be restored when the run begins
        if validate is None and (self.settings.validate_every or self.settings.patience):
            raise ArgumentError("settings ask for validations (validate_every, patience) but validate is None")
        self._unsaved = True  # the checkpoint on disk, if any, differs from the present state
        self._order: tuple[int, Sequence[Indices]] | None = None  # the epoch at hand and its micro-batches
        self._unread: list[tuple[StepDone, Gradients]] = []  # steps whose loss is still on the device
        self._clock = self._last_save = self._last_read = time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`: weights and optimizer are put back now, random states when `run` begins.

        Raises:
            CheckpointError: it belongs to another model or optimizer.
        """
        checkpoint.restore(self.model, self.optimizer)
        self.progress = checkpoint.progress
        if checkpoint.plan != self.plan:
            # the end of the shorter plan is no regular step of this one
            regular = tuple(s for s in self.progress.snapshots if self.settings.is_regular(s, self.plan.steps))
            self.progress = replace(self.progress, snapshots=regular)
        self._random = checkpoint.random
        self._unsaved = checkpoint.plan != self.plan
        self._tell(Resumed(self.progress.step, checkpoint.path, checkpoint.differences(self.processes.count)))

    def run(self) -> Finished:
        """Train until the plan, the patience or a signal ends it; the last state is saved. See `Finished`.

        SIGINT and SIGTERM finish the step, save and stop; a second one raises `KeyboardInterrupt` at once.

        Raises:
            TrainingError: the loss or a gradient is not a finite number, there is no data, or another process of the
                run has ended.
            CheckpointError: a checkpoint could not be written, for example because the disk is full.
        """
        with graceful_stop() as stop, naming_lost_processes(self.processes, self._advice):
            return self._run(stop)

    def _run(self, stop: StopRequest) -> Finished:
        self._clock = self._last_save = self._last_read = time.monotonic()
        self._tell(Started(self.progress.step, self.plan.steps, self.plan.bound))
        self.model.train()
        if self._random is not None:
            # here: the caller may have drawn numbers since `resume`
            restore_random(self._random, self.processes.rank, self.progress.step)
            self._random = None
        if self._unsaved:
            self._save()  # a new or extended plan must not be lost, and a disk that is full shows at once
        else:
            self._prune()  # a kill may have come between the last save and its tidying up
        while True:
            # a signal may have reached one process only, and clocks differ: all must do the same
            stopping, hurry = self.processes.any([stop.requested, self._clock_says_save()])
            if self._validation_due() and not stopping:
                self._validate()
            reason = self._reason_to_stop(stopping)
            if self._unsaved and (reason is not None or hurry or self._save_due()):
                self._save()
            if reason is not None:
                self.processes.wait()  # none returns before the last checkpoint is there
                finished = Finished(reason, self.progress.step)
                self._tell(finished)
                return finished
            self._advance()

    def _advance(self) -> None:
        """Take one step and move on in the data."""
        before, settings = self.progress, self.settings
        step = before.step + 1
        order = self._micro_batches(before.epoch)
        if before.position >= len(order):
            raise TrainingError(
                f"the checkpoint stands at micro-batch {before.position} of epoch {before.epoch}, which has only "
                f"{len(order)}: the training data or their batching have changed since"
            )
        group = order[before.position : before.position + settings.accumulate]
        rate = self.schedule.rate(step)
        gradients = compute_gradients(self.model, self.problem, group, before.epoch, settings.clip, self.processes)
        immediate = gradients.loss.device.type == "cpu"
        if immediate:
            self._check(step, float(gradients.loss), float(gradients.norm))  # before the weights are touched
        apply_gradients(self.optimizer, rate)

        position = before.position + len(group)
        over = position >= len(order)
        regular = settings.is_regular(step, self.plan.steps)
        self.progress = replace(
            before,
            step=step,
            epoch=before.epoch + over,
            position=0 if over else position,
            tokens=before.tokens + gradients.tokens,
            snapshots=(*before.snapshots, step)[-settings.keep :] if regular else before.snapshots,
        )
        self._unsaved = True
        done = StepDone(step, before.epoch, math.nan, math.nan, rate, gradients.tokens, math.nan)
        self._unread.append((done, gradients))
        if immediate or len(self._unread) >= READ_BACK:
            self._read_back()

    def _micro_batches(self, epoch: int) -> Sequence[Indices]:
        if self._order is None or self._order[0] != epoch:
            self._order = None  # before the next is made: large corpora have no room for two
            order = self.problem.epoch(epoch)
            if len(order) == 0:
                raise TrainingError(f"epoch {epoch} has no batches: the training data are empty or all were left out")
            self._order = (epoch, order)
        return self._order[1]

    def _read_back(self) -> None:
        """Fetch the losses of the last steps from the device, check them, and tell the listeners."""
        if not self._unread:
            return
        steps, self._unread = self._unread, []
        values = torch.stack([torch.stack((g.loss, g.norm.to(g.loss.dtype))) for _, g in steps]).tolist()
        now = time.monotonic()
        each, self._last_read = (now - self._last_read) / len(steps), now
        for (done, _), (loss, norm) in zip(steps, values, strict=True):
            self._check(done.step, loss, norm)
            self._tell(replace(done, loss=loss, grad_norm=norm, seconds=each))

    def _check(self, step: int, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        raise TrainingError(
            f"step {step}: the loss is {loss}, the norm of its gradients {norm}. Try a lower learning rate (now "
            f"{self.schedule.rate(step):.3g}), a longer warm-up or a smaller clip (now {self.settings.clip}); "
            f"{self._where()}"
        )

    def _where(self) -> str:
        steps = self.store.steps()
        return f"the last good checkpoint is {self.store.path(steps[-1])}" if steps else "there is no checkpoint yet"

    def _advice(self) -> str:
        return f"{self._where()}; the same command goes on"

    def _validation_due(self) -> bool:
        step, every = self.progress.step, self.settings.validate_every
        if self.validate is None or step == 0 or self.progress.validated == step:
            return False
        return step >= self.plan.steps or (every is not None and step % every == 0)

    def _validate(self) -> None:
        """Validate, and judge the result: is it the best, how many have passed since the best."""
        assert self.validate is not None
        self._read_back()
        started = time.monotonic()
        with preserved_random():
            metrics = dict(self.validate(self.progress.step))
        self.model.train()
        metric, before = self.settings.metric, self.progress
        if metric.name not in metrics:
            names = ", ".join(sorted(metrics)) or "none"
            raise TrainingError(f"validation gives no metric {metric.name!r}; it gives: {names}")
        improved = metric.improves(metrics[metric.name], before.best)
        self.progress = replace(
            before,
            validated=before.step,
            best=metrics[metric.name] if improved else before.best,
            best_step=before.step if improved else before.best_step,
            stale=0 if improved else before.stale + 1,
        )
        self._unsaved = True
        now = time.monotonic()
        self._last_read = now  # a step's time does not include validations
        self._tell(Validated(before.step, metrics, improved, self.progress.stale, now - started))

    def _reason_to_stop(self, stopping: bool) -> Reason | None:
        if self.progress.step >= self.plan.steps and not self._validation_due():
            return self.plan.bound
        if self.settings.patience is not None and self.progress.stale >= self.settings.patience:
            return "patience"
        return "interrupted" if stopping else None

    def _save_due(self) -> bool:
        progress, settings = self.progress, self.settings
        if progress.validated == progress.step:
            return True
        return settings.save_every is not None and progress.step % settings.save_every == 0

    def _clock_says_save(self) -> bool:
        seconds = self.settings.save_seconds
        return seconds is not None and time.monotonic() - self._last_save >= seconds

    def _save(self) -> None:
        """Write a checkpoint, then delete those that nothing needs any more."""
        self._read_back()  # so that weights spoilt by a bad step are never saved
        started = time.monotonic()
        self.progress = replace(self.progress, seconds=self.progress.seconds + started - self._clock)
        self._clock = started
        path = save_checkpoint(self.store, self.model, self.optimizer, self.progress, self.plan, self.processes)
        self._prune()
        self._unsaved = False
        self._last_save = self._last_read = time.monotonic()
        self._tell(Saved(self.progress.step, path, self._last_save - started))

    def _prune(self) -> None:
        if self.processes.rank == 0:
            best = () if self.progress.best_step is None else (self.progress.best_step,)
            self.store.prune({*self.progress.snapshots, *best})

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
