"""Attention written down from its definition, independent of the package: tables in full, no blocks, no kernels.

`plain_attention` works in the dtype of its inputs: in float64 it is the oracle, in the dtype under test it is the plain
computation whose error sets the limit. `loop_attention` is the same once more in Python numbers, to check the oracle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor], Tensor]
"""Scores (…, Q, K) of queries (…, Q, D) and keys (…, K, D), before soft-cap, bias and mask."""


@dataclass(frozen=True)
class PlainResult:
    """context (B, H, Q, Dv); lse, mass and entropy (B, H, Q); weights (B, H, Q, K)."""

    context: Tensor
    lse: Tensor
    weights: Tensor
    mass: Tensor
    entropy: Tensor


def plain_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    formula: Formula,
    visible: Tensor,
    bias: Tensor | None = None,
    softcap: float | None = None,
    sink: Tensor | None = None,
    factor: Tensor | None = None,
) -> PlainResult:
    """softmax(softcap(formula(q, k)) + bias | visible, sink) · v, all tables written out.

    Args:
        q: (B, H, Q, D); k: (B, G, K, D); v: (B, G, K, Dv), query head h reading key head h // (H / G).
        visible: bool (B, H, Q, K), True = may attend.
        bias: (B, H, Q, K), −∞ counts as masked.
        sink: (H,) logits without a value.
        factor: (B, H, Q, K), multiplied after the softmax.
    """
    heads, groups = q.shape[1], k.shape[1]
    head_of = [h // (heads // groups) for h in range(heads)]
    k, v = k[:, head_of], v[:, head_of]
    scores = formula(q, k)
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    if bias is not None:
        visible = visible & (bias > -torch.inf)
        scores = scores + torch.where(bias > -torch.inf, bias, torch.zeros_like(bias))
    visible = visible & (scores > -torch.inf)  # a similarity of 0 counts as masked
    alive = visible.any(-1)
    # a finite stand-in keeps the gradient of rows without keys finite; its result is thrown away
    safe = torch.where(visible, scores, torch.full_like(scores, -torch.inf))
    safe = torch.where(alive[..., None], safe, torch.zeros_like(safe))
    lse = safe.logsumexp(-1)
    padded = safe if sink is None else torch.cat([safe, sink.view(1, -1, 1, 1).expand(*safe.shape[:-1], 1)], -1)
    weights = padded.softmax(-1)[..., : scores.shape[-1]]
    weights = torch.where(alive[..., None], weights, torch.zeros_like(weights))
    if factor is not None:
        weights = weights * factor
    mass = weights.detach().sum(-1, keepdim=True)
    row = weights / torch.where(mass > 0, mass, torch.ones_like(mass))
    return PlainResult(
        context=weights @ v,
        lse=torch.where(alive, lse, torch.full_like(lse, -torch.inf)),
        weights=weights,
        mass=weights.sum(-1),
        entropy=-torch.xlogy(row, row).sum(-1),
    )


def loop_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pair: Callable[[int, list[float], list[float]], float],
    visible: Tensor,
    bias: Tensor | None = None,
    softcap: float | None = None,
    sink: Tensor | None = None,
    factor: Tensor | None = None,
) -> PlainResult:
    """The same, one number at a time; `pair` scores a head's query and key, the rest as for `plain_attention`."""
    (batch, heads, queries, _), (groups, keys), value_width = q.shape, k.shape[1:3], v.shape[-1]
    context = torch.zeros(batch, heads, queries, value_width, dtype=torch.float64)
    lse = torch.full((batch, heads, queries), -torch.inf, dtype=torch.float64)
    weights = torch.zeros(batch, heads, queries, keys, dtype=torch.float64)
    mass, entropy = torch.zeros_like(lse), torch.zeros_like(lse)
    for b in range(batch):
        for h in range(heads):
            g = h * groups // heads
            for i in range(queries):
                scores = {}
                for j in range(keys):
                    extra = 0.0 if bias is None else float(bias[b, h, i, j])
                    if not visible[b, h, i, j] or extra == -math.inf:
                        continue
                    s = pair(h, q[b, h, i].tolist(), k[b, g, j].tolist())
                    if s == -math.inf:
                        continue
                    scores[j] = extra + (s if softcap is None else softcap * math.tanh(s / softcap))
                if not scores:
                    continue
                total = math.fsum(math.exp(s) for s in scores.values())
                whole = total + (0.0 if sink is None else math.exp(float(sink[h])))
                lse[b, h, i] = math.log(total)
                row = {
                    j: math.exp(s) / whole * (1.0 if factor is None else float(factor[b, h, i, j]))
                    for j, s in scores.items()
                }
                mass[b, h, i] = left = math.fsum(row.values())
                entropy[b, h, i] = -math.fsum(p / left * math.log(p / left) for p in row.values() if p > 0)
                for j, p in row.items():
                    weights[b, h, i, j] = p
                    for d in range(value_width):
                        context[b, h, i, d] += p * float(v[b, g, j, d])
    return PlainResult(context, lse, weights, mass, entropy)
