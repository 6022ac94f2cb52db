"""`attend`: weights from queries and keys, applied to values, by the fastest backend that fits."""

from typing import Literal, overload

import torch
from torch import Tensor

from regard.attention.backends.contract import Call
from regard.attention.biases import Bias, Factor
from regard.attention.dispatch import AttentionPlan, choose, plan
from regard.attention.extent import shape
from regard.attention.masks import Mask
from regard.attention.scores import ScaledDot, Score
from regard.attention.scoring import build_scoring, check_tensor, zero_unseen
from regard.errors import ArgumentError

SCALED_DOT = ScaledDot()


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score: Score = ...,
    mask: Mask | None = ...,
    bias: Bias | Tensor | None = ...,
    factor: Factor | Tensor | None = ...,
    softcap: float | None = ...,
    sink: Tensor | None = ...,
    dropout: float = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score: Score = ...,
    mask: Mask | None = ...,
    bias: Bias | Tensor | None = ...,
    factor: Factor | Tensor | None = ...,
    softcap: float | None = ...,
    sink: Tensor | None = ...,
    dropout: float = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score: Score = SCALED_DOT,
    mask: Mask | None = None,
    bias: Bias | Tensor | None = None,
    factor: Factor | Tensor | None = None,
    softcap: float | None = None,
    sink: Tensor | None = None,
    dropout: float = 0.0,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention: each query's weighted mean of the values, the weights a softmax of its scores with the keys.

    context_i = Σ_j p_ij · v_j, with p_i = softmax_j(score(q_i, k_j) + bias_ij) over the keys that query i may see
    (Vaswani et al. 2017, eq. 1, for the default score). A query that sees no key gets context 0 and ℓ = −∞.

    Args:
        q: queries (B, H, Q, D); (B, Q, D), (Q, D) and more batch axes (…, H, Q, D) are accepted.
        k: keys (B, G, K, D), G dividing H: query head h reads key head h // (H / G). Otherwise axes as for q.
        v: values (B, G, K, Dv), axes as for k.
        score: `ScaledDot()`, `Dot()`, `Cosine()`, `General(weight)`, `Gaussian(sigma)`, `Additive(v)` or `Kernel()`.
        mask: which keys may be seen: `Causal()`, `Padding(lengths)`, `Window(left, right)`, `Prefix(n)`,
            `Document(ids)`, `Near(centre, radius)`, `Interval(start, stop)`, `Dense(table)`, joined by `&` and `|`.
        bias: added to the scores: `ALiBi()`, `RelativeBias()`, `Diagonals()` or a tensor that broadcasts to
            (B, H, Q, K); −∞ in it counts as masked. May need a gradient.
        factor: numbers from 0 to 1 that the weights are multiplied by after the softmax, so that a row sums to less
            than 1: `GaussianFactor(centre, sigma)` or a tensor that broadcasts to (B, H, Q, K).
        softcap: c: scores become c · tanh(score / c) before bias and mask (Gemma 2).
        sink: (H,) logits that take part in the softmax and have no value, so that a row sums to less than 1.
        dropout: probability of dropping a weight (the rest is scaled up). ℓ is that of the weights before dropout.
        return_lse: also return ℓ, the log-sum-exp of each row's scores over the visible keys (without the sink).

    Returns:
        context (B, H, Q, Dv) in the caller's layout and dtype; with `return_lse` also ℓ (B, H, Q), float32 or wider.
        Both are differentiable in q, k, v, sink and the tensors of score, bias and factor; a second derivative
        is there only where torch's own operators do it, and otherwise raises.

    Raises:
        ArgumentError: a wrong type, shape, dtype, device or value; the message names the argument.
        UnsupportedError: a combination that docs/attention-support.md refuses.
    """
    call = build_call(q, k, v, score, mask, bias, factor, softcap, sink, dropout, return_lse)
    context, lse = choose(call).run(call)
    extent = call.scoring.extent
    context = extent.restore(context, 2)
    if not return_lse:
        return context
    assert lse is not None
    return context, extent.restore(lse, 1)


def attention_plan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score: Score = SCALED_DOT,
    mask: Mask | None = None,
    bias: Bias | Tensor | None = None,
    factor: Factor | Tensor | None = None,
    softcap: float | None = None,
    sink: Tensor | None = None,
    dropout: float = 0.0,
    return_lse: bool = False,
) -> AttentionPlan:
    """Say which backend `attend` would take for this call, how it would run, and why the faster ones can't.

    Arguments and errors are those of `attend`. No attention is computed; queries and keys are checked and lifted.
    """
    return plan(build_call(q, k, v, score, mask, bias, factor, softcap, sink, dropout, return_lse))


def build_call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    score: Score,
    mask: Mask | None,
    bias: Bias | Tensor | None,
    factor: Factor | Tensor | None,
    softcap: float | None,
    sink: Tensor | None,
    dropout: float,
    need_lse: bool,
) -> Call:
    """Check the arguments of `attend` and bring them to the layout that backends take.

    Raises:
        ArgumentError: as for `attend`.
    """
    check_tensor("v", v)
    if isinstance(dropout, bool) or not (isinstance(dropout, (int, float)) and 0.0 <= dropout <= 1.0):
        raise ArgumentError(f"dropout must be a number from 0 to 1, not {dropout!r}")
    scoring = build_scoring(q, k, score, mask, bias, factor, softcap, sink)
    if v.ndim != k.ndim or v.shape[:-1] != k.shape[:-1]:
        raise ArgumentError(f"v must have a row for each key: k is {shape(k)}, v is {shape(v)}")
    if v.dtype != k.dtype or v.device != k.device:
        raise ArgumentError(f"v is {v.dtype} on {v.device}, k is {k.dtype} on {k.device}: they must agree")
    values = zero_unseen(scoring.extent.heads_first(v), scoring.visibility, scoring.extent)
    differentiated = torch.is_grad_enabled() and (
        v.requires_grad or any(operand.tensor.requires_grad for operand in scoring.operands.values())
    )
    return Call(scoring, values, dropout, need_lse, differentiated)
