"""The encoder–decoder Transformer of "Attention Is All You Need" (Vaswani et al. 2017): config, module, presets.

config = TransformerConfig.preset("tiny", source_vocabulary=8000, target_vocabulary=8000)
model = build_transformer(config)
hidden = model(source, source_lengths, target)            # (B, T, E), teacher-forced
log_probs = model.output(hidden).log_softmax(-1)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention import Causal, Mask, Padding
from regard.errors import ArgumentError
from regard.layers import (
    FeedForward,
    KeysValues,
    LearnedPositions,
    MultiHeadAttention,
    PositionedEmbedding,
    Positions,
    PostNorm,
    PreNorm,
    Residual,
    SelfAttentionBlock,
    SinusoidalPositions,
    State,
    TokenEmbedding,
)
from regard.layers.feedforward import Activation
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Memory
from regard.models.transformer_embedding import NormalisedEmbedding, Tensor2TensorPositions

CACHE_STEP = 16  # positions by which a decoding cache grows

Norm = Literal["post", "pre"]
PositionKind = Literal["sinusoidal", "learned", "tensor2tensor"]
Sharing = Literal["all", "target", "none"]


@dataclass(frozen=True)
class TransformerConfig(EncoderDecoderConfig):
    """Sizes and choices of an encoder–decoder Transformer. The presets `base` and `big` are those of the paper's table
    3; `tiny` and `small` are for small data and two cores."""

    NAME: ClassVar[str] = "transformer"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"encoder_layers": 4, "decoder_layers": 4, "width": 128, "feedforward": 256, "heads": 4},
        "small": {"encoder_layers": 6, "decoder_layers": 6, "width": 256, "feedforward": 1024, "heads": 4},
        "base": {"encoder_layers": 6, "decoder_layers": 6, "width": 512, "feedforward": 2048, "heads": 8},
        "big": {"width": 1024, "feedforward": 4096, "heads": 16, "dropout": 0.3},
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "norm": get_args(Norm),
        "positions": get_args(PositionKind),
        "activation": get_args(Activation),
        "shared": get_args(Sharing),
    }

    encoder_layers: int = 6
    decoder_layers: int = 6
    width: int = 512
    """E, width of the residual stream."""
    feedforward: int = 2048
    """Width inside the feed-forward networks."""
    heads: int = 8
    key_heads: int | None = None
    """Key/value heads; None is as many as query heads."""
    dropout: float = 0.1
    """On embeddings and on each sub-layer's output."""
    attention_dropout: float = 0.0
    """On attention weights."""
    norm: Norm = "post"
    """LayerNorm after each residual sum (the paper) or before each sub-layer (with a last one at the end)."""
    positions: PositionKind = "sinusoidal"
    """Sines and cosines as in the paper, learned vectors, or sines and cosines as in tensor2tensor (M2M-100)."""
    shared: Sharing = "all"
    """Which of source embedding, target embedding and output projection are one table: all three (needs one
    vocabulary), the two of the target, or none."""
    activation: Activation = "relu"
    """Inside the feed-forward networks; gelu_tanh is the approximation by tanh."""
    embedding_scale: bool = True
    """Whether token vectors are multiplied by √E (the paper, section 3.4)."""
    embedding_norm: bool = False
    """LayerNorm on the sum of token and position vectors (BART)."""
    output_bias: bool = False
    """Whether logits have a bias (Marian)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shared == "all" and self.source_vocabulary != self.target_vocabulary:
            raise ArgumentError(
                f'shared = "all" needs one vocabulary, not {self.source_vocabulary} source and '
                f'{self.target_vocabulary} target tokens: use shared = "target"'
            )
        if self.width % self.heads:
            raise ArgumentError(f"heads = {self.heads} doesn't divide width = {self.width}")
        if self.key_heads is not None and self.heads % self.key_heads:
            raise ArgumentError(f"key_heads = {self.key_heads} doesn't divide heads = {self.heads}")
        if self.positions != "learned" and self.width % 2:
            raise ArgumentError(f"width = {self.width} is odd: sinusoidal positions need an even one")

    def words(self) -> str:
        """See `ModelConfig.words`."""
        return (
            f"Transformer, {self.encoder_layers}+{self.decoder_layers} layers, width {self.width}, feed-forward "
            f"{self.feedforward}, {self.heads} heads, {self.norm}-norm, {self.positions} positions"
        )


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the memory and feed-forward network, each in a residual connection."""

    def __init__(
        self,
        attention: MultiHeadAttention,
        cross: MultiHeadAttention,
        feedforward: FeedForward,
        residuals: list[Residual],
    ) -> None:
        super().__init__()
        self.attention = attention
        self.cross = cross
        self.feedforward = feedforward
        self.attention_residual, self.cross_residual, self.feedforward_residual = residuals

    def forward(self, x: Tensor, memory: Tensor, memory_mask: Mask) -> Tensor:
        """All positions at once: x (B, T, E) and memory (B, S, E) → (B, T, E)."""
        x = self.attention_residual(x, lambda y: self.attention(y, mask=Causal()))
        x = self.cross_residual(x, lambda y: self.cross(y, memory, mask=memory_mask))
        y: Tensor = self.feedforward_residual(x, self.feedforward)
        return y

    def step(self, x: Tensor, cache: Tensor, position: int, memory: KeysValues, memory_mask: Mask) -> Tensor:
        """One position of each hypothesis.

        Args:
            x: (N, 1, E); N = S · W hypotheses, W for each of the S sentences.
            cache: keys and values of the positions so far, (N, 2, G, ≥ position + 1, D); this step's are written in.
            position: which position this is.
            memory: keys and values (S, G, K, D); hypotheses of a sentence share them, as queries of one attention.
            memory_mask: for the S sentences.

        Returns:
            (N, 1, E).
        """

        def past(y: Tensor) -> Tensor:
            q, new = self.attention.project(y)
            cache[:, 0, :, position] = new.keys[:, :, 0]
            cache[:, 1, :, position] = new.values[:, :, 0]
            filled = cache[:, :, :, : position + 1]
            return self.attention.attend_to(q, KeysValues(filled[:, 0], filled[:, 1]))

        def source(y: Tensor) -> Tensor:
            sentences = memory.keys.shape[0]
            q = self.cross.queries(y.view(sentences, -1, y.shape[-1]))  # (S, H, W, D)
            return self.cross.attend_to(q, memory, memory_mask).view(y.shape)

        x = self.attention_residual(x, past)
        x = self.cross_residual(x, source)
        y: Tensor = self.feedforward_residual(x, self.feedforward)
        return y


class Encoder(nn.Module):
    """Embedding and a stack of encoder layers."""

    def __init__(self, embedding: PositionedEmbedding, layers: list[SelfAttentionBlock], norm: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        """Embedded source (B, S, E) → memory (B, S, E)."""
        for layer in self.layers:
            x = layer(x, mask)
        y: Tensor = self.norm(x)
        return y


class Decoder(nn.Module):
    """Embedding and a stack of decoder layers."""

    def __init__(self, embedding: PositionedEmbedding, layers: list[DecoderLayer], norm: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        # a ModuleList doesn't say what it holds
        self.layers = cast(list[DecoderLayer], nn.ModuleList(layers))
        self.norm = norm

    def forward(self, tokens: Tensor, memory: Tensor, memory_mask: Mask) -> Tensor:
        """Ids (B, T) and memory (B, S, E) → hidden states (B, T, E)."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, memory, memory_mask)
        y: Tensor = self.norm(x)
        return y


class Transformer(EncoderDecoder):
    """The encoder–decoder Transformer.

    Args:
        config: kept as `config`, for saving beside the weights.
        encoder, decoder: the two stacks.
        output: projection to the target vocabulary; its weight may be the target embedding's.
    """

    def __init__(self, config: TransformerConfig, encoder: Encoder, decoder: Decoder, output: nn.Linear) -> None:
        super().__init__(config, output)
        self.encoder = encoder
        self.decoder = decoder

    def embed(self, source: Tensor) -> Tensor:
        """See `EncoderDecoder.embed`."""
        x: Tensor = self.encoder.embedding(source)
        return x

    def encode(self, embedded: Tensor, source_lengths: Tensor) -> Memory:
        """See `EncoderDecoder.encode`."""
        return Memory(self.encoder(embedded, Padding(source_lengths)), source_lengths)

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        """See `EncoderDecoder.decode`."""
        hidden: Tensor = self.decoder(target, memory.states, Padding(memory.lengths))
        return hidden

    def start(self, source: Tensor, source_lengths: Tensor) -> State:
        """See `EncoderDecoder.start`."""
        memory = self.encode(self.embed(source), source_lengths).states
        pairs = [torch.stack(layer.cross.keys_values(memory), 1) for layer in self.decoder.layers]
        stacked = torch.stack(pairs, 1)  # (S, L, 2, G, K, D)
        sentences, layers, _, groups, _, width = stacked.shape
        cache = stacked.new_zeros(sentences, layers, 2, groups, 0, width)
        return State({"memory": stacked, "lengths": source_lengths}, {"cache": cache}, 0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `EncoderDecoder.step`; the state's cache is written to."""
        memory, cache, position = state.sentence["memory"], state.hypothesis["cache"], state.position
        if cache.shape[4] == position:
            cache = F.pad(cache, (0, 0, 0, CACHE_STEP))
        mask = Padding(state.sentence["lengths"])
        x = self.decoder.embedding(tokens[:, None], start=position)  # (N, 1, E)
        for i, layer in enumerate(self.decoder.layers):
            x = layer.step(x, cache[:, i], position, KeysValues(memory[:, i, 0], memory[:, i, 1]), mask)
        logits = self.output(self.decoder.norm(x[:, 0]))  # (N, V)
        return logits.log_softmax(-1), State(state.sentence, {"cache": cache}, position + 1)

    def blocks(self) -> list[nn.Module]:
        """The layers of both stacks."""
        return [*self.encoder.layers, *self.decoder.layers]


def build_transformer(config: TransformerConfig) -> Transformer:
    """Assemble a Transformer with fresh weights (torch's default generator)."""
    width = config.width
    scale = None if config.embedding_scale else 1.0  # None is √E
    source_table = TokenEmbedding(config.source_vocabulary, width, scale)
    target_table = source_table if config.shared == "all" else TokenEmbedding(config.target_vocabulary, width, scale)
    output = nn.Linear(width, config.target_vocabulary, bias=config.output_bias)
    if config.output_bias:
        nn.init.zeros_(output.bias)
    if config.shared == "none":
        nn.init.normal_(output.weight, std=width**-0.5)
    else:
        output.weight = target_table.weight
    return Transformer(
        config,
        Encoder(
            _embedding(config, source_table),
            [_encoder_layer(config) for _ in range(config.encoder_layers)],
            _last(config),
        ),
        Decoder(
            _embedding(config, target_table),
            [_decoder_layer(config) for _ in range(config.decoder_layers)],
            _last(config),
        ),
        output,
    )


def _embedding(config: TransformerConfig, table: TokenEmbedding) -> PositionedEmbedding:
    kinds: dict[str, Callable[[int, int], Positions]] = {
        "sinusoidal": SinusoidalPositions,
        "learned": LearnedPositions,
        "tensor2tensor": Tensor2TensorPositions,
    }
    positions = kinds[config.positions](config.max_length, config.width)
    kind = NormalisedEmbedding if config.embedding_norm else PositionedEmbedding
    return kind(table, positions, config.dropout)


def _attention(config: TransformerConfig) -> MultiHeadAttention:
    return MultiHeadAttention(config.width, config.heads, key_heads=config.key_heads, dropout=config.attention_dropout)


def _feedforward(config: TransformerConfig) -> FeedForward:
    return FeedForward(config.width, config.feedforward, config.activation)


def _residuals(config: TransformerConfig, count: int) -> list[Residual]:
    kinds: dict[str, type[Residual]] = {"post": PostNorm, "pre": PreNorm}
    return [kinds[config.norm](config.width, config.dropout) for _ in range(count)]


def _encoder_layer(config: TransformerConfig) -> SelfAttentionBlock:
    return SelfAttentionBlock(_attention(config), _feedforward(config), _residuals(config, 2))


def _decoder_layer(config: TransformerConfig) -> DecoderLayer:
    feedforward = _feedforward(config)  # first: fresh weights follow from the order in which they are drawn
    return DecoderLayer(_attention(config), _attention(config), feedforward, _residuals(config, 3))


def _last(config: TransformerConfig) -> nn.Module:
    """What follows the last layer: pre-norm leaves the residual stream unnormalised, post-norm doesn't."""
    return nn.LayerNorm(config.width) if config.norm == "pre" else nn.Identity()
