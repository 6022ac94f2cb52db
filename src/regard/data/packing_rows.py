"""Rows of running text for language models: a stream cut into rows, documents packed into rows; batches of rows.

What a row holds depends on the epoch, the order of rows too; both on nothing but seed and epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regard.data.packing import Indices, Pieces, pack
from regard.data.token_store import TokenRows
from regard.errors import ArgumentError, DataError

_PHASE, _PIECES = 1, 2  # what is drawn, besides the order of rows


class ShuffledRows(Sequence[Indices]):
    """The batches of an epoch: all rows once, shuffled, so many in each; the last may have fewer.

    The order is made when the first batch is asked for.
    """

    def __init__(self, rows: int, size: int, seed: int, epoch: int) -> None:
        """Plan the batches.

        Args:
            rows: how many rows there are.
            size: rows of a batch.
            seed: of the order.
            epoch: from 0.

        Raises:
            ArgumentError: a size below 1, or a seed or an epoch below 0.
        """
        if size < 1 or seed < 0 or epoch < 0:
            raise ArgumentError(f"size is {size}, seed {seed}, epoch {epoch}: expected size ≥ 1, the others ≥ 0")
        self._rows, self._size, self._key = rows, size, (seed, epoch)

    @cached_property
    def _order(self) -> Indices:
        return np.random.default_rng(self._key).permutation(self._rows)

    def __len__(self) -> int:
        return -(-self._rows // self._size)

    @overload
    def __getitem__(self, index: int) -> Indices: ...
    @overload
    def __getitem__(self, index: slice) -> list[Indices]: ...
    def __getitem__(self, index: int | slice) -> Indices | list[Indices]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start = index % len(self) * self._size
        return self._order[start : start + self._size]


class StreamRows:
    """All documents as one running stream, cut into rows of `length` places.

    The stream is a circle, so that an epoch may begin to cut anywhere: each epoch draws by how much the cuts are
    moved. The first token follows the last, which is <eos>. Each place of the circle is in exactly one row of an
    epoch, but for fewer than `length`, in other places each time.
    """

    def __init__(self, rows: TokenRows, length: int, seed: int, around: int = 0) -> None:
        """Cut documents into rows.

        Args:
            rows: the documents, each closed by <eos>.
            length: places of a row.
            seed: of the cuts.
            around: places that `data.length` has besides, for messages.

        Raises:
            DataError: the text is shorter than one row.
        """
        self._tokens, self.length, self._seed = rows.tokens, length, seed
        self._steps = np.arange(length + 1)
        self._made: tuple[int, int] | None = None  # the epoch at hand, and by how much its cuts are moved
        self._count = len(rows.tokens) // length
        if self._count == 0:
            raise DataError(
                f"the text has {len(rows.tokens):,} tokens, fewer than one row of data.length = {length + around} "
                "needs: lower data.length, or give more text"
            )

    def __len__(self) -> int:
        return self._count

    def phase(self, epoch: int) -> int:
        """By how many places the cuts of an epoch are moved, from 0 to length − 1."""
        if self._made is None or self._made[0] != epoch:
            self._made = epoch, int(np.random.default_rng((self._seed, epoch, _PHASE)).integers(self.length))
        return self._made[1]

    def take(self, indices: ArrayLike, epoch: int, more: int = 0) -> NDArray[np.int64]:
        """The ids of some rows.

        Args:
            indices: of the rows (B,).
            epoch: from 0.
            more: 1 for one id more, that of the place after a row.

        Returns:
            (B, length + more).
        """
        starts = np.asarray(indices, dtype=np.int64) * self.length + self.phase(epoch)
        places = starts[:, None] + self._steps[: self.length + more]  # (B, L)
        return self._tokens.take(places, mode="wrap").astype(np.int64)


@dataclass(frozen=True)
class PackedBatch:
    """Where pieces lie in a batch of rows.

    Attributes:
        pieces: the piece at each place that is not padding, as an index (N,).
        rows: its row (N,).
        columns: its place in the row (N,).
        inside: its place in its piece (N,).
        numbers: the number of its piece in the row, from 0 (N,).
    """

    pieces: Indices
    rows: Indices
    columns: Indices
    inside: Indices
    numbers: Indices


class PackedRows:
    """Pieces of documents packed into rows of `length` places (`regard.data.packing.pack`).

    The rows' shapes are the same in every epoch; which of the pieces of equal size goes where is drawn anew.
    """

    def __init__(self, pieces: Pieces, extra: int, length: int, seed: int) -> None:
        """Pack.

        Args:
            pieces: what is packed.
            extra: places that each needs besides its ids.
            length: places of a row.
            seed: of what is drawn.

        Raises:
            DataError: there is no piece.
        """
        if not len(pieces):
            raise DataError("the text has no tokens to pack into rows")
        self.length, self._seed = length, seed
        sizes = pieces.sizes + extra
        plan = pack(sizes, length)
        self._order = plan.order
        by_row = np.argsort(plan.rows, kind="stable")
        self._slots = by_row.astype(np.int64, copy=False)  # of each row one after another, as indices into `_order`
        self._sizes = sizes[plan.order][by_row]  # of the slots
        self._begins = np.searchsorted(plan.rows[by_row], np.arange(plan.count + 1))  # (R + 1,)
        self._classes = np.flatnonzero(np.diff(sizes[plan.order], prepend=-1, append=-1))
        self._made: tuple[int, Indices] | None = None  # the epoch at hand
        self.filled = np.add.reduceat(self._sizes, self._begins[:-1])
        """Places of each row that are no padding (R,)."""

    def __len__(self) -> int:
        return len(self._begins) - 1

    @property
    def padding(self) -> float:
        """The part of all places that is padding."""
        return 1.0 - float(self.filled.sum()) / (len(self) * self.length)

    def pieces_of(self, indices: ArrayLike) -> Indices:
        """How many pieces lie in each of some rows."""
        rows = np.asarray(indices, dtype=np.int64)
        counts: Indices = self._begins[rows + 1] - self._begins[rows]
        return counts

    def take(self, indices: ArrayLike, epoch: int | None) -> PackedBatch:
        """Where pieces lie in some rows.

        Args:
            indices: of the rows (B,).
            epoch: from 0; None: pieces of equal size lie in their order.
        """
        rows = np.asarray(indices, dtype=np.int64)
        counts = self.pieces_of(rows)  # (B,)
        numbers = _counting(counts)  # (S,) for the slots of the batch
        slots = np.repeat(self._begins[rows], counts) + numbers
        sizes, row = self._sizes[slots], np.repeat(np.arange(len(rows)), counts)
        begins = np.cumsum(sizes) - sizes  # (S,) without regard to rows
        begins -= np.repeat(begins[np.cumsum(counts) - counts], counts)
        inside = _counting(sizes)  # (N,)
        pieces = self._pieces(epoch)[self._slots[slots]]

        def spread(values: Indices) -> Indices:
            return np.repeat(values, sizes)

        return PackedBatch(spread(pieces), spread(row), spread(begins) + inside, inside, spread(numbers))

    def _pieces(self, epoch: int | None) -> Indices:
        """The pieces in the order of the plan, shuffled among equals."""
        if epoch is None:
            return self._order
        if self._made is None or self._made[0] != epoch:
            self._made = None
            random = np.random.default_rng((self._seed, epoch, _PIECES))
            order = self._order.copy()
            for start, stop in zip(self._classes[:-1].tolist(), self._classes[1:].tolist(), strict=True):
                random.shuffle(order[start:stop])
            self._made = (epoch, order)
        return self._made[1]


def padded(batch: PackedBatch, values: "NDArray[Any]", shape: tuple[int, int], fill: int) -> NDArray[np.int64]:
    """Values of places (N,) as a table (B, L); `fill` is what padding has."""
    table = np.full(shape, fill, dtype=np.int64)
    table[batch.rows, batch.columns] = values
    return table


def _counting(counts: Indices) -> Indices:
    """0, 1, …, counts[0] − 1, 0, 1, …, counts[1] − 1, …"""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - counts, counts)
