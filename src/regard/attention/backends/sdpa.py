"""Fused scaled-dot-product attention of torch: memory linear in length, gradients recomputed.

On the CPU torch's flash operator is called below its public wrapper: it takes a causal limit and a key table together
(the wrapper doesn't), reads grouped keys without repeating them, and returns ℓ. It is a private operator, so a check
runs once before it is trusted, and without it the public function does the work.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.backends.contract import Backend, Call
from regard.attention.pairs import own_precision
from regard.attention.scoring import Scoring, named
from regard.attention.visibility import Visibility

CpuFlash = Callable[..., tuple[Tensor, Tensor]]


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
        if table.sink is not None:
            return "fused SDPA has no sink"
        if table.extent.queries == 0 or table.extent.keys == 0 or table.extent.batch == 0:
            return "fused SDPA doesn't take zero queries or keys"
        if call.need_lse and (call.differentiated or not _runs_on_cpu_flash(call)):
            return "the fused operator gives ℓ on the CPU only, without dropout, and without a gradient for it"
        return None

    def how(self, call: Call) -> str:
        """See `Backend.how`."""
        kernel = "torch's flash operator" if _runs_on_cpu_flash(call) else "scaled_dot_product_attention"
        masked, causal = _attention_mask(call.scoring, _runs_on_cpu_flash(call))
        if masked is not None and masked.shape[-2] > 1:
            return f"{kernel} with a mask or bias table of Q × K: memory grows with Q × K"
        if call.scoring.q.device.type == "cpu" and (call.dropout or _learned_bias(call)):
            return f"{kernel}; with dropout, or a bias that needs a gradient, torch writes out Q × K on the CPU"
        return f"{kernel}{', causal' if causal else ''}: memory linear in length"

    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """See `Backend.run`."""
        return _run_cpu_flash(call) if _runs_on_cpu_flash(call) else (_run_public(call), None)


SDPA_BACKEND = SDPA()


@lru_cache(maxsize=1)
def cpu_flash() -> CpuFlash | None:
    """torch's flash operator for the CPU, or None where it is missing or doesn't take a mask and causal at once."""
    cpu = torch.device("cpu")
    try:
        operator: CpuFlash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        with torch.no_grad(), own_precision(cpu):
            x = torch.tensor([[[[1.0], [2.0], [3.0]]]], device=cpu)  # (1, 1, 3, 1)
            barred = torch.tensor([0.0, -torch.inf, 0.0], device=cpu).view(1, 1, 1, 3)
            context, lse = operator(x, x, x, 0.0, True, attn_mask=barred, scale=1.0)
            later = torch.ones(3, 3, dtype=torch.bool, device=cpu).triu(1)
            scores = (x @ x.transpose(-1, -2) + barred).masked_fill(later, -torch.inf)
            right = torch.allclose(context, scores.softmax(-1) @ x) and torch.allclose(lse, scores.logsumexp(-1))
    except (AttributeError, RuntimeError, TypeError):
        return None
    return operator if right else None


def _learned_bias(call: Call) -> bool:
    operands = call.scoring.operands
    learned = any(x.tensor.requires_grad for name, x in operands.items() if name.startswith("bias."))
    return learned and torch.is_grad_enabled()


def _runs_on_cpu_flash(call: Call) -> bool:
    on_cpu = call.scoring.q.device.type == "cpu"
    return on_cpu and not call.dropout and not _learned_bias(call) and cpu_flash() is not None


def _run_cpu_flash(call: Call) -> tuple[Tensor, Tensor | None]:
    table, operator = call.scoring, cpu_flash()
    assert operator is not None
    q, k, v = _contiguous_rows(table.q), _contiguous_rows(table.k), _contiguous_rows(call.v)
    width, value_width = q.shape[-1], v.shape[-1]
    if width != value_width:  # the operator wants one width: zero columns change neither scores nor the other values
        both = max(width, value_width)
        q, k, v = (F.pad(x, (0, both - x.shape[-1])) if x.shape[-1] < both else x for x in (q, k, v))
    mask, causal = _attention_mask(table, takes_both=True)
    context, lse = operator(q, k, v, 0.0, causal, attn_mask=mask, scale=table.scale)
    if not call.need_lse:
        return context[..., :value_width], None
    dead = dead_rows(table)
    if dead is not None:
        lse = lse.masked_fill(dead, -torch.inf)  # the operator says 0 there
    return context[..., :value_width], lse


def _run_public(call: Call) -> Tensor:
    table = call.scoring
    mask, causal = _attention_mask(table, takes_both=False)
    dead = dead_rows(table)
    if dead is not None and mask is not None:
        # softmax over nothing is undefined: let such a row see everything, then take its result away
        mask = mask.masked_fill(dead[..., None], True if mask.dtype == torch.bool else 0.0)
    with own_precision(table.extent.device):
        context = F.scaled_dot_product_attention(
            table.q,
            table.k,
            call.v,
            attn_mask=mask,
            dropout_p=call.dropout,
            is_causal=causal,
            scale=table.scale,
            enable_gqa=table.extent.heads != table.extent.groups,
        )
    return context if dead is None else context.masked_fill(dead[..., None], 0.0)


def _attention_mask(table: Scoring, takes_both: bool) -> tuple[Tensor | None, bool]:
    """Mask and causal flag for the fused kernels, whose causal limit is aligned at the start.

    The mask is small, (B, 1, 1, K), wherever it can be; `takes_both` says whether the kernel takes it beside the
    flag and wants it in floating point.
    """
    seen, sizes = table.visibility, table.extent
    unlimited = seen.causal is None or seen.causal >= sizes.keys - 1
    others = seen.keys is not None or seen.dense is not None or table.bias is not None
    causal = seen.causal == 0 and not unlimited and (takes_both or not others) and _plain(seen)
    visible: Tensor | None
    if causal or (unlimited and _plain(seen)):
        visible = seen.keys  # (B, 1, 1, K)
        if seen.dense is not None:
            visible = seen.dense if visible is None else visible & seen.dense
    else:
        visible = seen.block(slice(0, sizes.queries), slice(0, sizes.keys), sizes.device)
    mask = visible
    if table.bias is not None:
        bias = _bias(table, takes_both)
        mask = bias if visible is None else bias.masked_fill(~visible, -torch.inf)
    elif visible is not None and takes_both:
        barred = torch.full(visible.shape, -torch.inf, dtype=table.q.dtype, device=visible.device)
        mask = barred.masked_fill_(visible, 0.0)
    return mask, causal


def _plain(seen: Visibility) -> bool:
    """Whether there is nothing but a causal limit, a row of keys and a table."""
    limits = (seen.lower, seen.start, seen.stop)
    return not seen.documents and not seen.unions and all(x is None for x in limits)


def _bias(table: Scoring, takes_single: bool) -> Tensor:
    """The bias in a dtype that the kernel takes beside the queries; a large finite one must not become infinite."""
    assert table.bias is not None
    rows, columns = slice(0, table.extent.queries), slice(0, table.extent.keys)
    bias = table.bias.block(named("bias.", table.parts(table.region(rows, columns))), rows, columns, table.extent)
    dtype = table.q.dtype
    if bias.dtype == dtype or (takes_single and dtype.itemsize == 2 and bias.dtype == torch.float32):
        return bias
    limits = torch.finfo(dtype)
    return bias.clamp(limits.min, limits.max).to(dtype)


def dead_rows(table: Scoring) -> Tensor | None:
    """(B or 1, H or 1, Q or 1) bool: the queries that see no key; None where there can be none."""
    sizes = table.extent
    seen = table.visibility.seen_any(sizes.queries, sizes.keys, sizes.device)
    return None if seen is None else ~seen


def _contiguous_rows(x: Tensor) -> Tensor:
    """The kernels read a row of D numbers at a time."""
    return x if x.stride(-1) == 1 else x.contiguous()
