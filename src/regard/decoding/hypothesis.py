"""What decoding returns: one generated sequence and its scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One generated sequence.

    Attributes:
        tokens: ids without the start and end symbols.
        score: `log_prob` after the length penalty; what hypotheses of one sentence are ranked by.
        log_prob: sum of the natural-log probabilities of `tokens`, and of the end symbol where there is
            one.
        token_log_probs: the terms of that sum: `len(tokens) + 1` of them if finished, else `len(tokens)`.
        finished: True if the model ended it; False if it was cut (see `beam_search`).
    """

    tokens: tuple[int, ...]
    score: float
    log_prob: float
    token_log_probs: tuple[float, ...]
    finished: bool


def hypothesis(tokens: list[int], token_log_probs: list[float], log_prob: float, score: float, eos: int) -> Hypothesis:
    """A Hypothesis from generated tokens, of which the last may be `eos`."""
    finished = bool(tokens) and tokens[-1] == eos
    return Hypothesis(
        tokens=tuple(tokens[:-1] if finished else tokens),
        score=score,
        log_prob=log_prob,
        token_log_probs=tuple(token_log_probs),
        finished=finished,
    )
