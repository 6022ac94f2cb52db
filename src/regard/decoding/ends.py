"""Models that end a text with one of several tokens, or with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.decoding.protocol import StepModel
from regard.errors import ArgumentError
from regard.layers.state import State


class Ends:
    """A model with one end symbol in place of the several, or no, tokens that end its texts.

    The end symbol is a new token, `eos`, whose probability is the sum of theirs; they themselves can't be said any
    more. So a text is ended by whichever of them, samples are distributed as the model's own, and a beam search finds
    no text twice that differs in its end alone. (Hugging Face's `generate` compares the tokens one by one: greedy and
    beam search differ where several of them are probable at once.) Without any the end symbol is impossible.

    Args:
        model: any step model whose vocabulary is the same at every step.
        ends: the tokens that end a text; there may be none.
        vocabulary: how many tokens there are to say. Those beyond are the padding of some models' tables, and can't
            be said.

    Attributes:
        eos: the end symbol, for searches: `vocabulary`.

    Raises:
        ArgumentError: an end that is not in the vocabulary.
    """

    def __init__(self, model: StepModel, ends: Sequence[int], vocabulary: int) -> None:
        if not all(0 <= end < vocabulary for end in ends):
            raise ArgumentError(f"ends are {list(ends)}; expected tokens from 0 to {vocabulary - 1}")
        self.model = model
        self.ends = tuple(dict.fromkeys(ends))
        self.eos = vocabulary

    def start(self, *batch: Any, **named: Any) -> State:
        """The model's."""
        return self.model.start(*batch, **named)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The model's step: log-probabilities (N, vocabulary + 1).

        A hypothesis that has ended, and is not looked at any more, may be fed `eos`: the model is fed 0.

        Raises:
            ArgumentError: the model has fewer tokens than the vocabulary.
        """
        own, after = self.model.step(tokens.masked_fill(tokens == self.eos, 0), state)
        if own.shape[1] < self.eos:
            raise ArgumentError(f"vocabulary is {self.eos}; the model says {own.shape[1]} tokens")
        log_probs = torch.full((own.shape[0], self.eos + 1), -torch.inf, dtype=own.dtype, device=own.device)
        log_probs[:, :-1] = own[:, : self.eos]
        if self.ends:
            ends = torch.tensor(self.ends, device=own.device)
            log_probs[:, ends] = -torch.inf
            log_probs[:, -1] = own[:, ends].logsumexp(1)
        return log_probs, after
