"""What decoding asks of a model, and the checks on what it gives back. Decoding knows nothing else of models."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from regard.errors import ArgumentError
from regard.layers.state import State


class StepModel(Protocol):
    """A model that scores the next token of many hypotheses at once.

    A batch has S sentences and N = S · W hypotheses, sentence-major (see `State`). W is 1 at first and the
    beam's width later; every sentence in the batch always has the same W, and sentences that are done leave
    it with all of theirs.
    """

    def start(self, *batch: Any, **named: Any) -> State:
        """The state before the first token, W = 1: for a translator, the encoded sources.

        Called by whoever calls `greedy` or `beam_search`, which take its result.
        """
        ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Feeds one token to every hypothesis.

        Args:
            tokens: int64 (N,), the last token of each hypothesis: the first time the start symbol.
            state: what `start`, an earlier `step` or a selection of hypotheses returned.

        Returns:
            Natural-log probabilities of the next token (N, V′), floating, −inf where impossible; and the
            new state, its `position` one higher. V′ may exceed the vocabulary and vary between steps: ids
            beyond it are copies from the source, and come back in `tokens` when chosen.
        """
        ...


def first_tokens(state: State, bos: int) -> Tensor:
    """The start symbol for each of the S sentences of a state from `start`: int64 (S,), on the state's device.

    Raises:
        ArgumentError: the state holds no tensor, or does not have exactly one hypothesis per sentence.
    """
    tensors = [*state.sentence.values(), *state.hypothesis.values()]
    if not tensors:
        raise ArgumentError("state holds no tensor; expected one at least, with a leading axis of sentences")
    sentences, hypotheses = tensors[0].shape[0], tensors[-1].shape[0]
    if sentences != hypotheses:
        raise ArgumentError(
            f"state has {hypotheses} hypotheses for {sentences} sentences; expected one for each, as from `start`"
        )
    return torch.full((sentences,), bos, dtype=torch.int64, device=tensors[0].device)


def next_log_probs(model: StepModel, tokens: Tensor, state: State, forbidden: int | None) -> tuple[Tensor, State]:
    """One step of the model, in which the token `forbidden` gets −inf and the others stay as they are.

    Raises:
        ArgumentError: the model did not return one row of floating log-probabilities per hypothesis.
    """
    log_probs, state = model.step(tokens, state)
    if log_probs.dim() != 2 or log_probs.shape[0] != tokens.shape[0] or not log_probs.is_floating_point():
        raise ArgumentError(
            f"model.step returned log-probabilities {tuple(log_probs.shape)} of {log_probs.dtype}; "
            f"expected floating ({tokens.shape[0]}, vocabulary)"
        )
    if forbidden is not None:  # a copy: the model may still need its tensor
        index = torch.tensor([forbidden], device=log_probs.device)
        log_probs = log_probs.index_fill(1, index, -torch.inf)
    return log_probs, state


def check_best(best: Tensor, step: int) -> None:
    """Refuses log-probabilities that are NaN or +inf, given the best ones: both would be among them.

    Raises:
        ArgumentError: with the step's number, from 0.
    """
    if not bool((best < torch.inf).all()):
        raise ArgumentError(
            f"model.step returned NaN or +inf at step {step}; expected log-probabilities, numbers at most 0 or -inf"
        )


def length_limits(max_length: int | Tensor, min_length: int, sentences: Tensor) -> Tensor:
    """The maximum of each sentence: int64 (S,) on the device of `sentences`, a tensor with leading axis S.

    Raises:
        ArgumentError: a maximum below 1, not an integer or not one per sentence; a minimum below 0 or above
            an `int` maximum.
    """
    if min_length < 0:
        raise ArgumentError(f"min_length is {min_length}; expected 0 or more")
    count = sentences.shape[0]
    if isinstance(max_length, int):
        if max_length < max(1, min_length):
            raise ArgumentError(
                f"max_length is {max_length}; expected at least 1 and at least min_length, {min_length}"
            )
        return torch.full((count,), max_length, dtype=torch.int64, device=sentences.device)
    if max_length.shape != (count,) or max_length.is_floating_point() or max_length.is_complex():
        raise ArgumentError(
            f"max_length is a {max_length.dtype} tensor of shape {tuple(max_length.shape)}; "
            f"expected integers of shape ({count},), one per sentence"
        )
    if count and int(max_length.min()) < 1:
        raise ArgumentError(f"max_length has {int(max_length.min())}; expected at least 1 for every sentence")
    return max_length.to(device=sentences.device, dtype=torch.int64)
