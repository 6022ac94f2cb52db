"""Token embeddings."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.layers.dropout import Dropout
from regard.layers.positions import Positions


class TokenEmbedding(nn.Module):
    """Token ids → vectors scaled by √E; the same table can serve as the output projection (Vaswani et al. 2017, 3.4).

    Args:
        vocabulary: V.
        width: E.
        scale: what vectors are multiplied by; None is √E, and GPT and BERT have 1.
    """

    def __init__(self, vocabulary: int, width: int, scale: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width))  # (V, E)
        # with this spread the scaled vectors and the logits of a tied output both start near unit variance
        nn.init.normal_(self.weight, std=width**-0.5)
        self.scale = math.sqrt(width) if scale is None else scale

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (…) int64 → vectors (…, E)."""
        x = F.embedding(tokens, self.weight)
        return x if self.scale == 1.0 else x * self.scale


class PositionedEmbedding(nn.Module):
    """Token vector plus position vector, with dropout on the sum.

    Args:
        tokens: the token embedding (perhaps shared with another module).
        positions: the positional encoding; None adds nothing: the layers know positions by themselves.
        dropout: probability of dropping an element.
    """

    def __init__(self, tokens: TokenEmbedding, positions: Positions | None, dropout: float) -> None:
        super().__init__()
        self.tokens = tokens
        self.positions = positions
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, start: int = 0, positions: Tensor | None = None) -> Tensor:
        """Ids (B, L) int64 at positions start …, or at `positions` (L,) or (B, L) → vectors (B, L, E).

        Raises:
            ArgumentError: a position is past the last one.
        """
        y: Tensor = self.dropout(self.summed(tokens, start, positions))
        return y

    def summed(self, tokens: Tensor, start: int = 0, positions: Tensor | None = None) -> Tensor:
        """What dropout is put on; arguments and errors as for `forward`."""
        x: Tensor = self.tokens(tokens)
        if self.positions is None:
            return x
        return x + (self.positions(start, tokens.shape[1]) if positions is None else self.positions.at(positions))


class DroppedEmbedding(nn.Module):
    """Token vectors with dropout, without positions: what recurrent models read.

    Args:
        vocabulary: V.
        width: E.
        dropout: probability of dropping an element.
    """

    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens = TokenEmbedding(vocabulary, width)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Ids (…) int64 → vectors (…, E)."""
        x: Tensor = self.dropout(self.tokens(tokens))
        return x
