"""What a `Translator` gives: translations, and what the model looked at."""

from dataclasses import dataclass, field

import torch

from regard.errors import ArgumentError
from regard.insight import Alignment, pool_to_words
from regard.recording import Recording


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
        source_tokens: tokens of the keys, with what stands in front of the source, and `<eos>` last.
        target_tokens: tokens that the rows predict, `<eos>` last.
        source_words, target_words: the words of the texts, and for each word the positions of its tokens among these.
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
