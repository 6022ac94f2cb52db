"""`AttentionMap`: the table of attention weights, computed only where it is asked for."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.applying import applied, applied_transposed, beside
from regard.attention.biases import Bias, Factor
from regard.attention.distances import by_distance
from regard.attention.index import parse_index
from regard.attention.masks import Mask
from regard.attention.operator import SCALED_DOT
from regard.attention.owned import owned
from regard.attention.pooling import Pooling, pooled
from regard.attention.rows import (
    Block,
    Measure,
    blocks_of,
    by_rows,
    lse_of,
    normalised,
    row_lse,
    row_totals,
    row_weights,
    sunk,
)
from regard.attention.scores import Score
from regard.attention.scoring import Scoring, build_scoring
from regard.errors import ArgumentError


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
        self._known_lse: Tensor | None = None

    @classmethod
    def of(cls, scoring: Scoring) -> "AttentionMap":
        """The map of a table that has been put together already, as recordings do."""
        table = cls.__new__(cls)
        table._scoring, table._known_lse = scoring, None
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

        Only the rows asked for are computed, and of these only the columns asked for are kept.

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
            crop = _weights(self._scoring.crop(batch, heads), *ranges[-2:])  # (B, H, rows, columns)
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
        other._scoring, other._known_lse = owned(self._scoring, heads), None
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
        with torch.no_grad():
            if table.factor is not None:
                return table.extent.restore(self._by_rows(lambda block: (block.weights().sum(-1),))[0], 1)
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
        keys = self._scoring.extent.keys
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= keys:
            raise ArgumentError(f"top: n must be an integer from 1 to the number of keys, {keys}, not {n!r}")

        def pick(block: Block) -> tuple[Tensor, Tensor]:
            ranked = _ranked(block)
            weights = block.weights()
            missing = n - ranked.shape[-1]
            if missing > 0:  # the other keys are seen by none of these rows
                ranked, weights = F.pad(ranked, (0, missing), value=-torch.inf), F.pad(weights, (0, missing))
            best, index = _top_stable(ranked, n)
            nothing = best == -torch.inf
            weights = weights.gather(-1, index).masked_fill(nothing, 0.0)
            return weights, (index + block.columns.start).masked_fill(nothing, -1)

        weights, index = self._by_rows(pick)
        restore = self._scoring.extent.restore
        return restore(weights, 2), restore(index, 2)

    def entropy(self, *, of_mass: bool = False) -> Tensor:
        """Entropy of each row in nats, (B, H, Q): 0 where no key is seen, at most ln K. Not differentiable.

        Args:
            of_mass: False: of the row normalised to sum 1. True: −Σ p ln p of the weights as they are, with a sink or a
                factor less than their normalised entropy.
        """

        def measure(block: Block) -> tuple[Tensor]:
            # not weights divided by their mass, which a sink may take so low that it vanishes
            p = block.weights() if of_mass else row_weights(_ranked(block))
            return (torch.special.entr(p).sum(-1),)

        return self._scoring.extent.restore(self._by_rows(measure)[0], 1)

    def received(self) -> Tensor:
        """The weight that each key receives from all queries, Σ_i p_ij: (B, H, K). Not differentiable."""
        sizes = self._scoring.extent
        shape = (sizes.batch, sizes.heads, sizes.keys)
        total = self._scoring.q.new_zeros(shape, dtype=self._scoring.dtype)
        with torch.no_grad():
            for region, block in blocks_of(self._scoring, slice(0, sizes.queries)):
                total[region.batch, region.heads, region.columns] += block.weights().sum(-2)
        return sizes.restore(total, 1)

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
        return self._scoring.extent.restore(pooled(self._scoring, cells, how), 2)

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

    def _by_rows(self, measure: Measure) -> tuple[Tensor, ...]:
        return by_rows(self._scoring, slice(0, self._scoring.extent.queries), measure)

    def _lse(self) -> Tensor:
        """ℓ (B, H, Q); without a gradient it is kept once computed."""
        table = self._scoring
        if _differentiated(table):
            return lse_of(*row_totals(table, slice(0, table.extent.queries)))
        if self._known_lse is None or self._known_lse.is_inference():
            self._known_lse = self._by_rows(lambda block: (row_lse(block.scores),))[0]
        return self._known_lse


def _weights(table: Scoring, rows: slice, columns: slice) -> Tensor:
    """Weights (B, H, rows, columns) of a crop; over all keys only blocks of rows are ever held."""
    parts = table.parts(table.region(rows, columns))
    block = Block(table, parts, rows, columns, table.scores_from(parts, rows, columns))
    if columns.start == 0 and columns.stop == table.extent.keys:
        return block.weights()
    peak, total = row_totals(table, rows)
    weights = normalised(block.scores, peak, total)
    if "sink" in parts:
        weights = weights * sunk(lse_of(peak, total), parts["sink"])[..., None]
    factor = block.factor()
    return weights if factor is None else weights * factor


def _ranked(block: Block) -> Tensor:
    """Scores of which the weights, up to a number for each row, are the softmax."""
    factor = block.factor()
    return block.scores if factor is None else block.scores + factor.log()


def _differentiated(table: Scoring) -> bool:
    """Whether a gradient may flow through ℓ."""
    return torch.is_grad_enabled() and any(operand.tensor.requires_grad for operand in table.operands.values())


def _top_stable(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n largest of each row, largest first, equal ones by lower index: values and indices (…, n)."""
    keys = scores.shape[-1]
    values, index = scores.topk(n, -1)
    least = values[..., -1:]  # the n-th largest
    if bool(((scores >= least).sum(-1) > n).any()):
        # torch.topk takes any of equal values, so the choice among those equal to the n-th is made on their positions
        position = torch.arange(keys, 0, -1, device=scores.device)
        rank = (scores > least).long() * (keys + 1) + (scores >= least).long() * position
        index = rank.topk(n, -1).indices
    index = index.sort(-1).values
    best, order = scores.gather(-1, index).sort(dim=-1, descending=True, stable=True)
    return best, index.gather(-1, order)
