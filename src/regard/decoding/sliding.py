"""Texts longer than a model has positions for: when they are full, the last part of the text is read again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from regard.decoding.prompted import Reader, check_texts
from regard.errors import ArgumentError
from regard.layers.state import State

WINDOW, LENGTH, PLACE = "window", "length", "place"  # this model's own tensors; the model's have a prefix
MODEL, ALONE = "model.", "alone."
NOTHING = -1


class Sliding:
    """A model that goes on when its positions are full.

    A hypothesis' *window* is the part of its text that the model has in front of it: at first all of it. When a token
    more has no position, the window moves: its last `keep` tokens, that one included, are read from the beginning, as
    a text of its own, and what came before is forgotten. Until the positions are full, and from then on within a
    window, log-probabilities are the model's own. Each token is predicted from at least `keep` tokens, once that many
    are there.

    `keep` trades time for context. With keep = positions every token after the first `positions` costs a reading of
    the whole window: that is cropping the text at each step, as nanoGPT does. With half of the positions, the
    default, reading again costs about as much as one step a token does.

    Every hypothesis' window follows from its own text: when one moves, the others of the batch are read again as they
    are. So what is found for a sentence does not depend on the others.

    Args:
        model: reads texts, `GPT` for example.
        positions: how many tokens it has positions for.
        keep: how many tokens are read again, from 1 to `positions`; half of the positions if not given.
        begin: a token that stands in front of every window that is read again, and counts in it: the start symbol of
            a model that has never read a text without one. None: none.

    Raises:
        ArgumentError: positions or keep out of range.
    """

    def __init__(self, model: Reader, positions: int, keep: int | None = None, begin: int | None = None) -> None:
        least = 1 if begin is None else 2
        self.keep = max(least, positions // 2) if keep is None else keep
        if not least <= self.keep <= positions:
            raise ArgumentError(f"keep is {self.keep}; expected {least} to the positions, {positions}")
        self.model = model
        self.positions = positions
        self.begin = begin

    def start(self, prompts: Tensor, lengths: Tensor) -> State:
        """The model's state after texts that fit into its positions.

        Args:
            prompts: int64 (S, K), each row a text and then anything; K may be 0.
            lengths: int64 (S,), how many tokens each text has, fewer than the positions.

        Raises:
            ArgumentError: shapes or dtypes differ from that, or a text is too long.
        """
        check_texts(prompts, lengths, least=0)
        if lengths.numel() and int(lengths.max()) >= self.positions:
            raise ArgumentError(f"lengths are {lengths.tolist()}; expected fewer than {self.positions}, the positions")
        inner = self.model.start(prompts, lengths)
        own = {WINDOW: _right(prompts, lengths), LENGTH: lengths, PLACE: torch.full_like(lengths, inner.position)}
        return State(_prefixed(inner.sentence, MODEL), own | _prefixed(inner.hypothesis, MODEL), inner.position)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The model's step, where a window is full after reading again."""
        window = torch.cat((state.hypothesis[WINDOW], tokens[:, None]), 1)[:, -self.positions :]  # (N, T)
        length = state.hypothesis[LENGTH] + 1  # (N,) this token's place in the window, from 1
        full = length > self.positions
        if bool(full.any()):
            length = torch.where(full, self.keep, length)
            if self.begin is not None:
                window[:, -self.keep] = torch.where(full, self.begin, window[:, -self.keep])
            inner, alone = self.model.start(_left(window, length - 1), length - 1), True
        else:
            inner, alone = _inner(state)
        log_probs, after = self.model.step(tokens, inner)
        place = torch.full_like(length, after.position)
        own = {WINDOW: window, LENGTH: length, PLACE: place} | _prefixed(after.hypothesis, MODEL)
        if alone:  # every hypothesis was read as a sentence of its own
            return log_probs, State({}, own | _prefixed(after.sentence, ALONE), state.position + 1)
        return log_probs, State(_prefixed(after.sentence, MODEL), own, state.position + 1)


def _inner(state: State) -> tuple[State, bool]:
    """The model's own state, and whether each hypothesis is a sentence of its own in it."""
    alone = _named(state.hypothesis, ALONE)
    sentence = alone or _named(state.sentence, MODEL)
    place = int(state.hypothesis[PLACE][0]) if state.hypothesis[PLACE].numel() else state.position
    return State(sentence, _named(state.hypothesis, MODEL), place), bool(alone)


def _right(texts: Tensor, lengths: Tensor) -> Tensor:
    """Texts (N, K) of these lengths, moved so that all end at the end: (N, T), T the longest."""
    longest = int(lengths.max()) if lengths.numel() else 0
    places = torch.arange(longest, device=texts.device) - (longest - lengths)[:, None]  # (N, T)
    if not longest:
        return texts[:, :0]
    return texts.gather(1, places.clamp(min=0)).masked_fill(places < 0, NOTHING)


def _left(window: Tensor, lengths: Tensor) -> Tensor:
    """Of windows (N, T), but for their last tokens, the last `lengths` tokens, each from the beginning of its row.

    What follows in a row is token 0: (N, K), K the longest.
    """
    longest = int(lengths.max())
    offsets = torch.arange(longest, device=window.device)
    places = (window.shape[1] - 1 - lengths)[:, None] + offsets  # (N, K)
    if not longest:
        return window[:, :0]
    return window.gather(1, places.clamp(max=window.shape[1] - 1)).masked_fill(offsets >= lengths[:, None], 0)


def _prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
