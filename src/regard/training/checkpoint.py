"""Everything a run needs to go on bit for bit: weights, optimizer, random states, place in the data, and the plan.

Files of a checkpoint (see `store` for how they are written): model.safetensors, optimizer.safetensors,
random.safetensors and state.json, which has the progress, the plan and the optimizer's settings. No pickle.
"""

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from regard.errors import CheckpointError
from regard.training.budget import Plan
from regard.training.events import Damaged
from regard.training.optimizer import OptimizerState, capture_optimizer, restore_optimizer
from regard.training.processes import Processes
from regard.training.random_state import capture_all_random
from regard.training.sharded import load_whole, whole_state
from regard.training.store import CheckpointStore, DamagedCheckpointError, read_checkpoint, read_checkpoint_file
from regard.training.weights import WEIGHTS, pack, pack_weights, unpack, unpack_weights

STATE = "state.json"


@dataclass(frozen=True)
class Progress:
    """How far a run has come, and where in the data it stands."""

    step: int = 0  # optimizer steps taken
    epoch: int = 0  # the epoch of the next batch, counted from 0
    position: int = 0  # micro-batches of that epoch already used
    tokens: int = 0  # target tokens seen
    seconds: float = 0.0  # wall-clock time in the loop, validations and saves included
    validated: int = 0  # the last step at which a validation was made
    best: float | None = None  # the best value of the metric, and where it was
    best_step: int | None = None
    stale: int = 0  # validations since then
    snapshots: tuple[int, ...] = ()  # the last steps whose checkpoints are kept for averaging


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, read and verified."""

    path: Path
    progress: Progress
    plan: Plan
    weights: dict[str, Tensor]
    optimizer: OptimizerState
    random: dict[str, Tensor]
    environment: dict[str, str]  # what wrote it

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put weights and the optimizer's state back. The random states come last, with `restore_random`.

        Raises:
            CheckpointError: model or optimizer are of another kind than those that were saved.
        """
        load_weights_into(model, self.weights, self.path)
        restore_optimizer(optimizer, self.optimizer)

    def differences(self, processes: int) -> tuple[str, ...]:
        """What is different here, in words; then the run goes on, but perhaps not to the very same bits."""
        now = environment(processes)
        return tuple(
            f"{key}: the checkpoint was written with {self.environment.get(key)}, this is {now[key]}"
            for key in now
            if now[key] != self.environment.get(key)
        )


def environment(processes: int) -> dict[str, str]:
    """What the bits of a result depend on, besides the data and the settings."""
    return {
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "machine": platform.machine(),
        "processes": str(processes),
    }


def save_checkpoint(
    store: CheckpointStore,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    plan: Plan,
    processes: Processes,
) -> Path:
    """Write the present state as the checkpoint of `progress.step`; returns its directory.

    All processes call this; what they hold shares of is brought together, and the main one writes.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; former checkpoints are untouched.
    """
    main = processes.rank == 0
    weights, state = whole_state(model, keep=main), capture_optimizer(optimizer, keep=main)
    random = capture_all_random(processes)
    if not main:
        return store.path(progress.step)
    content = {
        "progress": asdict(progress),
        "plan": plan.as_json(),
        "optimizer": state.numbers,
        "environment": environment(processes.count),
    }

    def files() -> Iterator[tuple[str, bytes]]:
        yield WEIGHTS, pack_weights(weights)
        yield "optimizer.safetensors", pack(state.tensors)
        yield "random.safetensors", pack(random)
        yield STATE, json.dumps(content, indent=1, allow_nan=False).encode()

    return store.write(progress.step, files())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify the checkpoint directory `path`.

    Raises:
        DamagedCheckpointError: a file is missing, truncated or altered; the message names it.
        CheckpointError: there is none, or it is of a newer version.
    """
    path = Path(path)
    files = read_checkpoint(path)
    try:
        content: dict[str, Any] = json.loads(files[STATE])
        return Checkpoint(
            path=path,
            progress=_progress(content),
            plan=Plan.from_json(content["plan"]),
            weights=unpack_weights(files[WEIGHTS]),
            optimizer=OptimizerState(unpack(files["optimizer.safetensors"]), content["optimizer"]),
            random=unpack(files["random.safetensors"]),
            environment=content["environment"],
        )
    except KeyError as error:
        raise DamagedCheckpointError(f"{path}: has no {error}") from error
    except (ValueError, TypeError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{path}: not what this program wrote ({error})") from error


def load_progress(path: Path) -> Progress:
    """How far the run had come at the checkpoint directory `path`; its weights are not read.

    Raises:
        DamagedCheckpointError: that file is missing, truncated or altered, or not what this program wrote.
    """
    try:
        return _progress(json.loads(read_checkpoint_file(Path(path), STATE)))
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedCheckpointError(f"{path}: not what this program wrote ({error})") from error


def _progress(content: dict[str, Any]) -> Progress:
    progress = content["progress"]
    return Progress(**{**progress, "snapshots": tuple(progress["snapshots"])})


def last_checkpoint(folder: Path, tell: Callable[[Damaged], None]) -> Checkpoint | None:
    """The newest checkpoint of a run; `None` if there is none. Tidies up what a crash left behind.

    A damaged one is moved aside and the one before it is used; `tell` hears of each such case.

    Args:
        folder: the run's checkpoints.
        tell: a listener; must say it loudly, since steps are lost.

    Raises:
        CheckpointError: there are checkpoints, but all are damaged; or one cannot be read or is of a newer version.
    """
    store = CheckpointStore(folder)
    store.recover()
    problems: dict[int, str] = {}
    for step in reversed(store.steps()):
        try:
            checkpoint = load_checkpoint(store.path(step))
        except DamagedCheckpointError as error:
            problems[step] = str(error)
            continue
        for damaged, problem in problems.items():
            tell(Damaged(store.set_aside(damaged), problem, checkpoint.path))
        return checkpoint
    if problems:
        raise CheckpointError(f"{next(iter(problems.values()))}; no good checkpoint is left in {folder}")
    return None


def load_weights_into(model: nn.Module, weights: dict[str, Tensor], origin: Path) -> None:
    """Copy `weights` into `model`; names and shapes must agree exactly.

    Raises:
        CheckpointError: they do not; the message names `origin` and the first difference.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unknown:
        which = f"lacks {missing[0]}" if missing else f"has {unknown[0]}, which the model lacks"
        raise CheckpointError(f"{origin}: weights of another model: it {which}")
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            raise CheckpointError(
                f"{origin}: weights of another model: {name} has shape {tuple(weights[name].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
    load_whole(model, weights)
