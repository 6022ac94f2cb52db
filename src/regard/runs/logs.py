"""What a run leaves on record while it goes: a line of JSON for each step and validation, TensorBoard on request."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regard.errors import MissingExtraError
from regard.training import Event, Listener, StepDone, Validated


def log_listener(path: Path) -> Listener:
    """Append each step and validation to a JSON-lines file.

    After an interruption the steps since the last checkpoint come again; the later line of a step counts.
    """

    def listen(event: Event) -> None:
        if not isinstance(event, StepDone | Validated):
            return
        content: dict[str, Any] = {"event": "step" if isinstance(event, StepDone) else "validation", **asdict(event)}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")

    return listen


def tensorboard_listener(folder: Path) -> Listener:
    """Write losses, rates and validation metrics as TensorBoard scalars.

    Raises:
        MissingExtraError: the extra `tensorboard` is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError('TensorBoard logs need an extra: pip install "regard[tensorboard]"') from error
    writer: Any = None

    def listen(event: Event) -> None:
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

    return listen
