"""Short sequences on the CPU: two batched matrix products with the softmax between them.

With few queries and keys a fused kernel spends more on blocking than it saves (docs/decisions/0009). The table of
weights is written out, but it is bounded.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.backends.contract import Backend, Call
from regard.attention.backends.flash import dead_rows
from regard.attention.modes import readable, transformed
from regard.attention.precision import own_precision
from regard.attention.scoring import Scoring

QUERIES, KEYS = 24, 64  # the most that it takes
OTHER_SIZES = f"it is for 2 to {QUERIES} queries and up to {KEYS} keys"


class Short(Backend):
    """softmax(scale · q kᵀ) v by two `bmm`, in the caller's dtype."""

    name = "short"

    def refuses(self, call: Call) -> str | None:
        """See `Backend.refuses`."""
        table, sizes = call.scoring, call.scoring.extent
        if sizes.device.type != "cpu" or table.q.dtype not in (torch.float32, torch.float64):
            return "it is for float32 and float64 on the CPU"
        if not (2 <= sizes.queries <= QUERIES and 1 <= sizes.keys <= KEYS and sizes.batch):
            return OTHER_SIZES
        if table.form != "inner":
            return "it is for scores that are inner products"
        if table.softcap is not None or table.sink is not None or table.bias is not None or table.factor is not None:
            return "it has no soft-cap, sink, bias or factor"
        if call.need_lse:
            return "it doesn't give ℓ"
        if transformed():
            return "it writes in place, which not every transform of torch.func can follow"
        return None

    def how(self, call: Call) -> str:
        """See `Backend.how`."""
        return f"two batched matrix products; at most {QUERIES} × {KEYS} weights a head are written out"

    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """See `Backend.run`."""
        table, sizes = call.scoring, call.scoring.extent
        batch, heads, queries, width = table.q.shape
        folded = sizes.batch * sizes.groups
        q = table.q.reshape(folded, -1, width)  # (B·G, H/G · Q, D): the queries of a key head, one below the other
        k = table.k.reshape(folded, sizes.keys, width)
        v = call.v.reshape(folded, sizes.keys, -1)
        barred, dead = _barred(table)
        with own_precision(sizes.device):
            scores = torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=table.scale)
            if barred is not None:
                # filled, not added: a masked score may be infinite; in place: the product's gradient needs no scores
                scores.masked_fill_(barred, -torch.inf)
            weights = scores.softmax(-1)
            if call.dropout:
                weights = F.dropout(weights, call.dropout)
            context = torch.bmm(weights, v).view(batch, heads, queries, call.v.shape[-1])
        return context if dead is None else context.masked_fill(dead[..., None], 0.0), None


SHORT = Short()


def _barred(table: Scoring) -> tuple[Tensor | None, Tensor | None]:
    """The places that aren't visible, broadcastable to (B·G, H/G · Q, K), and the rows that see nothing.

    Such a row sees everything here, because softmax over nothing is undefined; its result is taken away afterwards.
    """
    sizes = table.extent
    visible = table.visibility.block(slice(0, sizes.queries), slice(0, sizes.keys), sizes.device)
    if visible is None:
        return None, None
    dead = dead_rows(table)
    if dead is not None and (not readable(dead) or bool(dead.any())):
        visible = visible | dead[..., None]
    else:
        dead = None
    barred = ~visible
    share = sizes.heads // sizes.groups
    if barred.shape[:2] == (1, 1) and share == 1:
        return barred[0], dead
    if barred.shape[1:3] == (1, 1):  # keys only: (B or 1, 1, 1, K)
        return barred.expand(sizes.batch, sizes.groups, 1, -1).reshape(-1, 1, sizes.keys), dead
    full = barred.expand(sizes.batch, sizes.heads, sizes.queries, -1)
    return full.reshape(sizes.batch * sizes.groups, share * sizes.queries, sizes.keys), dead
