"""The steps of this package's models: what is fed to whom, told to an observer.

Hypotheses carry a number through the state, and sentences too, so that whatever a search selects says what goes on; the
model doesn't see them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regard.interop.watching import Observer
from regard.layers import State

Step = Callable[[Tensor, State], tuple[Tensor, State]]
Start = Callable[[Tensor, Tensor], State]
Extend = Callable[[Tensor, Tensor, int, Tensor | None], Tensor]


class Numbers:
    """Numbers that travel in states: of hypotheses, and of sentences."""

    def __init__(self) -> None:
        self._key = f"followed.{id(self)}"  # each recording of a model has its own
        # numbers of hypotheses are never used again: an older state is told from the newest
        self._first = self._next = 0

    def give(self, state: State, sentences: Tensor, count: int) -> State:
        """The state with a new number for each of `count` hypotheses, and those of the sentences (S,)."""
        self._first, self._next = self._next, self._next + count
        rows = torch.arange(self._first, self._next, device=sentences.device)
        return State({**state.sentence, self._key: sentences}, {**state.hypothesis, self._key: rows}, state.position)

    def take(self, state: State) -> tuple[State, tuple[Tensor, Tensor] | None]:
        """The state without numbers; and which hypothesis of the step before each one is (N,), with the sentences (S,).

        None where the generation began before the recording.
        """
        hypothesis, sentence = {**state.hypothesis}, {**state.sentence}
        rows, sentences = hypothesis.pop(self._key, None), sentence.pop(self._key, None)
        plain = State(sentence, hypothesis, state.position)
        return plain, None if rows is None or sentences is None else (rows - self._first, sentences)


class FollowedTarget:
    """`start` and `step` of an encoder–decoder model.

    Args:
        observer: who is told.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer, self._numbers = observer, Numbers()

    def start(self, own: Start, source: Tensor, source_lengths: Tensor) -> State:
        """See `EncoderDecoder.start`."""
        self._observer.began()
        self._observer.read("source", source, real_places(source, source_lengths))
        state = own(source, source_lengths)
        return self._numbers.give(state, torch.arange(len(source), device=source.device), len(source))

    def step(self, own: Step, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `EncoderDecoder.step`."""
        plain, numbers = self._numbers.take(state)
        if numbers is None:
            for name in ("source", "target"):
                self._observer.read(name, None, None)
            return own(tokens, plain)
        rows, sentences = numbers
        self._observer.fed("target", tokens[:, None], rows, _each(sentences, len(rows)))
        log_probs, after = own(tokens, plain)
        return log_probs, self._numbers.give(after, sentences, len(tokens))


class FollowedText:
    """`start`, `extend` and `step` of a model that goes on from texts.

    Args:
        observer: who is told.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer, self._numbers = observer, Numbers()
        self._prompts: list[Tensor] = []  # what the rows of the last start were fed, (S, n) each
        self._real: Tensor | None = None  # (S, K) bool, False at the padding that shorter prompts begin with
        # what `extend` tells: nothing, that a start reads, or which hypotheses and sentences a step is of
        self._feeds: tuple[Tensor | None, Tensor] | None = None

    def start(self, own: Start, prompts: Tensor, lengths: Tensor) -> State:
        """See `GPT.start`."""
        self._observer.began()
        sentences = torch.arange(len(prompts), device=prompts.device)
        longest = int(lengths.max()) if len(lengths) else 0
        places = torch.arange(longest, device=prompts.device)
        self._prompts, self._real = [], places >= longest - lengths.to(prompts.device)[:, None]
        self._feeds = None, sentences
        try:
            state = own(prompts, lengths)
        finally:
            self._feeds = None
        return self._numbers.give(state, sentences, len(prompts))

    def step(self, own: Step, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `GPT.step`."""
        plain, numbers = self._numbers.take(state)
        if numbers is None:
            self._observer.read("text", None, None)
            return own(tokens, plain)
        rows, sentences = numbers
        self._feeds = rows, _each(sentences, len(rows))
        try:
            log_probs, after = own(tokens, plain)
        finally:
            self._feeds = None
        return log_probs, self._numbers.give(after, sentences, len(tokens))

    def extend(self, own: Extend, tokens: Tensor, cache: Tensor, position: int, first: Tensor | None) -> Tensor:
        """See `GPT.extend`."""
        if self._feeds is not None:
            parents, sentences = self._feeds
            if parents is None:  # a part of the prompts
                assert self._real is not None
                self._prompts.append(tokens.detach().clone())
                self._observer.read("text", tokens, self._real[:, position:])
            self._observer.fed("text", tokens, parents, sentences)
        return own(tokens, cache, position, first)

    def returned(self, sentences: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """See `Observer.returned`: in front of each sequence comes the padding that its prompt began with."""
        fronts: list[list[int]] = []
        if self._prompts and self._real is not None:
            fed = torch.cat(self._prompts, 1).tolist()
            missing = (~self._real).sum(1).tolist()
            fronts = [row[:count] for row, count in zip(fed, missing, strict=True)]
        padded = [[*(fronts[sentence] if fronts else ()), *row] for sentence, row in zip(sentences, ids, strict=True)]
        self._observer.returned(sentences, padded)


def real_places(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Which positions of (B, L) are no padding, of texts of lengths (B,): bool (B, L)."""
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]


def _each(sentences: Tensor, hypotheses: int) -> Tensor:
    """The sentence of each hypothesis."""
    return sentences.repeat_interleave(hypotheses // max(1, len(sentences)))
