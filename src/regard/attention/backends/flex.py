"""FlexAttention on CUDA devices: soft-cap, biases and any mask inside a generated kernel, no table of queries × keys.

torch compiles a kernel from two functions of one place of the table: `mask_mod` says whether it is visible, `score_mod`
what becomes of its score (Dong et al. 2024). Beside them it wants to know which tiles of 128 × 128 places have anything
visible: `tiles` says so without looking at every place, as torch's own `create_block_mask` would.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from regard.attention.backends.contract import Backend, Call
from regard.attention.backends.flash import contiguous_rows
from regard.attention.backends.sdpa import needs_table
from regard.attention.biases import Place, place_in
from regard.attention.extent import Extent
from regard.attention.modes import transformed
from regard.attention.precision import own_precision
from regard.attention.rows import sunk
from regard.attention.scoring import Scoring, named
from regard.attention.tiles import TILE, tiles
from regard.attention.visibility import Visibility

NARROW, WIDE = 16, 256  # head widths that the kernels take
SMALL = 1 << 16  # below so many places a table costs less than a kernel of its own
VARIANTS = 256  # kernels that may be kept: one for each kind of mask and bias, dtype, head width and so on


class Flex(Backend):
    """torch's FlexAttention, compiled, for scores of the form "inner"."""

    name = "flex"

    def refuses(self, call: Call) -> str | None:
        """See `Backend.refuses`."""
        table, sizes = call.scoring, call.scoring.extent
        if sizes.device.type != "cuda":
            return "FlexAttention is used on CUDA devices only"
        if table.form != "inner":
            return f"FlexAttention is for scores that are inner products, and this one is {table.form}"
        if table.factor is not None:
            return "FlexAttention has no factor after the softmax"
        if call.dropout:
            return "FlexAttention has no dropout"
        if table.q.dtype == torch.float64:
            return "FlexAttention sums in float32, which is too little for float64"
        widths = table.q.shape[-1], call.v.shape[-1]
        if min(widths) < NARROW or max(widths) > WIDE:
            return f"FlexAttention is for widths of {NARROW} to {WIDE}, not {widths[0]} (keys) and {widths[1]} (values)"
        if sizes.batch == 0 or sizes.queries * sizes.keys < SMALL:
            return "queries × keys are too few to compile a kernel for"
        if transformed():
            return "FlexAttention doesn't run inside transforms of torch.func, nor in forward mode"
        if not (call.need_lse or table.sink is not None or table.softcap is not None or needs_table(table)):
            return "fused SDPA does it, without a table of queries × keys"
        return (
            None
            if torch.compiler.is_compiling() or _has_triton()
            else "FlexAttention needs Triton, which is not installed or doesn't know the device"
        )

    def how(self, call: Call) -> str:
        """See `Backend.how`."""
        table = call.scoring
        inside = [] if table.visibility.unlimited else ["mask"]
        inside += [] if table.softcap is None else ["soft-cap"]
        inside += [] if table.bias is None else ["bias"]
        kernel = f"with {', '.join(inside)} inside the kernel" if inside else "for ℓ"
        return f"torch's FlexAttention {kernel}, compiled at its first use: memory linear in length"

    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """See `Backend.run`."""
        table = call.scoring
        attend = attend_flex if torch.compiler.is_compiling() else _compiled()
        with own_precision(table.extent.device):
            q, k, v = contiguous_rows(table.q), contiguous_rows(table.k), contiguous_rows(call.v)
            context, lse = attend(q, k, v, changes(table), call.need_lse or table.sink is not None)
        if table.sink is not None:
            assert lse is not None
            context = (context * sunk(lse, table.sink)[..., None]).to(context.dtype)
        return context, lse if call.need_lse else None


FLEX = Flex()


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    from torch.utils._triton import has_triton  # private, and of no use without a graphics processor

    return has_triton()


@dataclass(frozen=True, eq=False)
class Changes:
    """What is done to the inner products of queries and keys.

    Attributes:
        scale: factor.
        softcap: c of c · tanh(s / c) or None.
        added: the bias of a place; made outside of the compiled function, so that its tables are tables there and not
            computed again at each place.
        visibility: which keys are seen; no limits that are numbers, or each number would be a kernel.
    """

    scale: float
    softcap: float | None
    added: Place | None
    visibility: Visibility


def changes(table: Scoring) -> Changes:
    """Those of a table."""
    parts = named("bias.", {name: operand.tensor for name, operand in table.operands.items()})
    added = None if table.bias is None else table.bias.at(parts, table.extent)
    return Changes(table.scale, table.softcap, added, in_tensors(table.visibility, table.extent))


def in_tensors(seen: Visibility, sizes: Extent) -> Visibility:
    """The same with every limit of the keys as a tensor."""
    if all(x is None for x in (seen.causal, seen.lower, seen.start, seen.stop)):
        first, last = None, None
    else:
        first, last = seen.interval(sizes.queries, sizes.keys, sizes.device)
    unions = tuple((in_tensors(a, sizes), in_tensors(b, sizes)) for a, b in seen.unions)
    return replace(seen, causal=None, lower=None, start=first, stop=last, unions=unions)


Attend = Callable[[Tensor, Tensor, Tensor, Changes, bool], tuple[Tensor, Tensor | None]]


@lru_cache(maxsize=1)
def _compiled() -> Attend:
    """`attend_flex`, compiled; a kind of call that can't be is an error, since torch would write out Q × K for it."""
    compiled = torch.compile(attend_flex, fullgraph=True)

    def attend(q: Tensor, k: Tensor, v: Tensor, made: Changes, need_lse: bool) -> tuple[Tensor, Tensor | None]:
        with torch._dynamo.config.patch(recompile_limit=VARIANTS, specialize_float=True):
            return compiled(q, k, v, made, need_lse)

    return attend


def attend_flex(q: Tensor, k: Tensor, v: Tensor, made: Changes, need_lse: bool) -> tuple[Tensor, Tensor | None]:
    """Context (B, H, Q, Dv) and, if asked for, ℓ (B, H, Q), before sink and factor.

    Args:
        q: (B, H, Q, D); k: (B, G, K, D); v: (B, G, K, Dv).
        made: what is done to their products.
        need_lse: whether ℓ is asked for.
    """
    sizes, seen = Extent.of(q, k), made.visibility
    options: dict[str, Any] = {
        "score_mod": score_mod(made, sizes.dtype),
        "block_mask": None if seen.unlimited else tiled(seen, sizes.queries, sizes.keys, sizes.device),
        "scale": made.scale,
        "enable_gqa": sizes.heads != sizes.groups,
    }
    if not need_lse:
        return flex_attention(q, k, v, **options), None
    context, extra = flex_attention(q, k, v, **options, return_aux=AuxRequest(lse=True))
    return context, extra.lse


def score_mod(made: Changes, dtype: torch.dtype) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] | None:
    """What becomes of a score: soft-cap, then bias; None where it stays as it is."""
    softcap, added = made.softcap, made.added
    if softcap is None and added is None:
        return None

    def change(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        s = score.to(dtype)
        if softcap is not None:
            s = torch.tanh(s / softcap) * softcap
        return s if added is None else s + added(b, h, i, j).to(dtype)

    return change


def mask_mod(seen: Visibility) -> Place:
    """Whether a place is visible, as a function of its indices; limits as `in_tensors` gives them."""
    demands = _demands(seen)

    def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        all_of = b.new_ones((), dtype=torch.bool)
        for demand in demands:
            all_of = all_of & demand(b, h, i, j)
        return all_of

    return visible


def _demands(seen: Visibility) -> list[Place]:
    demands: list[Place] = []
    if seen.start is not None:
        start = place_in(seen.start)
        demands.append(lambda b, h, i, j: j >= start(b, h, i, j))
    if seen.stop is not None:
        stop = place_in(seen.stop)
        demands.append(lambda b, h, i, j: j < stop(b, h, i, j))
    if seen.keys is not None:
        demands.append(place_in(seen.keys))
    demands += [_same(place_in(queries), place_in(keys)) for queries, keys in seen.documents]
    demands += [_either(mask_mod(a), mask_mod(b)) for a, b in seen.unions]
    if seen.dense is not None:
        demands.append(place_in(seen.dense))
    return demands


def _same(mine: Place, other: Place) -> Place:
    return lambda b, h, i, j: (mine(b, h, i, j) == other(b, h, i, j)) & (mine(b, h, i, j) >= 0)


def _either(left: Place, right: Place) -> Place:
    return lambda b, h, i, j: left(b, h, i, j) | right(b, h, i, j)


def tiled(seen: Visibility, queries: int, keys: int, device: torch.device) -> BlockMask:
    """The mask as FlexAttention takes it: the tiles that it visits, and the function that it asks in mixed ones."""
    some, whole = tiles(seen, queries, keys, device)
    return BlockMask.from_kv_blocks(
        *_ordered(some & ~whole),
        *_ordered(whole),
        BLOCK_SIZE=TILE,
        mask_mod=mask_mod(seen),
        seq_lengths=(queries, keys),
    )


def _ordered(table: Tensor) -> tuple[Tensor, Tensor]:
    """How many tiles of each row are marked, and their places first: int32 (B, H, rows), (B, H, rows, columns)."""
    order = table.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return table.sum(-1, dtype=torch.int32), order.to(torch.int32)
