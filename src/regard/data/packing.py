"""Packing: pieces of documents into rows of a fixed length, so that little of a batch is padding.

Best fit, the longest first (best-fit decreasing, as Ding et al. 2024, "Fewer Truncations Improve Language Modeling",
section 3, uses it for documents): each piece goes into the row where it leaves least room. Pieces of one length are
alike to it, so whole classes of them are placed at once, and the plan costs little more than sorting by length.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regard.data.token_store import TokenRows
from regard.errors import ArgumentError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Parts of documents that are short enough for a row.

    Attributes:
        starts: where each begins in the flat ids (P,).
        sizes: ids of each (P,).
        documents: the document of each (P,), ascending.
        first: whether its document begins with it (P,) bool.
    """

    starts: Indices
    sizes: Indices
    documents: Indices
    first: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)


def cut_documents(rows: TokenRows, longest: int, leave: int = 0) -> Pieces:
    """Cut documents into pieces of at most `longest` ids; only the last piece of a document is shorter.

    Args:
        rows: the documents.
        longest: ids of a piece, 1 or more.
        leave: how many ids at the end of each document belong to no piece; a document of no others has none.
    """
    if longest < 1:
        raise ArgumentError(f"longest: got {longest}, expected 1 or more")
    lengths = np.maximum(np.diff(rows.offsets) - leave, 0)  # (N,)
    counts = -(-lengths // longest)
    documents = np.repeat(np.arange(len(lengths)), counts)  # (P,)
    place = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)  # among those of a document
    sizes = np.minimum(lengths[documents] - place * longest, longest)
    return Pieces(rows.offsets[:-1][documents] + place * longest, sizes, documents, place == 0)


@dataclass(frozen=True)
class Plan:
    """Which places of rows hold pieces of which length.

    Attributes:
        order: the pieces, longest first, equal ones in their order (P,).
        rows: the row that each of them goes into (P,).
        count: how many rows there are.
    """

    order: Indices
    rows: Indices
    count: int


def pack(sizes: Indices, length: int) -> Plan:
    """Put pieces into rows by best-fit decreasing.

    Args:
        sizes: of the pieces (P,), from 1 to `length`.
        length: of a row.

    Raises:
        ArgumentError: a piece has no room in a row, or nothing in it.
    """
    if len(sizes) and not (int(sizes.min()) >= 1 and int(sizes.max()) <= length):
        raise ArgumentError(f"sizes: got {int(sizes.min())} to {int(sizes.max())}, expected 1 to {length}")
    order = np.argsort(-sizes, kind="stable").astype(np.int64, copy=False)
    counts = np.bincount(sizes, minlength=length + 1)
    rows = np.empty(len(sizes), dtype=np.int64)
    room: list[list[Indices]] = [[] for _ in range(length + 1)]  # rows by what is free in them
    placed = opened = 0
    for size in np.flatnonzero(counts)[::-1].tolist():
        waiting = int(counts[size])
        for taken, times in _open_rows(room, size, waiting):
            rows[placed : placed + len(taken) * times] = np.repeat(taken, times)
            placed += len(taken) * times
            waiting -= len(taken) * times
        each = length // size  # of a new row
        for many in (each, waiting % each):
            new = np.arange(opened, opened + (waiting // many if many else 0))
            opened += len(new)
            rows[placed : placed + len(new) * many] = np.repeat(new, many)
            placed += len(new) * many
            waiting -= len(new) * many
            if len(new):
                room[length - many * size].append(new)
    return Plan(order, rows, opened)


def _open_rows(room: list[list[Indices]], size: int, waiting: int) -> Iterator[tuple[Indices, int]]:
    """Rows that take pieces of `size`, those with least room first, and how many each of them takes.

    A row that has taken one has less room than all others that fit, so it takes the next too, as long as it fits.
    """
    for free in range(size, len(room)):
        if not room[free] or not waiting:
            continue
        rows = np.concatenate(room[free])
        room[free] = []
        each = free // size
        full = min(len(rows), waiting // each)
        rest = waiting - full * each  # of the pieces, when rows are left over
        parts = [(rows[:full], each)]
        if full < len(rows) and rest:
            parts.append((rows[full : full + 1], rest))
            full += 1
        for some, times in parts:
            if len(some):
                room[free - times * size].append(some)
                waiting -= len(some) * times
                yield some, times
        if full < len(rows):
            room[free].append(rows[full:])
