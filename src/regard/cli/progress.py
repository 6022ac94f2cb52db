"""What a person sees while a model trains, and before: a progress bar, validations, samples, what comes next."""

import sys
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from regard.models.config import parameter_count
from regard.runs.memory import peak_memory
from regard.runs.train import Outcome, Outlook, Run
from regard.training import Damaged, Event, Resumed, Started, StepDone, Validated

WINDOW = 50  # steps that the shown loss and speed are averaged over


class TrainingDisplay:
    """A listener that shows training on standard error.

    Args:
        quiet: show nothing but the result and what must not be missed.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(file=sys.stderr, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._task: TaskID | None = None
        self._recent: deque[StepDone] = deque(maxlen=WINDOW)
        self._run: Run | None = None
        self._directory = Path()
        self._steps = 0

    def say(self, message: str) -> None:
        """Say something in a line of its own."""
        if not self.quiet:
            self.console.print(message, markup=False)

    def start(self, run: Run, directory: Path) -> None:
        """Say what is about to be trained."""
        self._run, self._directory = run, directory
        for line in run.work.words():
            self.say(line)
        together = f", {run.processes.count} processes" if run.processes.count > 1 else ""
        parameters = parameter_count(run.model)
        self.say(f"{run.work.config.words()}: {parameters:,} parameters, on {run.device}{together}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Started):
            self._steps = event.steps
            self._task = self._bar.add_task("training", total=event.steps, completed=event.step, facts="")
            self.say(f"training to step {event.steps:,} (by {event.bound}) into {self._directory}")
            self.say("Ctrl-C saves and stops; the same command goes on")
        elif isinstance(event, Resumed):
            self.say(f"going on from step {event.step:,} ({event.path})")
            for note in event.notes:
                self.console.print(f"note: {note}; the result may differ in the last bits", markup=False)
        elif isinstance(event, Damaged):
            self.console.print(
                f"WARNING: {event.problem}; moved to {event.path}; going on from {event.fallback}, with fewer steps",
                style="bold red",
                markup=False,
            )
        elif isinstance(event, StepDone):
            self._recent.append(event)
            if self._task is not None:
                self._bar.update(self._task, completed=event.step, facts=self._facts())
        elif isinstance(event, Validated):
            self._show(event)

    def finish(self, outcome: Outcome) -> None:
        """Say what was reached and what can be done with it."""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in outcome.metrics.items())
        if outcome.reason == "interrupted":
            self.console.print(f"stopped at step {outcome.step:,}; the same command goes on", markup=False)
        self.say(f"weights: {outcome.chosen}" + (f"; validation: {figures}" if figures else ""))
        if not figures:
            return
        self.say(f"peak memory {peak_memory() / 2**20:,.0f} MiB")
        self.say(f"the model is in {outcome.directory}; next:")
        if self._run is not None:
            for command in self._run.work.next_commands(outcome.directory):
                self.say(f"  {command}")

    def _facts(self) -> str:
        seconds = sum(step.seconds for step in self._recent)
        tokens = sum(step.tokens for step in self._recent)
        loss = sum(step.loss * step.tokens for step in self._recent) / tokens
        return f"loss {loss:.3f}  {tokens / max(seconds, 1e-9):,.0f} tokens/s"

    def _show(self, event: Validated) -> None:
        figures = "  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
        best = "  (best)" if event.improved else ""
        trained = f"  train: {self._facts()}" if self._recent else ""
        self.say(f"step {event.step:,} of {self._steps:,}: {figures}{best}{trained}")
        if self._run is not None:
            for line in self._run.validator.shown():
                self.say(line)


def print_outlook(outlook: Outlook) -> None:
    """Print what a run would do."""
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = {
        "parameters": f"{outlook.parameters:,}",
        **outlook.sizes,
        "batches an epoch": f"{outlook.batches:,}",
        "steps": f"{outlook.steps:,} (by {outlook.bound}, {outlook.epochs:.1f} epochs)",
        "speed": f"{outlook.seconds_per_step * 1000:,.0f} ms a step, {outlook.tokens_per_second:,.0f} target tokens/s",
        "time": f"about {outlook.seconds / 60:,.1f} minutes, validations included",
        "memory": f"{peak_memory() / 2**20:,.0f} MiB, the peak of this process while it tried some steps",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    console.print("nothing was written")
