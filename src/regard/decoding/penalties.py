"""Length penalties: how the log-probability of a sequence becomes the score that hypotheses are ranked by.

A penalty is any object with the two methods of `LengthPenalty`. Lengths count every generated token, the
end symbol included where there is one (as Hugging Face counts); it is the number of terms in the
log-probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.errors import ArgumentError

STRONGEST = 10.0  # beyond that, all scores become equal, or infinite


class LengthPenalty(Protocol):
    """From log-probability and length to score; a higher score is better.

    `log_prob` is a floating tensor ≤ 0; a length is an int or an integer tensor that broadcasts with it,
    and is at least 1 (0, an empty sequence that was cut, counts as 1).
    """

    def score(self, log_prob: Tensor, length: int | Tensor) -> Tensor:
        """The score of sequences that end with this log-probability and length, shaped like `log_prob`."""
        ...

    def best_possible(self, log_prob: Tensor, length: int | Tensor, max_length: int | Tensor) -> Tensor:
        """An upper bound on the score of anything that continues a sequence up to `max_length`.

        A continuation's log-probability is at most `log_prob`, its length between `length` and
        `max_length`.
        """
        ...


@dataclass(frozen=True)
class NoPenalty:
    """score = log P. Hugging Face: `length_penalty=0.0`."""

    def score(self, log_prob: Tensor, length: int | Tensor) -> Tensor:
        """The log-probability itself."""
        return log_prob

    def best_possible(self, log_prob: Tensor, length: int | Tensor, max_length: int | Tensor) -> Tensor:
        """The log-probability: it can only fall."""
        return log_prob


@dataclass(frozen=True)
class Average:
    """score = log P / |Y|^alpha: 1 is the mean per token, 0 no penalty, negative prefers short sequences.

    Hugging Face: `length_penalty=alpha`.

    Raises:
        ArgumentError: alpha is not a number from -10 to 10.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha("Average", self.alpha)

    def score(self, log_prob: Tensor, length: int | Tensor) -> Tensor:
        """log P / |Y|^alpha."""
        return log_prob / _at_least_one(length, log_prob) ** self.alpha

    def best_possible(self, log_prob: Tensor, length: int | Tensor, max_length: int | Tensor) -> Tensor:
        """The better of now and longest: at a fixed log-probability the score is monotone in the length."""
        return torch.maximum(self.score(log_prob, length), self.score(log_prob, max_length))


@dataclass(frozen=True)
class GNMT:
    """score = log P / ((5 + |Y|) / 6)^alpha. Wu et al. 2016 (arXiv:1609.08144), equation 14.

    Without its coverage term. The paper found alpha between 0.6 and 0.7 best. |Y| counts the end symbol.

    Raises:
        ArgumentError: alpha is not a number from -10 to 10.
    """

    alpha: float = 0.6

    def __post_init__(self) -> None:
        _check_alpha("GNMT", self.alpha)

    def score(self, log_prob: Tensor, length: int | Tensor) -> Tensor:
        """log P / ((5 + |Y|) / 6)^alpha."""
        return log_prob / ((5 + _at_least_one(length, log_prob)) / 6) ** self.alpha

    def best_possible(self, log_prob: Tensor, length: int | Tensor, max_length: int | Tensor) -> Tensor:
        """The better of now and longest: at a fixed log-probability the score is monotone in the length."""
        return torch.maximum(self.score(log_prob, length), self.score(log_prob, max_length))


def _check_alpha(name: str, alpha: float) -> None:
    if not (math.isfinite(alpha) and abs(alpha) <= STRONGEST):
        raise ArgumentError(f"{name}: alpha is {alpha}; expected a number from {-STRONGEST:g} to {STRONGEST:g}")


def _at_least_one(length: int | Tensor, log_prob: Tensor) -> Tensor:
    # In the log-probability's own dtype: an integer tensor to a float power would be float32.
    if isinstance(length, Tensor):
        return length.to(log_prob).clamp(min=1)
    return log_prob.new_tensor(max(length, 1))
