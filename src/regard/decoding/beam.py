"""Beam search over the step protocol, for all sentences of a batch at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from regard.decoding.beam_loop import BeamRules, run_beams
from regard.decoding.candidates import Candidates, best_continuations
from regard.decoding.greedy import greedy
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.limits import Limits
from regard.decoding.penalties import LengthPenalty
from regard.decoding.protocol import StepModel, check_best, first_tokens
from regard.decoding.stopping import Stopping
from regard.layers.state import State


def beam_search(
    model: StepModel,
    state: State,
    *,
    beam: int,
    bos: int,
    eos: int,
    max_length: int | Tensor,
    min_length: int = 0,
    nbest: int = 1,
    penalty: LengthPenalty,
    stopping: Stopping,
) -> list[list[Hypothesis]]:
    """The best sequences found by keeping, for each sentence, the `beam` most probable beginnings.

    At each step the 2 · `beam` best continuations by log-probability are taken, ties by better beginning,
    then lower token. Those of the first `beam` that end are kept with their score; the best `beam` that
    don't end run on. With the rules of `stopping` this is the search of Hugging Face's `generate`, sentence
    by sentence. A beam of 1 is greedy search whatever the rule: it ends where `eos` is the most probable
    token.

    The result for a sentence does not depend on the other sentences of the batch, nor on `nbest`. A
    sentence that is done leaves the batch with all its hypotheses: `step` sees S · beam rows (S at the
    first step), with S shrinking.

    Sequences of probability zero are never returned. Where nothing has ended and no running hypothesis has
    a possible continuation, those running are cut and returned as they are, the empty sequence if it comes
    to that.

    Args:
        model: only its `step` is called.
        state: from `model.start(batch)`.
        beam: hypotheses kept for each sentence, at least 1.
        bos: the token fed first.
        eos: the token that ends a sequence.
        max_length: the largest number of tokens without `eos`, an int or an integer tensor (S,). A sequence
            that reaches it is cut there without asking for `eos`: at most `max_length` calls of `step`.
            Hugging Face: `max_new_tokens`.
        min_length: `eos` is forbidden before that many tokens; `max_length` wins where a sentence's own is
            smaller. Hugging Face: `min_new_tokens`.
        nbest: how many hypotheses to return for each sentence, at most `beam`.
        penalty: how scores come from log-probability and length (which counts `eos`).
        stopping: when the search for a sentence ends.

    Returns:
        For each sentence up to `nbest` hypotheses, at least one, best score first, ties by earlier end.
        `finished` is False for those that were cut.

    Raises:
        ArgumentError: `beam`, `nbest` or a length out of range; a state that is not from `start`;
            log-probabilities that are NaN, +inf or of a wrong shape.
    """
    limits = Limits(bos, eos, max_length, min_length)
    return best_sequences(model, state, limits, BeamRules(beam, nbest, penalty, stopping))


def best_sequences(model: StepModel, state: State, limits: Limits, rules: BeamRules) -> list[list[Hypothesis]]:
    """`beam_search`, its arguments in two objects."""
    if rules.beam == 1:
        found = greedy(
            model,
            state,
            bos=limits.bos,
            eos=limits.eos,
            max_length=limits.max_length,
            min_length=limits.min_length,
        )
        return [[_penalised(one, rules.penalty)] for one in found]
    chooser = _Best(first_tokens(state, limits.bos).shape[0], rules.beam)
    return run_beams(model, state, chooser, limits, rules)


@dataclass(frozen=True)
class _Best:
    """Chooses the best continuations by log-probability, and remembers nothing."""

    sentences: int
    beam: int
    groups: ClassVar[int] = 1

    def start(self, device: torch.device) -> Tensor:
        return torch.zeros((self.sentences, 1, 0), device=device)

    def choose(
        self, log_probs: Tensor, totals: Tensor, memory: Tensor, sentences: Tensor, left: Tensor, step: int
    ) -> tuple[Candidates, Tensor]:
        found = best_continuations(log_probs, totals, 2 * self.beam)
        check_best(found.totals, step)
        return found, memory.new_zeros((*found.totals.shape, 0))


def _penalised(one: Hypothesis, penalty: LengthPenalty) -> Hypothesis:
    """The hypothesis with its score after the length penalty."""
    log_prob = torch.tensor(one.log_prob, dtype=torch.float64)
    return replace(one, score=float(penalty.score(log_prob, len(one.token_log_probs))))
