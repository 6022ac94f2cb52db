"""Maps in cells, of the rows that count: padding looks at nothing."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regard.insight.reading import Reading

Counts = npt.NDArray[np.int64]

_TOGETHER = 16  # rows of cells that are summed at once


def pooled(reading: Reading, cells: tuple[int, int]) -> Tensor:
    """Like `AttentionMap.pool`, each cell's mean being over its rows that count; 0 where none does: (H, h, w)."""
    found = reading.table.pool(cells)[0].clone()
    counts, sizes = counted_in(reading, cells[0])
    found[:, torch.as_tensor(counts == 0)] = 0.0
    # where padding begins within a cell, its mean is made anew, of the other rows
    mixed = np.flatnonzero((counts > 0) & (counts < sizes))
    for start in range(0, len(mixed), _TOGETHER):
        some = mixed[start : start + _TOGETHER]
        found[:, torch.as_tensor(some)] = _means(reading, some, cells).to(found)
    return found


def counted_in(reading: Reading, cells: int) -> tuple[Counts, Counts]:
    """How many rows of each of so many cells count, and how many it has."""
    edges = _edges(len(reading.counted), cells)
    return np.add.reduceat(reading.counted.astype(np.int64), edges[:-1]), np.diff(edges)


def _means(reading: Reading, some: Counts, cells: tuple[int, int]) -> Tensor:
    """Rows of cells, of the queries that count: (H, n, w)."""
    sizes, dtype = reading.table.scoring.extent, reading.table.scoring.dtype
    down, across = _edges(sizes.queries, cells[0]), _edges(sizes.keys, cells[1])
    chosen = torch.zeros(sizes.queries, len(some), dtype=dtype)
    for number, cell in enumerate(some):
        part = slice(down[cell], down[cell + 1])
        counted = torch.as_tensor(reading.counted[part].copy()).to(dtype)
        chosen[part, number] = counted / counted.sum()
    given = reading.table.apply_transposed(chosen.to(sizes.device))[0].transpose(1, 2)  # (H, n, K)
    places = torch.as_tensor(np.repeat(np.arange(cells[1]), np.diff(across)), device=given.device)
    sums = given.new_zeros(*given.shape[:2], cells[1]).index_add_(2, places, given)
    return sums / torch.as_tensor(np.diff(across)).to(sums)


def _edges(length: int, cells: int) -> Counts:
    """Where cells begin, and the length, as in `AttentionMap.pool`."""
    return np.arange(cells + 1) * length // cells
