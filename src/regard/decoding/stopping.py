"""Stopping rules: when a sentence's beam search may end before its maximum length.

Every search keeps its `beam` best ended hypotheses, whatever number is asked for, so that the best does not
depend on how many are returned. A rule compares them with those still running. All rules end a sentence at
its maximum length and when no running hypothesis has a possible continuation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.decoding.penalties import LengthPenalty


class Stopping(Protocol):
    """Decides, for all sentences at once, whether the search is over."""

    def done(self, running: Tensor, worst: Tensor, length: int, max_length: Tensor, penalty: LengthPenalty) -> Tensor:
        """bool (S,): True where the search ends.

        Args:
            running: (S,) log-probability of the best hypothesis still running.
            worst: (S,) score of the worst of the `beam` ended hypotheses kept; −inf while there are fewer.
            length: tokens generated so far by the running hypotheses.
            max_length: int64 (S,) each sentence's maximum.
            penalty: how scores come from log-probabilities.
        """
        ...


@dataclass(frozen=True)
class WhenFull:
    """Ends as soon as `beam` hypotheses have ended. The fastest. Hugging Face: `early_stopping=True`."""

    def done(self, running: Tensor, worst: Tensor, length: int, max_length: Tensor, penalty: LengthPenalty) -> Tensor:
        """Full."""
        return worst > -torch.inf


@dataclass(frozen=True)
class WhenBehind:
    """Ends when full and the best running hypothesis, at its present length, is no better than the worst ended.

    Under a penalty that favours long sequences this is a heuristic: a running hypothesis might still have
    won. Hugging Face: `early_stopping=False`, its default.
    """

    def done(self, running: Tensor, worst: Tensor, length: int, max_length: Tensor, penalty: LengthPenalty) -> Tensor:
        """Full, and behind at the present length."""
        return (worst > -torch.inf) & (penalty.score(running, length) <= worst)


@dataclass(frozen=True)
class WhenCertain:
    """Ends when full and, by the penalty's bound, nothing running can still enter the best: exact, and slowest.

    Hugging Face: `early_stopping="never"`.
    """

    def done(self, running: Tensor, worst: Tensor, length: int, max_length: Tensor, penalty: LengthPenalty) -> Tensor:
        """Full, and behind at every length to come."""
        return (worst > -torch.inf) & (penalty.best_possible(running, length, max_length) <= worst)
