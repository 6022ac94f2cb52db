"""Which tiles of a table have anything visible: what block-sparse kernels want to know of a mask.

Made from the limits of a `Visibility` in memory of the number of tiles; only a dense table is looked at place by place.
Nothing waits for a device.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention.visibility import Visibility

TILE = 128
"""Queries and keys of a tile."""

BEYOND = 1 << 62  # after every key and document; a number that padding, which goes through float64, leaves as it is


def tiles(seen: Visibility, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tiles in which a place may be visible, and tiles in which all places are.

    The first may have a few too many and the second too few, where that saves looking at every place. A tile that
    sticks out of the table is never whole.

    Returns:
        two tables, bool (B or 1, H or 1, ⌈Q/128⌉, ⌈K/128⌉).
    """
    some, whole = _of_limits(seen, queries, keys, device)
    if seen.keys is not None:
        in_tiles = _cut(seen.keys, False)
        some, whole = some & in_tiles.any(-1), whole & in_tiles.all(-1)
    for mine, others in seen.documents:
        met, same = _of_documents(mine[..., 0], others[:, :, 0])
        some, whole = some & met, whole & same
    for a, b in seen.unions:
        left, right = tiles(a, queries, keys, device), tiles(b, queries, keys, device)
        some, whole = some & (left[0] | right[0]), whole & (left[1] | right[1])
    if seen.dense is not None:
        in_tiles = _cut(seen.dense, False)
        some, whole = some & _rows(in_tiles.any(-1)).any(-1), whole & _rows(in_tiles.all(-1)).all(-1)
    return some, whole


def _of_limits(seen: Visibility, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tiles of the interval of keys that each query sees."""
    first, last = (x.expand(-1, -1, queries, -1)[..., 0] for x in seen.interval(queries, keys, device))  # (B, H, Q)
    nothing = first >= last
    starts = torch.arange(0, keys, TILE, device=device)
    lowest, highest = _cut(first.masked_fill(nothing, BEYOND), BEYOND).amin(-1), _cut(first, BEYOND).amax(-1)
    least, most = _cut(last, 0).amin(-1), _cut(last.masked_fill(nothing, 0), 0).amax(-1)
    some = (lowest[..., None] < starts + TILE) & (most[..., None] > starts)
    return some, (highest[..., None] <= starts) & (least[..., None] >= starts + TILE)


def _of_documents(mine: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Tiles of documents, by the lowest and highest identities in them; of queries (B, 1, Q) and keys (B, 1, K)."""
    of_queries, of_keys = _identities(mine), _identities(others)
    low, high, one = (x[..., :, None] for x in of_queries)
    other_low, other_high, other_one = (x[..., None, :] for x in of_keys)
    return (low <= other_high) & (other_low <= high), one & other_one & (high == other_high)


def _identities(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each tile the lowest identity ≥ 0, the highest, −1 if there is none, and whether all are one."""
    ids = ids.clamp(min=-1)
    low, high = _cut(ids.masked_fill(ids < 0, BEYOND), BEYOND).amin(-1), _cut(ids, -1).amax(-1)
    return low, high, (_cut(ids, -1).amin(-1) == high) & (high >= 0)


def _cut(x: Tensor, fill: int) -> Tensor:
    """x (…, N) in tiles, (…, ⌈N/128⌉, 128), filled up at the end; N ≥ 1."""
    count = (x.shape[-1] + TILE - 1) // TILE
    return F.pad(x, (0, count * TILE - x.shape[-1]), value=fill).reshape(*x.shape[:-1], count, TILE)


def _rows(x: Tensor) -> Tensor:
    """A table by columns (…, Q or 1, N) with its rows in tiles: (…, ⌈Q/128⌉ or 1, N, 128 or 1)."""
    if x.shape[-2] == 1:
        return x[..., None]
    return _cut(x.transpose(-1, -2), False).transpose(-2, -3)
