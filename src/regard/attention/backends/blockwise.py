"""Blocks of whole rows, made again on the way back: whatever fused kernels can't do, in memory linear in length.

A block is a few rows of scores over all keys that they can see, small enough for the cache. The forward pass keeps
nothing but its inputs. Weights are p · m · f: the softmax p of a row, what a sink leaves to it m, and the factor f.
With g = m · f · (what arrives at a weight), p ∘ (g − m Σ_j p_j g_j + what arrives at ℓ) arrives at the scores, as in
FlashAttention (Dao et al. 2022, appendix B.2); what lies behind them is left to autograd, a block at a time.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regard.attention import scoring as limits
from regard.attention.backends.contract import Backend, Call
from regard.attention.modes import readable, transformed
from regard.attention.operands import Kind, Operand, Region
from regard.attention.pairs import matmul_grouped
from regard.attention.precision import own_precision
from regard.attention.rows import Block, block_of, gradients, sunk
from regard.attention.scoring import Scoring

LEVELS = 1 << 16  # a draw of dropout has 16 bits


class Blockwise(Backend):
    """softmax(s) · v over blocks of rows, for every form, mask, bias, soft-cap, sink, factor and dropout."""

    name = "blockwise"

    def refuses(self, call: Call) -> str | None:
        """See `Backend.refuses`."""
        sizes = call.scoring.extent
        size = sizes.batch * sizes.heads * sizes.queries * sizes.keys
        if torch.compiler.is_compiling():
            return "it runs outside of compiled code"
        if size <= limits.BLOCK:
            return f"the whole table, {size} weights, fits into one block"
        if transformed():
            return "it doesn't run inside transforms of torch.func, nor in forward mode"
        if sizes.device.type == "meta":
            return "meta tensors take no memory"
        return None

    def how(self, call: Call) -> str:
        """See `Backend.how`."""
        again = ", made again for the gradient" if call.differentiated else ""
        return f"blocks of {limits.BLOCK} weights, or a few rows of more{again}: memory linear in length"

    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """See `Backend.run`."""
        table = call.scoring
        level = round(call.dropout * LEVELS)
        # one number of the default generator stands for all that are drawn here
        seed = int(torch.randint(2**62, (), device="cpu")) if level else 0
        operands = table.operands | {"v": Operand(call.v, "key")}
        frame = _Frame(replace(table, operands={}), {name: x.kind for name, x in operands.items()}, level, seed)
        context, lse = _Attention.apply(frame, *(x.tensor for x in operands.values()))  # type: ignore[no-untyped-call]
        return context, lse if call.need_lse else None


BLOCKWISE = Blockwise()


@dataclass(frozen=True)
class _Frame:
    """A call without its tensors.

    Attributes:
        table: the table without operands.
        kinds: of its operands and of the values "v", in the order in which their tensors are given.
        level: a weight is dropped with probability level / `LEVELS`.
        seed: what is dropped follows from it.
    """

    table: Scoring
    kinds: dict[str, Kind]
    level: int
    seed: int

    def operands(self, tensors: tuple[Tensor, ...]) -> dict[str, Operand]:
        return {name: Operand(x, kind) for (name, kind), x in zip(self.kinds.items(), tensors, strict=True)}

    def filled(self, operands: dict[str, Operand]) -> Scoring:
        return replace(self.table, operands={name: x for name, x in operands.items() if name != "v"})

    @property
    def scale(self) -> float:
        """What makes up for dropped weights; 0 where all are dropped."""
        return LEVELS / (LEVELS - self.level) if self.level < LEVELS else 0.0

    def draws(self, device: torch.device) -> torch.Generator | None:
        return torch.Generator(device).manual_seed(self.seed) if self.level else None


class _Attention(torch.autograd.Function):
    """Context and ℓ; keeps its inputs and the partition into blocks."""

    @staticmethod
    def forward(ctx: Any, frame: _Frame, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        operands = frame.operands(tensors)
        table, v = frame.filled(operands), operands["v"].tensor
        sizes = table.extent
        shape = (sizes.batch, sizes.heads, sizes.queries)
        context = v.new_empty(*shape, v.shape[-1])
        lse = v.new_empty(shape, dtype=table.dtype)
        regions = tuple(table.blocks(slice(0, sizes.queries)))
        draws = frame.draws(sizes.device)
        for region in regions:
            at = region.batch, region.heads, region.rows
            values = operands["v"].part(region, table.share).to(table.dtype)
            context[at], lse[at] = _forward(block_of(table, region, table.parts(region)), values, frame, draws)
        ctx.frame, ctx.regions = frame, regions
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return context, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_context: Tensor | None, of_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        frame = ctx.frame
        if of_context is None and of_lse is None:
            return None, *(None for _ in frame.kinds)
        operands = frame.operands(ctx.saved_tensors)
        table = frame.filled(operands)
        wanted = {name for name, need in zip(frame.kinds, ctx.needs_input_grad[1:], strict=True) if need}
        draws = frame.draws(table.extent.device)

        def outputs(region: Region, block: Block) -> tuple[list[Tensor], list[Tensor]]:
            at = region.batch, region.heads, region.rows
            to_context = None if of_context is None else of_context[at].to(table.dtype)
            return _backward(block, to_context, None if of_lse is None else of_lse[at], frame, draws)

        with own_precision(table.extent.device):  # autocast may be on where the gradient is asked for
            found = gradients(table, operands, wanted, ctx.regions, outputs)
        return None, *(found.get(name) for name in frame.kinds)


def _forward(block: Block, v: Tensor, frame: _Frame, draws: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Context (B, H, rows, Dv) and ℓ (B, H, rows) of a block."""
    weights, lse = _softmax(block.scores)
    factor = block.factor()
    if factor is not None:
        weights.mul_(factor)
    if draws is not None:
        weights.mul_(_kept(weights, frame, draws))
    context = matmul_grouped(weights, v)
    if "sink" in block.parts:
        context = context * sunk(lse, block.parts["sink"])[..., None]
    return context * frame.scale if draws is not None else context, lse


def _backward(
    block: Block, of_context: Tensor | None, of_lse: Tensor | None, frame: _Frame, draws: torch.Generator | None
) -> tuple[list[Tensor], list[Tensor]]:
    """What of a block is differentiated, and the gradients that arrive there: see `rows.gradients`."""
    factor = block.factor()
    results, arriving = [block.scores], []
    with torch.no_grad():
        softmax, lse = _softmax(block.scores)
        if of_context is None:
            assert of_lse is not None
            return results, [softmax.mul_(of_lse[..., None])]
        v, sink = block.parts["v"].to(softmax.dtype), block.parts.get("sink")
        kept = None if draws is None else _kept(softmax, frame, draws)
        if kept is not None:
            of_context = of_context * frame.scale
        mass = None if sink is None else sunk(lse, sink)[..., None]  # (B, H, rows, 1)
        if mass is not None:
            of_context = of_context * mass
        given = matmul_grouped(of_context, v.transpose(-1, -2))  # (B, H, rows, columns)
        weights = softmax
        if kept is not None:
            given.mul_(kept)
            weights = kept.mul_(softmax)
        if factor is not None:
            if factor.requires_grad:
                results.append(factor)
                arriving.append(_summed(given * softmax, factor))
            given.mul_(factor)
            weights = weights * factor
        if block.parts["v"].requires_grad:
            results.append(block.parts["v"])
            arriving.append(_to_keys(weights, of_context, v.shape[1]))
        row = torch.linalg.vecdot(softmax, given)[..., None]  # (B, H, rows, 1)
        if mass is not None:
            assert sink is not None
            results.append(sink)
            arriving.append(_summed((mass - 1.0) * row, sink))
            row = row * mass
        if of_lse is not None:
            row = row - of_lse[..., None]
        arriving.insert(0, given.sub_(row).mul_(softmax))
    return results, arriving


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """p (…, K), new, and ℓ (…) of whole rows of scores; p = 0 and ℓ = −∞ in a row without visible keys."""
    if scores.shape[-1] == 0:
        return torch.zeros_like(scores), scores.new_full(scores.shape[:-1], -torch.inf)
    scores = scores.detach()
    peak = scores.amax(-1)
    dead = peak == -torch.inf
    softmax = scores.softmax(-1)
    if not readable(dead) or bool(dead.any()):
        softmax.masked_fill_(dead[..., None], 0.0)
    # the largest of p is 1 / Z: this spares a second pass of exponentials
    return softmax, (peak - softmax.amax(-1).log()).masked_fill(dead, -torch.inf)


def _kept(like: Tensor, frame: _Frame, draws: torch.Generator) -> Tensor:
    """1 where a weight stays and 0 where it is dropped, four of them from each random number of 64 bits."""
    numbers = torch.empty(like.numel() // 4 + 1, dtype=torch.int64, device=like.device)
    numbers.random_(-(2**63), None, generator=draws)
    uniform = numbers.view(torch.int16)[: like.numel()].view(like.shape)  # from −2¹⁵ to 2¹⁵ − 1
    return (uniform >= frame.level - LEVELS // 2).to(like.dtype)


def _to_keys(weights: Tensor, x: Tensor, groups: int) -> Tensor:
    """weightsᵀ x summed over the heads of a group: (B, H, M, K), (B, H, M, N) → (B, G, K, N)."""
    batch, heads, rows = weights.shape[:3]
    if heads != groups:
        shape = (batch, groups, heads // groups * rows)
        weights, x = weights.reshape(*shape, weights.shape[-1]), x.reshape(*shape, x.shape[-1])
    with own_precision(x.device):
        return weights.transpose(-1, -2) @ x


def _summed(x: Tensor, like: Tensor) -> Tensor:
    """x summed over the axes along which `like` is broadcast."""
    return x.sum_to_size(like.shape).to(like.dtype)
