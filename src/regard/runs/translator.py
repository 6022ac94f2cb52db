"""`Translator`: a trained model with its tokenizers, which translates, scores and shows what it looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from regard.data import group_by_words, inference_batches, split_words
from regard.decoding import (
    Hypothesis,
    LengthPenalty,
    Stopping,
    WhenBehind,
    beam_search,
    greedy,
)
from regard.errors import ArgumentError
from regard.insight import Alignment, pool_to_words
from regard.layers import State
from regard.models.transformer import Transformer
from regard.recording import Recording, record
from regard.runs.build import length_penalty, torch_device
from regard.runs.directory import Tokenizers, load_model
from regard.tasks.translation import (
    Sources,
    Specials,
    TranslationBatch,
    collate,
    collate_sources,
    token_log_probs,
)

BATCH_TOKENS = 4096  # source positions decoded together, times the beam in memory
BATCH_ROWS = 128
EXTRA_LENGTH = 10


@dataclass(frozen=True)
class Translation:
    """One translation.

    Attributes:
        text: the translation.
        score: log-probability after the length penalty.
        log_prob: natural-log probability of the tokens and `<eos>`.
        tokens: its tokens as text.
        token_log_probs: of each token, `<eos>` last unless the translation was cut at the greatest length.
        finished: False if it was cut.
        attention: what the model looked at, with `attention=True`.
    """

    text: str
    score: float
    log_prob: float
    tokens: tuple[str, ...]
    token_log_probs: tuple[float, ...]
    finished: bool
    attention: "Attention | None" = field(default=None, repr=False)


@dataclass(frozen=True)
class Attention:
    """What the model looked at in one sentence pair, teacher-forced.

    Attributes:
        maps: all maps by module path; the cross-attention maps are (1, H, T, S).
        source, target: the texts.
        source_tokens: tokens of the keys, `<eos>` last.
        target_tokens: tokens that the rows predict, `<eos>` last.
        source_words, target_words: the words of the texts, and for each word the positions of its tokens.
    """

    maps: Recording
    source: str
    target: str
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    source_words: tuple[tuple[str, ...], list[list[int]]]
    target_words: tuple[tuple[str, ...], list[list[int]]]

    def alignment(self, layer: int | None = None, head: int | None = None) -> Alignment:
        """Cross-attention between words: summed over a source word's tokens, averaged over a target word's.

        Args:
            layer: a decoder layer counted from 0, negative from the end; None is the mean of all layers.
            head: a head, or None for the mean of all heads.

        Raises:
            ArgumentError: there is no such layer or head.
        """
        tables = [table for name, table in self.maps.items() if name.endswith(".cross")]
        if layer is not None:
            if not -len(tables) <= layer < len(tables):
                raise ArgumentError(f"layer {layer}: the decoder has layers 0 to {len(tables) - 1}")
            tables = [tables[layer]]
        heads = tables[0].shape[1]
        if head is not None and not 0 <= head < heads:
            raise ArgumentError(f"head {head}: each layer has heads 0 to {heads - 1}")
        parts = [table[0, head] if head is not None else table[0].mean(0) for table in tables]  # each (T, S)
        weights = torch.stack(parts).mean(0).cpu().numpy()
        pooled = pool_to_words(weights, self.source_words[1], self.target_words[1])
        return Alignment(self.source_words[0], self.target_words[0], pooled)

    def layers(self) -> int:
        """Number of decoder layers."""
        return sum(name.endswith(".cross") for name in self.maps)

    def heads(self) -> int:
        """Number of heads of each."""
        return next(table.shape[1] for name, table in self.maps.items() if name.endswith(".cross"))


class Translator:
    """A trained encoder–decoder model with its tokenizers.

    Args:
        model: in evaluation mode, on its device.
        tokenizers: of both languages.
        decoding: defaults: beam, penalty, alpha, max_ratio (see `regard.runs.recipe.DecodingRecipe`).
    """

    def __init__(self, model: Transformer, tokenizers: Tokenizers, decoding: dict[str, Any]) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.decoding = decoding
        self.specials = specials_of(tokenizers)
        self.device = model.output.weight.device
        self.max_tokens = model.config.max_length - 1
        """Longest source or target in tokens."""

    def translate(
        self,
        texts: Sequence[str],
        *,
        beam: int | None = None,
        penalty: LengthPenalty | None = None,
        stopping: Stopping | None = None,
        min_length: int = 0,
        max_length: int | None = None,
        attention: bool = False,
    ) -> list[Translation]:
        """The best translation of each text, in order.

        Args:
            texts: sources; an empty one has an empty translation.
            beam: width of the beam; 1 is greedy search.
            penalty: length penalty.
            stopping: when a sentence is done.
            min_length, max_length: of the translation in tokens; by default the longest is `max_ratio` times the
                source's tokens plus ten.
            attention: also run the model over each finished translation and keep what it looked at.

        Raises:
            ArgumentError: a text has more tokens than the model has positions; the message has its index.
        """
        best = [
            results[0]
            for results in self.translate_nbest(
                texts,
                nbest=1,
                beam=beam,
                penalty=penalty,
                stopping=stopping,
                min_length=min_length,
                max_length=max_length,
            )
        ]
        if not attention:
            return best
        return [
            Translation(**(vars(one) | {"attention": self.attention(text, one.text) if one.text.strip() else None}))
            for text, one in zip(texts, best, strict=True)
        ]

    def translate_nbest(
        self,
        texts: Sequence[str],
        *,
        nbest: int,
        beam: int | None = None,
        penalty: LengthPenalty | None = None,
        stopping: Stopping | None = None,
        min_length: int = 0,
        max_length: int | None = None,
    ) -> list[list[Translation]]:
        """The `nbest` best translations of each text, best first; arguments and errors as for `translate`.

        There can be fewer where the search found fewer. Raises `ArgumentError` also if nbest exceeds the beam.
        """
        width = self.decoding["beam"] if beam is None else beam
        if width < 1 or not 1 <= nbest <= width:
            raise ArgumentError(f"nbest must be from 1 to the beam, {width}, not {nbest}")
        rule = length_penalty(self.decoding["penalty"], self.decoding["alpha"]) if penalty is None else penalty
        encoded = self._encode_sources(texts)
        results: list[list[Translation]] = [[Translation("", 0.0, 0.0, (), (), True)] for _ in texts]
        wanted = [i for i, ids in enumerate(encoded) if ids]
        lengths = [len(encoded[i]) + 1 for i in wanted]
        for batch in inference_batches(lengths, BATCH_TOKENS, BATCH_ROWS):
            indices = [wanted[int(i)] for i in batch]
            limits = torch.tensor([self._limit(len(encoded[i]), max_length) for i in indices], device=self.device)
            state = self._start(collate_sources([encoded[i] for i in indices], self.specials, self.device))
            options: dict[str, Any] = {
                "bos": self.specials.bos,
                "eos": self.specials.eos,
                "max_length": limits,
                "min_length": min_length,
            }
            with torch.inference_mode():
                if width == 1:
                    found = [[one] for one in greedy(self.model, state, **options)]
                else:
                    found = beam_search(
                        self.model,
                        state,
                        beam=width,
                        nbest=nbest,
                        penalty=rule,
                        stopping=WhenBehind() if stopping is None else stopping,
                        **options,
                    )
            for i, hypotheses in zip(indices, found, strict=True):
                results[i] = [self._translation(one) for one in hypotheses]
        return results

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[list[float]]:
        """Natural-log probability of each token of given translations, `<eos>` last; an empty pair gives [].

        Raises:
            ArgumentError: unequal numbers, or a text with too many tokens.
        """
        if len(sources) != len(targets):
            raise ArgumentError(f"{len(sources)} sources and {len(targets)} targets: expected one for each")
        encoded = list(zip(self._encode_sources(sources), self._encode_targets(targets), strict=True))
        wanted = [i for i, pair in enumerate(encoded) if any(pair)]
        results: list[list[float]] = [[] for _ in sources]
        lengths = [max(len(encoded[i][0]), len(encoded[i][1])) + 1 for i in wanted]
        for batch in inference_batches(lengths, BATCH_TOKENS, BATCH_ROWS):
            indices = [wanted[int(i)] for i in batch]
            pairs = self._collate([encoded[i] for i in indices])
            for i, values in zip(indices, token_log_probs(self.model, pairs), strict=True):
                results[i] = values
        return results

    def attention(self, source: str, target: str) -> Attention:
        """What the model looks at when it reads `source` and says `target` (which need not be its own translation).

        Raises:
            ArgumentError: a text is empty or has too many tokens.
        """
        if not source.strip() or not target.strip():
            raise ArgumentError("attention needs a source and a target that are not empty")
        sides = self.tokenizers.source, self.tokenizers.target
        ids = self._encode_sources([source])[0], self._encode_targets([target])[0]
        batch = self._collate([ids])
        with torch.no_grad(), record(self.model) as maps:
            self.model(batch.sources.tokens, batch.sources.lengths, batch.inputs)
        tokens = [(*side.pieces(row), "<eos>") for side, row in zip(sides, ids, strict=True)]
        words = []
        for side, text in zip(sides, (source, target), strict=True):
            spans = split_words(text)
            names = tuple(text[start:stop] for start, stop in spans)
            words.append((names, group_by_words(side.text_spans(text), spans)))
        return Attention(maps, source, target, tokens[0], tokens[1], words[0], words[1])

    def source_length(self, text: str) -> int:
        """Number of tokens of a source; it may not exceed `max_tokens`."""
        return len(self.tokenizers.source.encode(text))

    def _encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        return self._checked("source", self.tokenizers.source.encode_batch(list(texts)))

    def _encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        return self._checked("target", self.tokenizers.target.encode_batch(list(texts)))

    def _checked(self, side: str, rows: list[list[int]]) -> list[list[int]]:
        for index, row in enumerate(rows):
            if len(row) > self.max_tokens:
                raise ArgumentError(
                    f"{side} {index} has {len(row)} tokens; the model has positions for {self.max_tokens}"
                )
        return rows

    def _collate(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> TranslationBatch:
        return collate([a for a, _ in pairs], [b for _, b in pairs], self.specials, self.device)

    def _start(self, sources: Sources) -> State:
        with torch.inference_mode():
            return self.model.start(sources.tokens, sources.lengths)

    def _limit(self, source_tokens: int, max_length: int | None) -> int:
        longest = int(self.decoding["max_ratio"] * source_tokens) + EXTRA_LENGTH if max_length is None else max_length
        return min(longest, self.max_tokens)

    def _translation(self, found: Hypothesis) -> Translation:
        tokenizer = self.tokenizers.target
        tokens = list(found.tokens)
        return Translation(
            text=tokenizer.decode(tokens),
            score=found.score,
            log_prob=found.log_prob,
            tokens=tuple(tokenizer.pieces(tokens)),
            token_log_probs=found.token_log_probs,
            finished=found.finished,
        )


def load(directory: str | Path, *, device: str = "auto") -> Translator:
    """Open the directory of a trained model.

    Args:
        directory: what `regard train` made.
        device: "auto" (CUDA or MPS where there is one), "cpu", "cuda:0", …

    Raises:
        CheckpointError: it is missing, unfinished or damaged; the message names the file.
        RecipeError: there is no such device.
    """
    saved = load_model(Path(directory), torch_device(device))
    return Translator(saved.model, saved.tokenizers, saved.decoding)


def specials_of(tokenizers: Tokenizers) -> Specials:
    """The special tokens that the task adds."""
    source, target = tokenizers.source, tokenizers.target
    return Specials(target.pad_id, target.bos_id, target.eos_id, source.pad_id, source.eos_id)
