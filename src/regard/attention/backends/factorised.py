"""Kernel (linear) attention: weights proportional to ⟨φ(q), φ(k)⟩, in time and memory linear in length.

The sums over keys are taken first, so that no table of queries × keys is needed (Katharopoulos et al. 2020, eq. 5–6):

    context_i = φ(q_i)ᵀ S / φ(q_i)ᵀ z   with   S = Σ_j φ(k_j) v_jᵀ   and   z = Σ_j φ(k_j)

Under a causal limit the sums grow from query to query (eq. 9–12). They are kept at the edges of chunks only; within a
chunk the products are written out.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.backends.contract import Backend, Call
from regard.attention.pairs import matmul_grouped
from regard.attention.precision import own_precision
from regard.attention.rows import lse_of, sunk
from regard.attention.visibility import Visibility

CHUNK = 64
"""Positions of a chunk, at least. It has a table of CHUNK × CHUNK products for each head and a state of F × Dv sums."""

# Features are brought into this range by a factor, values below its third power: then no sum of fewer than 2²⁵ products
# is infinite in float32.
LARGEST = 2.0**20


class Factorised(Backend):
    """Sums over keys before anything else, for scores of the form "factorised"."""

    name = "factorised"

    def refuses(self, call: Call) -> str | None:
        """See `Backend.refuses`."""
        table = call.scoring
        if table.form != "factorised":
            return f"it is for scores whose weights are products of features, and this one is {table.form}"
        if table.softcap is not None:
            return "sums over keys leave no room for a soft-cap"
        if table.bias is not None:
            return "sums over keys leave no room for a bias of each query and key"
        if table.factor is not None:
            return "sums over keys leave no room for a factor of each query and key"
        if call.dropout:
            return "sums over keys have no single weights to drop"
        if not _alike_for_all_queries(replace(table.visibility, causal=None)):
            return "besides one causal limit the mask must be the same for all queries and heads"
        return None

    def how(self, call: Call) -> str:
        """See `Backend.how`."""
        limited = call.scoring.visibility.causal is not None
        kept = "kept at the edges of chunks" if limited else "over all keys"
        return f"sums of φ(k) vᵀ {kept}: time and memory linear in length"

    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """See `Backend.run`."""
        table, sizes = call.scoring, call.scoring.extent
        q, q_level = _bounded(table.q.to(table.dtype), (-1,), LARGEST)
        k, k_level = _bounded(_visible_keys(table.k, table.visibility).to(table.dtype), (-2, -1), LARGEST)
        v, v_level = _bounded(call.v.to(table.dtype), (-2, -1), LARGEST**3)
        # a column of ones beside the values sums the products themselves
        v = torch.cat([v, v.new_ones(1).expand(*v.shape[:-1], 1)], -1)  # (B, G, K, Dv + 1)
        with own_precision(sizes.device):
            sums = _sums(q, k, v, table.visibility.causal)  # (B, H, Q, Dv + 1)
        total = sums[..., -1]
        dead = total == 0.0
        context = sums[..., :-1] / total.masked_fill(dead, 1.0)[..., None]
        context = (context * _per_head(v_level, sizes.heads)).masked_fill(dead[..., None], 0.0)
        if not call.need_lse and table.sink is None:
            return context.to(call.v.dtype), None
        peak = q_level[..., 0].log() + _per_head(k_level, sizes.heads)[..., 0].log()
        lse = lse_of(peak, total)
        if table.sink is not None:
            context = context * sunk(lse, table.sink)[..., None]
        return context.to(call.v.dtype), lse if call.need_lse else None


FACTORISED = Factorised()


def _alike_for_all_queries(seen: Visibility) -> bool:
    if seen.lower is not None or len(seen.documents) + len(seen.unions) > 0:
        return False
    tables = (seen.start, seen.stop, seen.keys, seen.dense)
    return all(x is None or x.shape[1:3] == (1, 1) for x in tables)


def _visible_keys(k: Tensor, seen: Visibility) -> Tensor:
    """Features (B, G, K, F), zeros where no query sees a key for another reason than the causal limit."""
    row = replace(seen, causal=None).block(slice(0, 1), slice(0, k.shape[2]), k.device)  # (B or 1, 1, 1, K)
    return k if row is None else k.masked_fill(~row.transpose(2, 3), 0.0)


def _bounded(x: Tensor, axes: tuple[int, ...], limit: float) -> tuple[Tensor, Tensor]:
    """x divided by a number for each slice along the axes, 1 unless its largest leaves [1 / limit, limit]."""
    if x.numel() == 0:
        return x, x.new_ones([1 if axis - x.ndim in axes else size for axis, size in enumerate(x.shape)])
    peak = x.detach().abs().amax(axes, keepdim=True)
    peak = peak.masked_fill(peak == 0.0, 1.0)
    level = peak / peak.clamp(1.0 / limit, limit)
    return x / level, level


def _per_head(x: Tensor, heads: int) -> Tensor:
    """(B, G, ·, ·) → (B, H, ·, ·)."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _sums(q: Tensor, k: Tensor, v: Tensor, causal: int | None) -> Tensor:
    """Σ_j ⟨q_i, k_j⟩ v_j over the keys j ≤ i + causal, or all: (B, H, Q, ·) of k (B, G, K, F) and v (B, G, K, ·)."""
    queries, keys = q.shape[2], k.shape[2]
    if causal is None:
        return matmul_grouped(q, _state(k, v))
    dead = min(max(-causal, 0), queries)  # queries before the first key
    square = min(max(keys - 1 - causal, dead), queries)  # from here on they see all keys
    first = min(max(causal, 0), keys)  # keys before it are seen by all but the dead
    last = min(first + square - dead, keys)
    state = _state(k[:, :, :first], v[:, :, :first])
    sums = _causal_sums(q[:, :, dead:square], k[:, :, first:last], v[:, :, first:last], state)
    if square < queries:
        rest = matmul_grouped(q[:, :, square:], state + _state(k[:, :, first:], v[:, :, first:]))
        sums = torch.cat([sums, rest], 2)
    return F.pad(sums, (0, 0, dead, 0)) if dead else sums


def _state(k: Tensor, v: Tensor) -> Tensor:
    """Σ_j k_j v_jᵀ: (…, F, Dv)."""
    return k.transpose(-1, -2) @ v


def _causal_sums(q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> Tensor:
    """q_iᵀ state + Σ_{j ≤ i} ⟨q_i, k_j⟩ v_j of as many queries (B, H, L, F) as keys, and a state (B, G, F, ·)."""
    (batch, heads, length, _), groups = q.shape, k.shape[1]
    if length == 0:
        return matmul_grouped(q, state)
    width, value_width = state.shape[-2:]
    # a state for each chunk takes no more memory than the chunk's features and values
    size = min(max(CHUNK, width * value_width // (width + value_width)), length)
    count, share = -(-length // size), heads // groups
    q, k, v = (F.pad(x, (0, 0, 0, count * size - length)) for x in (q, k, v))
    k, v = (x.reshape(batch, groups, count, size, x.shape[-1]) for x in (k, v))
    earlier = torch.cat([state[:, :, None], _state(k[:, :, :-1], v[:, :, :-1])], 2).cumsum(2)  # (B, G, N, F, ·)
    # one batch of chunks; in each the queries of a key head, one below the other: (B · G · N, share · C, F)
    q = q.reshape(batch, groups, share, count, size, width).transpose(2, 3)
    q = q.reshape(batch * groups * count, share * size, width)
    k, v, earlier = (x.flatten(0, 2) for x in (k, v, earlier))
    later = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1).repeat(share, 1)
    products = torch.bmm(q, k.transpose(1, 2)).masked_fill(later, 0.0)  # (B · G · N, share · C, C)
    sums = torch.baddbmm(torch.bmm(q, earlier), products, v)
    sums = (
        sums.view(batch, groups, count, share, size, v.shape[-1])
        .transpose(2, 3)
        .reshape(batch, heads, count * size, -1)
    )
    return sums[:, :, :length]
