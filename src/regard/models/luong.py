"""The encoder–decoder of "Effective Approaches to Attention-based Neural Machine Translation" (Luong, Pham & Manning
2015): config, module, presets. Its decoders are in `luong_decoder`, where they may look in `luong_attention`.

config = LuongConfig.preset("tiny", source_vocabulary=8000, target_vocabulary=8000)
model = build_luong(config)
hidden = model(source, source_lengths, target)            # (B, T, W), teacher-forced
log_probs = model.output(hidden).log_softmax(-1)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args

from torch import Tensor, nn

from regard.attention import Dot, Padding
from regard.layers import (
    AdditiveScore,
    Attention,
    DroppedEmbedding,
    KeysValues,
    Recurrent,
    StackedCells,
    State,
    StepwiseAttention,
)
from regard.models.encoder_decoder import EncoderDecoderConfig, Memory
from regard.models.luong_attention import Focus, Global, LocalMonotonic, LocalPredictive
from regard.models.luong_decoder import Decoder, FeedingDecoder, PlainDecoder
from regard.models.recurrent_encoder import Encoder, RecurrentReader, source_order

ScoreName = Literal["dot", "general", "concat"]
AttentionName = Literal["global", "local-m", "local-p"]
A = TypeVar("A", bound=Attention)


@dataclass(frozen=True)
class LuongConfig(EncoderDecoderConfig):
    """Sizes and choices of Luong's model. The preset `paper` is the best single model of its table 1 (local-p, general,
    input feeding, reversed source, dropout); `tiny` and `small` are for small data and two cores."""

    NAME: ClassVar[str] = "luong"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"layers": 1, "embedding": 128, "width": 256},
        "small": {"layers": 2, "embedding": 256, "width": 512},
        "paper": {"attention": "local-p", "reverse_source": True},
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "score": get_args(ScoreName),
        "attention": get_args(AttentionName),
    }

    layers: int = 4
    """L, of the encoder's LSTM and of the decoder's."""
    embedding: int = 1000
    """E, width of token vectors."""
    width: int = 1000
    """W, of each layer and of the attentional state."""
    score: ScoreName = "general"
    """Of decoder state h and source state m (eq. 8): h · m, h · W m or v · tanh(W [h; m])."""
    attention: AttentionName = "global"
    """Where to look: at the whole source, around the position that the target has reached, or around a predicted one.
    """
    window: int = 10
    """D: how many positions to each side local attention sees."""
    input_feeding: bool = True
    """Whether the attentional state is part of the next position's input."""
    reverse_source: bool = False
    """Whether the encoder reads from the last word to the first; `<eos>` stays last."""
    dropout: float = 0.2
    """On token vectors, between layers and on the attentional state."""

    def words(self) -> str:
        """See `ModelConfig.words`."""
        where = self.attention if self.attention == "global" else f"{self.attention} (window {self.window})"
        return (
            f"Luong's RNN with attention, {self.layers}+{self.layers} LSTM layers, width {self.width}, embedding "
            f"{self.embedding}, {where} attention, {self.score} score, "
            f"{'with' if self.input_feeding else 'without'} input feeding"
            f"{', source reversed' if self.reverse_source else ''}"
        )


class Luong(RecurrentReader):
    """Luong's encoder–decoder with attention.

    Args:
        config: kept as `config`, for saving beside the weights.
        encoder, decoder: the two halves.
        output: W_s, projection of attentional states to the target vocabulary.
    """

    def __init__(self, config: LuongConfig, encoder: Encoder, decoder: Decoder, output: nn.Linear) -> None:
        super().__init__(config, encoder, output)
        self.decoder = decoder

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        """See `EncoderDecoder.decode`."""
        y: Tensor = self.decoder(target, memory.states, memory.lengths, memory.last["hidden"], memory.last["cell"])
        return y

    def start(self, source: Tensor, source_lengths: Tensor) -> State:
        """See `EncoderDecoder.start`; keys are projected here, once."""
        memory = self.encode(self.embed(source), source_lengths)
        known = self.decoder.cross.keys_values(memory.states[:, None])
        sentence = {"keys": known.keys, "values": known.values, "lengths": source_lengths}
        return State(sentence, self.decoder.begin(**memory.last), 0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `EncoderDecoder.step`."""
        known = KeysValues(state.sentence["keys"], state.sentence["values"])
        padding = Padding(state.sentence["lengths"])
        y, past = self.decoder.step(tokens, known, padding, state.position, state.hypothesis)
        return self.output(y).log_softmax(-1), State(state.sentence, past, state.position + 1)

    def blocks(self) -> list[nn.Module]:
        """The encoder's LSTM, and the decoder."""
        return [self.encoder.recurrent, self.decoder]


def build_luong(config: LuongConfig) -> Luong:
    """Assemble Luong's model with fresh weights (torch's default generator)."""
    c = config
    encoder = Encoder(
        DroppedEmbedding(c.source_vocabulary, c.embedding, c.dropout),
        source_order(c.reverse_source),
        Recurrent("lstm", c.embedding, c.width, c.layers, dropout=c.dropout),
    )
    output = nn.Linear(c.width, c.target_vocabulary, bias=False)
    return Luong(c, encoder, _decoder(c), output)


def _decoder(c: LuongConfig) -> Decoder:
    kinds: dict[AttentionName, Callable[[], Focus]] = {
        "global": Global,
        "local-m": lambda: LocalMonotonic(c.window),
        "local-p": lambda: LocalPredictive(c.width, c.window),
    }
    embedding = DroppedEmbedding(c.target_vocabulary, c.embedding, c.dropout)
    focus = kinds[c.attention]()
    join = nn.Linear(2 * c.width, c.width, bias=False)
    if c.input_feeding:
        cells = StackedCells("lstm", c.embedding, c.width, c.width, c.layers, dropout=c.dropout)
        return FeedingDecoder(embedding, _cross(StepwiseAttention, c), focus, join, c.dropout, cells)
    recurrent = Recurrent("lstm", c.embedding, c.width, c.layers, dropout=c.dropout)
    return PlainDecoder(embedding, _cross(Attention, c), focus, join, c.dropout, recurrent)


def _cross(kind: type[A], c: LuongConfig) -> A:
    """Attention with the score of the config; what is projected of the memory is projected once for a sentence."""

    def linear() -> nn.Linear:
        return nn.Linear(c.width, c.width, bias=False)

    if c.score == "dot":
        return kind(Dot())
    if c.score == "general":
        return kind(Dot(), key=linear())
    return kind(AdditiveScore(c.width), query=linear(), key=linear())
