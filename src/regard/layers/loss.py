"""Cross-entropy over a large vocabulary without ever holding all logits."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.attention.precision import own_precision

# Logits of one chunk: 2²¹ float32 are 8 MiB, which stays in the processor's outer cache between the product that makes
# them, the softmax and the two products of the gradient. Half as many make the products less efficient.
CHUNK = 1 << 21


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float = 0.0, bias: Tensor | None = None
) -> Tensor:
    """Σ_n cross-entropy(weight · hidden_n + bias, target_n), label-smoothed, a chunk of positions at a time.

    The smoothed target is (1 − ε) on the true token plus ε / V on every one (Szegedy et al. 2016, section 7), as in
    `torch.nn.functional.cross_entropy`. The gradient is computed in the forward pass, while a chunk's logits are in
    cache, so memory beyond the gradients is one chunk, and nothing is computed twice.

    Mixed precision: products are computed in the dtype of `hidden`, or of `torch.autocast` where it is on; logits,
    their softmax and the sum of the weight's gradient are float32.

    Args:
        hidden: (N, E).
        weight: output embedding (V, E); it may be wider than `hidden`.
        targets: (N,) int64.
        smoothing: ε, from 0 to 1.
        bias: of the logits, (V,).

    Returns:
        The sum over positions, a scalar in float32 or wider; divide it by the number of target tokens.
        Differentiable once in `hidden`, `weight` and `bias`.
    """
    device = hidden.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        hidden = hidden.to(torch.get_autocast_dtype(device))
    needed = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (hidden, weight, bias))
    with own_precision(hidden.device):
        if not needed:
            return _chunked(hidden, weight.to(hidden.dtype), bias, targets, smoothing, None)
        loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing)  # type: ignore[no-untyped-call]
    return loss


class _Gradients(NamedTuple):
    """What a pass fills in."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float
    ) -> Tensor:
        # sums over chunks: in half precision each addition would cost digits
        wide = torch.promote_types(weight.dtype, torch.float32)
        into = _Gradients(
            torch.empty_like(hidden, memory_format=torch.contiguous_format),
            torch.zeros_like(weight, dtype=wide),
            None if bias is None else torch.zeros_like(bias, dtype=wide),
        )
        loss = _chunked(hidden, weight.to(hidden.dtype), bias, targets, smoothing, into)
        of_bias = None if bias is None or into.bias is None else into.bias.to(bias.dtype)
        ctx.save_for_backward(into.hidden, into.weight.to(weight.dtype), of_bias)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found = (None if x is None else x * grad.to(x.dtype) for x in ctx.saved_tensors)
        return (*found, None, None)


def _chunked(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    into: _Gradients | None,
) -> Tensor:
    vocabulary = weight.shape[0]
    size = max(16, CHUNK // vocabulary)
    loss = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
    for start in range(0, len(targets), size):
        rows = slice(start, start + size)
        x, y = hidden[rows], targets[rows, None]
        logits = (x @ weight.T).to(loss.dtype)  # (n, V)
        if bias is not None:
            logits += bias
        # relative to the row's largest, so that one exponential gives both the normaliser and the gradient
        logits -= logits.amax(-1, keepdim=True)
        loss -= (1 - smoothing) * logits.gather(1, y).sum()
        if smoothing:
            loss -= smoothing / vocabulary * logits.sum()
        mass = logits.exp_().sum(-1, keepdim=True)
        loss += mass.log().sum()
        if into is None:
            continue
        # ∂/∂logits: softmax − smoothed target
        grad = logits.div_(mass)
        if smoothing:
            grad.sub_(smoothing / vocabulary)
        grad.scatter_add_(1, y, grad.new_full((1, 1), smoothing - 1).expand_as(y))
        if into.bias is not None:
            into.bias.add_(grad.sum(0))
        grad = grad.to(hidden.dtype)
        torch.mm(grad, weight, out=into.hidden[rows])
        if grad.dtype == into.weight.dtype:
            into.weight.addmm_(grad.T, x)
        else:
            into.weight.add_(grad.T @ x)
    return loss
