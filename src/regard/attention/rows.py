"""Reductions of rows of scores: largest, sum, ℓ, weights; and in blocks, so that memory stays linear in length."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regard.attention.scoring import Scoring, rows_of

Measure = Callable[[Scoring, Tensor], tuple[Tensor, ...]]
"""Results (B, H, rows, …) from part of a table and the scores (B, H, rows, K) of whole rows of it."""


def row_peak(scores: Tensor) -> Tensor:
    """m, the largest of each row of scores (…, K) → (…), without gradient; 0 for a row without visible keys."""
    if scores.shape[-1] == 0:
        return scores.new_zeros(scores.shape[:-1])
    peak = scores.detach().amax(-1)
    return peak.masked_fill(peak == -torch.inf, 0.0)


def row_sum(scores: Tensor, peak: Tensor) -> Tensor:
    """Z = Σ exp(s − m) of each row of scores (…, K) → (…), so that ℓ = m + ln Z; 0 for a row without visible keys."""
    return (scores - peak[..., None]).exp().sum(-1)


def row_lse(scores: Tensor) -> Tensor:
    """ℓ of rows of scores (…, K) → (…); −∞ with zero gradient for a row that is −∞ throughout or empty."""
    peak = row_peak(scores)
    return lse_of(peak, row_sum(scores, peak))


def lse_of(peak: Tensor, total: Tensor) -> Tensor:
    """ℓ = m + ln Z, −∞ with zero gradient where Z is 0."""
    dead = total == 0.0
    return (peak + total.masked_fill(dead, 1.0).log()).masked_fill(dead, -torch.inf)


def normalised(scores: Tensor, peak: Tensor, total: Tensor) -> Tensor:
    """exp(s − m) / Z for scores (…, any keys), m and Z (…) of their rows; 0 throughout where Z is 0.

    exp(s − ℓ) is the same on paper, but ℓ is rounded to ε·|s|, and with it every weight of the row.
    """
    return (scores - peak[..., None]).exp() / total.masked_fill(total == 0.0, 1.0)[..., None]


def row_weights(scores: Tensor) -> Tensor:
    """`normalised` for whole rows of scores (…, K): their softmax, 0 throughout in a row without visible keys."""
    dead = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(dead, 0.0).softmax(-1).masked_fill(dead, 0.0)


def by_rows(table: Scoring, rows: slice, measure: Measure) -> tuple[Tensor, ...]:
    """Apply `measure` to blocks of whole rows and put the results (B, H, rows, …) together; without gradient."""
    sizes, keys = table.extent, slice(0, table.extent.keys)
    results: tuple[Tensor, ...] | None = None
    with torch.no_grad():
        for batch, block in table.blocks(rows):
            part = table.crop(batch, slice(0, sizes.heads))
            found = measure(part, part.scores(block, keys))
            if results is None:
                # Written in place: small results kept between large temporary blocks would break up the heap, which
                # then grows with every block.
                shape = (sizes.batch, sizes.heads, rows.stop - rows.start)
                results = tuple(x.new_empty(*shape, *x.shape[3:]) for x in found)
            for whole, x in zip(results, found, strict=True):
                whole[batch, :, block.start - rows.start : block.stop - rows.start] = x
        if results is None:  # no query or no batch element: the whole table is empty
            results = measure(table, table.scores(rows, keys))
    return results


def row_totals(table: Scoring, rows: slice) -> tuple[Tensor, Tensor]:
    """m and Z (B, H, rows) of some rows, in memory linear in length both ways; Z is differentiable in q, k and bias."""
    peak, total = _RowTotals.apply(table, rows, table.q, table.k, table.bias)  # type: ignore[no-untyped-call]
    return peak, total


def _totals(part: Scoring, scores: Tensor) -> tuple[Tensor, Tensor]:
    peak = row_peak(scores)
    return peak, row_sum(scores, peak)


class _RowTotals(torch.autograd.Function):
    """Blocks of scores are made again on the way back, instead of being kept."""

    @staticmethod
    def forward(ctx: Any, table: Scoring, rows: slice, q: Tensor, k: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
        peak, total = by_rows(table, rows, _totals)
        ctx.save_for_backward(peak, q, k, bias)
        ctx.table, ctx.rows = table, rows
        ctx.mark_non_differentiable(peak)
        return peak, total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, _: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
        peak, q, k, bias = ctx.saved_tensors
        table, rows = ctx.table, ctx.rows
        grads = [None if x is None else torch.zeros_like(x, dtype=table.dtype) for x in (q, k, bias)]
        for batch, block in table.blocks(rows):
            part = table.crop(batch, slice(0, table.extent.heads))
            inputs = (part.q[:, :, block], part.k, None if part.bias is None else rows_of(part.bias, block))
            leaves = [None if x is None else x.detach().to(table.dtype).requires_grad_() for x in inputs]
            at = slice(block.start - rows.start, block.stop - rows.start)
            with torch.enable_grad():
                scores = part.scores_from(*leaves, block, slice(0, table.extent.keys))
                total = row_sum(scores, peak[batch, :, at])
            wanted = [leaf for leaf in leaves if leaf is not None]
            found = iter(torch.autograd.grad(total, wanted, grad[batch, :, at]))
            for place, whole in enumerate(grads):
                if whole is not None:
                    target = whole[batch] if whole.shape[0] > 1 else whole
                    (target if place == 1 else rows_of(target, block)).add_(next(found))
        return (
            None,
            None,
            *(None if whole is None else whole.to(x.dtype) for whole, x in zip(grads, (q, k, bias), strict=True)),
        )
