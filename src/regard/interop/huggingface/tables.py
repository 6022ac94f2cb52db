"""The attention map of a call of an attention function, by what that function does with its arguments."""

import inspect
from collections.abc import Mapping
from typing import Protocol

import torch
import transformers
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from regard.attention import AttentionMap, Causal, ScaledDot
from regard.attention.biases import Bias
from regard.attention.masks import Mask
from regard.attention.operands import Region
from regard.errors import UnsupportedError
from regard.interop.huggingface.entry import Call
from regard.interop.huggingface.masks import Masks, Seen

HARMLESS = frozenset(
    {
        # what the table is made of, read below
        *("query", "key", "value", "attention_mask", "scaling", "is_causal"),
        # after the softmax, or about what is returned
        *("dropout", "deterministic", "output_attentions", "output_hidden_states", "output_router_logits"),
        *("return_dict", "use_cache", "num_items_in_batch", "logits_to_keep", "labels"),
        # what the mask, or the cache, was made of before
        *("sliding_window", "position_ids", "cache_position", "past_key_values", "token_type_ids"),
        *("encoder_hidden_states", "encoder_attention_mask"),
        # of other implementations, for the same packed sequences
        *("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"),
    }
)
"""Arguments that change nothing in a table, or nothing beyond what `Rule.table` reads of them."""

OLD = "position_bias" not in inspect.signature(sdpa_attention_forward).parameters
"""Whether this is a transformers before 5, which passes is_causal=True on even for a single query."""

COARSEST = 2.0**-10
"""What float32 scores are rounded to at worst: products on GPUs may be of TF32, which has the digits of float16."""


class Rule(Protocol):
    """What a kind of attention functions does with its arguments."""

    def table(self, call: Call, masks: Masks, filled: int | None) -> AttentionMap:
        """The map of a call.

        Args:
            call: what was called.
            masks: reads masks and biases.
            filled: how many keys the cache holds, if there is one; the rest of them may be room for more.

        Raises:
            UnsupportedError: the table isn't known to be what the function computed.
        """
        ...


class Fused:
    """`sdpa`: torch's scaled_dot_product_attention."""

    def table(self, call: Call, masks: Masks, filled: int | None) -> AttentionMap:
        """See `Rule.table`."""
        if call.function is not sdpa_attention_forward:
            raise refused(call, "as 'sdpa' a function that isn't that of transformers is registered")
        for name in ("softcap", "s_aux"):
            if call.arguments.get(name) is not None:
                raise refused(call, f"it ignores {name}, which the model gives it: load it with 'eager'")
        check(call, honoured=frozenset() if OLD else frozenset({"position_bias"}))
        q, k, mask = (call.arguments[name] for name in ("query", "key", "attention_mask"))
        bias, wanted = call.arguments.get("position_bias"), call.arguments["is_causal"]
        if mask is not None:
            # with a bias, barred places are added the least finite number; without one they have no weight at all
            return masked(call, masks, filled, sees_all=mask.dtype != torch.bool or bias is not None)
        queries, keys = q.shape[2], k.shape[2]
        causal = getattr(call.module, "is_causal", True) if wanted is None else wanted
        if wanted and queries == 1 < keys and OLD:
            raise refused(call, f"is_causal={wanted!r} for one query, of which it shows the first key alone")
        if not causal or queries == 1:
            return made(call, k, bias=_short(call, masks, bias))
        # aligned at the start; what lies beyond the queries is a static cache's room for more
        bias = None if bias is None else bias[..., :queries]
        return made(call, k[:, :, :queries], mask=Causal(0), bias=_short(call, masks, bias))


class Plain:
    """`eager`: the function of the model's own source file, which writes the table out and knows nothing of causality.

    It is the model's own, so three rows of the weights that it returns are compared with the map's.
    """

    def table(self, call: Call, masks: Masks, filled: int | None) -> AttentionMap:
        """See `Rule.table`."""
        check(call, honoured=frozenset({"position_bias", "softcap", "s_aux"}))
        mask, bias = call.arguments["attention_mask"], call.arguments.get("position_bias")
        if mask is None:
            table = made(call, call.arguments["key"], bias=_short(call, masks, bias))
        elif mask.dtype == torch.bool:
            raise refused(call, "its mask is of booleans, which it adds to the scores as 0 and 1")
        else:
            sees_all = call.arguments.get("s_aux") is None
            table = masked(call, masks, filled, sees_all=sees_all)
            _check_barred(call, masks.seen(mask[..., : call.arguments["key"].shape[2]], sees_all=sees_all))
        _compare(call, table)
        return table


RULES: Mapping[str, Rule] = {"sdpa": Fused(), "eager": Plain()}
"""The rule of each implementation."""


def masked(call: Call, masks: Masks, filled: int | None, *, sees_all: bool) -> AttentionMap:
    """The map of a call with a mask.

    Args:
        call, masks, filled: as for `Rule.table`.
        sees_all: as for `Masks.seen`.
    """
    k, mask, bias = (call.arguments.get(name) for name in ("key", "attention_mask", "position_bias"))
    assert k is not None and mask is not None
    keys = k.shape[2]
    if mask.ndim != 4 or mask.shape[-1] < keys:
        raise refused(call, f"its mask is {tuple(mask.shape)}: expected (B, 1, Q, K) with {keys} keys")
    seen = masks.seen(mask[..., :keys], sees_all=sees_all)
    if filled is not None and seen.end <= filled < keys:  # the rest is a static cache's room for more
        keys = filled
        seen = masks.seen(mask[..., :keys], sees_all=sees_all)
    if bias is not None:
        bias = bias[..., :keys]
    if seen.bias is None and seen.level is None:
        added = _short(call, masks, bias)
    else:
        added = seen.bias if bias is None else bias if seen.bias is None else bias + seen.bias
        if seen.level is not None and added is not None:
            added = added.masked_fill(seen.level, 0.0)
    return made(call, k[:, :, :keys], mask=seen.mask, bias=added, level=seen.level)


def made(
    call: Call, k: Tensor, *, mask: Mask | None = None, bias: Bias | Tensor | None = None, level: Tensor | None = None
) -> AttentionMap:
    """The map of a call.

    Args:
        call: what was called.
        k: the keys, without a static cache's room for more.
        mask, bias: of the map.
        level: as in `Seen`.
    """
    q, scale = call.arguments["query"], call.arguments.get("scaling")
    if scale is not None and not isinstance(scale, int | float):
        raise refused(call, f"scaling is a {type(scale).__name__}: expected a number")
    if level is not None and q.dtype != torch.float16:  # in which scores are not lost beside the least number
        q = q.masked_fill(level, 0.0)
    batch = max(q.shape[0], k.shape[0])  # torch's function broadcasts them
    q, k = (x.expand(batch, -1, -1, -1) for x in (q, k))
    softcap, sink = call.arguments.get("softcap"), call.arguments.get("s_aux")
    return AttentionMap(q, k, score=ScaledDot(scale), mask=mask, bias=bias, softcap=softcap, sink=sink)


def check(call: Call, honoured: frozenset[str]) -> None:
    """Raise `UnsupportedError` if a call has an argument that is neither harmless nor one of these."""
    for name, value in call.arguments.items():
        if value is not None and name not in HARMLESS and name not in honoured:
            raise refused(call, f"it is called with {name}, whose effect on the weights isn't known")


def _check_barred(call: Call, seen: Seen) -> None:
    """Raise `UnsupportedError` if all keys of some query are barred, and a plain softmax makes nothing sure of it."""
    if seen.level is not None and call.arguments["query"].dtype == torch.float16:
        why = "what float16 makes of that can't be told: load it in float32 or bfloat16"
    elif seen.empty and call.arguments.get("s_aux") is None:
        why = "a softmax of −∞ alone is no number"
    else:
        return
    raise refused(call, f"its mask bars all keys of some query, and {why}")


def _short(call: Call, masks: Masks, bias: Tensor | None) -> Bias | Tensor | None:
    return None if bias is None else masks.bias(bias, call.arguments["query"].shape[1])


def _compare(call: Call, table: AttentionMap) -> None:
    """Raise `UnsupportedError` if the weights that a function returned are not the map's in the rows looked at."""
    weights = call.result[1]
    if weights is None or (call.arguments.get("dropout") and call.module.training):
        return
    rows, keys = table.shape[-2:]
    if weights.shape[:3] != table.shape[:3] or weights.shape[3] < keys:
        raise refused(call, f"it returned weights {tuple(weights.shape)}: expected {table.shape}")
    # the first row of a causal table says nothing of positions, and in a long last one each weight is small
    found = [_apart(call, table, weights[..., :keys], row) for row in sorted({0, rows // 2, rows - 1})]
    away, bound = (torch.stack(x) for x in zip(*found, strict=True))  # (rows, B, H)
    if not bool((away <= bound).all()):  # NaN is not
        far = (away - bound).argmax()  # NaN counts as the largest
        raise refused(
            call,
            "the weights that it returned differ from those of its scale, mask and bias, by "
            f"{float(away.flatten()[far]):.2g} in a row, where rounding explains {float(bound.flatten()[far]):.2g}",
        )


def _apart(call: Call, table: AttentionMap, weights: Tensor, row: int) -> tuple[Tensor, Tensor]:
    """How far a row of weights is from the map's, Σ |Δ| (B, H), and how far rounding may take it."""
    at, scoring, (batch, heads, _, keys) = slice(row, row + 1), table.scoring, table.shape
    mine, other = table[:, :, at, :], weights[:, :, at].to(scoring.dtype)  # (B, H, 1, K)
    away = (other - mine).abs().sum(-1)
    if scoring.sink is not None:  # some functions scale their output by the sink, not the weights that they return
        away = torch.minimum(away, (other * mine.sum(-1, keepdim=True) - mine).abs().sum(-1))
    parts = scoring.parts(Region(slice(0, batch), slice(0, heads), at, slice(0, keys)))
    scores = scoring.scores_from(parts, at, slice(0, keys)).masked_fill(mine == 0, 0.0)
    # a score s, rounded a few times, is off by some ε·|s|, and a weight in proportion
    rounding = 2 * _precision(call.arguments["query"]) * (1 + (mine * scores.abs()).sum(-1))
    return away[..., 0], rounding[..., 0]


def _precision(q: Tensor) -> float:
    """ε of the dtype that a function's scores are rounded to, at worst."""
    found, device = max(COARSEST, torch.finfo(q.dtype).eps), q.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        found = max(found, torch.finfo(torch.get_autocast_dtype(device)).eps)
    return found


def refused(call: Call, why: str) -> UnsupportedError:
    """The error about a call."""
    name = getattr(call.function, "__name__", "a function")
    return UnsupportedError(
        f"the attention of {type(call.module).__name__} by {name} (transformers {transformers.__version__}) can't be "
        f"recorded: {why}"
    )
