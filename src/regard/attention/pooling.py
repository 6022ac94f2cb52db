"""A pooled overview of a table of weights: one number for each cell of a grid, in memory linear in length."""

from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.scoring import Scoring
from regard.attention.survey import Sight
from regard.errors import ArgumentError

Pooling = Literal["mean", "max"]
Position = TypeVar("Position", int, Tensor)


class Pooled:
    """Mean or maximum of the weights in each cell of a grid.

    The cells are as equal as they can be: cell (a, b) of (h, w) holds queries from ⌊a Q / h⌋ to before ⌊(a + 1) Q / h⌋
    and keys from ⌊b K / w⌋ to before ⌊(b + 1) K / w⌋, so that each weight is in one cell.

    Args:
        table: the table, Q × K.
        cells: (h, w).
        how: "mean" or "max".

    Raises:
        ArgumentError: h or w is not from 1 to the length, or `how` is something else.
    """

    def __init__(self, table: Scoring, cells: tuple[int, int], how: Pooling) -> None:
        sizes = table.extent
        self._queries, self._keys, self._how = sizes.queries, sizes.keys, how
        self._high, self._wide = _checked(cells, sizes.queries, sizes.keys)
        if how not in ("mean", "max"):
            raise ArgumentError(f"pool: how must be 'mean' or 'max', not {how!r}")
        shape = (sizes.batch, sizes.heads, self._high, self._wide)
        self._sums = table.q.new_zeros(shape, dtype=table.dtype)  # or the maxima

    @property
    def pooled(self) -> Tensor:
        """(B, H, h, w) in the dtype of the scores; 0 where nothing of a cell can be seen."""
        if self._how == "max":
            return self._sums
        device = self._sums.device
        return self._sums / (
            _sizes(self._queries, self._high, device)[:, None] * _sizes(self._keys, self._wide, device)
        )

    def see(self, sight: Sight) -> None:
        """See `Statistic.see`."""
        region, rows = sight.region, sight.region.rows
        if region.columns.start == region.columns.stop or rows.start == rows.stop:
            return
        first, last = (_cell(row, self._queries, self._high) for row in (rows.start, rows.stop - 1))
        # other blocks may hold other rows of the first cell and of the last
        target = self._sums[region.batch, region.heads, first : last + 1]
        cells = _cell(torch.arange(rows.start, rows.stop, device=target.device), self._queries, self._high) - first
        if self._how == "mean":
            inside = cells == torch.arange(last + 1 - first, device=target.device)[:, None]  # (cells, rows)
            down = sight.grouped(inside)
            parts, across = _by_columns(down, region.columns, self._keys, self._wide, "mean")
            target[..., across] += parts
        else:
            parts, across = _by_columns(sight.weights, region.columns, self._keys, self._wide, "max")
            target[..., across].scatter_reduce_(2, cells[:, None].expand_as(parts), parts, "amax")


def _by_columns(weights: Tensor, columns: slice, keys: int, wide: int, how: Pooling) -> tuple[Tensor, slice]:
    """Sum or maximum over the columns of each cell, (b, h, rows, cells) of (b, h, rows, columns), and the cells."""
    device = weights.device
    width = keys // wide
    if how == "mean" and width * wide == keys:  # cells of one width: a plain sum
        before, after = columns.start % width, -columns.stop % width
        padded = F.pad(weights, (before, after)) if before or after else weights
        first = columns.start // width
        found = padded.reshape(*weights.shape[:-1], -1, width).sum(-1)
        return found, slice(first, first + found.shape[-1])
    cells = slice(_cell(columns.start, keys, wide), _cell(columns.stop - 1, keys, wide) + 1)
    at = torch.arange(cells.start, cells.stop, device=device)
    start = _edge(at, keys, wide).clamp(min=columns.start)
    stop = _edge(at + 1, keys, wide).clamp(max=columns.stop)
    longest = -(-keys // wide)
    index = start[:, None] + torch.arange(longest, device=device)  # (cells, longest), ragged at its end
    beyond = index >= stop[:, None]
    index = torch.minimum(index, stop[:, None] - 1) - columns.start
    found = weights.index_select(-1, index.flatten())
    found = found.view(*weights.shape[:-1], *index.shape)  # (b, h, rows, cells, longest)
    if how == "max":  # which a column that comes twice doesn't change
        return found.amax(-1), cells
    return found.masked_fill_(beyond, 0.0).sum(-1), cells


def _edge(cell: Tensor, length: int, count: int) -> Tensor:
    return cell * length // count


def _cell(position: Position, length: int, count: int) -> Position:
    """The cell that holds a position: the last whose edge is not after it."""
    return ((position + 1) * count - 1) // length


def _sizes(length: int, count: int, device: torch.device) -> Tensor:
    return _edge(torch.arange(count + 1, device=device), length, count).diff()


def _checked(cells: object, queries: int, keys: int) -> tuple[int, int]:
    whole = isinstance(cells, (tuple, list)) and all(isinstance(n, int) and not isinstance(n, bool) for n in cells)
    if not isinstance(cells, (tuple, list)) or not whole or len(cells) != 2:
        raise ArgumentError(f"pool: cells must be two integers (h, w), not {cells!r}")
    high, wide = cells
    if not (1 <= high <= queries and 1 <= wide <= keys):
        raise ArgumentError(
            f"pool: {high} × {wide} cells for a table of {queries} queries × {keys} keys: expected from 1 × 1 to "
            f"{queries} × {keys}"
        )
    return high, wide
