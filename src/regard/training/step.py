"""One optimizer step: the gradients of several micro-batches, normalised by the target tokens of all of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regard.errors import TrainingError
from regard.training.processes import Processes
from regard.training.sharded import whole

B = TypeVar("B")
Indices = Sequence[int] | NDArray[np.integer[Any]]
"""The examples of a micro-batch, by number."""


@dataclass(frozen=True)
class Problem(Generic[B]):
    """What is to be learned: the batches in their order, and their loss. The loop knows nothing else about the data."""

    epoch: Callable[[int], Sequence[Indices]]
    """The micro-batches of epoch n (counted from 0), each as the indices of its examples. Must depend on n alone."""
    collate: Callable[[Indices, int], B]
    """Makes a batch, on the right device, from indices and the epoch."""
    tokens: Callable[[B], int]
    """The target tokens of a batch: what its loss is a sum over."""
    loss: Callable[[B], Tensor]
    """The loss *summed* over the target tokens, a differentiable scalar."""


@dataclass(frozen=True)
class Gradients:
    """What is known about a step whose gradients lie in `parameter.grad`. The tensors are scalars on the device."""

    loss: Tensor  # mean over the target tokens
    norm: Tensor  # of all gradients together, before clipping
    tokens: int


def step_groups(order: Sequence[Indices], accumulate: int) -> Iterator[Sequence[Indices]]:
    """The micro-batches of each step of an epoch; the last step has fewer when they do not divide evenly."""
    for start in range(0, len(order), accumulate):
        yield order[start : start + accumulate]


def compute_gradients(
    model: nn.Module,
    problem: Problem[B],
    micro_batches: Sequence[Indices],
    epoch: int,
    clip: float | None,
    processes: Processes,
) -> Gradients:
    """Fill `parameter.grad` with the gradient of the mean loss over the target tokens of all `micro_batches`.

    All are collated first: the number of target tokens must be known before the first backward pass. So the result
    does not depend on how examples are spread over micro-batches or processes, however different their lengths are.

    Args:
        model: its gradients are replaced.
        problem: collates the batches and computes their loss.
        micro_batches: the indices of each.
        epoch: the epoch they belong to.
        clip: gradients are scaled down to this norm if theirs is larger (Pascanu et al. 2013); `None`: never.
        processes: those that share the work; each must call this with the same arguments.

    Raises:
        TrainingError: no target tokens in the whole step.
    """
    # every n-th example: those of a batch have like lengths, so the work is even
    shares = [indices[processes.rank :: processes.count] for indices in micro_batches]
    # A process without a share still has to take part in the exchange of gradients: with one example, times zero.
    batches = [
        problem.collate(own if len(own) else indices[:1], epoch)
        for own, indices in zip(shares, micro_batches, strict=True)
    ]
    local = sum(problem.tokens(batch) for own, batch in zip(shares, batches, strict=True) if len(own))
    tokens = int(processes.sum(torch.tensor(local)))
    if tokens < 1:
        raise TrainingError("a step has no target tokens; expected at least one in its batches")
    parameters = list(model.parameters())  # once: finding them in all modules takes as long as a small step's optimizer
    for parameter in parameters:
        parameter.grad = None
    losses: list[Tensor] = []
    for number, (own, batch) in enumerate(zip(shares, batches, strict=True), start=1):
        with processes.deferred() if number < len(batches) else nullcontext():
            loss = problem.loss(batch) / tokens
            if not len(own):
                loss = loss * 0.0
            # processes average their gradients, where the sum over all their tokens is meant
            (loss * processes.count).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    if clip is None:
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    else:
        norm = nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], clip)
    return Gradients(processes.sum(torch.stack(losses).sum()), whole(norm.detach()), tokens)


def apply_gradients(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the optimizer take one step with learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
