"""One optimizer step: the gradients of several micro-batches, normalised by the target tokens of all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from regard.errors import ArgumentError, TrainingError

B = TypeVar("B")
Indices = Sequence[int]


@dataclass(frozen=True)
class Problem(Generic[B]):
    """What is to be learned: the batches in their order, and their loss. The loop knows nothing else about the data."""

    epoch: Callable[[int], Sequence[Indices]]
    """The micro-batches of epoch n (counted from 0), each as the indices of its examples. Must depend on n alone."""
    collate: Callable[[Indices], B]
    """Makes a batch, on the right device, from indices."""
    tokens: Callable[[B], int]
    """The target tokens of a batch: what its loss is a sum over."""
    loss: Callable[[B], tuple[Tensor, int]]
    """The loss *summed* over target tokens (a differentiable scalar) and their number, the same as `tokens` gives."""


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
    model: nn.Module, problem: Problem[B], micro_batches: Sequence[Indices], clip: float | None
) -> Gradients:
    """Fill `parameter.grad` with the gradient of the mean loss over the target tokens of all `micro_batches`.

    All are collated first: the number of target tokens must be known before the first backward pass. So the result
    does not depend on how examples are spread over micro-batches, however different their lengths are.

    Args:
        model: its gradients are replaced.
        problem: collates the batches and computes their loss.
        micro_batches: the indices of each.
        clip: gradients are scaled down to this norm if theirs is larger (Pascanu et al. 2013); `None`: never.

    Raises:
        TrainingError: no target tokens in the whole step.
        ArgumentError: `problem.loss` and `problem.tokens` count differently.
    """
    batches = [problem.collate(indices) for indices in micro_batches]
    counts = [problem.tokens(batch) for batch in batches]
    tokens = sum(counts)
    if tokens < 1:
        raise TrainingError("a step has no target tokens; expected at least one in its batches")
    model.zero_grad(set_to_none=True)
    losses: list[Tensor] = []
    for batch, count in zip(batches, counts, strict=True):
        total, counted = problem.loss(batch)
        if counted != count:
            raise ArgumentError(f"problem.loss counts {counted} target tokens in a batch, problem.tokens {count}")
        loss = total / tokens
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
    parameters = [p for p in model.parameters() if p.grad is not None]
    if clip is None:
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    else:
        norm = nn.utils.clip_grad_norm_(parameters, clip)
    return Gradients(torch.stack(losses).sum(), norm.detach(), tokens)


def apply_gradients(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the optimizer take one step with learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
