"""A pooled overview of a table of weights: one number for each cell of a grid, in memory linear in length."""

from typing import Literal, TypeVar

import torch
from torch import Tensor

from regard.attention.rows import blocks_of
from regard.attention.scoring import Scoring
from regard.errors import ArgumentError

Pooling = Literal["mean", "max"]
Position = TypeVar("Position", int, Tensor)


def pooled(table: Scoring, cells: tuple[int, int], how: Pooling) -> Tensor:
    """Mean or maximum of the weights in each cell, without gradient.

    The cells are as equal as they can be: cell (a, b) of (h, w) holds queries from ⌊a Q / h⌋ to before ⌊(a + 1) Q / h⌋
    and keys from ⌊b K / w⌋ to before ⌊(b + 1) K / w⌋, so that each weight is in one cell.

    Args:
        table: the table, Q × K.
        cells: (h, w).
        how: "mean" or "max".

    Returns:
        (B, H, h, w) in the dtype of the scores; 0 where nothing of a cell can be seen.

    Raises:
        ArgumentError: h or w is not from 1 to the length, or `how` is something else.
    """
    sizes = table.extent
    high, wide = _checked(cells, sizes.queries, sizes.keys)
    if how not in ("mean", "max"):
        raise ArgumentError(f"pool: how must be 'mean' or 'max', not {how!r}")
    result = table.q.new_zeros((sizes.batch, sizes.heads, high, wide), dtype=table.dtype)
    with torch.no_grad():
        for region, block in blocks_of(table, slice(0, sizes.queries)):
            if region.columns.start == region.columns.stop:
                continue
            parts, across = _by_columns(block.weights(), region.columns, sizes.keys, wide, how)
            # each row is added to its cell, of which other blocks may hold other rows
            down = _cell(torch.arange(region.rows.start, region.rows.stop, device=parts.device), sizes.queries, high)
            target = result[region.batch, region.heads, :, across]  # (b, h, h, some of w)
            if how == "mean":
                target.index_add_(2, down, parts)
            else:
                target.scatter_reduce_(2, down[:, None].expand_as(parts), parts, "amax")
    if how == "max":
        return result
    areas = _sizes(sizes.queries, high, result.device)[:, None] * _sizes(sizes.keys, wide, result.device)
    return result / areas


def _by_columns(weights: Tensor, columns: slice, keys: int, wide: int, how: Pooling) -> tuple[Tensor, slice]:
    """Sum or maximum over the columns of each cell, (b, h, rows, cells) of (b, h, rows, columns), and the cells."""
    device = weights.device
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
