"""Going on from prompts: a model that reads all but the last token of each, and is fed that one first."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from regard.decoding.merged import merged, part
from regard.decoding.protocol import StepModel
from regard.errors import ArgumentError
from regard.layers.state import State

MODEL, LAST = "model", "prompt.last"


class Reader(StepModel, Protocol):
    """A step model that starts from texts, perhaps empty ones: a decoder-only model."""

    def start(self, prompts: Tensor, lengths: Tensor) -> State:
        """Reads texts.

        Args:
            prompts: int64 (S, K), each row a text and then anything; K may be 0.
            lengths: int64 (S,), how many tokens each text has.
        """
        ...


class Prompted:
    """A model that goes on from prompts, for any search.

    Searches feed a start symbol to every hypothesis first. Instead of it, whatever it is, this one feeds each prompt's
    last token; what follows is the search's. Rules and what a search returns are about what is said, not about the
    prompt.

    Args:
        model: reads texts, `GPT` for example, or a model around one (`Sliding`, an `Ensemble` of several).
    """

    def __init__(self, model: StepModel) -> None:
        self.model = model

    def start(self, prompts: Tensor, lengths: Tensor) -> State:
        """The model's state after all but the last token of each prompt.

        Args:
            prompts: int64 (S, K), each row a prompt and then anything.
            lengths: int64 (S,), how many tokens each prompt has, 1 at least.

        Raises:
            ArgumentError: shapes or dtypes differ from that, or a length is not from 1 to K.
        """
        check_texts(prompts, lengths, least=1)
        longest = int(lengths.max()) if lengths.numel() else 1
        last = prompts.gather(1, (lengths - 1)[:, None])[:, 0]  # (S,)
        inner = self.model.start(prompts[:, : longest - 1], lengths - 1)
        state = merged({MODEL: inner})
        return State(state.sentence, {**state.hypothesis, LAST: last}, state.position)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The model's step; the first one with the prompts' last tokens."""
        last = state.hypothesis.get(LAST)
        log_probs, after = self.model.step(tokens if last is None else last, part(state, MODEL))
        return log_probs, merged({MODEL: after})


def check_texts(texts: Tensor, lengths: Tensor, *, least: int) -> None:
    """Refuse what is not texts (S, K) with lengths (S,) from `least` to K, all int64.

    Raises:
        ArgumentError: the message says which.
    """
    for name, tensor, axes in (("prompts", texts, 2), ("lengths", lengths, 1)):
        if tensor.dtype != torch.int64 or tensor.dim() != axes or tensor.shape[0] != texts.shape[0]:
            expected = "(S, K)" if axes == 2 else f"({texts.shape[0]},)"
            raise ArgumentError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected int64 {expected}")
    if lengths.numel() and not (least <= int(lengths.min()) and int(lengths.max()) <= texts.shape[1]):
        raise ArgumentError(f"lengths are {lengths.tolist()}; expected {least} to {texts.shape[1]}")
