"""Sequence to sequence with one context vector and no attention: config, module, presets.

What a source says goes through a vector of one width, however long the source is: handed over as the decoder's first
state (Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks"), or fed to it at every step (Cho et
al. 2014, "Learning Phrase Representations using RNN Encoder–Decoder"; equations are those of its appendix A.1).

config = RNNSeq2SeqConfig.preset("tiny", source_vocabulary=8000, target_vocabulary=8000)
model = build_rnn_seq2seq(config)
hidden = model(source, source_lengths, target)            # (B, T, ·), teacher-forced
log_probs = model.output(hidden).log_softmax(-1)

What differs from Cho's paper: the GRU is torch's, so that fused code applies (see `regard.layers.recurrent`; nor does
its reset gate act on C c), and the output matrix is not a product of two of rank 100. Fresh weights are neither
paper's but torch's, in the tables normal with variance 1/E, and vectors of a table are scaled by √E.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from regard.layers import DroppedEmbedding, Maxout, Recurrent, RecurrentState, State
from regard.layers.dropout import Dropout
from regard.layers.recurrent import STATES, CellKind
from regard.models.encoder_decoder import EncoderDecoderConfig, Memory
from regard.models.recurrent_encoder import Encoder, RecurrentReader, source_order

ContextKind = Literal["first", "every"]


@dataclass(frozen=True)
class RNNSeq2SeqConfig(EncoderDecoderConfig):
    """Sizes and choices of a sequence-to-sequence model without attention. The presets `sutskever` and `cho` are the
    papers'; `tiny` and `small` are for small data and two cores."""

    NAME: ClassVar[str] = "rnn_seq2seq"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"layers": 1, "embedding": 128, "width": 256},
        "small": {"layers": 2, "embedding": 256, "width": 512},
        "sutskever": {"layers": 4, "embedding": 1000, "width": 1000, "dropout": 0.0},
        "cho": {
            "cell": "gru",
            "layers": 1,
            "embedding": 100,
            "width": 1000,
            "reverse_source": False,
            "context": "every",
            "maxout": 500,
            "dropout": 0.0,
        },
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"cell": get_args(CellKind), "context": get_args(ContextKind)}

    cell: CellKind = "lstm"
    layers: int = 1
    """Of the encoder, and of the decoder."""
    embedding: int = 256
    """Width of token vectors."""
    width: int = 512
    """W, of each layer (and direction), and of the context vector."""
    bidirectional: bool = False
    """The encoder also reads backwards; what both directions end with is joined."""
    reverse_source: bool = True
    """The encoder reads the words of the source from the last to the first, and then `<eos>`."""
    context: ContextKind = "first"
    """Where the source goes: the decoder begins with the encoder's last state, or a context vector made of it is fed to
    the decoder at every step."""
    maxout: int = field(default=0, metadata={"least": 0})
    """What the maxout read-out gives to the output projection; with 0 the decoder's state itself is what it takes."""
    dropout: float = 0.2
    """On token vectors, between layers and on what the output projection takes; the papers have none."""

    def words(self) -> str:
        """See `ModelConfig.words`."""
        cell = {"lstm": "LSTM", "gru": "GRU", "rnn": "simple RNN"}[self.cell]
        parts = [
            f"Sequence to sequence, {self.layers}+{self.layers} {cell} layers of width {self.width}",
            "encoder in both directions" if self.bidirectional else "",
            "source reversed" if self.reverse_source else "",
            f"embedding {self.embedding}",
            "one context vector at " + ("the start" if self.context == "first" else "every step"),
            f"maxout {self.maxout}" if self.maxout else "",
        ]
        return ", ".join(part for part in parts if part)


class Context(nn.Module, ABC):
    """What a decoder is told of a source.

    Attributes:
        width: C, of the vector that it is fed at every step; 0 is none.
    """

    width: int

    @abstractmethod
    def forward(self, last: RecurrentState) -> tuple[RecurrentState, Tensor]:
        """What the encoder ends with, (B, L, D·W) by name → the decoder's first state (B, L, W) by name, and the vector
        for every step (B, C)."""


class LayerwiseLinear(nn.Module):
    """A matrix and bias of its own for each layer's vector.

    Args:
        layers: L.
        input_width: I.
        width: W.
    """

    def __init__(self, layers: int, input_width: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(input_width, width) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, I) → (B, L, W)."""
        return torch.stack([layer(part) for layer, part in zip(self.layers, x.unbind(1), strict=True)], 1)


class LastState(Context):
    """The decoder begins with the encoder's last state, layer by layer, and is told nothing more (Sutskever et al.).

    Args:
        parts: names of a state's tensors.
        layers: L.
        directions: D, of the encoder. One direction's state is handed over as it is; those of two are joined, and a
            matrix for each layer and tensor brings them to the decoder's width.
        width: W.
    """

    def __init__(self, parts: tuple[str, ...], layers: int, directions: int, width: int) -> None:
        super().__init__()
        self.width = 0
        self.bridges = nn.ModuleDict(
            {
                name: nn.Identity() if directions == 1 else LayerwiseLinear(layers, directions * width, width)
                for name in parts
            }
        )

    def forward(self, last: RecurrentState) -> tuple[RecurrentState, Tensor]:
        """See `Context.forward`."""
        return {name: bridge(last[name]) for name, bridge in self.bridges.items()}, last["hidden"][:, 0, :0]


class FedContext(Context):
    """c = tanh(V h_N) of the last layer's last state h_N; the decoder begins with h'_0 = tanh(V' c), and is fed c at
    every step (Cho et al., A.1.1 and A.1.2). Each layer, and the LSTM's cell, has a V' of its own.

    Args:
        parts: names of a state's tensors.
        layers: L.
        directions: D, of the encoder.
        width: W, also of c.
    """

    def __init__(self, parts: tuple[str, ...], layers: int, directions: int, width: int) -> None:
        super().__init__()
        self.width, self.parts, self.layers = width, parts, layers
        self.summary = nn.Linear(directions * width, width)
        self.first = nn.Linear(width, len(parts) * layers * width)

    def forward(self, last: RecurrentState) -> tuple[RecurrentState, Tensor]:
        """See `Context.forward`."""
        c = torch.tanh(self.summary(last["hidden"][:, -1]))  # (B, W)
        first = torch.tanh(self.first(c)).view(c.shape[0], len(self.parts), self.layers, -1)
        return dict(zip(self.parts, first.unbind(1), strict=True)), c


class StateReadout(nn.Module):
    """The decoder's state itself goes to the output projection (Sutskever et al.).

    Args:
        width: W, of the state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, state: Tensor, inputs: Tensor) -> Tensor:
        """States h' (…, W) and what led to them → h'."""
        return state


class MaxoutReadout(nn.Module):
    """s = maxout(O_h h' + O_y e(y) + O_c c), pairs of which the larger is taken (Cho et al., A.1.2).

    Args:
        state_width: W.
        input_width: of e(y) and c together.
        width: of s.
    """

    def __init__(self, state_width: int, input_width: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.maxout = Maxout(state_width + input_width, width)

    def forward(self, state: Tensor, inputs: Tensor) -> Tensor:
        """States h' (…, W) and [e(y); c] (…, E + C) → s."""
        s: Tensor = self.maxout(torch.cat([state, inputs], -1))
        return s


class Decoder(nn.Module):
    """Embedding, recurrent layers and a read-out.

    Args:
        embedding: of the target.
        context: what is made of the source.
        recurrent: the layers, which read [e(y); c].
        readout: what the output projection takes.
        dropout: on that.
    """

    def __init__(
        self,
        embedding: DroppedEmbedding,
        context: Context,
        recurrent: Recurrent,
        readout: StateReadout | MaxoutReadout,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.context = context
        self.recurrent = recurrent
        self.readout = readout
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, last: RecurrentState) -> Tensor:
        """Ids (B, T) and what the encoder ends with, (B, L, D·W) by name → (B, T, ·)."""
        state, c = self.context(last)
        return self.advance(tokens, state, c)[0]

    def advance(self, tokens: Tensor, state: RecurrentState, c: Tensor) -> tuple[Tensor, RecurrentState]:
        """Read tokens.

        Args:
            tokens: (N, T) int64.
            state: before the first of them, (N, L, W) by name.
            c: context vectors (N, C).

        Returns:
            what the output projection takes (N, T, ·), and the state after the last.
        """
        embedded = self.embedding(tokens)  # (N, T, E)
        inputs = torch.cat([embedded, c[:, None].expand(-1, tokens.shape[1], -1)], -1)  # (N, T, E + C)
        states, state = self.recurrent(inputs, None, state)
        return self.dropout(self.readout(states, inputs)), state


class RNNSeq2Seq(RecurrentReader):
    """Two recurrent networks and one vector between them.

    Args:
        config: kept as `config`, for saving beside the weights.
        encoder, decoder: the two networks.
        output: projection to the target vocabulary.
    """

    def __init__(self, config: RNNSeq2SeqConfig, encoder: Encoder, decoder: Decoder, output: nn.Linear) -> None:
        super().__init__(config, encoder, output)
        self.decoder = decoder

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        """See `EncoderDecoder.decode`; only `memory.last` is read."""
        hidden: Tensor = self.decoder(target, memory.last)
        return hidden

    def start(self, source: Tensor, source_lengths: Tensor) -> State:
        """See `EncoderDecoder.start`."""
        first, c = self.decoder.context(self.encode(self.embed(source), source_lengths).last)
        return State({"context": c}, first, 0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `EncoderDecoder.step`."""
        c = state.sentence["context"]  # (S, C)
        repeats = tokens.shape[0] // max(1, c.shape[0])
        contexts = c[:, None].expand(-1, repeats, -1).flatten(0, 1)  # (N, C)
        hidden, after = self.decoder.advance(tokens[:, None], state.hypothesis, contexts)
        logits = self.output(hidden[:, 0])  # (N, V)
        return logits.log_softmax(-1), State(state.sentence, after, state.position + 1)

    def blocks(self) -> list[nn.Module]:
        """The recurrent layers of both sides: what lies between them and the loss is smaller."""
        return [self.encoder.recurrent, self.decoder.recurrent]


def build_rnn_seq2seq(config: RNNSeq2SeqConfig) -> RNNSeq2Seq:
    """Assemble a model with fresh weights (torch's default generator)."""
    contexts: dict[str, type[LastState] | type[FedContext]] = {"first": LastState, "every": FedContext}
    directions = 2 if config.bidirectional else 1
    context = contexts[config.context](STATES[config.cell], config.layers, directions, config.width)
    encoder = Encoder(
        DroppedEmbedding(config.source_vocabulary, config.embedding, config.dropout),
        source_order(config.reverse_source),
        Recurrent(
            config.cell,
            config.embedding,
            config.width,
            config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        ),
    )
    input_width = config.embedding + context.width
    readout: StateReadout | MaxoutReadout = (
        MaxoutReadout(config.width, input_width, config.maxout) if config.maxout else StateReadout(config.width)
    )
    decoder = Decoder(
        DroppedEmbedding(config.target_vocabulary, config.embedding, config.dropout),
        context,
        Recurrent(config.cell, input_width, config.width, config.layers, dropout=config.dropout),
        readout,
        config.dropout,
    )
    return RNNSeq2Seq(config, encoder, decoder, nn.Linear(readout.width, config.target_vocabulary, bias=False))
