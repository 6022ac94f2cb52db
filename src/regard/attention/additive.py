"""Additive scores Σ_d w_d · tanh(q_d + k_d) in memory linear in the number of pairs, forward and backward.

The table of queries × keys × width exists in tiles only, and is made again for the gradient. Which formula is the
fastest that is exact enough (`additive_kernels`) depends on how large the numbers are, and is decided for each
dimension of the width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.attention.additive_kernels import Addition, Definition, Direct, Kernel, Logistic, Sums
from regard.attention.modes import readable, transformed
from regard.attention.precision import own_precision

# A table up to this size, with its width, is written out at once.
SMALL = 1 << 13
# Rows or keys so few that nothing is gained by a formula that needs transcendental functions of these alone.
FEW = 2
# The logistic forms are wrong by up to 2 ε times the norm of the weight, however small the scores. Up to this norm that
# is within the rounding of numbers around 1; with heavier weights and few rows the definition is taken.
LIGHT = 2.0

DIRECT, ADDITION, DEFINITION = Direct(), Addition(), Definition()


@dataclass
class Active:
    """The kernel that takes most dimensions; `compile_kernels` exchanges it.

    Attributes:
        logistic: `Logistic`, or the same compiled.
    """

    logistic: Logistic


active = Active(Logistic())


def additive_scores(q: Tensor, k: Tensor, weight: Tensor) -> Tensor:
    """Additive scores of all pairs; differentiable once in q, k and weight.

    Args:
        q: (B, H, Q, D), float32 or float64.
        k: (B, G, K, D), G dividing H: query head h reads key head h // (H / G).
        weight: (1, H or 1, 1, D).

    Returns:
        (B, H, Q, K).
    """
    weight = weight.to(q.dtype)
    kernels: Callable[..., Any]
    if torch.compiler.is_exporting():  # nobody else has the operator
        kernels = _written_out
    elif torch.compiler.is_compiling():
        kernels = _scores_op if q.device.type == "cpu" else _written_out
    elif transformed() or q.shape[:3].numel() * k.shape[2] * q.shape[3] <= SMALL:
        kernels = _written_out
    else:
        kernels = _Additive.apply
    scores: Tensor = kernels(q, k, weight)
    return scores


def _written_out(q: Tensor, k: Tensor, weight: Tensor) -> Tensor:
    """The definition; a compiler for graphics processors fuses it, so that the table isn't written going forward."""
    if q.shape[1] != k.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    return (torch.tanh(q[:, :, :, None] + k[:, :, None]) * weight[:, :, :, None]).sum(-1)


class _Additive(torch.autograd.Function):
    """Keeps its inputs only."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, weight)
        return _scores(q, k, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, weight = ctx.saved_tensors
        return _gradients(q, k, weight, grad)


def _scores(q: Tensor, k: Tensor, weight: Tensor) -> Tensor:
    scores = q.new_zeros(*q.shape[:3], k.shape[2])
    with own_precision(q.device):
        for sheet in _sheets(q, k, weight):
            out = sheet.of_queries(scores)
            for part in sheet.parts():
                out += part.scores()
    return scores


def _gradients(q: Tensor, k: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    of_q, of_k, of_weight = _empty_gradients(q, k, weight, grad)
    for x in (of_q, of_k, of_weight):
        x.zero_()
    grad = grad.contiguous()
    with own_precision(grad.device):
        for sheet in _sheets(q, k, weight):
            arriving = sheet.of_queries(grad)
            sums = Sums(sheet.of_queries(of_q), sheet.of_keys(of_k), sheet.of_weight(of_weight))
            for part in sheet.parts():
                part.add_gradients(arriving, sums)
    return of_q, of_k, of_weight


def _empty_gradients(q: Tensor, k: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), weight.new_empty(weight.shape)


# The same for compiled models, which call it as it is: fused code would keep the table of pairs × width for the
# gradient.
_scores_op = torch.library.custom_op("regard::additive_scores", _scores, mutates_args=())
_gradients_op = torch.library.custom_op("regard::additive_gradients", _gradients, mutates_args=())
_scores_op.register_fake(lambda q, k, weight: q.new_empty(*q.shape[:3], k.shape[2]))
_gradients_op.register_fake(_empty_gradients)
_scores_op.register_autograd(
    lambda ctx, grad: _gradients_op(*ctx.saved_tensors, grad),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@dataclass(frozen=True)
class _Part:
    """The dimensions of a sheet that one kernel takes.

    Attributes:
        kernel: the kernel.
        dimensions: an index of the width, all of it if None.
        signs: (D',), ±1: where it is −1, tanh(x) is taken as −tanh(−x).
        a, b: prepared rows (N, R, D') and keys (N, K, D').
        weight: (D',), with the signs.
    """

    kernel: Kernel
    dimensions: Tensor | None
    signs: Tensor
    a: Tensor
    b: Tensor
    weight: Tensor

    def scores(self) -> Tensor:
        """What these dimensions contribute to the scores (N, R, K)."""
        scores = self.kernel.scores(self.a, self.b, self.weight * self.kernel.gain)
        return scores.add_(self.weight.sum() * self.kernel.shift) if self.kernel.shift else scores

    def add_gradients(self, grad: Tensor, sums: Sums) -> None:
        """Add the gradients of rows, keys and weight (all their dimensions), given that of the scores (N, R, K)."""
        # the derivative of tanh is even: signs matter to the weight's gradient alone
        factor = self.weight * self.signs * self.kernel.steepness
        whole = self.dimensions is None
        own = (
            Sums(*sums[:2], torch.zeros_like(self.weight))
            if whole
            else Sums(*(x.new_zeros(*x.shape[:-1], self.weight.shape[0]) for x in sums))
        )
        self.kernel.add_sums(self.a, self.b, grad, factor, own)
        of_weight = own.values * self.kernel.gain * self.signs
        if self.dimensions is None:
            sums.values.add_(of_weight)
            return
        for x, part in zip(sums, (own.rows, own.keys, of_weight), strict=True):
            x.index_add_(-1, self.dimensions, part)


@dataclass(frozen=True)
class _Sheet:
    """Rows and keys under one weight: rows (N, R, D), keys (N, K, D), weight (D,).

    Attributes:
        rows, keys, weight: those tensors.
        head: the query head that they are of; None if the weight serves all heads. Then the queries of a key head lie
            one below the other, and N is B · G.
        group: the key head of that head.
    """

    rows: Tensor
    keys: Tensor
    weight: Tensor
    head: int | None
    group: int | None

    def of_queries(self, x: Tensor) -> Tensor:
        """The part of (B, H, Q, ·), contiguous, as (N, R, ·): a view."""
        return x.view(*self.rows.shape[:2], x.shape[-1]) if self.head is None else x[:, self.head]

    def of_keys(self, x: Tensor) -> Tensor:
        """The part of (B, G, K, ·), contiguous, as (N, K, ·): a view."""
        return x.view(*self.keys.shape[:2], x.shape[-1]) if self.group is None else x[:, self.group]

    def of_weight(self, x: Tensor) -> Tensor:
        """The part of (1, H or 1, 1, D) as (D,): a view."""
        return x[0, self.head or 0, 0]

    def parts(self) -> Iterator[_Part]:
        """The dimensions by the kernel that suits them."""
        for kernel, at in _chosen(self.rows, self.keys, self.weight):
            rows, keys, weight = self.rows, self.keys, self.weight
            if at is not None:
                rows, keys, weight = rows[..., at], keys[..., at], weight[at]
            signs = torch.ones_like(weight)
            if kernel.shift:
                # Σ_d w_d (1 − 2 z_d) cancels where all w_d have one sign; with balanced signs no partial sum is large
                signs = torch.where(weight < 0.0, -1.0, 1.0) * _balanced(weight)
            yield _Part(kernel, at, signs, kernel.prepare(rows, signs), kernel.prepare(keys, signs), weight * signs)


def _sheets(q: Tensor, k: Tensor, weight: Tensor) -> Iterator[_Sheet]:
    batch, heads, queries, width = q.shape
    groups = k.shape[1]
    if weight.shape[1] == 1:
        rows = q.reshape(batch * groups, heads // groups * queries, width)
        yield _Sheet(rows, k.reshape(batch * groups, k.shape[2], width), weight[0, 0, 0], None, None)
        return
    for head in range(heads):
        group = head // (heads // groups)
        yield _Sheet(q[:, head], k[:, group], weight[0, head, 0], head, group)


def _chosen(rows: Tensor, keys: Tensor, weight: Tensor) -> list[tuple[Kernel, Tensor | None]]:
    """Which kernel takes which dimensions; None stands for all."""
    if not readable(rows) or rows.numel() == 0 or keys.numel() == 0:
        return [(DEFINITION, None)]
    if min(rows.shape[1], keys.shape[1]) <= FEW:  # then a function per row and per key is one per pair
        return [(DEFINITION if float(weight.norm()) > LIGHT else DIRECT, None)]
    largest = torch.maximum(*(torch.linalg.vector_norm(x, torch.inf, (0, 1)) for x in (rows, keys)))  # (D,)
    usual = largest <= Logistic.limit(rows.dtype)  # not where there is NaN
    small = largest <= Addition.limit
    kinds: dict[Kernel, Tensor] = {active.logistic: usual & ~small, ADDITION: small, DIRECT: ~usual}
    for kernel, chosen in kinds.items():
        if bool(chosen.all()):
            return [(kernel, None)]
    return [(kernel, chosen.nonzero()[:, 0]) for kernel, chosen in kinds.items() if bool(chosen.any())]


def _balanced(like: Tensor) -> Tensor:
    """The sequence of Thue and Morse, ±1 (D,): it sums up to 0 over any stretch and stride of a power of two."""
    bits = torch.arange(like.shape[0], device=like.device)
    for shift in (16, 8, 4, 2, 1):
        bits = bits ^ (bits >> shift)
    return (1 - 2 * (bits & 1)).to(like.dtype)
