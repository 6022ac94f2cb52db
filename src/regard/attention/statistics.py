"""The statistics of a table of weights; each takes what it needs from the blocks that `survey` shows it."""

import torch
from torch import Tensor

from regard.attention.operands import Region
from regard.attention.ranking import largest
from regard.attention.rows import lse_of, row_peak, row_sum
from regard.attention.scoring import Scoring
from regard.attention.survey import Sight

LOWEST = -1000.0
"""A score that lies further below the largest of its row has the weight 0, in float64 too."""


class Totals:
    """m and Z of each row, of which ℓ is m + ln Z.

    Attributes:
        peak: m (B, H, Q).
        total: Z (B, H, Q).
    """

    def __init__(self, table: Scoring) -> None:
        self.peak, self.total = _per_query(table), _per_query(table)

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        at = _rows(sight.region)
        if sight.block.table.factor is None:
            self.peak[at], self.total[at] = sight.peak, sight.total
        else:  # ℓ is of the scores, before the factor
            peak = row_peak(sight.block.scores)
            self.peak[at], self.total[at] = peak, row_sum(sight.block.scores, peak)


class Masses:
    """What each row sums to.

    Attributes:
        mass: (B, H, Q).
    """

    def __init__(self, table: Scoring) -> None:
        self.mass = _per_query(table)

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        self.mass[_rows(sight.region)] = sight.mass


class Entropies:
    """ln Z − Σ p (s − m), the entropy of each normalised row: both parts are 0 or more, so that nothing cancels.

    Attributes:
        entropy: (B, H, Q).
    """

    def __init__(self, table: Scoring) -> None:
        self.entropy = _per_query(table)

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        below = sight.ranked - sight.peak[..., None]
        for edge in sight.edges:
            below[..., edge].clamp_(min=LOWEST)  # −∞ · 0 would be NaN
        spread = below.mul_(sight.normal).sum(-1)
        self.entropy[_rows(sight.region)] = (lse_of(torch.zeros_like(sight.total), sight.total) - spread).clamp_(
            min=0.0
        )


class MassEntropies(Entropies):
    """−Σ w ln w of the weights as they are, which sum to less than 1 with a sink or a factor."""

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        super().see(sight)
        at = _rows(sight.region)
        self.entropy[at] = sight.mass * self.entropy[at] + torch.special.entr(sight.mass)


class Received:
    """The weight that each key receives.

    Attributes:
        received: (B, H, K).
    """

    def __init__(self, table: Scoring) -> None:
        sizes = table.extent
        self.received = table.q.new_zeros((sizes.batch, sizes.heads, sizes.keys), dtype=table.dtype)

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        region = sight.region
        self.received[region.batch, region.heads, region.columns] += sight.columns()


class Transposed:
    """Pᵀ · x of numbers for each query.

    Args:
        table: the table.
        x: (B, H, Q, F).

    Attributes:
        gathered: (B, H, K, F).
    """

    def __init__(self, table: Scoring, x: Tensor) -> None:
        sizes = table.extent
        self.gathered = x.new_zeros((sizes.batch, sizes.heads, sizes.keys, x.shape[-1]))
        self._x = x

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        region, given = sight.region, self._x[_rows(sight.region)]
        # by rows of the block, since its transpose would be read against the grain
        self.gathered[region.batch, region.heads, region.columns] += sight.summed(given.mT).mT


class Top:
    """The heaviest keys of each query.

    Attributes:
        weights: (B, H, Q, n), 0 where fewer keys can be seen.
        index: (B, H, Q, n) int64, −1 there.
    """

    def __init__(self, table: Scoring, n: int) -> None:
        sizes = table.extent
        shape = (sizes.batch, sizes.heads, sizes.queries, n)
        self.weights = table.q.new_zeros(shape, dtype=table.dtype)
        self.index = table.q.new_full(shape, -1, dtype=torch.long)
        self._count = n

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        n = min(self._count, sight.ranked.shape[-1])  # the other keys are seen by none of these rows
        if not n:
            return
        best, index = largest(sight.ranked, n)
        sight.learn(best[..., :1], index[..., :1])
        nothing = best == -torch.inf
        at = _rows(sight.region)
        self.weights[at][..., :n] = sight.at(index).masked_fill_(nothing, 0.0)
        self.index[at][..., :n] = (index + sight.region.columns.start).masked_fill_(nothing, -1)


def _per_query(table: Scoring) -> Tensor:
    sizes = table.extent
    return table.q.new_zeros((sizes.batch, sizes.heads, sizes.queries), dtype=table.dtype)


def _rows(region: Region) -> tuple[slice, slice, slice]:
    return region.batch, region.heads, region.rows
