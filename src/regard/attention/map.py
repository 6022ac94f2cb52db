"""`AttentionMap`: the table of attention weights, computed only where it is asked for."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.attention.applying import applied, applied_transposed, beside
from regard.attention.biases import Bias, Factor
from regard.attention.distances import by_distance
from regard.attention.index import parse_index
from regard.attention.masks import Mask
from regard.attention.operator import SCALED_DOT
from regard.attention.owned import owned
from regard.attention.pooling import Pooled, Pooling
from regard.attention.rows import Block, lse_of, normalised, row_totals, sunk
from regard.attention.scores import Score
from regard.attention.scoring import Scoring, build_scoring
from regard.attention.statistics import Entropies, MassEntropies, Masses, Received, Top, Totals
from regard.attention.survey import survey
from regard.errors import ArgumentError


@dataclass(frozen=True)
class Survey:
    """What `AttentionMap.survey` found; shapes are those of a map (B, H, Q, K).

    Attributes:
        lse: (B, H, Q).
        entropy: (B, H, Q).
        received: (B, H, K).
        pooled: (B, H, h, w), or None.
        top_weights: (B, H, Q, n), or None.
        top_keys: (B, H, Q, n) int64, or None.
    """

    lse: Tensor
    entropy: Tensor
    received: Tensor
    pooled: Tensor | None
    top_weights: Tensor | None
    top_keys: Tensor | None


class AttentionMap:
    """The table P of attention weights, queries × keys, in memory linear in length.

    It holds queries, keys, score, mask, bias, soft-cap and sink, and computes the part that is asked for, block by
    block. Its weights are those that `attend` applies with the same arguments, before dropout; each row sums to its
    mass (`mass()`): 1, less with a sink, 0 where a query sees no key.

    Statistics are computed and returned in float32, or float64 for float64 inputs. `lse`, `dense` and crops are
    differentiable; `top`, `entropy`, `received`, `mass`, `pool`, `apply` and `apply_transposed` are not.

    Args:
        q, k, score, mask, bias, factor, softcap, sink: as for `attend`.

    Raises:
        ArgumentError: as for `attend`.
    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        *,
        score: Score = SCALED_DOT,
        mask: Mask | None = None,
        bias: Bias | Tensor | None = None,
        factor: Factor | Tensor | None = None,
        softcap: float | None = None,
        sink: Tensor | None = None,
    ) -> None:
        self._scoring = build_scoring(q, k, score, mask, bias, factor, softcap, sink)
        self._known: Totals | None = None

    @classmethod
    def of(cls, scoring: Scoring) -> "AttentionMap":
        """The map of a table that has been put together already, as recordings do."""
        table = cls.__new__(cls)
        table._scoring, table._known = scoring, None
        return table

    @property
    def scoring(self) -> Scoring:
        """What the table is made of."""
        return self._scoring

    @property
    def shape(self) -> tuple[int, ...]:
        """(B, H, Q, K), or the caller's layout of it: (Q, K), (B, Q, K), (…, H, Q, K)."""
        return self._scoring.extent.shape

    def __repr__(self) -> str:
        return f"AttentionMap{self.shape}"

    def __getitem__(self, index: Any) -> Tensor:
        """A crop of the weights, for example `table[b, h, 10:20, :]`; integers, slices and `...`.

        Only the rows asked for are computed, and of these only the columns asked for are kept. Once `lse` or `survey`
        was asked for, only the places asked for are computed.

        Raises:
            ArgumentError: an index of another kind, or out of range.
        """
        ranges, rest = parse_index(index, self.shape)
        sizes, axes = self._scoring.extent, len(self.shape)
        # with several batch axes all of them are computed and the wanted ones taken afterwards
        batch = ranges[0] if axes in (3, 4) else slice(0, sizes.batch)
        heads = ranges[1] if axes == 4 else slice(0, sizes.heads)
        counts = [x.stop - x.start for x in (batch, heads, *ranges[-2:])]
        if 0 in counts:
            crop = self._scoring.q.new_empty(counts, dtype=self._scoring.dtype)
        else:
            known = None
            if self._known is not None and not _differentiated(self._scoring):
                known = tuple(x[batch, heads, ranges[-2]] for x in (self._known.peak, self._known.total))
            crop = _weights(self._scoring.crop(batch, heads), ranges[-2], ranges[-1], known)  # (B, H, rows, columns)
        if axes == 2:
            crop = crop[0, 0]
        elif axes == 3:
            crop = crop[:, 0]
        elif axes > 4:
            crop = crop.reshape(*sizes.leading, *crop.shape[-2:])[ranges[:-2]]
        return crop[rest]

    def detached(self, heads: Sequence[int] | None = None) -> "AttentionMap":
        """The same table, or that of some heads, outside of any graph and made of copies of its own.

        Args:
            heads: which query heads to keep, in this order; None keeps all.

        Raises:
            ArgumentError: `heads` is empty, names a head twice, or one that isn't there.
        """
        other = copy(self)
        other._scoring, other._known = owned(self._scoring, heads), None
        return other

    def dense(self) -> Tensor:
        """The whole table, (B, H, Q, K): as large as it sounds."""
        return self[...]

    def lse(self) -> Tensor:
        """ℓ (B, H, Q): log-sum-exp of each row's scores over the visible keys; −∞ where there is none."""
        return self._scoring.extent.restore(self._lse().clone(), 1)

    def mass(self) -> Tensor:
        """What each row of the table sums to, (B, H, Q): 1, less with a sink or a factor, 0 where no key is seen.

        Not differentiable.
        """
        table = self._scoring
        if table.factor is not None:
            masses = Masses(table)
            survey(table, [masses])
            return table.extent.restore(masses.mass, 1)
        with torch.no_grad():
            lse = self._lse()
            mass = (lse > -torch.inf).to(lse.dtype) if table.sink is None else sunk(lse, table.sink)
            return table.extent.restore(mass, 1)

    def top(self, n: int) -> tuple[Tensor, Tensor]:
        """The n heaviest keys of each query, heaviest first, ties by lower index. Not differentiable.

        Returns:
            weights (B, H, Q, n), 0 where fewer than n keys can be seen; indices (B, H, Q, n) int64, −1 there.

        Raises:
            ArgumentError: n is not from 1 to K.
        """
        top = self._top(n)
        survey(self._scoring, [top])
        restore = self._scoring.extent.restore
        return restore(top.weights, 2), restore(top.index, 2)

    def entropy(self, *, of_mass: bool = False) -> Tensor:
        """Entropy of each row in nats, (B, H, Q): 0 where no key is seen, at most ln K. Not differentiable.

        Args:
            of_mass: False: of the row normalised to sum 1. True: −Σ p ln p of the weights as they are, with a sink or a
                factor less than their normalised entropy.
        """
        entropies = MassEntropies(self._scoring) if of_mass else Entropies(self._scoring)
        survey(self._scoring, [entropies])
        return self._scoring.extent.restore(entropies.entropy, 1)

    def received(self) -> Tensor:
        """The weight that each key receives from all queries, Σ_i p_ij: (B, H, K). Not differentiable."""
        received = Received(self._scoring)
        survey(self._scoring, [received])
        return self._scoring.extent.restore(received.received, 1)

    def pool(self, cells: tuple[int, int], *, how: Pooling = "mean") -> Tensor:
        """An overview, (B, H, h, w): the mean or the maximum of the weights in each cell of a grid.

        The cells are as equal as they can be: cell (a, b) holds queries from ⌊a Q / h⌋ to before ⌊(a + 1) Q / h⌋, and
        keys likewise; the mean is over all its places. A cell nothing of which can be seen is 0. Not differentiable.

        Args:
            cells: (h, w), h from 1 to Q and w from 1 to K.
            how: "mean" or "max".

        Raises:
            ArgumentError: another number of cells, or another `how`.
        """
        pooled = Pooled(self._scoring, cells, how)
        survey(self._scoring, [pooled])
        return self._scoring.extent.restore(pooled.pooled, 2)

    def survey(self, *, top: int | None = None, cells: tuple[int, int] | None = None) -> Survey:
        """ℓ, `entropy`, `received`, and `top(n)` and `pool(cells)` if asked for, in one pass, as each alone takes.

        Args:
            top: n of `top(n)`; None leaves it out.
            cells: of `pool(cells)`; None leaves it out.

        Raises:
            ArgumentError: as for `top` and `pool`.
        """
        table, restore = self._scoring, self._scoring.extent.restore
        best = None if top is None else self._top(top)
        pooled = None if cells is None else Pooled(table, cells, "mean")
        totals, entropies, received = Totals(table), Entropies(table), Received(table)
        # best and pooled tell those after them what they found on their way
        wanted = (best, totals, entropies, pooled, received)
        survey(table, [one for one in wanted if one is not None])
        self._known = totals
        return Survey(
            lse=restore(lse_of(totals.peak, totals.total), 1),
            entropy=restore(entropies.entropy, 1),
            received=restore(received.received, 1),
            pooled=None if pooled is None else restore(pooled.pooled, 2),
            top_weights=None if best is None else restore(best.weights, 2),
            top_keys=None if best is None else restore(best.index, 2),
        )

    def by_distance(self, edges: Sequence[int]) -> Tensor:
        """How the weight is spread over distances, (B, H, len(edges) + 1): the mean over the queries.

        The distance of query i and key j is i + K − Q − j: 0 is the query's own place if the ends are aligned, 1 the
        one before it, −1 the one after. Number n holds distances d with edges[n − 1] ≤ d < edges[n]. Queries that see
        no key count as 0. Not differentiable.

        Args:
            edges: integers that grow.

        Raises:
            ArgumentError: there is no edge, or they don't grow.
        """
        return self._scoring.extent.restore(by_distance(self._scoring, edges), 1)

    def apply(self, x: Tensor) -> Tensor:
        """P · x, what each query gathers from numbers for each key; by the backends of `attend`. Not differentiable.

        Args:
            x: (B, G or H, K, F), for each key head or each query head; axes in front that broadcast may be left out.

        Returns:
            (B, H, Q, F).

        Raises:
            ArgumentError: x has another shape or is on another device.
        """
        table = self._scoring
        values = beside(table.extent, "apply: x", x, table.extent.keys, grouped=True).to(table.dtype)
        return table.extent.restore(applied(table, values), 2)

    def apply_transposed(self, x: Tensor) -> Tensor:
        """Pᵀ · x, what each key receives of numbers for each query. Not differentiable.

        Args:
            x: (B, H, Q, F); axes in front that broadcast may be left out.

        Returns:
            (B, H, K, F).

        Raises:
            ArgumentError: x has another shape or is on another device.
        """
        table = self._scoring
        given = beside(table.extent, "apply_transposed: x", x, table.extent.queries, grouped=False).to(table.dtype)
        return table.extent.restore(applied_transposed(table, given), 2)

    def _top(self, n: int) -> Top:
        keys = self._scoring.extent.keys
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= keys:
            raise ArgumentError(f"top: n must be an integer from 1 to the number of keys, {keys}, not {n!r}")
        return Top(self._scoring, n)

    def _lse(self) -> Tensor:
        """ℓ (B, H, Q); without a gradient what it is made of is kept once computed."""
        table = self._scoring
        if _differentiated(table):
            return lse_of(*row_totals(table, slice(0, table.extent.queries)))
        if self._known is None or self._known.peak.is_inference():
            self._known = Totals(table)
            survey(table, [self._known])
        return lse_of(self._known.peak, self._known.total)


def _weights(table: Scoring, rows: slice, columns: slice, known: tuple[Tensor, ...] | None) -> Tensor:
    """Weights (B, H, rows, columns) of a crop; over all keys only blocks of rows are ever held.

    Args:
        table: the table.
        rows, columns: of the crop.
        known: m and Z (B, H, rows), if they are known and not to be differentiated.
    """
    parts = table.parts(table.region(rows, columns))
    block = Block(table, parts, rows, columns, table.scores_from(parts, rows, columns))
    if columns.start == 0 and columns.stop == table.extent.keys:
        return block.weights()
    peak, total = row_totals(table, rows) if known is None else known
    weights = normalised(block.scores, peak, total)
    if "sink" in parts:
        weights = weights * sunk(lse_of(peak, total), parts["sink"])[..., None]
    factor = block.factor()
    return weights if factor is None else weights * factor


def _differentiated(table: Scoring) -> bool:
    """Whether a gradient may flow through ℓ."""
    return torch.is_grad_enabled() and any(operand.tensor.requires_grad for operand in table.operands.values())
