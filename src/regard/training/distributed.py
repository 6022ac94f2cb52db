"""Several processes through Accelerate: data-parallel (DDP), or with weights and optimizer spread too (FSDP2).

Accelerate finds the processes that `torchrun` started, connects them and chooses devices and mixed precision. FSDP2 is
torch's own `fully_shard`: Accelerate offers it on accelerators only, where the tests don't run.
"""

import atexit
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from regard.errors import TrainingError
from regard.training.processes import Loss, first_line, several

T = TypeVar("T")

# How long others wait for what the main process does alone: tokenising a corpus, validating. A process that dies closes
# its connections; a machine that vanishes meanwhile may go unnoticed for so long, at other times for torch's own limit.
PATIENCE = timedelta(hours=24)


def connect(
    device: torch.device, precision: Literal["float32", "bfloat16"], sharding: Literal["none", "fsdp"]
) -> "Replicated | Sharded":
    """Find the other processes, if there are any, and set the precision; see `open_processes`.

    Raises:
        TrainingError: the other processes cannot be reached.
    """
    AcceleratorState._reset_state(True)  # it is one for the whole program, and this may not be its first run
    handlers: list[Any] = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    if several():
        handlers.append(InitProcessGroupKwargs(backend=_backend(device)))
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            device_placement=False,
            mixed_precision="bf16" if precision == "bfloat16" else "no",
            kwargs_handlers=handlers,
        )
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the processes cannot be connected: {first_line(error)}") from error
    if several():
        atexit.register(_leave)  # left to the interpreter's end, gloo's threads can abort the process
    return (Sharded if sharding == "fsdp" else Replicated)(accelerator, device)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class _Connected:
    """What both kinds share: agreeing upon values."""

    def __init__(self, accelerator: Accelerator, device: torch.device) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.count: int = accelerator.num_processes
        # several processes get a device each; Accelerate numbers CPUs too
        self.device: torch.device = device if self.count == 1 or device.type == "cpu" else accelerator.device
        self._patient = dist.new_group(timeout=PATIENCE, backend="gloo") if self.count > 1 else None

    def sum(self, value: Tensor) -> Tensor:
        """The sum over processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Flags that are set anywhere; exchanged through the CPU, so that no device has to be waited for."""
        if self.count == 1:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def gather(self, value: Tensor) -> list[Tensor]:
        """Everyone's tensor."""
        if self.count == 1:
            return [value]
        values = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(values, value)
        return values

    def on_main(self, compute: Callable[[], T]) -> T:
        """The main process's value, sent as JSON."""
        if self.count == 1:
            return compute()
        text = json.dumps(compute()).encode() if self.rank == 0 else b""
        size = torch.tensor(len(text))
        dist.broadcast(size, 0, group=self._patient)
        content = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(int(size)).byte()
        dist.broadcast(content, 0, group=self._patient)
        value: T = json.loads(bytes(content.tolist()))
        return value

    def wait(self) -> None:
        """A barrier."""
        if self.count > 1:
            dist.barrier(group=self._patient)


class Replicated(_Connected):
    """Every process holds all weights and the whole optimizer (DistributedDataParallel)."""

    sharded = False
    _wrapped: nn.Module

    def prepare(self, objective: nn.Module, layers: Sequence[nn.Module]) -> Loss:
        """The objective with its gradients averaged while the backward pass runs."""
        with warnings.catch_warnings():
            # torch renames broadcast_buffers; its new name is not in every version this package runs with
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            self._wrapped = self.accelerator.prepare(objective)
        return self._wrapped

    def deferred(self) -> AbstractContextManager[Any]:
        """Gradients stay here until a backward pass outside the block."""
        if isinstance(self._wrapped, DistributedDataParallel):
            return self._wrapped.no_sync()
        context: AbstractContextManager[Any] = self.accelerator.no_sync(self._wrapped)
        return context


class Sharded(_Connected):
    """Every process holds a share of each weight, gradient and optimizer entry (FSDP2, Zhao et al. 2023)."""

    sharded = True
    _wrapped: Any

    def prepare(self, objective: nn.Module, layers: Sequence[nn.Module]) -> Loss:
        """The objective with its parameters spread; a layer's are whole while the layer is computed."""
        mesh = init_device_mesh(self.device.type, (self.count,))
        for layer in layers:
            fully_shard(layer, mesh=mesh)
        self._wrapped = fully_shard(objective, mesh=mesh)

        def loss(batch: Any) -> Tensor:
            with self.accelerator.autocast():
                total: Tensor = self._wrapped(batch)
            return total

        return loss

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Gradients stay here, unreduced and whole, until a backward pass outside the block."""
        self._wrapped.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._wrapped.set_requires_gradient_sync(True)


def _backend(device: torch.device) -> str:
    """Tensors on the CPU are exchanged by gloo wherever the model is: flags, and random states."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
