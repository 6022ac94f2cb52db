"""How the weight of a table is spread over distances of query and key, in memory linear in length."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from regard.attention.precision import own_precision
from regard.attention.rows import blocks_of
from regard.attention.scoring import Scoring
from regard.errors import ArgumentError


def by_distance(table: Scoring, edges: Sequence[int], share: Tensor | None = None) -> Tensor:
    """See `AttentionMap.by_distance`: (B, H, len(edges) + 1), without gradient.

    Args:
        table: the table, Q × K.
        edges: integers that grow.
        share: what each query counts, (B or 1, H or 1, Q); None is 1 / Q, their mean.

    Raises:
        ArgumentError: there is no edge, they don't grow, or `share` has another shape.
    """
    _check_edges(edges)
    sizes = table.extent
    shape = (sizes.batch, sizes.heads, sizes.queries)
    if share is None:
        share = table.q.new_full((1, 1, 1), 1 / max(1, sizes.queries), dtype=table.dtype)
    elif share.ndim != 3 or any(given not in (1, full) for given, full in zip(share.shape, shape, strict=True)):
        raise ArgumentError(f"share is {tuple(share.shape)}: expected a shape that broadcasts to {shape}")
    share = share.to(sizes.device, table.dtype).expand(shape)
    limits = torch.tensor(edges, device=sizes.device)
    total = table.q.new_zeros((sizes.batch, sizes.heads, len(edges) + 1), dtype=table.dtype)
    with torch.no_grad(), own_precision(sizes.device):
        for region, block in blocks_of(table, slice(0, sizes.queries)):
            rows, columns = region.rows, region.columns
            if columns.start == columns.stop:
                continue
            sums = _diagonals(block.weights(), share[region.batch, region.heads, rows])  # (b, h, R + C − 1)
            # from the key furthest behind the first query to the one furthest before the last
            furthest = rows.stop - 1 + sizes.keys - sizes.queries - columns.start
            distance = furthest - torch.arange(sums.shape[-1], device=sizes.device)
            total[region.batch, region.heads].index_add_(2, torch.bucketize(distance, limits, right=True), sums)
    return total


def _diagonals(weights: Tensor, share: Tensor) -> Tensor:
    """Sums along the diagonals of weights (b, h, R, C), rows times share (b, h, R): (b, h, R + C − 1).

    Number n is the diagonal with column − row = n − (R − 1).
    """
    batch, heads, rows, columns = weights.shape
    wide = rows + columns - 1
    skewed = weights.new_zeros(batch, heads, rows, wide)
    # place (r, c) goes to column c − r + R − 1 of row r, which in memory is a step of wide − 1 a row
    strides = (heads * rows * wide, rows * wide, max(1, wide - 1), 1)
    skewed.as_strided((batch, heads, rows, columns), strides, rows - 1).copy_(weights)
    return (share[:, :, None] @ skewed)[:, :, 0]


def _check_edges(edges: Sequence[int]) -> None:
    whole = all(isinstance(edge, int) and not isinstance(edge, bool) for edge in edges)
    if not len(edges) or not whole or any(a >= b for a, b in pairwise(edges)):
        raise ArgumentError(f"by_distance: edges must be integers that grow, one at least, not {list(edges)!r}")
