"""The loop that plain, diverse and constrained beam search share. What sets them apart is a `Chooser`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.decoding.candidates import Candidates
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.limits import Limits
from regard.decoding.penalties import LengthPenalty
from regard.decoding.pool import Pool
from regard.decoding.protocol import StepModel, first_tokens, length_limits, next_log_probs
from regard.decoding.stopping import Stopping, WhenFull
from regard.errors import ArgumentError
from regard.layers.state import State


@dataclass(frozen=True)
class BeamRules:
    """What all beam searches have in common.

    Attributes:
        beam: hypotheses kept for each sentence, at least 1.
        nbest: how many are returned, at most `beam`.
        penalty: how scores come from log-probability and length.
        stopping: when the search for a sentence ends.

    Raises:
        ArgumentError: `beam` or `nbest` out of range.
    """

    beam: int
    nbest: int
    penalty: LengthPenalty
    stopping: Stopping

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ArgumentError(f"beam is {self.beam}; expected at least 1")
        if not 1 <= self.nbest <= self.beam:
            raise ArgumentError(f"nbest is {self.nbest}; expected at least 1 and at most the beam, {self.beam}")


class Chooser(Protocol):
    """Says which continuations are looked at, and in which order.

    A sentence has `groups` beams of `beam` hypotheses, each searched as if alone. A *row* is one of them: R = S ·
    `groups` rows, sentence-major.
    """

    @property
    def groups(self) -> int:
        """Beams per sentence."""
        ...

    def start(self, device: torch.device) -> Tensor:
        """(R, 1, C) what the chooser remembers of each hypothesis, before the first token."""
        ...

    def choose(
        self, log_probs: Tensor, totals: Tensor, memory: Tensor, sentences: Tensor, left: Tensor, step: int
    ) -> tuple[Candidates, Tensor]:
        """The 2 · `beam` continuations of each row: those that end among the first `beam` of them are kept, and the
        first `beam` that don't end run on.

        Args:
            log_probs: (R · W, V′) of the next token; not to be changed.
            totals: (R, W) log-probabilities so far; −inf where there is no hypothesis.
            memory: (R, W, C) of each hypothesis.
            sentences: int64 (S,) which of the sentences of the start these are.
            left: int64 (R,) how many tokens fit after this one.
            step: this step's number, from 0.

        Returns:
            Candidates (R, 2 · `beam`) and what is to be remembered of each, (R, 2 · `beam`, C).

        Raises:
            ArgumentError: log-probabilities that are NaN or +inf.
        """
        ...


def first_running(found: Candidates, eos: int, beam: int) -> Tensor:
    """The first `beam` of the candidates (R, 2 · `beam`) that don't end, in their order: int64 (R, `beam`).

    A hypothesis has one `eos` at most, so at least `beam` of 2 · `beam` don't end.
    """
    ends = (found.tokens == eos) & (found.totals > -torch.inf)
    return ends.to(torch.uint8).argsort(dim=1, stable=True)[:, :beam]


def run_beams(
    model: StepModel,
    state: State,
    chooser: Chooser,
    limits: Limits,
    rules: BeamRules,
) -> list[list[Hypothesis]]:
    """Up to `rules.nbest` hypotheses of each row, by the rules of `beam_search` and the chooser's candidates.

    One call of `step` for each token, with S · `groups` · `beam` hypotheses (S · `groups` at the first). A beam that
    is done runs no further; a sentence leaves the batch when all of its beams are. Errors as for `beam_search`.
    A beam of 1 ends where `eos` is its best candidate.
    """
    beam, eos, penalty = rules.beam, limits.eos, rules.penalty
    stopping = WhenFull() if beam == 1 else rules.stopping
    tokens = first_tokens(state, limits.bos)
    longest = length_limits(limits.max_length, limits.min_length, tokens)
    groups = chooser.groups
    device = tokens.device
    with torch.no_grad():
        sentences = torch.arange(tokens.shape[0], device=device)
        rows = _rows_of(sentences, groups)  # (R,) numbers of the rows in the layout
        longest = longest[rows // groups]
        if groups > 1:
            tokens, state = tokens[rows // groups], state.select_hypotheses(rows // groups)
        pool = Pool(sentences=rows.shape[0], beam=beam, eos=eos, device=device)
        totals = torch.zeros((rows.shape[0], 1), device=device)
        memory = chooser.start(device)
        step = 0
        while pool.active.shape[0]:
            log_probs, state = next_log_probs(model, tokens, state, eos if step < limits.min_length else None)
            found, remembered = chooser.choose(log_probs, totals, memory, sentences, longest - step - 1, step)
            runs_on = first_running(found, eos, beam)  # (R, beam)

            at = torch.searchsorted(rows, pool.active)  # (A,) where the rows that are not done lie
            last = longest[at] == step + 1
            active = _select(found, at)
            pool.extend(active, runs_on[at], totals[at])
            ended = (active.totals > -torch.inf) & ((active.tokens == eos) | last[:, None])
            scores = penalty.score(active.totals[:, :beam], step + 1)
            pool.add(scores.masked_fill(~ended[:, :beam], -torch.inf))

            width = totals.shape[1]
            totals = found.totals.gather(1, runs_on)
            running = totals[at].amax(1)
            step += 1
            done = last | (running == -torch.inf) | stopping.done(running, pool.worst, step, longest[at], penalty)
            kept = torch.arange(sentences.shape[0], device=device)
            if bool(done.any()):
                pool.close(done, penalty)
                totals = totals.masked_fill(~torch.isin(rows, pool.active)[:, None], -torch.inf)
                kept = torch.isin(sentences, pool.active // groups).nonzero().squeeze(1)
                if not kept.shape[0]:
                    break
                state = state.select_sentences(kept)
            lies = _rows_of(kept, groups)
            sentences, rows, runs_on = sentences[kept], rows[lies], runs_on[lies]
            totals, longest = totals[lies], longest[lies]
            tokens = found.tokens[lies].gather(1, runs_on).flatten()
            memory = remembered[lies].gather(1, runs_on[:, :, None].expand(-1, -1, remembered.shape[2]))
            parents = found.parents[lies].gather(1, runs_on) + lies[:, None] * width
            state = state.select_hypotheses(parents.flatten())
    return pool.best(rules.nbest)


def _rows_of(sentences: Tensor, groups: int) -> Tensor:
    """(S · groups,) the rows of the sentences (S,)."""
    return (sentences[:, None] * groups + torch.arange(groups, device=sentences.device)).flatten()


def _select(found: Candidates, rows: Tensor) -> Candidates:
    return Candidates(found.parents[rows], found.tokens[rows], found.log_probs[rows], found.totals[rows])
