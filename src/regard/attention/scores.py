"""Scores: how a query and a key become a number.

A score is a frozen dataclass of numbers and tensors that says which form it is and how to bring queries and keys into
that form; parameters belong to layers. The dispatcher reads the form and never asks which class a score is.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from regard.errors import ArgumentError

Form = Literal["inner"]
"""`inner`: score(q, k) = scale · ⟨q', k'⟩ after a cheap lift of q and k."""


class Score(ABC):
    """What a backend needs to know of a score."""

    form: Form

    @abstractmethod
    def lift(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return (q', k', scale) such that score(q, k) = scale · ⟨q', k'⟩ and scale > 0.

        torch's kernel for the CPU bars keys before it scales, so that a scale that isn't positive lets them through.

        Args:
            q: queries (B, H, Q, D).
            k: keys (B, G, K, D).
        """


@dataclass(frozen=True)
class Dot(Score):
    """Dot product: score(q, k) = ⟨q, k⟩ (Luong et al. 2015, eq. 8, "dot")."""

    form = "inner"

    def lift(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return q and k as they are, with scale 1."""
        return q, k, 1.0


@dataclass(frozen=True)
class ScaledDot(Score):
    """Scaled dot product: score(q, k) = scale · ⟨q, k⟩ (Vaswani et al. 2017, eq. 1).

    Args:
        scale: the factor; None is 1/√D with D the head width.
    """

    scale: float | None = None
    form = "inner"

    def __post_init__(self) -> None:
        if self.scale is not None and not (isinstance(self.scale, (int, float)) and math.isfinite(self.scale)):
            raise ArgumentError(f"ScaledDot: scale must be a finite number, not {self.scale!r}")

    def lift(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return q and k as they are, with the scale; its sign, or its being 0, goes into q."""
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        if scale > 0:
            return q, k, scale
        return (-q, k, -scale) if scale < 0 else (q * 0.0, k, 1.0)
