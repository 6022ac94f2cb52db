"""The processes that train one model together. Each computes the gradients of its share of every micro-batch.

A micro-batch is the same whatever the number of processes; its examples are dealt out in turn. So the data position
in a checkpoint, the order of the data and, but for rounding, the losses don't depend on that number.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from regard.errors import RecipeError, TrainingError

Loss = Callable[[Any], Tensor]
T = TypeVar("T")


class Processes(Protocol):
    """What the loop asks of the processes of a run. Every method but `share` is called by all of them together."""

    rank: int
    """This process, from 0. Process 0, the main one, alone writes files and talks."""
    count: int
    """How many there are."""
    device: torch.device
    """What this process computes on."""
    sharded: bool
    """Whether weights and the optimizer's state are spread over the processes."""

    def prepare(self, objective: nn.Module, layers: Sequence[nn.Module]) -> Loss:
        """The objective, from a batch to its summed loss, so that its gradients are the mean over all processes.

        Args:
            objective: already on `device`; its parameters may be replaced, so the optimizer is built afterwards.
            layers: parts of it that are computed one after the other.
        """
        ...

    def deferred(self) -> AbstractContextManager[Any]:
        """Forward and backward passes within this block leave gradients unreduced; the next ones outside bring them."""
        ...

    def sum(self, value: Tensor) -> Tensor:
        """The sum of everyone's `value`, which may be changed in place."""
        ...

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether it is set in any process."""
        ...

    def gather(self, value: Tensor) -> list[Tensor]:
        """Everyone's `value`, which has the same shape and dtype everywhere, by rank."""
        ...

    def on_main(self, compute: Callable[[], T]) -> T:
        """What the main process computes, a JSON value, in every process."""
        ...

    def wait(self) -> None:
        """Wait until all processes are here."""
        ...


class Alone:
    """One process in full precision: nothing to agree upon."""

    rank, count, sharded = 0, 1, False

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = torch.device("cpu") if device is None else device

    def prepare(self, objective: nn.Module, layers: Sequence[nn.Module]) -> Loss:
        """The objective itself."""
        return objective

    def deferred(self) -> AbstractContextManager[Any]:
        """Nothing to defer."""
        return nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """The value."""
        return value

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """The flags."""
        return list(flags)

    def gather(self, value: Tensor) -> list[Tensor]:
        """The value."""
        return [value]

    def on_main(self, compute: Callable[[], T]) -> T:
        """What is computed."""
        return compute()

    def wait(self) -> None:
        """Nothing to wait for."""


def open_processes(
    device: torch.device, precision: Literal["float32", "bfloat16"], sharding: Literal["none", "fsdp"]
) -> Processes:
    """The processes of this run: those that `torchrun` started, else this one alone.

    Args:
        device: of a single process; several use the accelerators that `LOCAL_RANK` numbers if this is one.
        precision: "bfloat16" computes matrix products in half precision (autocast), with weights in float32.
        sharding: "fsdp" spreads weights, gradients and the optimizer's state.

    Raises:
        RecipeError: sharding in a single process.
        TrainingError: the other processes cannot be reached.
    """
    if sharding == "fsdp" and not several():
        raise RecipeError(
            'training.sharding = "fsdp" needs several processes: torchrun --nproc-per-node 2 -m regard train …'
        )
    if not several() and precision == "float32":
        return Alone(device)
    from regard.training.distributed import connect  # here: Accelerate takes long to import, and most runs need none

    return connect(device, precision, sharding)


def several() -> bool:
    """Whether this process was started as one of several: `torchrun` sets the environment."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def naming_lost_processes(processes: Processes, advice: Callable[[], str]) -> Iterator[None]:
    """Turn the failure of an exchange within the block into an error for the user.

    Args:
        processes: those that exchange.
        advice: what to do now.

    Raises:
        TrainingError: another process has ended or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        if processes.count == 1 or not _is_connection(error):
            raise
        raise TrainingError(
            f"another process of this run has ended or cannot be reached ({first_line(error)}); {advice()}"
        ) from error


def first_line(error: Exception) -> str:
    """The beginning of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _is_connection(error: RuntimeError) -> bool:
    words = ("gloo", "NCCL", "onnection", "process group", "Timed out")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)
