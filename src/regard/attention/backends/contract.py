"""What a backend is: it says which calls it refuses and why, and runs the others exactly."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from regard.attention.scoring import Scoring


@dataclass(frozen=True)
class Call:
    """One checked call of `attend`.

    Attributes:
        scoring: what determines the weights.
        v: values (B, G, K, Dv), zeros where no query sees the key.
        dropout: probability of dropping a weight.
        need_lse: whether ℓ is asked for.
        differentiated: whether a gradient will flow through the call.
    """

    scoring: Scoring
    v: Tensor
    dropout: float
    need_lse: bool
    differentiated: bool


class Backend(ABC):
    """A way to compute attention.

    Every backend keeps the contracts: context 0 and ℓ = −∞ in a row that sees no key, finite gradients there, weights
    before dropout in ℓ, and at most twice the error of the plain computation in the same dtype.
    """

    name: str

    @abstractmethod
    def refuses(self, call: Call) -> str | None:
        """Why this backend can't run the call, or None if it can."""

    @abstractmethod
    def how(self, call: Call) -> str:
        """One line on how this backend would run the call, with its memory."""

    @abstractmethod
    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """Return the context (B, H, Q, Dv) in v's dtype and, if asked for, ℓ (B, H, Q) in float32 or wider."""
