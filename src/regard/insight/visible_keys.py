"""How many keys each query of a table sees, in memory linear in length."""

import torch
from torch import Tensor

from regard.attention.scoring import Scoring

_PLACES = 1 << 20  # looked at together


def visible_keys(table: Scoring) -> Tensor:
    """The number of keys that each query sees, int64 (B or 1, H or 1, Q)."""
    seen, sizes = table.visibility, table.extent
    queries, keys, device = sizes.queries, sizes.keys, sizes.device
    if seen.limits_only:
        first, last = (x[..., 0] for x in seen.interval(queries, keys, device))
        if seen.keys is not None:
            before = torch.nn.functional.pad(seen.keys[:, :, 0].long().cumsum(-1), (1, 0))  # (B or 1, 1, K + 1)
            shape = [max(n) for n in zip(first.shape[:2], last.shape[:2], before.shape[:2], strict=True)]
            first, last, before = (x.expand(*shape, -1) for x in (first, last, before))
            first, last = before.gather(2, first), before.gather(2, last)
        count = (last - first).clamp(min=0)
        return count.expand(*count.shape[:2], queries)
    step, counts = max(1, _PLACES // max(1, keys)), []
    for row in range(0, queries, step):
        rows = slice(row, min(row + step, queries))
        part = seen.block(rows, slice(0, keys), device)
        if part is None:
            part = torch.ones((1, 1, 1, keys), dtype=torch.bool, device=device)
        counts.append(part.sum(-1).expand(-1, -1, rows.stop - rows.start))
    shape = [max((count.shape[axis] for count in counts), default=1) for axis in (0, 1)]
    return torch.cat([count.expand(*shape, -1) for count in counts] or [torch.zeros(1, 1, 0, dtype=torch.long)], 2)
