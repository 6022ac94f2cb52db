"""How the weight of a table is spread over distances of query and key, in memory linear in length."""

from collections.abc import Sequence

from torch import Tensor

from regard.attention.scoring import Scoring


def by_distance(table: Scoring, edges: Sequence[int]) -> Tensor:
    """See `AttentionMap.by_distance`: (B, H, len(edges) + 1)."""
    raise NotImplementedError
