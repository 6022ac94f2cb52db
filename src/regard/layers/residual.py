"""Residual connections: where the normalisation stands relative to a sub-layer."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from regard.layers.dropout import Dropout


class Residual(nn.Module):
    """A residual connection around a sub-layer with LayerNorm and dropout.

    Args:
        width: E.
        dropout: probability of dropping an element of the sub-layer's output.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    @abstractmethod
    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply `sublayer` to x (B, L, E) with the residual connection."""


class PostNorm(Residual):
    """LayerNorm(x + Dropout(f(x))) (Vaswani et al. 2017, section 3.1)."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Residual.forward`."""
        y: Tensor = self.norm(x + self.dropout(sublayer(x)))
        return y


class PreNorm(Residual):
    """x + Dropout(f(LayerNorm(x))) (Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture")."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """See `Residual.forward`."""
        y: Tensor = x + self.dropout(sublayer(self.norm(x)))
        return y
