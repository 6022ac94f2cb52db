"""Fused scaled-dot-product attention of torch, gradients recomputed.

On the CPU torch's flash operator is called below its public wrapper (`flash.py`): it takes a causal limit and a row
of keys together (the wrapper doesn't), reads grouped keys without repeating them, and returns ℓ, by which pieces are
joined.
Elsewhere, and where that operator can't be used, the public function does the work.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.backends.contract import Backend, Call
from regard.attention.backends.flash import Flash, cpu_flash, dead_rows, flash_attention, is_direct, is_triangle, simple
from regard.attention.modes import differentiated_further, transformed
from regard.attention.precision import fitted, own_precision
from regard.attention.rows import sunk
from regard.attention.scoring import Scoring, named


class SDPA(Backend):
    """torch's fused kernels for every score of the form "inner"."""

    name = "sdpa"

    def refuses(self, call: Call) -> str | None:
        """See `Backend.refuses`."""
        table = call.scoring
        if table.form != "inner":
            return f"fused SDPA is for scores that are inner products, and this one is {table.form}"
        if table.softcap is not None:
            return "fused SDPA has no soft-cap"
        if table.factor is not None:
            return "fused SDPA has no factor after the softmax"
        if table.extent.queries == 0 or table.extent.keys == 0 or table.extent.batch == 0:
            return "fused SDPA doesn't take zero queries or keys"
        if differentiated_further():
            return "torch's fused operators have first derivatives in reverse mode only"
        if _flash(table) is not None:
            if call.dropout:
                return "torch's flash operator for the CPU has no dropout"
            if _learned_bias(call):
                return "torch's flash operator for the CPU gives no gradient to a bias"
        elif call.need_lse or table.sink is not None:
            wanted = "doesn't give ℓ" if call.need_lse else "has no sink, for which ℓ is needed"
            return f"torch's public scaled_dot_product_attention {wanted}"
        return None

    def how(self, call: Call) -> str:
        """See `Backend.how`."""
        table = call.scoring
        if _flash(table) is None:
            return _how_public(call)
        if is_direct(table):
            causal = table.visibility.causal is not None and table.visibility.causal < table.extent.keys - 1
            how = "torch's flash operator, causal" if causal else "torch's flash operator"
        elif is_triangle(table):
            how = "torch's flash operator, causal, for the queries that see a key"
            if table.visibility.causal is not None and table.visibility.causal > 0:
                how = "torch's flash operator for the keys that all queries see and for a causal triangle, joined by ℓ"
        else:
            how = "torch's flash operator, with mask and bias written out for a block of queries at a time"
        return f"{how}: memory linear in length"

    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """See `Backend.run`."""
        table, flash = call.scoring, _flash(call.scoring)
        if flash is None:
            return _run_public(call), None
        sink = table.sink
        if sink is None:
            return flash_attention(flash, table, call.v, call.need_lse, call.differentiated)
        context, lse = flash_attention(flash, table, call.v, True, call.differentiated)
        assert lse is not None
        return (context * sunk(lse, sink)[..., None]).to(context.dtype), lse if call.need_lse else None


SDPA_BACKEND = SDPA()


def _flash(table: Scoring) -> Flash | None:
    """The flash operator for the CPU, where it can be used: not in compilation or in functional transforms."""
    if table.extent.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return None if transformed() else cpu_flash()


def _learned_bias(call: Call) -> bool:
    if call.scoring.bias is None or not torch.is_grad_enabled():
        return False
    return any(x.tensor.requires_grad for name, x in call.scoring.operands.items() if name.startswith("bias."))


def _how_public(call: Call) -> str:
    table = call.scoring
    kernel = "torch's scaled_dot_product_attention"
    if needs_table(table):
        return f"{kernel} with a mask or bias table of Q × K: memory grows with Q × K"
    if _lower_right(table):
        return f"{kernel}, causal from the end: memory linear in length where torch has a fused kernel for it"
    if table.extent.device.type == "cpu" and call.dropout:
        return f"{kernel}, which writes out Q × K for dropout on the CPU: memory grows with Q × K"
    causal = ", causal" if _is_causal(table) else ""
    return f"{kernel}{causal}: memory linear in length where torch has a fused kernel for it"


def _run_public(call: Call) -> Tensor:
    table = call.scoring
    q, k, scale, dead = table.q, table.k, table.scale, None
    # in compilation a comparison of sizes is a bool only once it is branched on
    causal, grouped = (True if x else False for x in (_is_causal(table), table.share != 1))  # noqa: SIM210
    if _lower_right(table):
        from torch.nn.attention.bias import causal_lower_right  # brings the compiler along, a second of start-up

        mask: Tensor | None = causal_lower_right(table.extent.queries, table.extent.keys)
    else:
        mask, dead = None if causal else _mask(table), dead_rows(table)
    if dead is not None and mask is not None:
        # softmax over nothing is undefined: let such a row see everything, then take its result away
        mask = mask.masked_fill(dead[..., None], True if mask.dtype == torch.bool else 0.0)
    with own_precision(table.extent.device):
        context = F.scaled_dot_product_attention(
            q, k, call.v, attn_mask=mask, dropout_p=call.dropout, is_causal=causal, scale=scale, enable_gqa=grouped
        )
    return context if dead is None else context.masked_fill(dead[..., None], 0.0)


def needs_table(table: Scoring) -> bool:
    """Whether torch's public function would need a mask or bias of Q × K."""
    without = _is_causal(table) or _lower_right(table) or (_unlimited(table) and simple(table.visibility))
    return table.bias is not None or not without


def _unlimited(table: Scoring) -> bool:
    """Whether there is no causal limit."""
    return table.visibility.causal is None or table.visibility.causal >= table.extent.keys - 1


def _is_causal(table: Scoring) -> bool:
    """Whether the causal flag, which starts at the corner and goes with no mask, says it all."""
    seen = table.visibility
    return seen.causal == 0 and not _unlimited(table) and simple(seen) and seen.keys is None and table.bias is None


def _lower_right(table: Scoring) -> bool:
    """Whether torch's causal limit that ends at the corner says it all; it has fused kernels on CUDA devices."""
    seen, sizes = table.visibility, table.extent
    ends = seen.causal is not None and seen.causal == sizes.keys - sizes.queries > 0 and not _unlimited(table)
    alone = simple(seen) and seen.keys is None and table.bias is None
    return ends and alone and sizes.device.type == "cuda" and not torch.compiler.is_compiling()


def _mask(table: Scoring) -> Tensor | None:
    """Mask and bias for the public function, as small as they can be: (B, 1, 1, K) for a row of keys."""
    sizes = table.extent
    rows, columns = slice(0, sizes.queries), slice(0, sizes.keys)
    visible = table.visibility.block(rows, columns, sizes.device)
    if table.bias is None:
        return visible
    parts = {name: operand.tensor for name, operand in table.operands.items()}
    bias = table.bias.block(named("bias.", parts), rows, columns, sizes)
    bias = fitted(bias, table.q.dtype)
    return bias if visible is None else bias.masked_fill(~visible, -torch.inf)
