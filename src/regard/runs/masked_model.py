"""`MaskedModel`: a trained masked language model with its tokenizer, which fills gaps and gives texts vectors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor

from regard.data import inference_batches
from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.insight.tokens import Tokens
from regard.models.bert import BERTConfig, MaskedLanguageModel, build_masked_language_model
from regard.runs.directory import WEIGHTS, SavedConfig, load_weights_file, read_joint_tokenizer
from regard.runs.label_reading import BATCH_ROWS, BATCH_TOKENS, frame_of
from regard.runs.sides import tokens_of
from regard.tasks.framing import Framed, FramedRow, collate_rows

MASK: Final = "[MASK]"
"""What stands for a gap in a text, whatever a tokenizer calls it."""


@dataclass(frozen=True)
class Candidate:
    """What may stand in a gap.

    Attributes:
        text: as it reads in the text, without the space in front.
        piece: the token's name.
        token: its id.
        probability: among all tokens.
    """

    text: str
    piece: str
    token: int
    probability: float


class MaskedModel:
    """A trained masked language model with its tokenizer.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: of its texts.
        mask: the id of the mask token; one more than the tokenizer's last id where that has none.
    """

    def __init__(self, model: MaskedLanguageModel, tokenizer: Tokenizer, mask: int) -> None:
        self.model, self.tokenizer, self.mask = model, tokenizer, mask
        self.device = model.output.weight.device
        self.max_tokens = model.config.max_length - 2
        """Longest text in tokens."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, [CLS] and [SEP] around it; each `[MASK]` in it is one mask token.

        White space at the ends is removed, and in front of a mask: a space is part of the token that follows it, so
        of what is asked for (except by characters, where it is a token of its own).
        """
        first, *others = text.strip().split(MASK)
        parts = [first, *others]
        if self.tokenizer.kind != "char":
            parts = [part.rstrip() for part in parts[:-1]] + parts[-1:]
        frame = frame_of(self.tokenizer)
        ids = [frame.begin]
        for number, part in enumerate(self.tokenizer.encode_texts(parts)):
            ids += [self.mask, *part] if number else part
        return [*ids, frame.end]

    def fill(self, text: str, top: int = 5) -> list[list[Candidate]]:
        """What may stand in each gap of a text, the most probable first; several gaps are independent of each other.

        Args:
            text: with one `[MASK]` or more.
            top: candidates for each.

        Raises:
            ArgumentError: the text has no mask or too many tokens, or `top` is not a number from 1.
        """
        return self.fill_batch([text], top)[0]

    def fill_batch(self, texts: Sequence[str], top: int = 5) -> list[list[list[Candidate]]]:
        """What `fill` gives for each text.

        Raises:
            ArgumentError: as for `fill`; the message has the index of the text.
        """
        if top < 1:
            raise ArgumentError(f"top: got {top}, expected at least 1")
        rows = self._rows(texts)
        for index, (text, row) in enumerate(zip(texts, rows, strict=True)):
            if problem := self._no_gap(text, row.ids):
                raise ArgumentError(f"texts: number {index} {problem}")
        results: list[list[list[Candidate]]] = [[] for _ in rows]
        for batch, framed in self._batches(rows):
            with torch.no_grad():
                hidden = self.model(framed.tokens, framed.lengths, framed.types)  # (B, L, E)
                places = framed.tokens == self.mask
                probabilities = self.model.output(hidden[places]).float().softmax(-1)  # (N, V)
                best = probabilities.topk(min(top, probabilities.shape[-1]))
            found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            gaps = [[self._candidate(*pair) for pair in zip(*one, strict=True)] for one in found]
            of = places.nonzero()[:, 0].tolist()  # the row of each gap
            for row_number, candidates in zip(of, gaps, strict=True):
                results[batch[row_number]].append(candidates)
        return results

    def filled(self, text: str, tokens: Sequence[int]) -> str:
        """A text with a token in each gap, as these tokens read there.

        A token that begins no word continues what stands in front of the gap, whatever white space is typed there;
        one that does begins a word of its own.

        Args:
            text: with gaps.
            tokens: an id for each gap.

        Raises:
            ArgumentError: there are more or fewer gaps.
        """
        first, *others = text.strip().split(MASK)
        if len(others) != len(tokens):
            raise ArgumentError(f"tokens: got {len(tokens)} for {len(others)} gaps")
        whole = first
        for token, following in zip(tokens, others, strict=True):
            whole = self._continued(whole, token) + following
        return whole

    def _continued(self, before: str, token: int) -> str:
        surface = "" if self._foreign(token) else self.tokenizer.surfaces[token].decode("utf-8", "replace")
        kind = self.tokenizer.kind
        if not surface:
            return before + self.piece(token)
        if kind == "char":
            return before + surface
        bare = before.rstrip()
        if not bare:
            return surface.lstrip()
        if not surface.startswith(" ") or kind in ("bpe", "unigram"):
            return bare + surface
        # words that are told apart without spaces, as at punctuation, are so here too: what is typed stays
        typed = before[len(bare) :] or (" " if bare[-1].isalnum() and surface.strip()[:1].isalnum() else "")
        return bare + typed + surface.lstrip()

    def embed(self, texts: Sequence[str], how: Literal["mean", "cls"] = "mean") -> Tensor:
        """A vector for each text, from the last layer of the encoder.

        Args:
            texts: those; what is found for one doesn't depend on the others.
            how: "mean" of all its positions, [CLS] and [SEP] included (as sentence-transformers does), or that of
                [CLS].

        Returns:
            (N, E), float32 on the CPU.

        Raises:
            ArgumentError: a text has too many tokens, or `how` is neither.
        """
        if how not in ("mean", "cls"):
            raise ArgumentError(f"how: got {how!r}, expected 'mean' or 'cls'")
        rows = self._rows(texts)
        vectors = torch.empty(len(rows), self.model.config.width)
        for batch, framed in self._batches(rows):
            with torch.no_grad():
                hidden = self.model.encoder(framed.tokens, framed.lengths, framed.types).float()  # (B, L, E)
                if how == "cls":
                    chosen = hidden[:, 0]
                else:
                    # padding is left out, not multiplied by 0: what is there need not be finite
                    real = framed.real()[..., None]  # (B, L, 1)
                    chosen = hidden.where(real, 0.0).sum(1) / framed.lengths[:, None]
            vectors[batch] = chosen.cpu()
        return vectors

    def problem(self, text: str) -> str | None:
        """Why `fill` would refuse a text; None if it wouldn't."""
        ids = self.encode(text)
        return self._too_long(ids) or self._no_gap(text, ids)

    def tokens_of(self, sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
        """What stands at the positions of what the model reads, for recordings. A mask is no part of the text."""
        known = [self.tokenizer.pad_id if self._foreign(one) else one for one in ids]
        found = tokens_of(self.tokenizer, known, real)
        return replace(
            found,
            texts=tuple(
                self.piece(one) if self._foreign(one) else text for one, text in zip(ids, found.texts, strict=True)
            ),
            ids=tuple(ids),
        )

    def piece(self, token: int) -> str:
        """The name of an id of the model, for display."""
        if token == self.mask:
            return MASK
        return f"<{token}>" if self._foreign(token) else self.tokenizer.pieces([token])[0]

    def _foreign(self, token: int) -> bool:
        """Whether the tokenizer doesn't know an id of the model, such as a mask that was added to it."""
        return token >= self.tokenizer.vocab_size

    def _candidate(self, token: int, probability: float) -> Candidate:
        surface = b"" if self._foreign(token) else self.tokenizer.surfaces[token]
        name = self.piece(token)
        return Candidate(surface.decode("utf-8", "replace").strip() or name, name, token, probability)

    def _rows(self, texts: Sequence[str]) -> list[FramedRow]:
        if isinstance(texts, str):
            raise ArgumentError(f"texts: expected a list of texts, got one text: {texts[:40]!r}")
        rows = []
        for index, text in enumerate(texts):
            ids = self.encode(text)
            if problem := self._too_long(ids):
                raise ArgumentError(f"texts: number {index} {problem}")
            rows.append(FramedRow(ids, [0] * len(ids)))
        return rows

    def _too_long(self, ids: Sequence[int]) -> str | None:
        if len(ids) - 2 <= self.max_tokens:
            return None
        return f"has {len(ids) - 2} tokens; this model reads at most {self.max_tokens}"

    def _no_gap(self, text: str, ids: Sequence[int]) -> str | None:
        return None if self.mask in ids else f"has no {MASK}: {text[:60]!r}"

    def _batches(self, rows: Sequence[FramedRow]) -> list[tuple[list[int], Framed]]:
        """Rows of like length together: their numbers, and the batch."""
        plan = inference_batches([len(row.ids) for row in rows], BATCH_TOKENS, BATCH_ROWS)
        frame = frame_of(self.tokenizer)
        return [(batch.tolist(), collate_rows([rows[int(i)] for i in batch], frame, self.device)) for batch in plan]


def open_masked_language_modelling(directory: Path, saved: SavedConfig, device: torch.device) -> MaskedModel:
    """The masked language model of a model directory.

    Raises:
        CheckpointError: something is missing, damaged or not understood; the message names the file.
    """
    config = saved.config({"bert": BERTConfig})
    mask = saved.content.get("mask")
    if type(mask) is not int or not 0 <= mask < config.vocabulary:
        raise CheckpointError(f"{saved.path}: mask is {mask!r}: expected an id from 0 to {config.vocabulary - 1}")
    model = build_masked_language_model(config, next_sentence=bool(saved.content.get("next_sentence", False)))
    load_weights_file(directory / WEIGHTS, model)
    return MaskedModel(model.to(device).eval(), read_joint_tokenizer(directory), mask)
