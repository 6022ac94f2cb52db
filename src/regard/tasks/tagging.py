"""Tagging of words: sentences of words → batch, loss and probabilities, for `TokenTagger`.

The first piece of each word carries its tag; the other pieces are read, and nothing is asked of them (Devlin et al.
2019, section 5.3). A sentence with more pieces than the model may read becomes several rows, cut between words, so that
every word gets a tag.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regard.errors import ArgumentError
from regard.models.bert import TokenTagger
from regard.tasks.framing import Frame, Framed, FramedRow, collate_rows


@dataclass(frozen=True)
class WordRow:
    """Words of a sentence as one row.

    Attributes:
        row: the pieces of all words, framed.
        firsts: the position in it of each word's first piece.
    """

    row: FramedRow
    firsts: list[int]


@dataclass(frozen=True)
class TaggingBatch:
    """Rows of words and their tags.

    Attributes:
        texts: as the model reads them.
        first: (B, L) bool, True at the first piece of a word.
        tags: (N,) int64, those of the words, row after row.
    """

    texts: Framed
    first: Tensor
    tags: Tensor


def word_rows(words: Sequence[Sequence[int]], frame: Frame, longest: int) -> list[WordRow]:
    """The rows of a sentence: one, or as few as hold all its words.

    Args:
        words: the pieces of each word, at least one; those of a word that alone is too long are cut.
        frame: the special tokens.
        longest: the most positions of a row, special tokens included.

    Raises:
        ArgumentError: `longest` has no room for a piece, or a word has no piece.
    """
    room = longest - 2
    if room < 1:
        raise ArgumentError(f"longest: got {longest}, expected at least 3")
    rows: list[WordRow] = []
    ids: list[int] = []
    firsts: list[int] = []
    cut = False
    for number, pieces in enumerate(words):
        if not pieces:
            raise ArgumentError(f"words: word {number} has no piece")
        kept = pieces[:room]
        if len(ids) + len(kept) > room:
            rows.append(_row(ids, firsts, frame, cut))
            ids, firsts, cut = [], [], False
        firsts.append(len(ids) + 1)  # after [CLS]
        ids += kept
        cut = cut or len(kept) < len(pieces)
    if firsts:
        rows.append(_row(ids, firsts, frame, cut))
    return rows


def _row(ids: list[int], firsts: list[int], frame: Frame, cut: bool) -> WordRow:
    return WordRow(FramedRow([frame.begin, *ids, frame.end], [0] * (len(ids) + 2), cut), firsts)


def collate_words(rows: Sequence[WordRow], frame: Frame, device: torch.device) -> tuple[Framed, Tensor]:
    """Rows of words as one padded batch, and where their first pieces are, bool (B, L)."""
    texts = collate_rows([one.row for one in rows], frame, device)
    first = torch.zeros(texts.tokens.shape, dtype=torch.bool)
    for number, one in enumerate(rows):
        first[number, one.firsts] = True
    return texts, first.to(device)


def collate(rows: Sequence[WordRow], tags: Sequence[Sequence[int]], frame: Frame, device: torch.device) -> TaggingBatch:
    """Rows of words and the numbers of their tags as one padded batch."""
    texts, first = collate_words(rows, frame, device)
    flat = [tag for row in tags for tag in row]
    return TaggingBatch(texts, first, torch.tensor(flat, dtype=torch.int64, device=device))


class TaggingObjective(nn.Module):
    """What training minimises, as a module, so that several processes can share its gradients.

    Args:
        model: the module `model` of this one.
        smoothing: of the tags.
    """

    def __init__(self, model: TokenTagger, smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing

    def forward(self, batch: TaggingBatch) -> Tensor:
        """The loss summed over the words of a batch, a scalar."""
        logits = word_logits(self.model, batch.texts, batch.first)  # (N, C)
        return cross_entropy(logits, batch.tags, reduction="sum", label_smoothing=self.smoothing)


def word_logits(model: TokenTagger, texts: Framed, first: Tensor) -> Tensor:
    """Logits of the tags at the first pieces (N, C), row after row, float32 at least."""
    logits: Tensor = model(texts.tokens, texts.lengths, texts.types)  # (B, L, C)
    return logits[first].to(torch.promote_types(logits.dtype, torch.float32))
