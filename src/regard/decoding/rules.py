"""Rules about what may be said next, for any search: they change a model's log-probabilities before it sees them.

`Ruled(model, rules)` is a model itself. Its State carries, beside the model's, the tokens each hypothesis was fed, so
that rules follow hypotheses through every selection. Scores and log-probabilities of hypotheses are those after the
rules, and are not normalised again: a forbidden token's probability is lost, not given to the others, unless
`Renormalized` is the last of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from regard.decoding.merged import merged, part
from regard.decoding.protocol import StepModel
from regard.errors import ArgumentError
from regard.layers.state import State

MODEL, FED = "model", "fed"  # names of the states in the State of `Ruled`


@dataclass(frozen=True)
class Moment:
    """What a rule is told at a step.

    Attributes:
        said: int64 (N, T) the tokens each hypothesis has said so far, without the start symbol.
        model: (N, V′) the model's own log-probabilities, before any rule.
        tensors: the rule's own, leading axis S; hypothesis n belongs to sentence n // (N / S).
    """

    said: Tensor
    model: Tensor
    tensors: Mapping[str, Tensor]


class Rule(Protocol):
    """Changes log-probabilities by what has been said."""

    def tensors(self) -> dict[str, Tensor]:
        """The rule's tensors that are per sentence of the batch, leading axis S; most rules have none."""
        ...

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """New log-probabilities (N, V′) from those that the rules before it left; the argument is not written to."""
        ...


class Ruled:
    """A model that keeps rules.

    Args:
        model: any step model.
        rules: applied in order at each step. Where they leave no token possible, a search does what it does where
            the model leaves none: it cuts.
    """

    def __init__(self, model: StepModel, rules: Sequence[Rule]) -> None:
        self.model = model
        self.rules = tuple(rules)

    def start(self, *batch: Any, **named: Any) -> State:
        """The model's state of a batch, and nothing said.

        Raises:
            ArgumentError: a rule was made for another number of sentences.
        """
        inner = self.model.start(*batch, **named)
        tensors = [*inner.sentence.values(), *inner.hypothesis.values()]
        sentences, device = tensors[0].shape[0], tensors[0].device
        states = {MODEL: inner}
        for name, rule in self._named():
            own = {key: value.to(device) for key, value in rule.tensors().items()}
            if any(value.shape[0] != sentences for value in own.values()):
                found = {key: value.shape[0] for key, value in own.items()}
                raise ArgumentError(f"{type(rule).__name__} is for {found} sentences; the batch has {sentences}")
            states[name] = State(own, {}, inner.position)
        fed = torch.zeros((sentences, 0), dtype=torch.int64, device=device)
        return merged(states | {FED: State({}, {"tokens": fed}, inner.position)})

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The model's step, and the rules applied to its log-probabilities."""
        fed = torch.cat((part(state, FED).hypothesis["tokens"], tokens[:, None]), 1)
        said = fed[:, 1:]  # what is fed first is the start symbol
        model, after = self.model.step(tokens, part(state, MODEL))
        states = {MODEL: after, FED: State({}, {"tokens": fed}, after.position)}
        log_probs = model
        for name, rule in self._named():
            own = part(state, name).sentence
            log_probs = rule.apply(log_probs, Moment(said, model, own))
            states[name] = State(own, {}, after.position)
        return log_probs, merged(states)

    def _named(self) -> list[tuple[str, Rule]]:
        return [(f"rule{i}", rule) for i, rule in enumerate(self.rules)]


@dataclass(frozen=True)
class NoRepeatNgram:
    """No hypothesis says the same `n` tokens in a row twice. Hugging Face: `no_repeat_ngram_size`.

    Raises:
        ArgumentError: n is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ArgumentError(f"NoRepeatNgram: n is {self.n}; expected at least 1")

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """−inf for each token that would complete an n-gram said before."""
        said = moment.said
        if said.shape[1] < self.n:
            return log_probs
        grams = said.unfold(1, self.n, 1)  # (N, T − n + 1, n)
        beginning = said[:, said.shape[1] - self.n + 1 :]  # (N, n − 1)
        rows, places = (grams[:, :, :-1] == beginning[:, None]).all(2).nonzero(as_tuple=True)
        return _forbid(log_probs, rows, grams[rows, places, -1])


@dataclass(frozen=True)
class RepetitionPenalty:
    """Tokens said before become less probable: their log-probability is multiplied by `r`.

    Keskar et al. 2019 (CTRL, arXiv:1909.05858), equation 2, on log-probabilities, which are never positive. Hugging
    Face's `repetition_penalty` does this in beam search; in greedy search and sampling it takes the logits.

    Attributes:
        r: 1 changes nothing; above 1 discourages, below 1 encourages repetition.

    Raises:
        ArgumentError: r is not a number above 0.
    """

    r: float

    def __post_init__(self) -> None:
        if not 0 < self.r < math.inf:
            raise ArgumentError(f"RepetitionPenalty: r is {self.r}; expected a number above 0")

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """r · log p for each token said, however often."""
        vocabulary = log_probs.shape[1]
        said = moment.said.clamp(max=vocabulary)  # ids that are copies from the source may not be offered any more
        again = torch.zeros_like(log_probs, dtype=torch.bool)
        again = torch.nn.functional.pad(again, (0, 1)).scatter(1, said, True)[:, :vocabulary]
        return torch.where(again, log_probs * self.r, log_probs)


@dataclass(frozen=True)
class Forbidden:
    """Sequences of tokens that no hypothesis says.

    Attributes:
        phrases: each a sequence of tokens, at least one; of a longer one only the last token is forbidden, after the
            others.

    Raises:
        ArgumentError: a phrase is empty, or has a negative token.
    """

    phrases: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not all(self.phrases):
            raise ArgumentError("Forbidden: a phrase is empty; expected at least one token in each")
        for phrase in self.phrases:
            if min(phrase) < 0:
                raise ArgumentError(f"Forbidden: a phrase is {tuple(phrase)}; expected tokens, 0 or more")

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """−inf for each token that would complete a phrase."""
        said = moment.said
        for *beginning, last in self.phrases:
            if len(beginning) > said.shape[1]:
                continue
            ends = said[:, said.shape[1] - len(beginning) :]
            rows = (ends == torch.tensor(beginning, device=said.device)).all(1).nonzero().squeeze(1)
            log_probs = _forbid(log_probs, rows, torch.full_like(rows, last))
        return log_probs


@dataclass(frozen=True)
class ForcedPrefix:
    """Each sentence's hypotheses begin with given tokens, and go on as they like.

    A forced token keeps the log-probability that the model gives it, whatever the rules before this one have done to
    it: put this rule last. A sentence's `max_length` still cuts.

    Attributes:
        prefixes: for each sentence of the batch the tokens, none for a free one.
        endings: for each sentence, for each of its tokens, a range [first, last) of ranks: at that place a hypothesis
            may also say any token of such a rank, and is free from there on. That is how a prefix of text ends within
            a longer token. None: there is no such place.
        ranks: int64 (V,) the rank of each token, for `endings`.

    Raises:
        ArgumentError: a negative token; `endings` without `ranks`, or not for the same tokens.
    """

    prefixes: tuple[tuple[int, ...], ...]
    endings: tuple[tuple[tuple[int, int], ...], ...] | None = None
    ranks: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for prefix in self.prefixes:
            if min(prefix, default=0) < 0:
                raise ArgumentError(f"ForcedPrefix: a prefix is {tuple(prefix)}; expected tokens, 0 or more")
        if (self.endings is None) != (self.ranks is None):
            raise ArgumentError("ForcedPrefix: endings and ranks are given together or not at all")
        if self.endings is not None and [*map(len, self.endings)] != [*map(len, self.prefixes)]:
            raise ArgumentError("ForcedPrefix: endings are not for the tokens of prefixes: expected a range for each")

    def tensors(self) -> dict[str, Tensor]:
        """One table (S, P, 3): the token of each place, −1 past the end, and the range of ranks."""
        longest = max(map(len, self.prefixes), default=0)
        table = torch.zeros((len(self.prefixes), longest, 3), dtype=torch.int64)
        table[:, :, 0] = -1
        for row, prefix in enumerate(self.prefixes):
            table[row, : len(prefix), 0] = torch.tensor(prefix, dtype=torch.int64)
            if self.endings is not None and prefix:
                table[row, : len(prefix), 1:] = torch.tensor(self.endings[row])
        return {"prefix": table}

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """The model's own log-probability for what is forced and −inf for all else, as long as a prefix lasts."""
        said, table = moment.said, moment.tensors["prefix"]
        place = said.shape[1]
        if place >= table.shape[1]:
            return log_probs
        table = table.repeat_interleave(log_probs.shape[0] // max(table.shape[0], 1), 0)  # (N, P, 3)
        here = table[:, place]  # (N, 3)
        bound = (said == table[:, :place, 0]).all(1) & (here[:, 0] >= 0)
        if not bool(bound.any()):
            return log_probs
        allowed = torch.arange(log_probs.shape[1], device=said.device) == here[:, :1]
        if self.ranks is not None:
            ranks = self.ranks.to(said.device)
            allowed[:, : ranks.shape[0]] |= (ranks >= here[:, 1:2]) & (ranks < here[:, 2:])
        forced = moment.model.masked_fill(~allowed, -torch.inf)
        return torch.where(bound[:, None], forced, log_probs)


@dataclass(frozen=True)
class Renormalized:
    """What the rules before this one have left of the probabilities sums to 1 again: put it last.

    Hugging Face: `renormalize_logits`. A search's own `min_length` forbids the end after all rules: what it takes away
    stays lost.
    """

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def apply(self, log_probs: Tensor, moment: Moment) -> Tensor:
        """log p − log Σ p; where nothing remains possible, all stays −inf."""
        total = log_probs.logsumexp(1, keepdim=True)  # (N, 1)
        return log_probs - total.masked_fill(total == -torch.inf, 0.0)


def _forbid(log_probs: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    offered = tokens < log_probs.shape[1]  # ids that are copies from the source may not be offered any more
    return log_probs.index_put((rows[offered], tokens[offered]), log_probs.new_full((), -torch.inf))
