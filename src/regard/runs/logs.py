"""What a run leaves on record while it goes: a line of JSON for each thing measured, TensorBoard on request."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from regard.errors import MissingExtraError
from regard.runs.attention_health import AttentionMeasured, RunEvent, Tell
from regard.training import Saved, StepDone, Validated

KINDS: dict[type[RunEvent], str] = {StepDone: "step", Validated: "validation", AttentionMeasured: "attention"}
"""What the log calls the events that it keeps."""


def log_listener(path: Path) -> Tell:
    """Append each step, validation and measurement of attention to a JSON-lines file.

    After an interruption the steps since the last checkpoint come again; the later line of a step counts. Lines of
    the steps before a checkpoint are on the disk when the checkpoint is announced.
    """

    whole = False

    def listen(event: RunEvent) -> None:
        nonlocal whole
        kind = KINDS.get(type(event))
        if kind is None and not isinstance(event, Saved):
            return
        with open(path, "a+b") as file:
            if not whole:  # a line that a power cut tore must not swallow the next one
                file.write(_missing_end(file))
                whole = True
            if kind is not None:
                file.write(json.dumps({"event": kind, **asdict(event)}).encode() + b"\n")
            if isinstance(event, Saved | Validated):  # steps before a checkpoint are never taken again
                file.flush()
                os.fsync(file.fileno())

    return listen


def _missing_end(file: BinaryIO) -> bytes:
    """The end of the last line of a file, if that lacks it."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def tensorboard_listener(folder: Path) -> Tell:
    """Write losses, rates, validation metrics and attention health as TensorBoard scalars.

    Raises:
        MissingExtraError: the extra `tensorboard` is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError('TensorBoard logs need an extra: pip install "regard[tensorboard]"') from error
    writer: Any = None

    def listen(event: RunEvent) -> None:
        nonlocal writer
        if writer is None:  # not before the run has claimed its directory
            writer = SummaryWriter(str(folder))
        if isinstance(event, StepDone):
            writer.add_scalar("train/loss", event.loss, event.step)
            writer.add_scalar("train/learning_rate", event.rate, event.step)
            writer.add_scalar("train/gradient_norm", event.grad_norm, event.step)
            writer.add_scalar("train/tokens_per_second", event.tokens / max(event.seconds, 1e-9), event.step)
        elif isinstance(event, Validated):
            for name, value in event.metrics.items():
                writer.add_scalar(f"valid/{name}", value, event.step)
            writer.flush()
        elif isinstance(event, AttentionMeasured):
            for name, value in event.health.items():
                writer.add_scalar(name, value, event.step)

    return listen
