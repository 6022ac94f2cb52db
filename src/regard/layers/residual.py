"""Residual connections: where the normalisation stands relative to a sub-layer."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from regard.layers.dropout import Dropout


class Residual(nn.Module):
    """A residual connection around a sub-layer with a normalisation and dropout.

    Args:
        width: E.
        dropout: probability of dropping an element of the sub-layer's output.
        norm: (…, E) → (…, E); None is `nn.LayerNorm(width)`.
    """

    def __init__(self, width: int, dropout: float, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm is None else norm
        self.dropout = Dropout(dropout)

    @abstractmethod
    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply `sublayer` to x (B, L, E) with the residual connection."""


class PostNorm(Residual):
    """norm(x + Dropout(f(x))) (Vaswani et al. 2017, section 3.1)."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Residual.forward`."""
        y: Tensor = self.norm(x + self.dropout(sublayer(x)))
        return y


class PreNorm(Residual):
    """x + Dropout(f(norm(x))) (Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture")."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Residual.forward`."""
        y: Tensor = x + self.dropout(sublayer(self.norm(x)))
        return y
