"""The tensors that a table of weights is made of, and the part of each that a block of the table needs."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Kind = Literal["query", "key", "table", "head"]
"""Which axes of a tensor of four axes run along the table:

`query`: (B or 1, H or 1, Q or 1, ·); `key`: (B or 1, G or 1, K, ·); `table`: (B or 1, H or 1, Q or 1, K);
`head`: (1, H or 1, ·, ·).
"""


@dataclass(frozen=True)
class Region:
    """Part of a table: slices with start and stop set. Head slices that split a group copy the keys they need."""

    batch: slice
    heads: slice
    rows: slice
    columns: slice


@dataclass(frozen=True)
class Operand:
    """A tensor with four axes and how they lie along the table."""

    tensor: Tensor
    kind: Kind

    def part(self, region: Region, share: int) -> Tensor:
        """What a region needs of it: a view, except of a group's keys for some of its heads.

        Args:
            region: the part of the table.
            share: H / G, the query heads of a key head.
        """
        x = self.tensor
        if self.kind != "head":
            x = take(x, 0, region.batch)
        x = _heads_of_groups(x, region.heads, share) if self.kind == "key" else take(x, 1, region.heads)
        if self.kind == "query":
            return take(x, 2, region.rows)
        if self.kind == "key":
            return x[:, :, region.columns]
        return take(x, 2, region.rows)[..., region.columns] if self.kind == "table" else x


def take(x: Tensor, axis: int, part: slice) -> Tensor:
    """x along one axis; an axis of length 1, which stands for any length, stays unless the part is empty."""
    if x.shape[axis] == 1 and part.stop > part.start:
        return x
    if part.start == 0 and part.stop == x.shape[axis]:
        return x
    return x.narrow(
        axis, min(part.start, x.shape[axis]), min(part.stop, x.shape[axis]) - min(part.start, x.shape[axis])
    )


def _heads_of_groups(x: Tensor, heads: slice, share: int) -> Tensor:
    if x.shape[1] == 1 and heads.stop > heads.start:
        return x
    if heads.start % share == 0 and heads.stop % share == 0:
        return take(x, 1, slice(heads.start // share, heads.stop // share))
    return x[:, [h // share for h in range(heads.start, heads.stop)]]
