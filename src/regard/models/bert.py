"""The encoder BERT (Devlin et al. 2019) and what is put on it: masked-language model, classifier, tagger.

config = BERTConfig.preset("tiny", vocabulary=8000)
model = build_masked_language_model(config)
hidden = model(tokens, lengths)                           # (B, L, E)
log_probs = model.output(hidden).log_softmax(-1)          # (B, L, V): what stood at each position
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast, get_args

import torch
from torch import Tensor, nn

from regard.attention import Mask, Padding
from regard.errors import ArgumentError
from regard.layers import (
    FeedForward,
    LearnedPositions,
    MultiHeadAttention,
    PostNorm,
    SelfAttentionBlock,
    TokenEmbedding,
)
from regard.layers.dropout import Dropout
from regard.layers.feedforward import Activation, activation_named
from regard.models.config import TextConfig

SPREAD = 0.02  # of fresh weights


@dataclass(frozen=True)
class BERTConfig(TextConfig):
    """Sizes and choices of BERT. The presets `base` and `large` are those of Devlin et al. 2019, the others those of
    Turc et al. 2019, "Well-Read Students Learn Better"."""

    NAME: ClassVar[str] = "bert"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"layers": 2, "width": 128, "feedforward": 512, "heads": 2},
        "mini": {"layers": 4, "width": 256, "feedforward": 1024, "heads": 4},
        "small": {"layers": 4, "width": 512, "feedforward": 2048, "heads": 8},
        "medium": {"layers": 8, "width": 512, "feedforward": 2048, "heads": 8},
        "base": {"layers": 12, "width": 768, "feedforward": 3072, "heads": 12},
        "large": {"layers": 24, "width": 1024, "feedforward": 4096, "heads": 16},
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"activation": get_args(Activation)}

    max_length: int = field(default=512, kw_only=True)
    """Most positions of a sequence, special tokens included."""
    layers: int = 12
    width: int = 768
    """E, width of the residual stream."""
    feedforward: int = 3072
    """Width inside the feed-forward networks."""
    heads: int = 12
    types: int = 2
    """How many kinds of segments there are: first and second text."""
    dropout: float = 0.1
    """On embeddings, on each sub-layer's output, and before a classifier."""
    attention_dropout: float = 0.1
    """On attention weights."""
    activation: Activation = "gelu"
    """Of the feed-forward networks and of the masked-language model's transformation."""
    norm_epsilon: float = field(default=1e-12, metadata={"positive": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ArgumentError(f"heads = {self.heads} doesn't divide width = {self.width}")

    def words(self) -> str:
        """See `ModelConfig.words`."""
        return (
            f"BERT, {self.layers} layers, width {self.width}, feed-forward {self.feedforward}, {self.heads} heads, "
            f"post-norm, learned positions"
        )


class SegmentEmbedding(nn.Module):
    """Token vector plus position vector plus vector of the segment's type, normalised, with dropout.

    Args:
        tokens, positions, types: what is added.
        norm: of the sum.
        dropout: probability of dropping an element.
    """

    def __init__(
        self,
        tokens: TokenEmbedding,
        positions: LearnedPositions,
        types: TokenEmbedding,
        norm: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.types = types
        self.norm = norm
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, types: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Ids (B, L), types (B, L) or None for all 0, positions (L,) or (B, L) or None for 0 … → (B, L, E)."""
        placed = self.positions(0, tokens.shape[1]) if positions is None else self.positions.at(positions)
        of_type = self.types.weight[0] if types is None else self.types(types)
        x: Tensor = self.dropout(self.norm(self.tokens(tokens) + (placed + of_type)))
        return x


class BERT(nn.Module):
    """The encoder: every position sees every other.

        x = norm(tokens + positions + types);  x = norm(x + Attention(x));  x = norm(x + FFN(x));  …

    Args:
        config: kept as `config`, for saving beside the weights.
        embedding: of tokens.
        layers: the blocks.
    """

    def __init__(self, config: BERTConfig, embedding: SegmentEmbedding, layers: list[SelfAttentionBlock]) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        # a ModuleList doesn't say what it holds
        self.layers = cast(list[SelfAttentionBlock], nn.ModuleList(layers))

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor,
        types: Tensor | None = None,
        mask: Mask | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """One vector for each position.

        Args:
            tokens: ids (B, L) int64, padded at the end.
            lengths: (B,) int64; positions from there on are seen by none, and their vectors are to be ignored.
            types: of which segment each token is, (B, L) int64; None is 0 everywhere.
            mask: what else limits the sight, such as `Document(ids)` for texts that are packed in one row.
            positions: (L,) or (B, L) int64; None counts from 0.

        Returns:
            (B, L, E).

        Raises:
            ArgumentError: tokens are no table of ids, lengths don't fit them, or a position has no vector.
        """
        if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise ArgumentError(f"tokens is {tuple(tokens.shape)} {tokens.dtype}: expected integers (B, L)")
        x = self.embedding(tokens, types, positions)
        limits = Padding(lengths) if mask is None else Padding(lengths) & mask
        for layer in self.layers:
            x = layer(x, limits)
        return cast(Tensor, x)

    def blocks(self) -> list[nn.Module]:
        """The layers; see `EncoderDecoder.blocks`."""
        return list(self.layers)


class Headed(nn.Module):
    """What models on BERT have in common.

    Args:
        encoder: BERT.
        output: projection to the model's answers.

    Attributes:
        config: the encoder's.
    """

    def __init__(self, encoder: BERT, output: nn.Linear) -> None:
        super().__init__()
        self.config = encoder.config
        self.encoder = encoder
        self.output = output

    def blocks(self) -> list[nn.Module]:
        """The encoder's layers; see `EncoderDecoder.blocks`."""
        return self.encoder.blocks()


class MaskedLanguageModel(Headed):
    """BERT that says which token stood where one is masked (Devlin et al. 2019, section 3.1, task 1), and perhaps
    whether the second text follows the first (task 2).

    Args:
        encoder: BERT.
        output: projection to the vocabulary, with a bias; its weight is the encoder's table.
        next_sentence: whether the second task is there: `pooler` and `next_sentence`.
    """

    def __init__(self, encoder: BERT, output: nn.Linear, next_sentence: bool = False) -> None:
        super().__init__(encoder, output)
        width = self.config.width
        self.transform = nn.Linear(width, width)
        self.activation = activation_named(self.config.activation)
        self.transform_norm = nn.LayerNorm(width, self.config.norm_epsilon)
        self.pooler = nn.Linear(width, width) if next_sentence else None
        self.next_sentence = nn.Linear(width, 2) if next_sentence else None

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor,
        types: Tensor | None = None,
        mask: Mask | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Arguments as for `BERT.forward`: (B, L, E), which `output` makes logits of the vocabulary."""
        return self.transformed(self.encoder(tokens, lengths, types, mask, positions))

    def transformed(self, states: Tensor) -> Tensor:
        """States of the encoder (…, E) → (…, E), which `output` makes logits.

        A loss needs masked positions only: they can be picked before.
        """
        y: Tensor = self.transform_norm(self.activation(self.transform(states)))
        return y

    def following(self, states: Tensor) -> Tensor:
        """Whether the second text follows the first: logits (B, 2) of yes and no, from states of the encoder (B, L, E).

        Raises:
            ArgumentError: the model is without this task.
        """
        if self.pooler is None or self.next_sentence is None:
            raise ArgumentError("this model has no next-sentence prediction: build it with next_sentence=True")
        y: Tensor = self.next_sentence(pooled(self.pooler, states))
        return y


class SentenceClassifier(Headed):
    """BERT that gives a text, or a pair of texts, one of C labels (Devlin et al. 2019, section 4.1).

    Args:
        encoder: BERT.
        output: E → C.
    """

    def __init__(self, encoder: BERT, output: nn.Linear) -> None:
        super().__init__(encoder, output)
        self.pooler = nn.Linear(self.config.width, self.config.width)
        self.dropout = Dropout(self.config.dropout)

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor,
        types: Tensor | None = None,
        mask: Mask | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Arguments as for `BERT.forward`: logits (B, C), from the state of the first token."""
        states = self.encoder(tokens, lengths, types, mask, positions)
        y: Tensor = self.output(self.dropout(pooled(self.pooler, states)))
        return y


class TokenTagger(Headed):
    """BERT that gives each token one of C tags (Devlin et al. 2019, section 5.3).

    Args:
        encoder: BERT.
        output: E → C.
    """

    def __init__(self, encoder: BERT, output: nn.Linear) -> None:
        super().__init__(encoder, output)
        self.dropout = Dropout(self.config.dropout)

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor,
        types: Tensor | None = None,
        mask: Mask | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Arguments as for `BERT.forward`: logits (B, L, C)."""
        states = self.encoder(tokens, lengths, types, mask, positions)
        y: Tensor = self.output(self.dropout(states))
        return y


def pooled(pooler: nn.Linear, states: Tensor) -> Tensor:
    """The text in one vector: tanh(W h_[CLS] + b), of states (B, L, E): (B, E)."""
    return torch.tanh(pooler(states[:, 0]))


def build_bert(config: BERTConfig) -> BERT:
    """Assemble the encoder with fresh weights (torch's default generator): normal with 0.02, as in the paper's code."""
    width = config.width
    embedding = SegmentEmbedding(
        TokenEmbedding(config.vocabulary, width, scale=1.0),
        LearnedPositions(config.max_length, width),
        TokenEmbedding(config.types, width, scale=1.0),
        nn.LayerNorm(width, config.norm_epsilon),
        config.dropout,
    )
    encoder = BERT(config, embedding, [_block(config) for _ in range(config.layers)])
    _spread(encoder)
    return encoder


def build_masked_language_model(config: BERTConfig, next_sentence: bool = False) -> MaskedLanguageModel:
    """Assemble a masked-language model with fresh weights; see `build_bert`."""
    encoder = build_bert(config)
    output = nn.Linear(config.width, config.vocabulary)
    output.weight = encoder.embedding.tokens.weight
    model = MaskedLanguageModel(encoder, output, next_sentence)
    _spread(model.transform, model.pooler, model.next_sentence)
    nn.init.zeros_(output.bias)
    return model


def build_classifier(config: BERTConfig, labels: int) -> SentenceClassifier:
    """Assemble a classifier of texts with fresh weights; see `build_bert`.

    Args:
        config: of the encoder.
        labels: C.
    """
    model = SentenceClassifier(build_bert(config), nn.Linear(config.width, _at_least_one(labels)))
    _spread(model.pooler, model.output)
    return model


def build_tagger(config: BERTConfig, labels: int) -> TokenTagger:
    """Assemble a tagger of tokens with fresh weights; see `build_bert`.

    Args:
        config: of the encoder.
        labels: C.
    """
    model = TokenTagger(build_bert(config), nn.Linear(config.width, _at_least_one(labels)))
    _spread(model.output)
    return model


def _block(config: BERTConfig) -> SelfAttentionBlock:
    def residual() -> PostNorm:
        return PostNorm(config.width, config.dropout, nn.LayerNorm(config.width, config.norm_epsilon))

    return SelfAttentionBlock(
        MultiHeadAttention(config.width, config.heads, dropout=config.attention_dropout),
        FeedForward(config.width, config.feedforward, config.activation),
        [residual(), residual()],
    )


def _at_least_one(labels: int) -> int:
    if labels < 1:
        raise ArgumentError(f"labels is {labels}: expected 1 or more")
    return labels


def _spread(*modules: nn.Module | None) -> None:
    """Fresh weights; biases begin at 0 and gains at 1."""
    for module in modules:
        for name, parameter in () if module is None else module.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=SPREAD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
