"""Whether each query sees one interval of keys, and which: a mask as two numbers a query instead of a row."""

import torch
from torch import Tensor

from regard.attention.visibility import Visibility

BLOCK = 1 << 20  # places looked at together


def intervals_of(seen: Visibility, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """First key and first key beyond, of each query; None where some query sees keys with a gap between them.

    Args:
        seen: which keys are seen.
        queries, keys: Q and K.
        device: of the mask.

    Returns:
        start and stop, (B or 1, H or 1, Q, 1) int64; 0 and 0 for a query that sees nothing.
    """
    if seen.limits_only and seen.keys is None:
        first, last = seen.interval(queries, keys, device)
        shape = [max(first.shape[0], last.shape[0]), max(first.shape[1], last.shape[1]), queries, 1]
        nothing = (first >= last).expand(shape)
        return first.expand(shape).masked_fill(nothing, 0), last.expand(shape).masked_fill(nothing, 0)
    found: list[tuple[Tensor, Tensor]] = []
    step = max(1, BLOCK // max(1, keys))
    for row in range(0, queries, step):
        rows = slice(row, min(row + step, queries))
        part = seen.block(rows, slice(0, keys), device)
        if part is None:
            part = torch.ones((1, 1, 1, keys), dtype=torch.bool, device=device)
        one = intervals(part.expand(-1, -1, rows.stop - rows.start, -1))
        if one is None:
            return None
        found.append(one)
    if not found:
        nothing = torch.zeros((1, 1, 0, 1), dtype=torch.long, device=device)
        return nothing, nothing
    shapes = [start.shape[:2] for start, _ in found]
    batch, heads = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    start, stop = (torch.cat([pair[i].expand(batch, heads, -1) for pair in found], 2) for i in (0, 1))
    return start[..., None], stop[..., None]


def intervals(table: Tensor) -> tuple[Tensor, Tensor] | None:
    """The same of a table of booleans (…, Q, K), K ≥ 1: start and stop (…, Q), or None."""
    keys = table.shape[-1]
    places = table.to(torch.uint8)  # of which argmax gives the first place of the largest
    count = table.sum(-1)
    start = places.argmax(-1)
    stop = keys - places.flip(-1).argmax(-1)
    nothing = count == 0
    start, stop = start.masked_fill(nothing, 0), stop.masked_fill(nothing, 0)
    if bool((stop - start != count).any()):
        return None
    return start, stop
