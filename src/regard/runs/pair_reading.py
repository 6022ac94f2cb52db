"""Texts as an encoder–decoder model reads them: in its tokens, with what stands around them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from regard.errors import ArgumentError
from regard.models.encoder_decoder import EncoderDecoder
from regard.runs.directory import Tokenizers
from regard.runs.frames import Side, known_ids, specials_in, unknown_ids
from regard.runs.jobs import too_long
from regard.runs.sides import specials_of
from regard.tasks.translation import Sources, TranslationBatch, collate, collate_sources

IdPair = tuple[Sequence[int], Sequence[int]]


class PairReader:
    """Makes ids and batches of texts.

    Args:
        models: one, or several over the same vocabularies; they read the same.
        tokenizers: of both languages.
        frame: the special tokens around texts, if they are not those of the tokenizers (see `regard.runs.frames`).

    Attributes:
        specials: what stands around texts.
        longest: a source or target in tokens, without these.
        device: of batches.
    """

    def __init__(
        self, models: Sequence[EncoderDecoder], tokenizers: Tokenizers, frame: Mapping[str, Any] | None = None
    ) -> None:
        self.specials = specials_of(tokenizers) if frame is None else specials_in(frame)
        self.longest = min(each.config.max_length for each in models) - 1 - len(self.specials.source_begin)
        self.device = models[0].output.weight.device
        config = models[0].config
        self._sizes = {"source": config.source_vocabulary, "target": config.target_vocabulary}
        self._tokenizers = {"source": tokenizers.source, "target": tokenizers.target}
        self._unknown = unknown_ids(tokenizers, frame)

    def ids(self, side: Side, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts; those that the tokenizer has and the model hasn't are unknown."""
        tokenizer, size = self._tokenizers[side], self._sizes[side]
        rows = tokenizer.encode_batch(texts)
        return rows if tokenizer.vocab_size <= size else known_ids(rows, size, self._unknown[side])

    def pairs(self, sources: Sequence[str], targets: Sequence[str]) -> list[IdPair]:
        """The ids of pairs of texts.

        Raises:
            ArgumentError: a text has more tokens than the model has positions.
        """
        sides: dict[Side, Sequence[str]] = {"source": sources, "target": targets}
        encoded = [self.ids(side, texts) for side, texts in sides.items()]
        for side, rows in zip(sides, encoded, strict=True):
            for index, row in enumerate(rows):
                if problem := too_long(side, len(row), self.longest, index):
                    raise ArgumentError(problem)
        return list(zip(*encoded, strict=True))

    def sources(self, rows: Sequence[Sequence[int]]) -> Sources:
        """Ids of sources as a batch."""
        return collate_sources(rows, self.specials, self.device)

    def batch(self, pairs: Sequence[IdPair]) -> TranslationBatch:
        """Ids of pairs as a batch."""
        return collate([source for source, _ in pairs], [target for _, target in pairs], self.specials, self.device)

    def real_targets(self, inputs: Tensor) -> Tensor:
        """Which of what a decoder reads, (B, T) integers, is no padding: bool (B, T).

        Padding stands behind the last other token. The first one is always real: models that begin with the symbol for
        padding, such as Marian's, read it as any other.
        """
        real = inputs != self.specials.pad
        real[:, :1] = True
        return torch.cummax(real.int().flip(-1), -1).values.flip(-1).bool()
