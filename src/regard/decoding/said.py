"""What a search that goes token by token says at each step, and what comes of it in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.decoding.hypothesis import Hypothesis, hypothesis


@dataclass(frozen=True)
class Said:
    """What was said at one step, by the L sequences that had not ended before.

    Attributes:
        rows: int64 (L,) which sentence of the batch each one belongs to.
        numbers: int64 (L,) which of the sentence's sequences it is, from 0.
        tokens: int64 (L,) what each one says; −1 where no token was possible, which ends it.
        log_probs: (L,) natural-log probability of it, float32 at least; 0 where no token was possible.
    """

    rows: Tensor
    numbers: Tensor
    tokens: Tensor
    log_probs: Tensor


def collected(steps: Iterable[Said], sentences: int, count: int, eos: int) -> list[list[Hypothesis]]:
    """The sequences of each sentence, in order of their numbers; `score` is `log_prob`.

    Args:
        steps: all of them, in order.
        sentences: how many there are.
        count: sequences of each.
        eos: the token that ends one.
    """
    history = list(steps)
    if not history:
        return [[] for _ in range(sentences)]
    shape = (sentences, count, len(history))
    tokens = history[0].tokens.new_full(shape, -1)  # −1: nothing said
    terms = history[0].log_probs.new_zeros(shape)
    totals = terms.new_zeros(shape[:2])
    for number, one in enumerate(history):
        tokens[one.rows, one.numbers, number] = one.tokens
        terms[one.rows, one.numbers, number] = one.log_probs
        totals[one.rows, one.numbers] += one.log_probs
    lengths = (tokens >= 0).sum(2).tolist()
    return [
        [
            hypothesis(ids[:n], log_probs[:n], total, total, eos)
            for ids, log_probs, total, n in zip(*sentence, strict=True)
        ]
        for sentence in zip(tokens.tolist(), terms.tolist(), totals.tolist(), lengths, strict=True)
    ]


def wide(log_probs: Tensor) -> Tensor:
    """Log-probabilities in single precision at least."""
    return log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
