"""Decoder-only language models, from GPT-2 (Radford et al. 2019) to Llama (Touvron et al. 2023): config, module,
presets.

config = GPTConfig.preset("gpt-nano", vocabulary=65)
model = build_gpt(config)
hidden = model(tokens)                                    # (B, L, E), each position seeing those up to itself
log_probs = model.output(hidden).log_softmax(-1)
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn

from regard.attention import Causal, Mask
from regard.errors import ArgumentError
from regard.layers import (
    FeedForward,
    GatedFeedForward,
    LearnedPositions,
    MultiHeadAttention,
    PositionedEmbedding,
    PreNorm,
    RotaryPositions,
    Rotation,
    SelfAttentionBlock,
    Since,
    SinusoidalPositions,
    State,
    Stretch,
    TokenEmbedding,
    grown,
)
from regard.layers.feedforward import Activation
from regard.models.config import TextConfig

Norm = Literal["layer", "rms"]
PositionKind = Literal["learned", "rotary", "sinusoidal"]
FeedForwardKind = Literal["plain", "gated"]
Bias = Literal["all", "queries_keys_values", "none"]

PROMPT_CHUNK = 512  # positions of a prompt that are read at a time
SPREAD = 0.02  # of fresh weights
CAUSAL = Causal()

_GPT2: dict[str, Any] = {"dropout": 0.1, "attention_dropout": 0.1, "activation": "gelu_tanh"}
_LLAMA: dict[str, Any] = {
    "norm": "rms",
    "positions": "rotary",
    "activation": "silu",
    "feedforward_kind": "gated",
    "bias": "none",
    "shared": False,
    "dropout": 0.0,
}


@dataclass(frozen=True)
class GPTConfig(TextConfig):
    """Sizes and choices of a decoder-only language model.

    The presets `gpt2` to `gpt2-xl` are the four sizes of Radford et al. 2019, `llama-7b` and `llama-3-8b` those of
    Touvron et al. 2023 and Grattafiori et al. 2024; the others are for small data and small machines.
    """

    NAME: ClassVar[str] = "gpt"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "gpt-nano": {"layers": 4, "width": 128, "feedforward": 512, "heads": 4},
        "gpt-micro": {"layers": 6, "width": 256, "feedforward": 1024, "heads": 8},
        "gpt-mini": {"layers": 8, "width": 512, "feedforward": 2048, "heads": 8},
        "gpt2": _GPT2 | {"layers": 12, "width": 768, "feedforward": 3072, "heads": 12},
        "gpt2-medium": _GPT2 | {"layers": 24, "width": 1024, "feedforward": 4096, "heads": 16},
        "gpt2-large": _GPT2 | {"layers": 36, "width": 1280, "feedforward": 5120, "heads": 20},
        "gpt2-xl": _GPT2 | {"layers": 48, "width": 1600, "feedforward": 6400, "heads": 25},
        "llama-nano": _LLAMA | {"layers": 4, "width": 128, "feedforward": 344, "heads": 4, "key_heads": 2},
        "llama-mini": _LLAMA | {"layers": 8, "width": 512, "feedforward": 1376, "heads": 8, "key_heads": 2},
        "llama-7b": _LLAMA
        | {"layers": 32, "width": 4096, "feedforward": 11008, "heads": 32, "norm_epsilon": 1e-6, "max_length": 2048},
        "llama-3-8b": _LLAMA
        | {
            "layers": 32,
            "width": 4096,
            "feedforward": 14336,
            "heads": 32,
            "key_heads": 8,
            "rotary_base": 500000.0,
            "max_length": 8192,
        },
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "norm": get_args(Norm),
        "positions": get_args(PositionKind),
        "activation": get_args(Activation),
        "feedforward_kind": get_args(FeedForwardKind),
        "bias": get_args(Bias),
    }

    layers: int = 12
    width: int = 768
    """E, width of the residual stream."""
    feedforward: int = 3072
    """Width inside the feed-forward networks."""
    heads: int = 12
    key_heads: int | None = None
    """Key/value heads; None is as many as query heads."""
    head_width: int | None = None
    """Width of a head; None is `width` / `heads`."""
    dropout: float = 0.1
    """On embeddings and on each sub-layer's output."""
    attention_dropout: float = 0.0
    """On attention weights."""
    norm: Norm = "layer"
    """What stands before each sub-layer and at the end: LayerNorm, or RMSNorm (Zhang and Sennrich 2019)."""
    norm_epsilon: float = field(default=1e-5, metadata={"positive": True})
    positions: PositionKind = "learned"
    """A learned or a sinusoidal vector added to each token's, or queries and keys turned (Su et al. 2021)."""
    rotary_base: float = field(default=10000.0, metadata={"positive": True})
    """Of the wavelengths of rotary positions."""
    rotary_factor: float = field(default=1.0, metadata={"positive": True})
    """By how much wavelengths are longer, for texts longer than those that a model was trained with before."""
    rotary_original: int | None = None
    """Positions of those texts: the wavelengths that are short for them stay, as in Llama 3.1; None: all are longer."""
    rotary_low: float = field(default=1.0, metadata={"positive": True})
    """With `rotary_original`: wavelengths that come round within it at most so often are `rotary_factor` longer."""
    rotary_high: float = field(default=4.0, metadata={"positive": True})
    """With `rotary_original`: those that come round at least so often stay."""
    activation: Activation = "gelu"
    """Of the feed-forward networks: `gelu` is exact, `gelu_tanh` approximated as in GPT-2."""
    feedforward_kind: FeedForwardKind = "plain"
    """Two matrices, or three with a gate (Shazeer 2020)."""
    bias: Bias = "all"
    """Which layers have biases: linear ones and LayerNorms; the projections of queries, keys and values; none."""
    shared: bool = True
    """Whether the output projection is the embedding table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.shared) is not bool:
            raise ArgumentError(f"shared is {self.shared!r}: expected true or false")
        if self.head_width is None and self.width % self.heads:
            raise ArgumentError(f"heads = {self.heads} doesn't divide width = {self.width}")
        if self.key_heads is not None and self.heads % self.key_heads:
            raise ArgumentError(f"key_heads = {self.key_heads} doesn't divide heads = {self.heads}")
        if self.positions == "sinusoidal" and self.width % 2:
            raise ArgumentError(f"width = {self.width} is odd: sinusoidal positions need an even one")
        if self.rotary_low >= self.rotary_high:
            raise ArgumentError(f"rotary_high = {self.rotary_high} is not above rotary_low = {self.rotary_low}")
        if self.positions == "rotary" and self.width_of_head % 2:
            raise ArgumentError(f"heads are {self.width_of_head} wide: rotary positions need an even width")

    @property
    def width_of_head(self) -> int:
        """D, given or from `width` and `heads`."""
        return self.width // self.heads if self.head_width is None else self.head_width

    def words(self) -> str:
        """See `ModelConfig.words`."""
        groups = f" ({self.key_heads} of keys)" if self.key_heads not in (None, self.heads) else ""
        gated = "gated " if self.feedforward_kind == "gated" else ""
        return (
            f"GPT, {self.layers} layers, width {self.width}, {gated}feed-forward {self.feedforward}, "
            f"{self.heads} heads{groups}, {self.norm} norm, {self.positions} positions"
        )


class GPT(nn.Module):
    """A decoder-only language model: tokens in, hidden states of the next token out.

        x = tokens + positions;  x += Attention(norm(x));  x += FFN(norm(x));  …;  logits = W_o norm(x)

    It is a model of the step protocol of `regard.decoding`, without a source: `start` reads prompts, `step` feeds one
    token to each hypothesis. It knows no padding id: lengths, or a mask, say what is padding.

    Args:
        config: kept as `config`, for saving beside the weights.
        embedding: of tokens, with what tells their positions if that is added.
        rotary: what turns queries and keys instead, or None.
        layers: the blocks.
        norm: before the output.
        output: projection to the vocabulary, without a bias; its weight may be the embedding's.
    """

    def __init__(
        self,
        config: GPTConfig,
        embedding: PositionedEmbedding,
        rotary: RotaryPositions | None,
        layers: list[SelfAttentionBlock],
        norm: nn.Module,
        output: nn.Linear,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.rotary = rotary
        # a ModuleList doesn't say what it holds
        self.layers = cast(list[SelfAttentionBlock], nn.ModuleList(layers))
        self.norm = norm
        self.output = output

    def forward(self, tokens: Tensor, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """Hidden states of all positions, each seeing those up to itself.

        Args:
            tokens: ids (B, L) int64. Padding at the end needs no mask: what is before it doesn't see it.
            mask: what else limits the sight, such as `Document(ids)` for texts that are packed in one row.
            positions: of the tokens, (L,) or (B, L) int64; None counts from 0. In packed rows each text's begin at 0.

        Returns:
            (B, L, E); `output` makes them logits of the next token.

        Raises:
            ArgumentError: tokens are no table of ids, or a position has no vector (see `PositionedEmbedding`).
        """
        _check_tokens("tokens", tokens, 2)
        x = self.embedding(tokens, 0, positions)
        rotation = self._rotation(x, 0, positions)
        limits = CAUSAL if mask is None else CAUSAL & mask
        for layer in self.layers:
            x = layer(x, limits, rotation)
        y: Tensor = self.norm(x)
        return y

    def start(self, prompts: Tensor, lengths: Tensor) -> State:
        """Read prompts, a chunk of positions at a time: one hypothesis for each, ready for the token after them.

        All tokens that are given are read, and the first `step` feeds the next one: a search that begins with the last
        token of a prompt leaves it out here.

        Args:
            prompts: ids (S, K) int64, padded at the end; K may be 0.
            lengths: (S,) int64, each from 0 to K.

        Returns:
            a state whose `position` is the longest length. The caches of shorter prompts begin with padding:
            hypothesis["first"] (N,) says how much of it, where lengths differ. sentence["lengths"] are those given.

        Raises:
            ArgumentError: prompts and lengths don't fit each other, or a position has no vector.
        """
        _check_tokens("prompts", prompts, 2)
        _check_tokens("lengths", lengths, 1)
        lengths = lengths.to(prompts.device)
        longest, alike = prompts.shape[1], False
        if not torch.compiler.is_compiling():  # nothing is looked at there
            longest, alike = _survey(prompts, lengths)
        cache = self._empty_cache(prompts.shape[0], longest)
        hypothesis, first, tokens = {"cache": cache}, None, prompts[:, :longest]
        if not alike:  # so that all end together, padding goes to the beginning
            first = longest - lengths  # (S,)
            origin = torch.arange(longest, device=prompts.device) - first[:, None]
            tokens = prompts.gather(1, origin.clamp(min=0))
            hypothesis["first"] = first
        for begin in range(0, longest, PROMPT_CHUNK):
            self.extend(tokens[:, begin : begin + PROMPT_CHUNK], cache, begin, first)
        return State({"lengths": lengths}, hypothesis, longest)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Feed one token to each hypothesis; the state's cache is written to.

        Args:
            tokens: (N,) int64.
            state: from `start` or the last `step`; it must not be used again.

        Returns:
            log-probabilities of the next token (N, V), and the state after it.

        Raises:
            ArgumentError: the position has no vector.
        """
        position, first = state.position, state.hypothesis.get("first")
        cache = grown(state.hypothesis["cache"], position + 1)
        hidden = self.extend(tokens[:, None], cache, position, first)[:, 0]  # (N, E)
        log_probs = self.output(self.norm(hidden)).log_softmax(-1)  # (N, V)
        return log_probs, State(state.sentence, {**state.hypothesis, "cache": cache}, position + 1)

    def extend(self, tokens: Tensor, cache: Tensor, position: int, first: Tensor | None) -> Tensor:
        """Read tokens behind what a cache holds; of this `start` and `step` are made.

        Args:
            tokens: (N, L) int64.
            cache: (N, layers, 2, G, ≥ position + L, D), of which `position` are filled; it is written to.
            position: as in a state.
            first: where each row's text begins in the cache (N,), or None where all begin at 0.

        Returns:
            (N, L, E), before the last norm.

        Raises:
            ArgumentError: a position has no vector.
        """
        length = tokens.shape[1]
        positions = None
        mask: Mask | None = CAUSAL if length > 1 else None
        if first is not None:
            places = torch.arange(position, position + length, device=tokens.device)
            positions = (places - first[:, None]).clamp(min=0)  # (N, L)
            since = Since(first)
            mask = since if mask is None else mask & since
        x = self.embedding(tokens, position, positions)
        rotation = self._rotation(x, position, positions)
        for i, layer in enumerate(self.layers):
            x = layer.extend(x, cache[:, i], position, mask, rotation)
        return cast(Tensor, x)

    def blocks(self) -> list[nn.Module]:
        """The layers; see `EncoderDecoder.blocks`."""
        return list(self.layers)

    def _rotation(self, x: Tensor, start: int, positions: Tensor | None) -> Rotation | None:
        """The turns of embedded tokens x (B, L, E) at positions start …, or at `positions`."""
        if self.rotary is None:
            return None
        if positions is None:
            positions = torch.arange(start, start + x.shape[1], device=x.device)
        return cast(Rotation, self.rotary(positions, x.dtype))

    def _empty_cache(self, count: int, capacity: int) -> Tensor:
        """(count, layers, 2, G, capacity, D) zeros, in the dtype that keys and values have."""
        table, attention = self.embedding.tokens.weight, self.layers[0].attention
        device = table.device.type
        automatic = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        shape = (count, len(self.layers), 2, attention.key_heads, capacity, attention.head_width)
        return table.new_zeros(shape, dtype=torch.get_autocast_dtype(device) if automatic else table.dtype)


def build_gpt(config: GPTConfig) -> GPT:
    """Assemble a language model with fresh weights (torch's default generator), spread as those of GPT-2: normal with
    0.02, the projections back into the residual stream by 1 / √(2 · layers) less."""
    table = TokenEmbedding(config.vocabulary, config.width, scale=1.0)
    kinds: dict[str, type[LearnedPositions] | type[SinusoidalPositions]] = {
        "learned": LearnedPositions,
        "sinusoidal": SinusoidalPositions,
    }
    rotary, positions = None, None
    if config.positions == "rotary":
        stretch = None
        if config.rotary_factor != 1:
            stretch = Stretch(config.rotary_factor, config.rotary_original, config.rotary_low, config.rotary_high)
        rotary = RotaryPositions(config.width_of_head, config.rotary_base, stretch)
    else:
        positions = kinds[config.positions](config.max_length, config.width)
    output = nn.Linear(config.width, config.vocabulary, bias=False)
    if config.shared:
        output.weight = table.weight
    model = GPT(
        config,
        PositionedEmbedding(table, positions, config.dropout),
        rotary,
        [_block(config) for _ in range(config.layers)],
        _norm(config),
        output,
    )
    _spread(model, config)
    return model


def _block(config: GPTConfig) -> SelfAttentionBlock:
    attention = MultiHeadAttention(
        config.width,
        config.heads,
        key_heads=config.key_heads,
        head_width=config.head_width,
        dropout=config.attention_dropout,
        bias=config.bias != "none",
        output_bias=config.bias == "all",
    )
    kinds: dict[str, type[FeedForward] | type[GatedFeedForward]] = {"plain": FeedForward, "gated": GatedFeedForward}
    network = kinds[config.feedforward_kind](config.width, config.feedforward, config.activation, config.bias == "all")
    return SelfAttentionBlock(
        attention, network, [PreNorm(config.width, config.dropout, _norm(config)) for _ in range(2)]
    )


def _norm(config: GPTConfig) -> nn.Module:
    if config.norm == "rms":
        return nn.RMSNorm(config.width, config.norm_epsilon)
    return nn.LayerNorm(config.width, config.norm_epsilon, bias=config.bias == "all")


def _spread(model: GPT, config: GPTConfig) -> None:
    """Fresh weights; biases begin at 0 and gains at 1."""
    backward = (".attention.output.weight", ".feedforward.outer.weight")
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            narrower = math.sqrt(2 * config.layers) if name.endswith(backward) else 1.0
            nn.init.normal_(parameter, std=SPREAD / narrower)
        elif name.endswith(".bias"):
            nn.init.zeros_(parameter)


def _survey(prompts: Tensor, lengths: Tensor) -> tuple[int, bool]:
    """The longest of the lengths (S,) of prompts (S, K), and whether all are as long.

    Raises:
        ArgumentError: they don't fit each other.
    """
    count, given = prompts.shape
    known = lengths.tolist()
    if len(known) != count or not all(0 <= n <= given for n in known):
        raise ArgumentError(f"lengths are {known[:8]}: expected {count} from 0 to {given}")
    longest = max(known, default=0)
    return longest, all(n == longest for n in known)


def _check_tokens(name: str, x: Tensor, axes: int) -> None:
    if x.ndim != axes or x.is_floating_point() or x.dtype == torch.bool:
        expected = "(B, L)" if axes == 2 else "(S,)"
        raise ArgumentError(f"{name} is {tuple(x.shape)} {x.dtype}: expected integers {expected}")
