"""Lexically constrained beam search: phrases that must appear in the output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from regard.decoding.beam import best_sequences
from regard.decoding.beam_loop import BeamRules, run_beams
from regard.decoding.candidates import Candidates, best_continuations
from regard.decoding.constraints import ConstraintTables, check_constraints, needed_length
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.limits import Limits
from regard.decoding.protocol import StepModel, check_best, first_tokens, length_limits
from regard.decoding.search import Beam
from regard.errors import ArgumentError
from regard.layers.state import State


def constrained_beam_search(model: StepModel, state: State, limits: Limits, rules: BeamRules) -> list[list[Hypothesis]]:
    """The best sequences that contain given phrases, by dynamic beam allocation.

    Post and Vilar 2018 (arXiv:1804.06609), in the vectorised form of Hu et al. 2019 (N19-1090). A sentence has any
    number of constraints; each is a list of spellings (token sequences) of which one must appear. Different
    constraints may be met by the same tokens (2 3 and 3 4 by 2 3 4); one that is listed n times must appear n times,
    without sharing tokens.

    For a sentence with constraints `eos` is impossible until all are met. At each step the candidates are the
    2 · `beam` best continuations, for each hypothesis the next token of each phrase that is not met (its first, or
    where it has begun the following one), its best token, and `eos` where all is met. They lie in banks by how many
    tokens of the phrases are missing. Places are given out in turns, to the best of each bank, from the bank that
    lacks least to the one that lacks most, then to the second best of each, and so on. In this order the rules are
    those of `beam_search`: of the first `beam` those that end are kept, and the first `beam` that don't end run on.

    **Room.** A continuation that can't contain all phrases and end within `max_length` is not followed. One that can
    only if phrases share tokens is taken when there is no other. So, by a beam of any width, a sentence with
    constraints gets hypotheses that have ended and contain all of them, and none that was cut: unless the model, or
    whatever forbids tokens in it, gives probability zero to what is needed. Then those that ran last are cut and
    returned, `finished` False and not all phrases in them.

    Sentences without constraints get exactly what `beam_search` gives them (by a beam of 1, up to rounding of the
    score). The result for a sentence does not depend on the other sentences of the batch, nor on `nbest`.

    A beam narrower than the number of banks (tokens in all phrases, and one) says the phrases as soon as it can,
    which is rarely good. The cost of a step beside `beam_search` is one more pass over the log-probabilities and some
    dozens of operations on small tensors, (S, candidates); no loop over sentences. Where no sentence has constraints
    it is `beam_search`.

    Args:
        model: only its `step` is called.
        state: from `model.start(batch)`.
        limits: with the constraints of each sentence. A token beyond the model's vocabulary has probability zero.
        rules: as for `beam_search`.

    Returns:
        For each sentence up to `nbest` hypotheses, at least one, best score first, ties by earlier end.

    Raises:
        ArgumentError: as for `beam_search`; not one list of constraints per sentence; an empty phrase or one with
            `eos`; a sentence whose phrases, one after another in their shortest spellings, and `eos` are more than
            `max_length`, or whose `min_length` leaves no room for `eos`. The message has the sentence's place in the
            batch, from 0.
    """
    tokens = first_tokens(state, limits.bos)
    if limits.constraints:
        _check(limits, length_limits(limits.max_length, limits.min_length, tokens).tolist())
    if not any(limits.constraints):
        return best_sequences(model, state, limits, rules)
    chooser = _Allocation(ConstraintTables(limits.constraints, tokens.device), rules.beam, limits.eos)
    return run_beams(model, state, chooser, limits, rules)


def _check(limits: Limits, longest: list[int]) -> None:
    """Refuses constraints that are not for these sentences, or that no sequence of these lengths can contain."""
    if len(limits.constraints) != len(longest):
        raise ArgumentError(
            f"constraints are for {len(limits.constraints)} sentences; expected one list for each, {len(longest)}"
        )
    for number, (row, limit) in enumerate(zip(limits.constraints, longest, strict=True)):
        check_constraints(row, f"sentence {number}", limits.eos)
        needed = max(needed_length(row), limits.min_length) + 1
        if row and needed > limit:
            raise ArgumentError(
                f"sentence {number}: max_length is {limit}; expected at least {needed}, "
                f"for phrases of {needed_length(row)} tokens, min_length {limits.min_length}, and the end symbol"
            )


@dataclass(frozen=True)
class ConstrainedBeam(Beam):
    """Beam search for sequences that contain the phrases of `limits.constraints`; see `constrained_beam_search`."""

    takes_constraints: ClassVar[bool] = True

    def run(self, model: StepModel, state: State, limits: Limits) -> list[list[Hypothesis]]:
        """Up to `nbest` hypotheses for each sentence, best score first."""
        return constrained_beam_search(model, state, limits, self.rules())


@dataclass(frozen=True)
class _Allocation:
    """Candidates in the order of dynamic beam allocation. Remembers the states of each hypothesis' constraints."""

    tables: ConstraintTables
    beam: int
    eos: int

    @property
    def groups(self) -> int:
        return 1

    def start(self, device: torch.device) -> Tensor:
        return self.tables.start[:, None]  # (S, 1, K)

    def choose(
        self, log_probs: Tensor, totals: Tensor, memory: Tensor, sentences: Tensor, left: Tensor, step: int
    ) -> tuple[Candidates, Tensor]:
        unmet = (memory != 0).any(2)  # (S, W)
        best = self._best(log_probs, totals, unmet, step)
        found = _united(best, self._wanted(log_probs, memory, unmet), log_probs, totals)  # (S, M)
        states = memory.gather(1, found.parents[:, :, None].expand(-1, -1, memory.shape[2]))
        states = self.tables.follow(states, found.tokens, sentences)  # (S, M, K)
        missing = self.tables.missing(states)
        constrained = self.tables.constrained[sentences][:, None]  # (S, 1)
        goes_on = constrained & (found.tokens != self.eos)  # and needs one more token at least, `eos`
        hopeless = goes_on & (missing.least + 1 > left[:, None])
        late = goes_on & (missing.apart + 1 > left[:, None])
        sums = found.totals.masked_fill(hopeless, -torch.inf)
        order = _in_turns(sums, missing.each, late)[:, : 2 * self.beam]
        candidates = Candidates(
            found.parents.gather(1, order),
            found.tokens.gather(1, order),
            found.log_probs.gather(1, order),
            sums.gather(1, order),
        )
        return candidates, states.gather(1, order[:, :, None].expand(-1, -1, states.shape[2]))

    def _best(self, log_probs: Tensor, totals: Tensor, unmet: Tensor, step: int) -> Candidates:
        """The 2 · `beam` best continuations without those by an `eos` too early, which have total −inf."""
        # At most one of them per hypothesis. To forbid them beforehand would be to copy all log-probabilities.
        best = best_continuations(log_probs, totals, 2 * self.beam + totals.shape[1])
        check_best(best.totals, step)
        allowed = ~((best.tokens == self.eos) & unmet.gather(1, best.parents))
        allowed &= allowed.cumsum(1) <= 2 * self.beam
        return replace(best, totals=best.totals.masked_fill(~allowed, -torch.inf))

    def _wanted(self, log_probs: Tensor, states: Tensor, unmet: Tensor) -> Tensor:
        """Tokens that every hypothesis must have a chance to go on with, (S, W, ·), −1 where there is none.

        For a sentence without constraints these are among the best or behind them, and change nothing.
        """
        alone = log_probs.new_zeros((log_probs.shape[0], 1))
        first, second = best_continuations(log_probs, alone, 2).tokens.view(*unmet.shape, 2).unbind(2)
        best = torch.where(unmet & (first == self.eos), second, first)
        end = torch.where(unmet, -1, self.eos)
        return torch.cat((self.tables.offers(states), best[:, :, None], end[:, :, None]), 2)


def _united(best: Candidates, more: Tensor, log_probs: Tensor, totals: Tensor) -> Candidates:
    """The best continuations and those by the tokens `more` (S, W, ·), each once, by hypothesis and token: (S, M).

    What is no continuation (−1, a token beyond the vocabulary, a repetition) has total −inf.
    """
    width, vocabulary = totals.shape[1], log_probs.shape[1]
    nothing = width * vocabulary
    hypothesis = torch.arange(width, device=more.device)[None, :, None]
    extra = torch.where((more >= 0) & (more < vocabulary), hypothesis * vocabulary + more, nothing).flatten(1)
    known = torch.where(best.totals > -torch.inf, best.parents * vocabulary + best.tokens, nothing)
    flat = torch.cat((known, extra), 1).sort(dim=1).values
    repeated = torch.cat((torch.zeros_like(flat[:, :1]), flat[:, 1:] == flat[:, :-1]), 1) > 0
    absent = repeated | (flat == nothing)
    flat = flat.clamp(max=nothing - 1)
    parents = flat // vocabulary
    # Summed as in `best_continuations`.
    own = log_probs.reshape(totals.shape[0], -1).gather(1, flat).to(best.totals)
    sums = (own + totals.gather(1, parents)).masked_fill(absent, -torch.inf)
    return Candidates(parents, flat % vocabulary, own, sums)


def _in_turns(totals: Tensor, missing: Tensor, late: Tensor) -> Tensor:
    """The order in which candidates (S, M) get places: the best of each bank, then the second best of each, and so on.

    Banks are by the number of `missing` tokens, fewest first. Those that are `late` follow after all others, in banks
    of their own; those with total −inf come last. Ties in a bank by lower place.
    """
    by_total = totals.sort(dim=1, descending=True, stable=True).indices
    banks = (missing + late * (missing.amax() + 1)).gather(1, by_total)
    banks, by_bank = banks.sort(dim=1, stable=True)
    order = by_total.gather(1, by_bank)  # bank after bank, the best of each first
    count = totals.shape[1]
    turn = torch.arange(count, device=totals.device) - torch.searchsorted(banks, banks)
    turn = (turn + count * late.gather(1, order)).masked_fill(totals.gather(1, order) == -torch.inf, 2 * count)
    return order.gather(1, turn.sort(dim=1, stable=True).indices)
