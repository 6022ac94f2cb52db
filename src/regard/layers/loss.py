"""Cross-entropy over a large vocabulary without ever holding all logits."""

from typing import Any

import torch
from torch import Tensor

from regard.attention.precision import own_precision

# Logits of one chunk: 2²¹ float32 are 8 MiB, which stays in the processor's outer cache between the product that makes
# them, the softmax and the two products of the gradient. Half as many make the products less efficient.
CHUNK = 1 << 21


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Σ_n cross-entropy(weight · hidden_n, target_n), label-smoothed, a chunk of positions at a time.

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

    Returns:
        The sum over positions, a scalar in float32 or wider; divide it by the number of target tokens.
        Differentiable once in `hidden` and `weight`.
    """
    device = hidden.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        hidden = hidden.to(torch.get_autocast_dtype(device))
    needed = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    with own_precision(hidden.device):
        if not needed:
            return _chunked(hidden, weight.to(hidden.dtype), targets, smoothing, None, None)
        loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, smoothing)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        hidden_grad = torch.empty_like(hidden, memory_format=torch.contiguous_format)
        # a sum over chunks: in half precision each addition would cost digits
        weight_grad = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        loss = _chunked(hidden, weight.to(hidden.dtype), targets, smoothing, hidden_grad, weight_grad)
        ctx.save_for_backward(hidden_grad, weight_grad.to(weight.dtype))
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grad.to(hidden_grad.dtype), weight_grad * grad.to(weight_grad.dtype), None, None


def _chunked(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    smoothing: float,
    hidden_grad: Tensor | None,
    weight_grad: Tensor | None,
) -> Tensor:
    vocabulary = weight.shape[0]
    size = max(16, CHUNK // vocabulary)
    loss = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
    for start in range(0, len(targets), size):
        rows = slice(start, start + size)
        x, y = hidden[rows], targets[rows, None]
        logits = (x @ weight.T).to(loss.dtype)  # (n, V)
        # relative to the row's largest, so that one exponential gives both the normaliser and the gradient
        logits -= logits.amax(-1, keepdim=True)
        loss -= (1 - smoothing) * logits.gather(1, y).sum()
        if smoothing:
            loss -= smoothing / vocabulary * logits.sum()
        mass = logits.exp_().sum(-1, keepdim=True)
        loss += mass.log().sum()
        if hidden_grad is None or weight_grad is None:
            continue
        # ∂/∂logits: softmax − smoothed target
        grad = logits.div_(mass)
        if smoothing:
            grad.sub_(smoothing / vocabulary)
        grad.scatter_add_(1, y, grad.new_full((1, 1), smoothing - 1).expand_as(y))
        grad = grad.to(hidden.dtype)
        torch.mm(grad, weight, out=hidden_grad[rows])
        if grad.dtype == weight_grad.dtype:
            weight_grad.addmm_(grad.T, x)
        else:
            weight_grad += grad.T @ x
    return loss
