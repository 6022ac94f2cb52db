"""Rows of running text as batches of a language model, in training and in validation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from regard.attention import Document
from regard.data.packing import cut_documents
from regard.data.packing_rows import PackedRows, ShuffledRows, StreamRows, padded
from regard.data.token_store import TokenRows
from regard.tasks.language_modelling import TextBatch
from regard.training import Indices

JUDGED = 8192
"""Tokens of a batch that is judged."""


class Countable(Protocol):
    """A batch that knows which positions are real, and how many tokens are predicted."""

    @property
    def real(self) -> Tensor:
        """(B, L) bool."""
        ...

    @property
    def count(self) -> int:
        """Predicted tokens."""
        ...


B = TypeVar("B", bound=Countable)


class TextRows(ABC, Generic[B]):
    """Rows of a text as a training loop wants them. Batches depend on seed and epoch alone.

    Args:
        count: how many rows there are.
        padding: the part of their places that is padding.
        size: rows of a batch.
        seed: of the order.
    """

    def __init__(self, count: int, padding: float, size: int, seed: int) -> None:
        self.count, self.padding, self._size, self._seed = count, padding, size, seed

    def epoch(self, number: int) -> Sequence[Indices]:
        """The batches of an epoch, as indices of rows."""
        return ShuffledRows(self.count, self._size, self._seed, number)

    @abstractmethod
    def collate(self, indices: Indices, epoch: int) -> B:
        """A batch of rows."""

    @abstractmethod
    def targets(self, indices: Indices) -> int:
        """The target tokens of some rows."""


class StreamText(TextRows[TextBatch]):
    """A running stream cut into rows; see `StreamRows`.

    Args:
        rows: the documents.
        length: tokens of a row.
        size: rows of a batch.
        seed: of cuts and order.
        device: where batches go.

    Raises:
        DataError: the text is shorter than a row.
    """

    def __init__(self, rows: TokenRows, length: int, size: int, seed: int, device: torch.device) -> None:
        self._rows, self._device = StreamRows(rows, length, seed), device
        super().__init__(len(self._rows), 0.0, size, seed)

    def collate(self, indices: Indices, epoch: int) -> TextBatch:
        """See `TextRows.collate`: every row is full, and its targets are its tokens one place on."""
        return _stream_batch(self._rows.take(indices, epoch, more=1), self._device)

    def targets(self, indices: Indices) -> int:
        """See `TextRows.targets`."""
        return len(indices) * self._rows.length


class PackedText(TextRows[TextBatch]):
    """Documents packed into rows; see `PackedRows`. A document's first token follows `begin`, its last is <eos>.

    Args:
        rows: the documents.
        length: tokens of a row.
        begin: what stands before each document.
        pad: what stands where nothing is.
        size: rows of a batch.
        seed: of order and packing.
        device: where batches go.

    Raises:
        DataError: there is no text.
    """

    def __init__(
        self, rows: TokenRows, length: int, begin: int, pad: int, size: int, seed: int, device: torch.device
    ) -> None:
        self._tokens, self._begin, self._pad, self._device = rows.tokens, begin, pad, device
        self._pieces = cut_documents(rows, length)
        self._packed = PackedRows(self._pieces, 0, length, seed)
        super().__init__(len(self._packed), self._packed.padding, size, seed)

    def collate(self, indices: Indices, epoch: int | None) -> TextBatch:
        """See `TextRows.collate`; with the epoch None, documents of equal length are in their order."""
        batch = self._packed.take(indices, epoch)
        places = self._pieces.starts[batch.pieces] + batch.inside  # (N,)
        inputs = self._tokens.take(places - 1, mode="wrap").astype(np.int64)
        inputs[(batch.inside == 0) & self._pieces.first[batch.pieces]] = self._begin
        shape = (len(indices), int(self._packed.filled[np.asarray(indices)].max()))
        numbers = _tensor(padded(batch, batch.numbers, shape, -1), self._device)  # (B, L)
        return TextBatch(
            tokens=_tensor(padded(batch, inputs, shape, self._pad), self._device),
            targets=_tensor(padded(batch, self._tokens[places], shape, 0), self._device),
            real=numbers >= 0,
            count=len(places),
            mask=Document(numbers),
            positions=_tensor(padded(batch, batch.inside, shape, 0), self._device),
        )

    def targets(self, indices: Indices) -> int:
        """See `TextRows.targets`."""
        return int(self._packed.filled[np.asarray(indices)].sum())


def stream_in_order(rows: TokenRows, length: int, begin: int, most: int, device: torch.device) -> Iterator[TextBatch]:
    """A text from its beginning, each token once, in rows of `length` and a shorter one at the end.

    Args:
        rows: the documents.
        length: tokens of a row.
        begin: what stands before the first token.
        most: so many tokens at most.
        device: where batches go.
    """
    total, many = min(len(rows.tokens), most), max(1, JUDGED // length) * length
    before = begin
    for start in range(0, total, many):
        ids = rows.tokens[start : min(start + many, total)].astype(np.int64)
        ids = np.concatenate([[before], ids])
        before = int(ids[-1])
        count = len(ids) - 1
        whole = count // length * length
        for first, last, width in ((0, whole, length), (whole, count, count - whole)):
            if first < last:
                places = np.arange(first, last, width)[:, None] + np.arange(width + 1)  # (B, L + 1)
                yield _stream_batch(ids[places], device)


def packed_in_order(
    rows: TokenRows, length: int, begin: int, pad: int, most: int, device: torch.device
) -> Iterator[TextBatch]:
    """The first documents of a text packed into rows; at most so many tokens, but one document at least."""
    documents = max(1, int(np.searchsorted(rows.offsets, most, side="right")) - 1)
    size = max(1, JUDGED // length)
    text = PackedText(TokenRows(rows.tokens, rows.offsets[: documents + 1]), length, begin, pad, size, 0, device)
    for start in range(0, text.count, size):
        yield text.collate(np.arange(start, min(start + size, text.count)), None)


def _stream_batch(ids: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", device: torch.device) -> TextBatch:
    """Rows with one id more (B, L + 1) as a batch."""
    table = _tensor(ids, device)
    tokens = table[:, :-1]
    real = torch.ones(tokens.shape, dtype=torch.bool, device=device)
    return TextBatch(tokens, table[:, 1:], real, tokens.numel())


def _tensor(table: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", device: torch.device) -> Tensor:
    return torch.from_numpy(table).to(device)
