"""Diverse beam search: groups of hypotheses that are kept from saying the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from math import isfinite
from typing import ClassVar

import torch
from torch import Tensor

from regard.decoding.beam import best_sequences
from regard.decoding.beam_loop import BeamRules, first_running, run_beams
from regard.decoding.candidates import Candidates, best_continuations
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.limits import Limits
from regard.decoding.penalties import Average, LengthPenalty
from regard.decoding.protocol import StepModel, check_best, first_tokens
from regard.decoding.stopping import Stopping, WhenBehind
from regard.errors import ArgumentError
from regard.layers.state import State


def diverse_beam_search(
    model: StepModel,
    state: State,
    limits: Limits,
    rules: BeamRules,
    *,
    groups: int,
    strength: float,
) -> list[list[Hypothesis]]:
    """Beam search in groups, with Hamming diversity. Vijayakumar et al. 2018 (arXiv:1610.02424), algorithm 1.

    The beam is divided into `groups` of beam / `groups` hypotheses. At each step the groups choose in turn, and a
    token's log-probability is lowered by `strength` times the number of hypotheses of earlier groups that run on
    with it at this step. What a hypothesis has been lowered by stays with it: its group compares sums of lowered
    log-probabilities, as in the code of the paper's authors. Apart from that each group is a beam search of its own,
    with its own ended hypotheses and its own end; one that has ended lowers nothing any more. A token that ends a
    hypothesis lowers nothing either.

    Whatever is returned, and the stopping rule, knows only the model's own log-probabilities: the lowering decides
    which hypotheses are kept running, not how they are ranked in the end.

    One group is `beam_search`. With strength 0 all groups find what `beam_search` finds with their width. The result
    for a sentence does not depend on the other sentences of the batch, nor on `nbest`.

    Args:
        model: only its `step` is called, once for each token, with all groups.
        state: from `model.start(batch)`.
        limits: as for every search.
        rules: `beam` counts the hypotheses of all groups; the stopping rule is applied to each group.
        groups: how many groups; must divide the beam.
        strength: by how much a token is lowered, 0 or more; the paper found 0.2 to 0.8 good.

    Returns:
        For each sentence up to `rules.nbest` hypotheses of all groups, at least one, best score first; ties by earlier
        group, then earlier end. What several groups found is returned once, so there can be fewer than `nbest`.

    Raises:
        ArgumentError: as for `beam_search`; `groups` does not divide the beam; a strength that is negative or no
            number.
    """
    _check(rules.beam, groups, strength)
    if groups == 1:
        return best_sequences(model, state, limits, rules)
    width = rules.beam // groups
    chooser = _Hamming(first_tokens(state, limits.bos).shape[0], groups, width, strength, limits.eos)
    found = run_beams(model, state, chooser, limits, replace(rules, beam=width, nbest=width))
    return [_merged(found[first : first + groups])[: rules.nbest] for first in range(0, len(found), groups)]


@dataclass(frozen=True)
class DiverseBeam:
    """Beam search in groups that are kept from saying the same; see `diverse_beam_search`.

    Attributes:
        width: hypotheses kept for each sentence, all groups together.
        groups: how many groups; must divide `width`.
        strength: by how much the log-probability of a token is lowered for each hypothesis of an earlier group that
            chose it at the same step.
        nbest: how many are returned, at most `width`.
        penalty: how scores come from log-probability and length.
        stopping: when the search of a group ends.

    Raises:
        ArgumentError: `width`, `groups`, `strength` or `nbest` out of range.
    """

    takes_constraints: ClassVar[bool] = False
    width: int
    groups: int
    strength: float = 0.5
    nbest: int = 1
    penalty: LengthPenalty = field(default_factory=Average)
    stopping: Stopping = field(default_factory=WhenBehind)

    def __post_init__(self) -> None:
        self._rules()
        _check(self.width, self.groups, self.strength)

    def run(self, model: StepModel, state: State, limits: Limits) -> list[list[Hypothesis]]:
        """Up to `nbest` different hypotheses for each sentence, best score first."""
        return diverse_beam_search(model, state, limits, self._rules(), groups=self.groups, strength=self.strength)

    def _rules(self) -> BeamRules:
        return BeamRules(self.width, self.nbest, self.penalty, self.stopping)


def _check(beam: int, groups: int, strength: float) -> None:
    if groups < 1 or beam % groups:
        raise ArgumentError(f"groups is {groups}; expected at least 1 and a divisor of the beam, {beam}")
    if not (strength >= 0 and isfinite(strength)):
        raise ArgumentError(f"strength is {strength}; expected a number, 0 or more")


def _merged(of_groups: list[list[Hypothesis]]) -> list[Hypothesis]:
    """The different hypotheses of one sentence's groups, best score first; a stable sort: ties stay in order."""
    different: dict[tuple[tuple[int, ...], bool], Hypothesis] = {}
    for one in chain.from_iterable(of_groups):
        different.setdefault((one.tokens, one.finished), one)
    return sorted(different.values(), key=lambda one: -one.score)


@dataclass(frozen=True)
class _Hamming:
    """Lowers what earlier groups chose at the same step. Remembers by how much a hypothesis has been lowered."""

    sentences: int
    groups: int
    beam: int  # of one group
    strength: float
    eos: int

    def start(self, device: torch.device) -> Tensor:
        return torch.zeros((self.sentences * self.groups, 1, 1), device=device)

    def choose(
        self, log_probs: Tensor, totals: Tensor, memory: Tensor, sentences: Tensor, left: Tensor, step: int
    ) -> tuple[Candidates, Tensor]:
        rows, width = totals.shape
        vocabulary = log_probs.shape[1]
        by_group = log_probs.view(-1, self.groups, width, vocabulary)  # (S, G, W, V′)
        lowered = (totals - memory[:, :, 0]).view(-1, self.groups, width)  # (S, G, W)
        counts = log_probs.new_zeros((by_group.shape[0], vocabulary))  # (S, V′)
        chosen, lowered_by = [], []
        for group in range(self.groups):
            terms = self.strength * counts
            found = best_continuations(
                (by_group[:, group] - terms[:, None]).flatten(0, 1), lowered[:, group], 2 * self.beam
            )
            check_best(found.totals, step)
            chosen.append(found)
            lowered_by.append(terms.gather(1, found.tokens))
            runs_on = first_running(found, self.eos, self.beam)
            exists = (found.totals.gather(1, runs_on) > -torch.inf).to(counts)
            counts.scatter_add_(1, found.tokens.gather(1, runs_on), exists)

        parents = torch.stack([found.parents for found in chosen], 1).view(rows, -1)  # (R, 2 · beam)
        tokens = torch.stack([found.tokens for found in chosen], 1).view(rows, -1)
        exists = torch.stack([found.totals for found in chosen], 1).view(rows, -1) > -torch.inf
        # The model's own log-probabilities, summed as in `best_continuations`.
        own = log_probs.reshape(rows, -1).gather(1, parents * vocabulary + tokens)
        sums = own + totals.gather(1, parents)
        terms = torch.stack(lowered_by, 1).view(rows, -1) + memory[:, :, 0].gather(1, parents)
        candidates = Candidates(parents, tokens, own.to(sums), sums.masked_fill(~exists, -torch.inf))
        return candidates, terms[:, :, None]
