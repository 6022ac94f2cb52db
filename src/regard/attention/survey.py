"""Statistics of a table of weights in one pass over its blocks: each block is made once, and all that is asked for is
taken from it while it lies in the cache. Memory is linear in length; nothing is differentiable.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from regard.attention import scoring
from regard.attention.modes import readable, transformed
from regard.attention.operands import Region
from regard.attention.precision import own_precision
from regard.attention.rows import Block, block_of, lse_of, sunk
from regard.attention.scoring import Scoring

LARGER = 8
"""Blocks are larger than elsewhere: many small operations look at each, and what they cost must not outweigh them."""

ALONE = 1 << 18
"""Places of a head from which several threads are worth starting."""


class Sight:
    """A block, and what several statistics take from it.

    Args:
        region: which part of the table it is; whole rows.
        block: its scores.
    """

    def __init__(self, region: Region, block: Block) -> None:
        self.region = region
        self.block = block
        self._sums: Tensor | None = None
        self._first: Tensor | None = None

    @cached_property
    def ranked(self) -> Tensor:
        """Scores (B, H, rows, columns) of which the weights, up to a number for each row, are the softmax."""
        factor = self.block.factor()
        return self.block.scores if factor is None else self.block.scores + factor.log()

    @cached_property
    def edges(self) -> list[slice]:
        """The columns of the block outside of which no score of `ranked` is −∞."""
        table, columns = self.block.table, self.region.columns
        if table.form == "factorised" or table.factor is not None:
            return [slice(0, columns.stop - columns.start)]
        found = table.visibility.edges(self.region.rows, columns)
        return [slice(x.start - columns.start, x.stop - columns.start) for x in found]

    @cached_property
    def dead(self) -> Tensor | None:
        """(B, H, rows) bool, the rows that see nothing; None where it is plain that there are none."""
        dead = self._highest == -torch.inf
        return dead if not readable(dead) or bool(dead.any()) else None

    @cached_property
    def peak(self) -> Tensor:
        """m, the largest of each row of `ranked`, (B, H, rows); 0 where nothing is seen."""
        return self._highest if self.dead is None else self._highest.masked_fill(self.dead, 0.0)

    @cached_property
    def total(self) -> Tensor:
        """Z = Σ exp(s − m) of each row of `ranked`, (B, H, rows); 0 where nothing is seen."""
        if self.normal.shape[-1] == 0:
            return torch.zeros_like(self.peak)
        # the largest score has the weight 1 / Z
        best = self.normal.amax(-1) if self._first is None else self.normal.gather(-1, self._first)[..., 0]
        total = best.reciprocal()
        return total if self.dead is None else total.masked_fill(self.dead, 0.0)

    @cached_property
    def normal(self) -> Tensor:
        """The weights with each row normalised to sum 1, (B, H, rows, columns); 0 in rows that see nothing."""
        normal = self.ranked.softmax(-1)
        return normal if self.dead is None else normal.masked_fill_(self.dead[..., None], 0.0)

    @cached_property
    def mass(self) -> Tensor:
        """What each row of the weights sums to, (B, H, rows)."""
        if self.block.table.factor is not None:
            return self._factored.sum(-1)
        if "sink" in self.block.parts:
            return sunk(lse_of(self.peak, self.total), self.block.parts["sink"])
        return torch.ones_like(self.peak) if self.dead is None else (~self.dead).to(self.peak.dtype)

    @property
    def weights(self) -> Tensor:
        """The weights (B, H, rows, columns)."""
        if self.block.table.factor is not None:
            return self._factored
        return self.normal * self.mass[..., None] if "sink" in self.block.parts else self.normal

    def summed(self, rows: Tensor) -> Tensor:
        """R · P, sums of the weights over rows: (B, H, n, columns) of R (B, H, n, rows), or (n, rows)."""
        if self.block.table.factor is not None:
            return rows @ self._factored
        if "sink" in self.block.parts:  # a number for each row, which needs no pass over the block
            rows = rows * self.mass[..., None, :]
        return rows @ self.normal

    def grouped(self, inside: Tensor) -> Tensor:
        """Sums of the weights over groups of rows, (B, H, n, columns); each row is in one group.

        Args:
            inside: (n, rows) bool, which rows are in which group.
        """
        self._sums = self.summed(inside.to(self.ranked.dtype))
        return self._sums

    def columns(self) -> Tensor:
        """Sums of the weights over all rows, (B, H, columns); from those over groups of rows, if they are there."""
        if self._sums is None:
            return self.summed(self.ranked.new_ones(1, self.ranked.shape[-2]))[..., 0, :]
        return self._sums.sum(-2)

    def at(self, index: Tensor) -> Tensor:
        """The weights at some columns of each row: of indices (B, H, rows, n) into the block."""
        if self.block.table.factor is not None:
            return self._factored.gather(-1, index)
        found = self.normal.gather(-1, index)
        return found * self.mass[..., None] if "sink" in self.block.parts else found

    def learn(self, highest: Tensor, place: Tensor) -> None:
        """Be told the largest of each row of `ranked`, and in which column it is, both (B, H, rows, 1)."""
        self._first, self._highest = place, highest[..., 0]

    @cached_property
    def _factored(self) -> Tensor:
        return self.block.weights()

    @cached_property
    def _highest(self) -> Tensor:
        ranked = self.ranked
        return ranked.amax(-1) if ranked.shape[-1] else ranked.new_full(ranked.shape[:-1], -torch.inf)


class Statistic(Protocol):
    """What is gathered from the blocks of a table."""

    def see(self, sight: Sight) -> None:
        """Take what is needed from one block."""
        ...


def survey(table: Scoring, statistics: Sequence[Statistic]) -> None:
    """Show each block of a table to each of the statistics.

    On the CPU, heads that share no key are gone through beside each other, by a thread for each of torch's: the many
    small operations of a block take longer to spread over threads than to do. Blocks of a head come in their order, and
    what is gathered of different heads lies apart, so that the numbers don't depend on who was first.
    """
    parts: dict[tuple[int, int], list[Region]] = {}
    for region in table.blocks(slice(0, table.extent.queries), scoring.BLOCK * LARGER):
        parts.setdefault((region.batch.start, region.heads.start), []).append(region)
    threads = min(torch.get_num_threads(), len(parts))
    worth = table.extent.queries * table.extent.keys >= ALONE
    if threads < 2 or not worth or not readable(table.q) or transformed():
        for regions in parts.values():
            _show(table, regions, statistics)
        return
    inference = torch.is_inference_mode_enabled()

    def show(regions: Sequence[Region]) -> None:
        with torch.inference_mode(inference):  # a mode is of one thread
            _show(table, regions, statistics)

    usual = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for done in [pool.submit(show, regions) for regions in parts.values()]:
                done.result()
        finally:
            torch.set_num_threads(usual)  # which the workers have set for threads to come, too


def _show(table: Scoring, regions: Sequence[Region], statistics: Sequence[Statistic]) -> None:
    with torch.no_grad(), own_precision(table.extent.device):
        for region in regions:
            sight = Sight(region, block_of(table, region, table.parts(region)))
            for one in statistics:
                one.see(sight)
