"""Texts as BERT reads them: [CLS] A [SEP], or [CLS] A [SEP] B [SEP] (Devlin et al. 2019), as padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.errors import ArgumentError
from regard.tasks.translation import pad_rows


@dataclass(frozen=True)
class Frame:
    """Ids of the special tokens: [CLS] at the beginning, [SEP] after each text, and padding."""

    begin: int
    end: int
    pad: int


@dataclass(frozen=True)
class FramedRow:
    """One text or pair.

    Attributes:
        ids: with the special tokens.
        types: 0 for [CLS] A [SEP], 1 for B [SEP].
        cut: whether something was left out.
    """

    ids: list[int]
    types: list[int]
    cut: bool = False


@dataclass(frozen=True)
class Framed:
    """A batch.

    Attributes:
        tokens: (B, L) int64, padded at the end.
        lengths: (B,) int64.
        types: (B, L) int64.
    """

    tokens: Tensor
    lengths: Tensor
    types: Tensor

    def real(self) -> Tensor:
        """Which positions are not padding, bool (B, L)."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]


def frame_texts(first: Sequence[int], second: Sequence[int] | None, frame: Frame, longest: int) -> FramedRow:
    """Put the special tokens around the ids of a text, or of two.

    What is too long is cut at its end; of two texts always the longer one (the second, if they are equal), a token at a
    time, as the paper's code does.

    Args:
        first: ids of A.
        second: ids of B, or None.
        frame: the special tokens.
        longest: the most positions, special tokens included.

    Raises:
        ArgumentError: `longest` has no room for a token of each text.
    """
    specials = 2 if second is None else 3
    room = longest - specials
    if room < specials - 1:
        raise ArgumentError(f"longest: got {longest}, expected at least {2 * specials - 1}")
    if second is None:
        kept = list(first[:room])
        return FramedRow([frame.begin, *kept, frame.end], [0] * (len(kept) + 2), len(first) > room)
    after = min(len(second), max(room - len(first), room // 2))
    a, b = list(first[: room - after]), list(second[:after])
    return FramedRow(
        [frame.begin, *a, frame.end, *b, frame.end],
        [0] * (len(a) + 2) + [1] * (len(b) + 1),
        len(first) + len(second) > room,
    )


def collate_rows(rows: Sequence[FramedRow], frame: Frame, device: torch.device) -> Framed:
    """Rows as one padded batch."""
    lengths = torch.tensor([len(row.ids) for row in rows], dtype=torch.int64, device=device)
    return Framed(
        pad_rows([row.ids for row in rows], frame.pad, device),
        lengths,
        pad_rows([row.types for row in rows], 0, device),
    )
