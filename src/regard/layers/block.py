"""A layer of self-attention and a feed-forward network: what encoders and language models are stacks of."""

from collections.abc import Sequence

from torch import Tensor, nn

from regard.attention import Mask
from regard.layers.multihead import KeysValues, MultiHeadAttention
from regard.layers.residual import Residual
from regard.layers.rotary import Rotation


class SelfAttentionBlock(nn.Module):
    """Self-attention and a feed-forward network, each in a residual connection.

    Args:
        attention: of E.
        feedforward: (…, E) → (…, E), such as `FeedForward`.
        residuals: around the one and the other.
    """

    def __init__(self, attention: MultiHeadAttention, feedforward: nn.Module, residuals: Sequence[Residual]) -> None:
        super().__init__()
        self.attention = attention
        self.feedforward = feedforward
        self.attention_residual, self.feedforward_residual = residuals

    def forward(self, x: Tensor, mask: Mask | None = None, rotation: Rotation | None = None) -> Tensor:
        """All positions at once: (B, L, E) → (B, L, E).

        Args:
            x: what to read.
            mask: which keys may be seen.
            rotation: turns queries and keys (rotary positions).
        """
        x = self.attention_residual(x, lambda y: self.attention(y, mask=mask, rotation=rotation))
        y: Tensor = self.feedforward_residual(x, self.feedforward)
        return y

    def extend(
        self, x: Tensor, cache: Tensor, position: int, mask: Mask | None = None, rotation: Rotation | None = None
    ) -> Tensor:
        """Some positions after those of a cache.

        Args:
            x: (N, L, E).
            cache: keys and values (N, 2, G, ≥ position + L, D) of which the first `position` are filled; those of x
                are written in behind them.
            position: how many are filled.
            mask: which of the position + L keys may be seen; queries are the last L positions.
            rotation: of the positions of x.

        Returns:
            (N, L, E).
        """
        end = position + x.shape[1]

        def past(y: Tensor) -> Tensor:
            q, new = self.attention.project(y, rotation)
            cache[:, 0, :, position:end] = new.keys
            cache[:, 1, :, position:end] = new.values
            return self.attention.attend_to(q, KeysValues(cache[:, 0, :, :end], cache[:, 1, :, :end]), mask)

        x = self.attention_residual(x, past)
        y: Tensor = self.feedforward_residual(x, self.feedforward)
        return y
