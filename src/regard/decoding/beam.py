"""Beam search over the step protocol, for all sentences of a batch at once."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from regard.decoding.candidates import best_continuations
from regard.decoding.greedy import greedy
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.penalties import LengthPenalty
from regard.decoding.pool import Pool
from regard.decoding.protocol import StepModel, check_best, first_tokens, length_limits, next_log_probs
from regard.decoding.stopping import Stopping
from regard.errors import ArgumentError
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
    if beam < 1:
        raise ArgumentError(f"beam is {beam}; expected at least 1")
    if not 1 <= nbest <= beam:
        raise ArgumentError(f"nbest is {nbest}; expected at least 1 and at most the beam, {beam}")
    if beam == 1:
        found_one = greedy(model, state, bos=bos, eos=eos, max_length=max_length, min_length=min_length)
        return [[_penalised(one, penalty)] for one in found_one]
    tokens = first_tokens(state, bos)
    limits = length_limits(max_length, min_length, tokens)
    with torch.no_grad():
        pool = Pool(sentences=tokens.shape[0], beam=beam, eos=eos, device=tokens.device)
        # (S, W) log-probabilities of the running hypotheses; the model's dtype widens it at the first step.
        totals = torch.zeros((tokens.shape[0], 1), device=tokens.device)
        step = 0
        while pool.active.shape[0]:
            log_probs, state = next_log_probs(model, tokens, state, eos if step < min_length else None)
            found = best_continuations(log_probs, totals, 2 * beam)  # (S, 2·beam)
            check_best(found.totals, step)

            possible = found.totals > -torch.inf
            ends = (found.tokens == eos) & possible
            last = limits == step + 1
            ended = torch.where(last[:, None], possible, ends)[:, :beam]
            # One `eos` at most per hypothesis, so at least `beam` of 2 · `beam` run on; the sort keeps their order.
            runs_on = ends.to(torch.uint8).argsort(dim=1, stable=True)[:, :beam]  # (S, beam)
            pool.extend(found, runs_on, totals)
            scores = penalty.score(found.totals[:, :beam], step + 1)
            pool.add(scores.masked_fill(~ended, -torch.inf))

            width = totals.shape[1]
            totals = found.totals.gather(1, runs_on)
            running = totals[:, 0]
            step += 1
            done = last | (running == -torch.inf) | stopping.done(running, pool.worst, step, limits, penalty)
            kept = torch.arange(done.shape[0], device=done.device)
            if bool(done.any()):
                pool.close(done, penalty)
                kept = (~done).nonzero().squeeze(1)
                if not kept.shape[0]:
                    break
                state = state.select_sentences(kept)
                totals, limits, runs_on = totals[kept], limits[kept], runs_on[kept]
            tokens = found.tokens[kept].gather(1, runs_on).flatten()
            parents = (found.parents[kept].gather(1, runs_on) + kept[:, None] * width).flatten()
            state = state.select_hypotheses(parents)
    return pool.best(nbest)


def _penalised(one: Hypothesis, penalty: LengthPenalty) -> Hypothesis:
    """The hypothesis with its score after the length penalty."""
    log_prob = torch.tensor(one.log_prob, dtype=torch.float64)
    return replace(one, score=float(penalty.score(log_prob, len(one.token_log_probs))))
