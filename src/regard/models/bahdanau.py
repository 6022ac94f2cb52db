"""The encoder–decoder with attention of "Neural Machine Translation by Jointly Learning to Align and Translate"
(Bahdanau, Cho & Bengio 2015): config, module, presets. Equations are those of its appendix A.

config = BahdanauConfig.preset("tiny", source_vocabulary=8000, target_vocabulary=8000)
model = build_bahdanau(config)
hidden = model(source, source_lengths, target)            # (B, T, maxout), teacher-forced
log_probs = model.output(hidden).log_softmax(-1)
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from regard.attention import Mask, Padding
from regard.layers import (
    AdditiveScore,
    DroppedEmbedding,
    KeysValues,
    Maxout,
    Recurrent,
    StackedCells,
    State,
    StepwiseAttention,
)
from regard.layers.dropout import Dropout
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Memory


@dataclass(frozen=True)
class BahdanauConfig(EncoderDecoderConfig):
    """Sizes of Bahdanau's model. The preset `paper` is RNNsearch (appendix A.2.3); `tiny` and `small` are for small
    data and two cores."""

    NAME: ClassVar[str] = "bahdanau"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"embedding": 128, "width": 256, "attention_width": 128, "maxout": 128, "dropout": 0.2},
        "small": {"embedding": 256, "width": 512, "attention_width": 256, "maxout": 256, "dropout": 0.2},
        "paper": {"embedding": 620, "width": 1000, "attention_width": 1000, "maxout": 500},
    }

    embedding: int = 620
    """m, width of token vectors."""
    width: int = 1000
    """n, of the decoder's state and of the encoder's in each direction."""
    attention_width: int = 1000
    """n', inside the score."""
    maxout: int = 500
    """l, what the read-out gives to the output projection."""
    dropout: float = 0.0
    """On token vectors and on the read-out; the paper has none."""

    def words(self) -> str:
        """See `ModelConfig.words`."""
        return (
            f"Bahdanau's RNN with attention, GRU of width {self.width} (encoder in both directions), embedding "
            f"{self.embedding}, additive attention of width {self.attention_width}, maxout {self.maxout}"
        )


class Encoder(nn.Module):
    """Embedding and a GRU in both directions (A.2.1)."""

    def __init__(self, embedding: DroppedEmbedding, recurrent: Recurrent) -> None:
        super().__init__()
        self.embedding = embedding
        self.recurrent = recurrent

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded source (B, S, m) → annotations h_j = [→h_j; ←h_j] (B, S, 2n), and where each direction ended:
        →h after the last position and ←h_1, (B, 2, n)."""
        annotations, last = self.recurrent(x, lengths)
        return annotations, last["hidden"]


class Decoder(nn.Module):
    """A GRU that looks at the annotations before each of its steps (A.2.2).

    Args:
        embedding: E, of the target.
        initial: W_s.
        cross: W_a, U_a and v_a.
        cells: the GRU, which the context is fed to.
        readout: U_o, V_o and C_o as one matrix, and maxout.
        dropout: of the read-out.
    """

    def __init__(
        self,
        embedding: DroppedEmbedding,
        initial: nn.Linear,
        cross: StepwiseAttention,
        cells: StackedCells,
        readout: Maxout,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.initial = initial
        self.cross = cross
        self.cells = cells
        self.readout = readout
        self.dropout = Dropout(dropout)

    def begin(self, annotations: Tensor, backward: Tensor) -> tuple[Tensor, KeysValues]:
        """Annotations (B, S, 2n) and ←h_1 (B, n) → s_0 = tanh(W_s ←h_1), as a stack of one layer (B, 1, n); and
        U_a h_j with the annotations, (B, 1, S, ·)."""
        first = self.initial(backward).to(self.initial.weight.dtype)  # autocast's would be that of all states
        return torch.tanh(first)[:, None], self.cross.keys_values(annotations[:, None])

    def forward(self, tokens: Tensor, annotations: Tensor, backward: Tensor, mask: Mask) -> Tensor:
        """All positions of targets y_0 … y_T−1 (B, T) int64, given annotations (B, S, 2n) and ←h_1 (B, n).

        Returns:
            t_1 … t_T (B, T, l).
        """
        hidden, known = self.begin(annotations, backward)
        embedded = self.embedding(tokens.t())  # (T, B, m): what a step takes lies together
        state = {"hidden": hidden}
        states, queries, contexts = [hidden[:, 0]], [], []
        # unbind and not an index: the gradient of each index would be as large as all positions
        for i, inputs in enumerate(self.cells.inputs(embedded).unbind(0)):
            query = self.cross.queries(states[i])  # (B, n')
            context = self.cross.attend_step(query[:, None, None], known, mask)[:, 0, 0]  # (B, 2n)
            queries.append(query.detach())
            contexts.append(context)
            if i + 1 < len(embedded):  # s_T is read by nothing
                output, state = self.cells.step(inputs, context, state)
                states.append(output)
        if len(states) == 1:  # no step was taken: all parameters have a gradient even so, which several processes need
            states[0] = states[0] + 0.0 * self.cells.step(inputs, context, state)[0]
        together = torch.stack(contexts)  # (T, B, 2n)
        self.cross.seen(torch.stack(queries, 1)[:, None], together.transpose(0, 1)[:, None], known.keys, mask)
        # a copy and no view: sharding hooks what a block returns
        return self.read(torch.stack(states), embedded, together).transpose(0, 1).contiguous()

    def step(self, tokens: Tensor, hidden: Tensor, known: KeysValues, mask: Mask) -> tuple[Tensor, Tensor]:
        """One position of each hypothesis.

        Args:
            tokens: y_i−1 (N,); N = S · W hypotheses, W for each of the S sentences.
            hidden: s_i−1 (N, 1, n).
            known: of the S sentences, (S, 1, K, ·): hypotheses of one are queries of one attention.
            mask: for the S sentences.

        Returns:
            t_i (N, l) and s_i (N, 1, n).
        """
        embedded = self.embedding(tokens)  # (N, m)
        query = self.cross.queries(hidden[:, 0])
        query = query.view(known.keys.shape[0], 1, -1, query.shape[-1])  # (S, 1, W, n')
        context = self.cross.attend_to(query, known, mask).reshape(tokens.shape[0], -1)
        after = self.cells.step(self.cells.inputs(embedded), context, {"hidden": hidden})[1]
        return self.read(hidden[:, 0], embedded, context), after["hidden"]

    def read(self, states: Tensor, embedded: Tensor, contexts: Tensor) -> Tensor:
        """The read-out of s_i−1 (…, n), E y_i−1 (…, m) and c_i (…, 2n): t_i (…, l)."""
        y: Tensor = self.dropout(self.readout(torch.cat([states, embedded, contexts], -1)))
        return y


class Bahdanau(EncoderDecoder):
    """Bahdanau's model (RNNsearch).

        h_j = [→h_j; ←h_j]                                      bidirectional GRU, A.2.1
        s_0 = tanh(W_s ←h_1)
        e_ij = v_a · tanh(W_a s_i−1 + U_a h_j),  α_i = softmax_j(e_ij),  c_i = Σ_j α_ij h_j
        s_i = GRU(s_i−1, [E y_i−1; c_i])
        t̃_i = U_o s_i−1 + V_o E y_i−1 + C_o c_i,  t_ij = max(t̃_i,2j−1, t̃_i,2j),  p(y_i) ∝ exp(W_o t_i)

    The read-out takes s_i−1, as the formula of A.2.2 and the sentence before it say, and as the authors' program does;
    equation 4 of the paper and the left side of that formula have s_i. So y_i−1 reaches y_i through V_o alone, and the
    last state of a target is never computed.

    Differences from the paper: the GRU's reset gate acts after the product (torch's), all layers but W_a and W_o have
    biases, and dropout can be had. Weights begin as those of torch, v_a and the tables normal with variances 1/n' and
    1/m, where the paper has narrower ones, orthogonal U's and v_a = 0; vectors of a table are scaled by √m.

    Args:
        config: kept as `config`, for saving beside the weights.
        encoder, decoder: the two parts.
        output: W_o.
    """

    def __init__(self, config: BahdanauConfig, encoder: Encoder, decoder: Decoder, output: nn.Linear) -> None:
        super().__init__(config, output)
        self.encoder = encoder
        self.decoder = decoder

    def embed(self, source: Tensor) -> Tensor:
        """See `EncoderDecoder.embed`."""
        x: Tensor = self.encoder.embedding(source)
        return x

    def encode(self, embedded: Tensor, source_lengths: Tensor) -> Memory:
        """See `EncoderDecoder.encode`; `last` has →h after the last position and ←h_1, (B, 2, n)."""
        annotations, last = self.encoder(embedded, source_lengths)
        return Memory(annotations, source_lengths, {"hidden": last})

    def decode(self, memory: Memory, target: Tensor) -> Tensor:
        """See `EncoderDecoder.decode`."""
        hidden: Tensor = self.decoder(target, memory.states, memory.last["hidden"][:, 1], Padding(memory.lengths))
        return hidden

    def start(self, source: Tensor, source_lengths: Tensor) -> State:
        """See `EncoderDecoder.start`."""
        memory = self.encode(self.embed(source), source_lengths)
        hidden, known = self.decoder.begin(memory.states, memory.last["hidden"][:, 1])
        sentence = {"keys": known.keys, "annotations": known.values, "lengths": source_lengths}
        return State(sentence=sentence, hypothesis={"hidden": hidden}, position=0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `EncoderDecoder.step`."""
        sentence = state.sentence
        known, mask = KeysValues(sentence["keys"], sentence["annotations"]), Padding(sentence["lengths"])
        read, hidden = self.decoder.step(tokens, state.hypothesis["hidden"], known, mask)
        log_probs = self.output(read).log_softmax(-1)
        return log_probs, State(sentence, {"hidden": hidden}, state.position + 1)

    def blocks(self) -> list[nn.Module]:
        """See `EncoderDecoder.blocks`: the encoder's GRU, and the decoder with its table."""
        return [self.encoder.recurrent, self.decoder]


def build_bahdanau(config: BahdanauConfig) -> Bahdanau:
    """Assemble a model with fresh weights (torch's default generator)."""
    width, annotation = config.width, 2 * config.width
    encoder = Encoder(
        DroppedEmbedding(config.source_vocabulary, config.embedding, config.dropout),
        Recurrent("gru", config.embedding, width, bidirectional=True),
    )
    cross = StepwiseAttention(
        AdditiveScore(config.attention_width),
        query=nn.Linear(width, config.attention_width, bias=False),
        key=nn.Linear(annotation, config.attention_width),
    )
    decoder = Decoder(
        DroppedEmbedding(config.target_vocabulary, config.embedding, config.dropout),
        nn.Linear(width, width),
        cross,
        StackedCells("gru", config.embedding, annotation, width),
        Maxout(width + config.embedding + annotation, config.maxout),
        config.dropout,
    )
    return Bahdanau(config, encoder, decoder, nn.Linear(config.maxout, config.target_vocabulary, bias=False))
