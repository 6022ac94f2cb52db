"""Phrases that must appear in a sequence: what is asked for, and automata that watch how much of it has appeared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from regard.errors import ArgumentError

Phrase: TypeAlias = Sequence[int]
"""Tokens that must appear one right after another."""

Constraint: TypeAlias = Sequence[Phrase]
"""Spellings of one phrase, of which one must appear."""

Constraints: TypeAlias = Sequence[Constraint]
"""What one sentence must contain: all of these; one that is listed n times, n times, without sharing tokens."""

_NO_TOKEN = torch.iinfo(torch.int64).max


def needed_length(constraints: Constraints) -> int:
    """How many tokens the phrases have one after another, each in its shortest spelling; without the end symbol."""
    return sum(min(len(phrase) for phrase in constraint) for constraint in constraints)


def check_constraints(constraints: Constraints, name: str, eos: int) -> None:
    """Refuses what no sequence can contain.

    Raises:
        ArgumentError: a constraint without spellings, an empty spelling, a negative token or `eos` in one; the
            message begins with `name`.
    """
    for number, constraint in enumerate(constraints):
        if not constraint:
            raise ArgumentError(f"{name}: constraint {number} has no spelling; expected at least one")
        for phrase in constraint:
            tokens = list(phrase)
            if not tokens or min(tokens) < 0 or eos in tokens:
                raise ArgumentError(
                    f"{name}: constraint {number} has the spelling {tokens}; "
                    f"expected one token or more, none negative and none the end symbol, {eos}"
                )


class Matcher:
    """Watches for the end of one of several phrases: the automaton of Aho and Corasick (1975).

    What it knows after some tokens is their longest suffix that begins a phrase; `()` is where it starts. So a phrase
    that breaks off falls back to what may still become one: of (1, 1, 2), after 1 1 1, the last two.
    """

    def __init__(self, phrases: Sequence[tuple[int, ...]]) -> None:
        # A phrase in which another lies never ends before that one.
        self.phrases = [one for one in set(phrases) if not any(_lies_in(other, one) for other in phrases)]
        self.tokens = sorted({token for phrase in self.phrases for token in phrase})
        begun = {phrase[:n] for phrase in self.phrases for n in range(len(phrase))}
        self.begun = sorted(begun, key=lambda tokens: (len(tokens), tokens))
        """All states, `()` first."""
        self._ends = set(self.phrases)
        self._begins = set(self.begun)

    def follow(self, begun: tuple[int, ...], token: int) -> tuple[int, ...] | None:
        """The state after one more token; None if a phrase has just ended."""
        suffixes = _suffixes((*begun, token))
        if any(suffix in self._ends for suffix in suffixes):
            return None
        return next(suffix for suffix in suffixes if suffix in self._begins)

    def missing(self, begun: tuple[int, ...]) -> int:
        """How many tokens are missing at least until a phrase has ended."""
        return min(len(rest) for rest in self._rests(begun))

    def offers(self, begun: tuple[int, ...]) -> list[int]:
        """Tokens that bring a phrase nearer: the next of those that have begun, and of the one that ends first."""
        missing = self.missing(begun)
        goes_on = {phrase[len(begun)] for phrase in self.phrases if phrase[: len(begun)] == begun}
        return sorted(goes_on | {rest[0] for rest in self._rests(begun) if len(rest) == missing})

    def _rests(self, begun: tuple[int, ...]) -> list[tuple[int, ...]]:
        """What is missing of every phrase that a suffix of what has been read begins."""
        return [
            phrase[len(suffix) :]
            for suffix in _suffixes(begun)
            for phrase in self.phrases
            if phrase[: len(suffix)] == suffix
        ]


def _lies_in(part: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a shorter phrase lies in another."""
    length = len(part)
    return length < len(whole) and any(whole[n : n + length] == part for n in range(len(whole) - length + 1))


def _suffixes(tokens: tuple[int, ...]) -> list[tuple[int, ...]]:
    """From the longest to the empty one."""
    return [tokens[start:] for start in range(len(tokens) + 1)]


@dataclass(frozen=True)
class Missing:
    """What hypotheses lack, in tokens. All int64, of one shape; 0 where nothing is missing.

    Attributes:
        each: the sum over the constraints of what is missing of each.
        apart: how many tokens surely suffice: the phrase that has most begun is ended, then all others follow from
            their first token. (`each` need not suffice: to end one phrase can break off another.)
        least: how many are needed at least: what is missing of the one that lacks most.
    """

    each: Tensor
    apart: Tensor
    least: Tensor


class ConstraintTables:
    """The automata of all constraints of a batch, as tables that are read for all hypotheses at once.

    Each constraint has its own states, numbered through the batch: how often it has been met, times what has begun.
    State 0 is that of every constraint that is met. A hypothesis has K states, one per different constraint of its
    sentence, 0 for those that others have more of.

    Building them takes Python loops over (tokens in the phrases of a sentence)², reading them a handful of tensor
    operations, whatever the number of sentences.

    Args:
        rows: the constraints of each sentence, checked; at least one sentence has some.
        device: of the tables.

    Attributes:
        start: int64 (S, K) the states before the first token.
        constrained: bool (S,) whether a sentence has constraints.
    """

    def __init__(self, rows: Sequence[Constraints], device: torch.device) -> None:
        different = [
            Counter(tuple(sorted({tuple(map(int, phrase)) for phrase in constraint})) for constraint in row)
            for row in rows
        ]
        vocabularies = [sorted({token for row in one for phrase in row for token in phrase}) for one in different]
        columns = max(map(len, vocabularies))  # C; one more is for all other tokens
        states = [_State([0] * (columns + 1), 0, 0, [])]
        start: list[list[int]] = []
        for row, vocabulary in zip(different, vocabularies, strict=True):
            start.append([])
            for phrases, times in row.items():
                start[-1].append(len(states))
                states += _states(Matcher(phrases), times, vocabulary, columns, first=len(states))
        self.start = _filled(start, 0, device)
        self.constrained = torch.tensor([bool(row) for row in rows], device=device)
        self._tokens = _filled(vocabularies, _NO_TOKEN, device)  # (S, C) rising
        self._next = torch.tensor([state.next for state in states], device=device)  # (states, C + 1)
        self._whole = torch.tensor([state.whole for state in states], device=device)
        self._begun = torch.tensor([state.begun for state in states], device=device)
        self._offers = _filled([state.offers for state in states], -1, device)  # (states, A)

    def follow(self, states: Tensor, tokens: Tensor, sentences: Tensor) -> Tensor:
        """The states (S, M, K) after one more token each, (S, M); `sentences` (S,) says which sentences these are."""
        known = self._tokens[sentences]
        column = torch.searchsorted(known, tokens).clamp(max=known.shape[1] - 1)
        column = column.where(known.gather(1, column) == tokens, known.shape[1])
        return self._next[states, column[:, :, None]]

    def offers(self, states: Tensor) -> Tensor:
        """The tokens that bring a phrase nearer, for states (S, M, K): (S, M, K · A), −1 where there are fewer."""
        return self._offers[states].flatten(2)

    def missing(self, states: Tensor) -> Missing:
        """What is missing of the phrases for states (S, M, K): each (S, M)."""
        whole, begun = self._whole[states], self._begun[states]
        return Missing(each=(whole - begun).sum(2), apart=whole.sum(2) - begun.amax(2), least=(whole - begun).amax(2))


@dataclass(frozen=True)
class _State:
    """A row of the tables."""

    next: list[int]
    whole: int  # tokens of the phrases not yet ended
    begun: int  # of these, said already
    offers: list[int]


def _states(matcher: Matcher, times: int, vocabulary: list[int], columns: int, first: int) -> list[_State]:
    """The states of a constraint that must be met `times` times, numbered from `first`."""
    number = {begun: place for place, begun in enumerate(matcher.begun)}
    shortest = matcher.missing(())
    found = []
    for met in range(times):
        base = first + met * len(number)
        after = base + len(number) if met + 1 < times else 0
        for begun in matcher.begun:
            row = [base] * (columns + 1)
            for token in matcher.tokens:
                following = matcher.follow(begun, token)
                row[vocabulary.index(token)] = after if following is None else base + number[following]
            said = shortest - matcher.missing(begun)
            found.append(_State(row, (times - met) * shortest, said, matcher.offers(begun)))
    return found


def _filled(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """Rows of unequal length as one int64 tensor, filled up with `value`."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.int64, device=device)
