"""Reductions of rows of scores: largest, sum, ℓ, weights; and in blocks, so that memory stays linear in length."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.attention.modes import transformed
from regard.attention.operands import Operand, Region
from regard.attention.scoring import Scoring


@dataclass(frozen=True)
class Block:
    """Whole rows of a part of a table.

    Attributes:
        table: the table of the batch elements and heads of the block.
        parts: what the block needs of the operands.
        rows: the queries.
        columns: the keys that any of them may see.
        scores: (B, H, rows, columns), −∞ where masked.
    """

    table: Scoring
    parts: Mapping[str, Tensor]
    rows: slice
    columns: slice
    scores: Tensor

    def weights(self) -> Tensor:
        """The weights (B, H, rows, columns)."""
        return whole_weights(self.parts, self.scores, self.factor())

    def factor(self) -> Tensor | None:
        """What the softmax is multiplied by, broadcastable to (B, H, rows, columns); None is 1."""
        return self.table.factors_from(self.parts, self.rows, self.columns)


Measure = Callable[[Block], tuple[Tensor, ...]]
"""Results (B, H, rows, …) of a block."""


def whole_weights(parts: Mapping[str, Tensor], scores: Tensor, factor: Tensor | None) -> Tensor:
    """The weights (B, H, rows, columns) of whole rows of scores, with the sink of `parts` and a factor."""
    weights = row_weights(scores)
    if "sink" in parts:
        weights = weights * sunk(row_lse(scores), parts["sink"])[..., None]
    return weights if factor is None else weights * factor


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


def sunk(lse: Tensor, sink: Tensor) -> Tensor:
    """What a sink leaves to the keys, σ(ℓ − sink), of ℓ (B, H, rows) and logits (1, H, 1, 1); 0 where ℓ is −∞."""
    dead = lse == -torch.inf
    # a sink of −∞, which takes nothing, would make −∞ − (−∞) of a dead row
    return torch.sigmoid(lse.masked_fill(dead, 0.0) - sink[..., 0].to(lse.dtype)).masked_fill(dead, 0.0)


def normalised(scores: Tensor, peak: Tensor, total: Tensor) -> Tensor:
    """exp(s − m) / Z for scores (…, any keys), m and Z (…) of their rows; 0 throughout where Z is 0.

    exp(s − ℓ) is the same on paper, but ℓ is rounded to ε·|s|, and with it every weight of the row.
    """
    return (scores - peak[..., None]).exp() / total.masked_fill(total == 0.0, 1.0)[..., None]


def row_weights(scores: Tensor) -> Tensor:
    """`normalised` for whole rows of scores (…, K): their softmax, 0 throughout in a row without visible keys."""
    dead = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(dead, 0.0).softmax(-1).masked_fill(dead, 0.0)


def blocks_of(table: Scoring, rows: slice) -> Iterable[tuple[Region, Block]]:
    """Blocks that cover the queries `rows`, with the region of the table that each is."""
    for region in table.blocks(rows):
        yield region, block_of(table, region, table.parts(region))


def block_of(table: Scoring, region: Region, parts: Mapping[str, Tensor]) -> Block:
    """A block of whole rows, made from what it needs of the operands."""
    part = table.crop(region.batch, region.heads)
    scores = part.scores_from(parts, region.rows, region.columns)
    return Block(part, parts, region.rows, region.columns, scores)


def by_rows(table: Scoring, rows: slice, measure: Measure) -> tuple[Tensor, ...]:
    """Apply `measure` to blocks of whole rows and put the results (B, H, rows, …) together; without gradient."""
    sizes = table.extent
    results: tuple[Tensor, ...] | None = None
    with torch.no_grad():
        for region, block in blocks_of(table, rows):
            found = measure(block)
            if results is None:
                # Written in place: small results kept between large temporary blocks would break up the heap, which
                # then grows with every block.
                shape = (sizes.batch, sizes.heads, rows.stop - rows.start)
                results = tuple(x.new_empty(*shape, *x.shape[3:]) for x in found)
            at = slice(region.rows.start - rows.start, region.rows.stop - rows.start)
            for whole, x in zip(results, found, strict=True):
                whole[region.batch, region.heads, at] = x
        if results is None:  # no query or no batch element: the whole table is empty
            region = table.region(rows, slice(0, 0))
            parts = table.parts(region)
            scores = table.scores_from(parts, region.rows, region.columns)
            results = measure(Block(table, parts, region.rows, region.columns, scores))
    return results


def row_totals(table: Scoring, rows: slice) -> tuple[Tensor, Tensor]:
    """m and Z (B, H, rows) of some rows, in memory linear in length both ways; Z is differentiable in the operands."""
    if transformed():  # torch's own operators do it there, with a table of all of them
        region = table.region(rows, slice(0, table.extent.keys))
        return _totals(block_of(table, region, table.parts(region)))
    names = tuple(table.operands)
    tensors = [operand.tensor for operand in table.operands.values()]
    peak, total = _RowTotals.apply(table, rows, names, *tensors)  # type: ignore[no-untyped-call]
    return peak, total


def _totals(block: Block) -> tuple[Tensor, Tensor]:
    peak = row_peak(block.scores)
    return peak, row_sum(block.scores, peak)


class _RowTotals(torch.autograd.Function):
    """Blocks of scores are made again on the way back, instead of being kept."""

    @staticmethod
    def forward(ctx: Any, table: Scoring, rows: slice, names: tuple[str, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        peak, total = by_rows(table, rows, _totals)
        ctx.save_for_backward(peak, *tensors)
        ctx.table, ctx.rows, ctx.names = table, rows, names
        ctx.mark_non_differentiable(peak)
        return peak, total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, _: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
        peak, *_tensors = ctx.saved_tensors
        rows = ctx.rows
        wanted = {name for name, need in zip(ctx.names, ctx.needs_input_grad[3:], strict=True) if need}

        def total(region: Region, block: Block) -> tuple[list[Tensor], list[Tensor]]:
            at = region.batch, region.heads, slice(region.rows.start - rows.start, region.rows.stop - rows.start)
            return [row_sum(block.scores, peak[at])], [grad[at]]

        found = gradients(ctx.table, ctx.table.operands, wanted, ctx.table.blocks(rows), total)
        return None, None, None, *(found.get(name) for name in ctx.names)


Outputs = Callable[[Region, Block], tuple[list[Tensor], list[Tensor]]]
"""Results of a block that depend on its parts, and the gradients that arrive at them."""


def gradients(
    table: Scoring, operands: Mapping[str, Operand], wanted: set[str], regions: Iterable[Region], outputs: Outputs
) -> dict[str, Tensor]:
    """Gradients of operands, block by block, in memory linear in length; summed in the dtype of the scores.

    Args:
        table: the table.
        operands: those of the table, and others that `outputs` reads, such as values.
        wanted: names of the operands to differentiate in.
        regions: the blocks, whole rows.
        outputs: what is differentiated, and it may be an operand itself.
    """
    sums: dict[str, Tensor] = {}
    for region in regions:
        parts = {name: operand.part(region, table.share) for name, operand in operands.items()}
        leaves = {name: parts[name].detach().to(table.dtype).requires_grad_() for name in wanted}
        parts |= leaves
        with torch.enable_grad():
            results, arriving = outputs(region, block_of(table, region, parts))
        reached = [(x, g) for x, g in zip(results, arriving, strict=True) if x.requires_grad]
        if not reached:
            continue
        found = torch.autograd.grad(
            [x for x, _ in reached], list(leaves.values()), [g for _, g in reached], allow_unused=True
        )
        for name, x in zip(leaves, found, strict=True):
            if x is not None:
                if name not in sums:
                    sums[name] = _zeros_laid_out(operands[name].tensor.shape, x)
                Operand(sums[name], operands[name].kind).part(region, table.share).add_(x)
    nothing = {name: torch.zeros_like(operands[name].tensor) for name in wanted - sums.keys()}
    return nothing | {name: x.to(operands[name].tensor.dtype) for name, x in sums.items()}


def _zeros_laid_out(shape: torch.Size, x: Tensor) -> Tensor:
    """Zeros (…, M, N); columns lie together if those of x do, for sums of different layouts are slow."""
    if x.stride(-1) > 1 and x.stride(-2) == 1:
        return x.new_zeros(*shape[:-2], shape[-1], shape[-2]).transpose(-1, -2)
    return x.new_zeros(shape)
