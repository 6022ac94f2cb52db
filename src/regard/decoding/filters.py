"""Filters of a distribution before a token is drawn from it: which tokens can be drawn.

A filter is any object with the method of `Filter`. Each keeps the most probable token at least. Tokens equally
probable are ranked by lower id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regard.decoding.candidates import top
from regard.errors import ArgumentError

NUCLEUS = 256  # how many tokens are ranked at first in the hope that they have the mass


class Filter(Protocol):
    """Decides which tokens can be drawn."""

    def kept(self, log_probs: Tensor) -> Tensor:
        """bool (N, V): True where a token stays.

        Args:
            log_probs: (N, V) natural logarithms of distributions; each has a token whose probability is not zero.
        """
        ...


@dataclass(frozen=True)
class TopK:
    """The `k` most probable tokens, exactly. Fan et al. 2018 (arXiv:1805.04833).

    Hugging Face's `top_k` keeps more where several are equally probable at the border.

    Raises:
        ArgumentError: k is below 1.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ArgumentError(f"TopK: k is {self.k}; expected at least 1")

    def kept(self, log_probs: Tensor) -> Tensor:
        """The first k."""
        if self.k >= log_probs.shape[1]:
            return torch.ones_like(log_probs, dtype=torch.bool)
        index = top(log_probs, self.k)[1]
        return torch.zeros_like(log_probs, dtype=torch.bool).scatter(1, index, True)


@dataclass(frozen=True)
class TopP:
    """The nucleus: the fewest most probable tokens that have mass `p` together.

    Holtzman et al. 2020 (arXiv:1904.09751). Hugging Face: `top_p`.

    Raises:
        ArgumentError: p is not in (0, 1].
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ArgumentError(f"TopP: p is {self.p}; expected above 0 and at most 1")

    def kept(self, log_probs: Tensor) -> Tensor:
        """Each token before which there is less mass than p."""
        if self.p == 1:
            return torch.ones_like(log_probs, dtype=torch.bool)
        kept = torch.zeros_like(log_probs, dtype=torch.bool)
        rows = torch.arange(log_probs.shape[0], device=log_probs.device)
        for k in (min(NUCLEUS, log_probs.shape[1]), log_probs.shape[1]):  # seldom the second, for few rows
            best, index = top(log_probs[rows], k)
            sums = best[:, :k].exp().cumsum(1)
            before = torch.cat((torch.zeros_like(sums[:, :1]), sums[:, :-1]), 1)  # not sums - probs: that would round
            kept[rows] = kept[rows].scatter(1, index, before < self.p)
            rows = rows[sums[:, -1] < self.p]
            if not rows.shape[0]:
                break
        return kept


@dataclass(frozen=True)
class MinP:
    """The tokens at least `p` times as probable as the most probable one. Nguyen et al. 2024 (arXiv:2407.01082).

    Hugging Face: `min_p`.

    Raises:
        ArgumentError: p is not in (0, 1].
    """

    p: float

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ArgumentError(f"MinP: p is {self.p}; expected above 0 and at most 1")

    def kept(self, log_probs: Tensor) -> Tensor:
        """Each token not too far below the best."""
        return log_probs >= log_probs.amax(1, keepdim=True) + math.log(self.p)
