"""How the weight of a table is spread over distances of query and key, in memory linear in length."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from regard.attention.scoring import Scoring
from regard.attention.survey import Sight, survey
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
    statistic = Distances(table, edges, share)
    survey(table, [statistic])
    return statistic.mass


class Distances:
    """The mass at each range of distances; a statistic for `survey`.

    Args:
        table: the table.
        edges: integers that grow.
        share: what each query counts, (B, H, Q).

    Attributes:
        mass: (B, H, len(edges) + 1).
    """

    def __init__(self, table: Scoring, edges: Sequence[int], share: Tensor) -> None:
        sizes = table.extent
        self.mass = table.q.new_zeros((sizes.batch, sizes.heads, len(edges) + 1), dtype=table.dtype)
        self._edges = torch.tensor(edges, device=sizes.device)
        self._share = share
        self._beyond = sizes.keys - sizes.queries

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        rows, columns = sight.region.rows, sight.region.columns
        if columns.start == columns.stop:
            return
        at = sight.region.batch, sight.region.heads
        sums = _diagonals(sight.weights, self._share[(*at, rows)])  # (b, h, R + C − 1)
        # from the key furthest behind the last query to the one furthest before the first
        furthest = rows.stop - 1 + self._beyond - columns.start
        distance = furthest - torch.arange(sums.shape[-1], device=sums.device)
        self.mass[at].index_add_(2, torch.bucketize(distance, self._edges, right=True), sums)


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
