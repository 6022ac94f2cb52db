"""Greedy search: the most probable token, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from regard.decoding.hypothesis import Hypothesis
from regard.decoding.protocol import StepModel, check_best, first_tokens, length_limits, next_log_probs
from regard.decoding.said import Said, collected, wide
from regard.layers.state import State


def greedy(
    model: StepModel, state: State, *, bos: int, eos: int, max_length: int | Tensor, min_length: int = 0
) -> list[Hypothesis]:
    """Continues each sentence with its most probable token until that is `eos`; ties go to the lower id.

    The same as `beam_search` with a beam of 1. A sentence that is done leaves the batch; results do not
    depend on which other sentences are in it.

    Args:
        model: only its `step` is called.
        state: from `model.start(batch)`.
        bos: the token fed first.
        eos: the token that ends a sequence.
        max_length: the largest number of tokens, an int or an integer tensor (S,). A sequence that reaches
            it is cut there without asking for `eos`: at most `max_length` calls of `step`.
        min_length: `eos` is forbidden before that many tokens; `max_length` wins where a sentence's own is
            smaller.

    Returns:
        One Hypothesis for each sentence, `score` = `log_prob`; `finished` is False where it was cut: at
        `max_length`, or before a step at which no token was possible (all −inf).

    Raises:
        ArgumentError: limits out of range; a state that is not from `start`; log-probabilities that are
            NaN, +inf or of a wrong shape.
    """
    steps = greedy_steps(model, state, bos=bos, eos=eos, max_length=max_length, min_length=min_length)
    return [found for (found,) in collected(steps, first_tokens(state, bos).shape[0], 1, eos)]


@torch.no_grad()
def greedy_steps(
    model: StepModel, state: State, *, bos: int, eos: int, max_length: int | Tensor, min_length: int = 0
) -> Iterator[Said]:
    """What `greedy` finds, step by step: each is computed when it is asked for.

    Arguments and errors as for `greedy`; errors come with the first step.
    """
    tokens = first_tokens(state, bos)
    limits = length_limits(max_length, min_length, tokens)
    rows = torch.arange(tokens.shape[0], device=tokens.device)
    step = 0
    while rows.shape[0]:
        log_probs, state = next_log_probs(model, tokens, state, eos if step < min_length else None)
        best, tokens = log_probs.max(dim=1)  # the first of equals
        check_best(best, step)
        best = wide(best)
        possible = best > -torch.inf
        yield Said(rows, torch.zeros_like(rows), tokens.where(possible, -1), best.where(possible, 0))
        step += 1
        going = possible & (tokens != eos) & (limits > step)
        if not bool(going.all()):
            kept = going.nonzero().squeeze(1)
            rows, tokens, limits = rows[kept], tokens[kept], limits[kept]
            if rows.shape[0]:
                state = state.select_sentences(kept).select_hypotheses(kept)
