"""Rows of running text of which tokens are hidden, as batches of a masked-language model."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.attention import Document
from regard.data.masking import Masking, keys, uniform
from regard.data.packing import cut_documents
from regard.data.packing_rows import PackedRows, StreamRows, padded
from regard.data.token_store import TokenRows
from regard.errors import DataError
from regard.runs.text_batches import TextRows
from regard.tasks.masked_language_modelling import MaskedBatch
from regard.training import Indices

Table = NDArray[np.int64]

_CUT, _RANDOM, _PIECE = 11, 12, 13  # what is drawn of a pair; below ten are those of masking


@dataclass(frozen=True)
class Frame:
    """Special tokens around a text: [CLS] before it, [SEP] behind it, and padding."""

    begin: int
    end: int
    pad: int


class MaskedRows(TextRows[MaskedBatch]):
    """Rows of a text as a training loop wants them. Batches, and what is hidden, depend on seed and epoch alone.

    Args:
        count: how many rows there are.
        padding: the part of their places that is padding.
        size: rows of a batch.
        seed: of the order.
        masking: hides tokens.
        device: where batches go.
    """

    def __init__(
        self, count: int, padding: float, size: int, seed: int, masking: Masking, device: torch.device
    ) -> None:
        super().__init__(count, padding, size, seed)
        self._masking, self._device = masking, device

    @abstractmethod
    def texts(self, indices: Indices) -> Table:
        """How many tokens of a text some rows have (B,), which their hidden ones are a share of."""

    def targets(self, indices: Indices) -> int:
        """The target tokens of some rows; a row has fewer where its text has not so many tokens that can be hidden."""
        return int(self._masking.count(self.texts(indices)).sum())

    def _batch(
        self,
        indices: Indices,
        epoch: int,
        tokens: Table,
        real: "NDArray[np.bool_]",
        lengths: Table,
        *,
        types: Table | None = None,
        documents: Table | None = None,
        positions: Table | None = None,
        follows: Table | None = None,
    ) -> MaskedBatch:
        """Hide tokens of a table (B, L) that are `real`, and put it onto the device."""
        hidden = self._masking(tokens, real, self._masking.count(self.texts(indices)), indices, epoch)
        targets = tokens[hidden.chosen]
        return MaskedBatch(
            tokens=self._tensor(hidden.tokens),
            lengths=self._tensor(lengths),
            chosen=torch.from_numpy(hidden.chosen).to(self._device),
            targets=self._tensor(targets),
            count=len(targets),
            types=None if types is None else self._tensor(types),
            mask=None if documents is None else Document(self._tensor(documents)),
            positions=None if positions is None else self._tensor(positions),
            follows=None if follows is None else self._tensor(follows),
        )

    def _tensor(self, table: Table) -> Tensor:
        return torch.from_numpy(table).to(self._device)


class MaskedStream(MaskedRows):
    """A running stream cut into rows, each between [CLS] and [SEP]; [SEP] stands between documents too.

    (RoBERTa's FULL-SENTENCES; Liu et al. 2019, section 4.2.)

    Args:
        rows: the documents, each closed by [SEP].
        length: tokens of a row, the special ones included.
        frame: the special tokens.
        size: rows of a batch.
        seed: of cuts and order.
        masking: hides tokens.
        device: where batches go.

    Raises:
        DataError: the text is shorter than a row.
    """

    def __init__(
        self,
        rows: TokenRows,
        length: int,
        frame: Frame,
        size: int,
        seed: int,
        masking: Masking,
        device: torch.device,
    ) -> None:
        self._rows, self._frame = StreamRows(rows, length - 2, seed, around=2), frame
        super().__init__(len(self._rows), 0.0, size, seed, masking, device)

    def texts(self, indices: Indices) -> Table:
        """See `MaskedRows.texts`."""
        return np.full(len(indices), self._rows.length)

    def collate(self, indices: Indices, epoch: int) -> MaskedBatch:
        """See `MaskedRows.collate`."""
        inside = self._rows.take(indices, epoch)  # (B, L − 2)
        tokens = np.pad(inside, ((0, 0), (1, 1)))
        tokens[:, 0], tokens[:, -1] = self._frame.begin, self._frame.end
        real = np.pad(inside != self._frame.end, ((0, 0), (1, 1)))
        return self._batch(indices, epoch, tokens, real, np.full(len(tokens), tokens.shape[1]))


class MaskedPacked(MaskedRows):
    """Documents, each between [CLS] and [SEP], packed into rows; a token sees its own document only.

    Args: see `MaskedStream`.

    Raises:
        DataError: there is no text.
    """

    def __init__(
        self,
        rows: TokenRows,
        length: int,
        frame: Frame,
        size: int,
        seed: int,
        masking: Masking,
        device: torch.device,
    ) -> None:
        self._ids, self._frame = rows.tokens, frame
        self._pieces = cut_documents(rows, length - 2, leave=1)  # without their <eos>
        self._packed = PackedRows(self._pieces, 2, length, seed)
        super().__init__(len(self._packed), self._packed.padding, size, seed, masking, device)

    def texts(self, indices: Indices) -> Table:
        """See `MaskedRows.texts`."""
        filled: Table = self._packed.filled[np.asarray(indices)]
        return filled - 2 * self._packed.pieces_of(indices)

    def collate(self, indices: Indices, epoch: int) -> MaskedBatch:
        """See `MaskedRows.collate`."""
        batch, filled = self._packed.take(indices, epoch), self._packed.filled[np.asarray(indices)]
        shape = (len(indices), int(filled.max()))
        first, last = batch.inside == 0, batch.inside == self._pieces.sizes[batch.pieces] + 1
        ids = self._ids.take(self._pieces.starts[batch.pieces] + batch.inside - 1, mode="clip").astype(np.int64)
        ids[first], ids[last] = self._frame.begin, self._frame.end
        tokens = padded(batch, ids, shape, self._frame.pad)
        real = padded(batch, ~(first | last), shape, 0).astype(bool)
        documents, positions = padded(batch, batch.numbers, shape, -1), padded(batch, batch.inside, shape, 0)
        return self._batch(indices, epoch, tokens, real, filled, documents=documents, positions=positions)


class MaskedPairs(MaskedRows):
    """Rows [CLS] A [SEP] B [SEP] for masking and next-sentence prediction (Devlin et al. 2019, section 3.1, task 2).

    Documents are cut into pieces that fill a row. A is the beginning of a piece, cut at random; in half of the rows B
    is the rest of it, in the others the beginning of a random piece, of another document if there are several. So in an
    epoch about a quarter of the text is not seen. Nothing follows a piece of one token, which has a random B always.

    Args: see `MaskedStream`; rows have 5 places or more.

    Raises:
        DataError: the text has less than two pieces.
    """

    def __init__(
        self,
        rows: TokenRows,
        length: int,
        frame: Frame,
        size: int,
        seed: int,
        masking: Masking,
        device: torch.device,
    ) -> None:
        self._ids, self._frame = rows.tokens, frame
        self._pieces = pieces = cut_documents(rows, length - 3, leave=1)
        if len(pieces) < 2:
            raise DataError(
                f"next-sentence prediction needs two rows of text at least: lower data.length = {length}, or give more"
            )
        # the pieces of the same document, which are not drawn: from `first` on, `many`
        several = pieces.documents[0] != pieces.documents[-1]
        own = pieces.documents if several else np.arange(len(pieces))
        self._first = np.searchsorted(own, own)
        self._many = np.searchsorted(own, own, side="right") - self._first
        filled = float((pieces.sizes + 3).sum()) / (len(pieces) * length)
        super().__init__(len(pieces), 1.0 - filled, size, seed, masking, device)

    def texts(self, indices: Indices) -> Table:
        """See `MaskedRows.texts`; a random segment may be shorter."""
        sizes: Table = self._pieces.sizes[np.asarray(indices)]
        return sizes

    def collate(self, indices: Indices, epoch: int) -> MaskedBatch:
        """See `MaskedRows.collate`."""
        rows, frame = np.asarray(indices, dtype=np.int64), self._frame
        key = keys(self._seed, epoch, rows, 1)[:, 0]  # (B,)
        starts, sizes = self._pieces.starts[rows], self._pieces.sizes[rows]
        cut = 1 + (uniform(key, _CUT) * (sizes - 1)).astype(np.int64)  # tokens of A
        random = (uniform(key, _RANDOM) < 0.5) | (sizes == 1)
        other = (uniform(key, _PIECE) * (len(self._pieces) - self._many[rows])).astype(np.int64)
        other += np.where(other < self._first[rows], 0, self._many[rows])
        rest = np.minimum(np.maximum(sizes - cut, 1), np.where(random, self._pieces.sizes[other], sizes))
        second = np.where(random, self._pieces.starts[other], starts + cut)
        lengths = cut + rest + 3
        places = np.arange(int(lengths.max()))  # (L,)
        end = (cut + 1)[:, None]  # of A
        last = (lengths - 1)[:, None]
        in_first, in_second = (places > 0) & (places < end), (places > end) & (places < last)  # (B, L)
        source = np.where(in_first, starts[:, None] + places - 1, second[:, None] + places - end - 1)
        tokens = self._ids.take(source, mode="clip").astype(np.int64)
        tokens[:, 0] = frame.begin
        tokens[(places == end) | (places == last)] = frame.end
        tokens[places > last] = frame.pad
        types = ((places > end) & (places <= last)).astype(np.int64)
        follows = random.astype(np.int64)
        return self._batch(rows, epoch, tokens, in_first | in_second, lengths, types=types, follows=follows)
