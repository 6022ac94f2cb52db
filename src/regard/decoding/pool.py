"""The book-keeping of a beam search: what was generated when, and which hypotheses ended."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.decoding.candidates import Candidates
from regard.decoding.hypothesis import Hypothesis, hypothesis
from regard.decoding.penalties import LengthPenalty


@dataclass(frozen=True)
class _Step:
    """One step of the search: its candidates (A, k) for the A active sentences, and what ran on."""

    active: Tensor  # (A,) which sentences
    found: Candidates
    runs_on: Tensor  # (A, beam) index into the candidates
    before: Tensor  # (A, W) log-probabilities of the hypotheses that were continued


class Pool:
    """For each sentence, the `beam` best hypotheses that ended, as pointers into the history of candidates.

    A hypothesis is an *event*: step · k + candidate. Its tokens are read back through parents when the
    search is over, so that a step costs the same however long the sequences are. The event −1 is the empty
    sequence.
    """

    def __init__(self, sentences: int, beam: int, eos: int, device: torch.device) -> None:
        self.active = torch.arange(sentences, device=device)  # (A,) sentences not yet done
        self._beam = beam
        self._eos = eos
        self._steps: list[_Step] = []
        self._scores = torch.full((sentences, beam), -torch.inf, device=device)  # (A, beam) falling; −inf: none
        self._events = torch.full((sentences, beam), -1, device=device)  # (A, beam)
        self._closed: list[tuple[Tensor, Tensor, Tensor]] = []  # sentences, scores, events

    @property
    def worst(self) -> Tensor:
        """(A,) score of the worst of `beam` hypotheses; −inf while there are fewer."""
        return self._scores[:, -1]

    def extend(self, found: Candidates, runs_on: Tensor, before: Tensor) -> None:
        """Notes a step: its candidates (A, k), which of them run on (A, beam), and the totals (A, W) before."""
        self._steps.append(_Step(self.active, found, runs_on, before))

    def add(self, scores: Tensor) -> None:
        """Offers the newest step's first `beam` candidates: scores (A, beam), −inf for those that did not end."""
        first = (len(self._steps) - 1) * 2 * self._beam
        events = torch.arange(first, first + self._beam, device=scores.device).expand_as(scores)
        self._merge(scores, events)

    def close(self, done: Tensor, penalty: LengthPenalty) -> None:
        """Takes the sentences where `done` (A,) is True out of the active ones.

        Those without any ended hypothesis get their running ones, as they were before the newest step.
        """
        stuck = done & (self._scores[:, 0] == -torch.inf)
        if bool(stuck.any()):
            self._cut(stuck, penalty)
        scores = self._scores
        self._closed.append((self.active[done], scores[done], self._events[done]))
        self.active, self._scores, self._events = self.active[~done], scores[~done], self._events[~done]

    def best(self, nbest: int) -> list[list[Hypothesis]]:
        """The up to `nbest` best hypotheses of every sentence, once all are closed."""
        if not self._closed:
            return []
        sentences, scores, events = (torch.cat(parts) for parts in zip(*self._closed, strict=True))
        order = sentences.argsort()
        scores, events = scores[order, :nbest], events[order, :nbest]  # (S, nbest)
        tokens, terms, totals = self._read_back(events)
        lengths = self._lengths(events).tolist()
        rows = zip(tokens.tolist(), terms.tolist(), totals.tolist(), scores.tolist(), lengths, strict=True)
        return [
            [
                hypothesis(ids[:n], log_probs[:n], total, score, self._eos)
                for ids, log_probs, total, score, n in zip(*row, strict=True)
                if score > -torch.inf
            ]
            for row in rows
        ]

    def _lengths(self, events: Tensor) -> Tensor:
        return events.div(2 * self._beam, rounding_mode="floor") + 1

    def _merge(self, scores: Tensor, events: Tensor) -> None:
        # Those that ended earlier stand first and, the sort being stable, win ties.
        merged, order = torch.cat((self._scores, scores), 1).sort(dim=1, descending=True, stable=True)
        order = order[:, : self._beam]
        self._scores = merged[:, : self._beam]
        self._events = torch.cat((self._events, events), 1).gather(1, order)

    def _cut(self, stuck: Tensor, penalty: LengthPenalty) -> None:
        """Offers the hypotheses that ran before the newest step, for the sentences where `stuck` (A,) is True."""
        before = self._steps[-1].before
        length = len(self._steps) - 1
        events = torch.full_like(before, -1, dtype=torch.int64)  # (A, W): at the first step, the empty sequence
        if length:
            # Nothing has ended, so what ran on were the first candidates of the step before.
            first = (length - 1) * 2 * self._beam
            events = torch.arange(first, first + self._beam, device=events.device).expand_as(events)
        self._merge(penalty.score(before, length).masked_fill(~stuck[:, None], -torch.inf), events)

    def _read_back(self, events: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and log-probabilities (S, nbest, T) and totals (S, nbest) of events (S, nbest)."""
        shape = (*events.shape, len(self._steps))
        tokens = torch.zeros(shape, dtype=torch.int64, device=events.device)
        terms = self._steps[-1].found.totals.new_zeros(shape)
        totals = terms.new_zeros(events.shape)
        lengths = self._lengths(events)
        candidate = events % (2 * self._beam)
        sentences = torch.arange(events.shape[0], device=events.device)
        for number in range(len(self._steps) - 1, -1, -1):
            step = self._steps[number]
            row = _rows(step, sentences)
            tokens[:, :, number] = step.found.tokens[row, candidate]
            terms[:, :, number] = step.found.log_probs[row, candidate]
            totals = torch.where(lengths == number + 1, step.found.totals[row, candidate], totals)
            if number:
                before = self._steps[number - 1]
                parent = step.found.parents[row, candidate]
                continued = before.runs_on[_rows(before, sentences), parent]
                candidate = torch.where(lengths > number, continued, candidate)
        return tokens, terms, totals


def _rows(step: _Step, sentences: Tensor) -> Tensor:
    """Where each sentence stands in a step: (S, 1). For sentences that had left by then, any row: it is not used."""
    return torch.searchsorted(step.active, sentences).clamp(max=step.active.shape[0] - 1)[:, None]
