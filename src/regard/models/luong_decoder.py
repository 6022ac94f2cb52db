"""Luong's decoder, without and with input feeding (Luong, Pham & Manning 2015, section 3)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from regard.attention import Padding
from regard.layers import Attention, DroppedEmbedding, KeysValues, Recurrent, StackedCells, StepwiseAttention
from regard.layers.dropout import Dropout
from regard.models.luong_attention import Focus

Tensors = dict[str, Tensor]


class Decoder(nn.Module, ABC):
    """What decoders with and without input feeding have in common: all but the recurrence.

    Args:
        embedding: of the target.
        cross: compares states of decoder and encoder.
        focus: where it may look.
        join: W_c, (2 W → W).
        dropout: of the attentional state.
    """

    def __init__(
        self, embedding: DroppedEmbedding, cross: Attention, focus: Focus, join: nn.Linear, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.cross = cross
        self.focus = focus
        self.join = join
        self.dropout = Dropout(dropout)

    @abstractmethod
    def forward(self, tokens: Tensor, memory: Tensor, lengths: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """All positions of targets (teacher forcing).

        Args:
            tokens: (B, T) int64.
            memory: states of the encoder's top layer (B, S, W).
            lengths: of the sources (B,) int64.
            hidden, cell: that the encoder ended with, (B, L, W) each.

        Returns:
            attentional states h̃_t, (B, T, W).
        """

    @abstractmethod
    def begin(self, hidden: Tensor, cell: Tensor) -> Tensors:
        """What each hypothesis starts with, from what the encoder ended with."""

    @abstractmethod
    def step(
        self, tokens: Tensor, known: KeysValues, padding: Padding, position: int, past: Tensors
    ) -> tuple[Tensor, Tensors]:
        """One position of each hypothesis.

        Args:
            tokens: (N,) int64; N = S · hypotheses of each sentence.
            known: keys and values (S, 1, K, W); hypotheses of a sentence share them, as queries of one attention.
            padding: of the S sentences.
            position: which position this is, the same for all.
            past: from `begin` or the last step.

        Returns:
            attentional states (N, W), and what the next step takes as `past`.
        """

    def attentional(self, context: Tensor, states: Tensor) -> Tensor:
        """h̃ = tanh(W_c [c; h]) (eq. 5): (…, W) of each → (…, W)."""
        y: Tensor = self.dropout(torch.tanh(self.join(torch.cat([context, states], -1))))
        return y


class PlainDecoder(Decoder):
    """Without input feeding: the LSTM runs over all positions at once, and attention is one call.

    Args are those of `Decoder`, and
        recurrent: the LSTM.
    """

    def __init__(
        self,
        embedding: DroppedEmbedding,
        cross: Attention,
        focus: Focus,
        join: nn.Linear,
        dropout: float,
        recurrent: Recurrent,
    ) -> None:
        super().__init__(embedding, cross, focus, join, dropout)
        self.recurrent = recurrent

    def forward(self, tokens: Tensor, memory: Tensor, lengths: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        states, _ = self.recurrent(self.embedding(tokens), state={"hidden": hidden, "cell": cell})  # (B, T, W)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        context = self._look(states[:, None], positions, self.cross.keys_values(memory[:, None]), Padding(lengths))
        return self.attentional(context[:, 0], states)

    def begin(self, hidden: Tensor, cell: Tensor) -> Tensors:
        """See `Decoder.begin`."""
        return {"hidden": hidden, "cell": cell}

    def step(
        self, tokens: Tensor, known: KeysValues, padding: Padding, position: int, past: Tensors
    ) -> tuple[Tensor, Tensors]:
        """See `Decoder.step`."""
        states, after = self.recurrent(self.embedding(tokens[:, None]), state=past)  # (N, 1, W)
        queries = states.reshape(known.keys.shape[0], 1, -1, states.shape[-1])
        context = self._look(queries, torch.tensor([position], device=tokens.device), known, padding)
        return self.attentional(context.reshape(states.shape), states)[:, 0], after

    def _look(self, states: Tensor, positions: Tensor, known: KeysValues, padding: Padding) -> Tensor:
        """Contexts of states (S, 1, Q, W)."""
        return self.cross.attend_to(self.cross.queries(states), known, *self.focus(states, positions, padding))


class FeedingDecoder(Decoder):
    """With input feeding: h̃_{t−1} is part of the LSTM's input at t (section 3.3), 0 before the first position.

    Args are those of `Decoder`, `cross` being step by step, and
        cells: the LSTM.
    """

    cross: StepwiseAttention

    def __init__(
        self,
        embedding: DroppedEmbedding,
        cross: StepwiseAttention,
        focus: Focus,
        join: nn.Linear,
        dropout: float,
        cells: StackedCells,
    ) -> None:
        super().__init__(embedding, cross, focus, join, dropout)
        self.cells = cells

    def forward(self, tokens: Tensor, memory: Tensor, lengths: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """See `Decoder.forward`."""
        known, padding = self.cross.keys_values(memory[:, None]), Padding(lengths)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        # positions first, so that what a step takes lies together; and unbind, since the gradient of an index is as
        # large as all positions, each time
        inputs = self.cells.inputs(self.embedding(tokens.t())).unbind(0)  # T times (B, gates · W)
        past = self.begin(hidden, cell)
        states, contexts, outputs = [], [], []
        for x, position in zip(inputs, positions[:, None], strict=True):
            state, context, past = self._step(x, known, padding, position, past)
            states.append(state.detach())
            contexts.append(context.detach())
            outputs.append(past["fed"])
        self._show(torch.stack(states, 1)[:, None], torch.cat(contexts, 2), positions, known, padding)
        return torch.stack(outputs, 1)

    def begin(self, hidden: Tensor, cell: Tensor) -> Tensors:
        """See `Decoder.begin`."""
        return {"hidden": hidden, "cell": cell, "fed": torch.zeros_like(hidden[:, 0])}

    def step(
        self, tokens: Tensor, known: KeysValues, padding: Padding, position: int, past: Tensors
    ) -> tuple[Tensor, Tensors]:
        """See `Decoder.step`."""
        where = torch.tensor([position], device=tokens.device)
        x = self.cells.inputs(self.embedding(tokens))
        state, context, past = self._step(x, known, padding, where, past)
        self._show(state.view(context.shape), context, where, known, padding)
        return past["fed"], past

    def _step(
        self, x: Tensor, known: KeysValues, padding: Padding, position: Tensor, past: Tensors
    ) -> tuple[Tensor, Tensor, Tensors]:
        """h_t (N, W), c_t (S, 1, N / S, W), and what the next step takes, in which "fed" is h̃_t."""
        state, after = self.cells.step(x, past["fed"], past)
        states = state.view(known.keys.shape[0], 1, -1, state.shape[-1])  # (S, 1, N / S, W)
        sight = self.focus(states, position, padding)
        context = self.cross.attend_step(self.cross.queries(states), known, *sight)
        return state, context, {**after, "fed": self.attentional(context.reshape(state.shape), state)}

    @torch.no_grad()
    def _show(self, states: Tensor, contexts: Tensor, positions: Tensor, known: KeysValues, padding: Padding) -> None:
        """Let observers see the attention of states (S, 1, Q, W)."""
        self.cross.seen(self.cross.queries(states), contexts, known.keys, *self.focus(states, positions, padding))
