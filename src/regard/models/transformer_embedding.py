"""What Transformers of others have between a token's vector and the first layer: LayerNorm, other sinusoids."""

import math

import torch
from torch import Tensor, nn

from regard.errors import ArgumentError
from regard.layers import PositionedEmbedding, Positions, TokenEmbedding


class NormalisedEmbedding(PositionedEmbedding):
    """LayerNorm on the sum of token vector and position vector, then dropout (Lewis et al. 2020, "BART").

    Args:
        tokens: the token embedding (perhaps shared with another module).
        positions: the positional encoding.
        dropout: probability of dropping an element.
    """

    def __init__(self, tokens: TokenEmbedding, positions: Positions, dropout: float) -> None:
        super().__init__(tokens, positions, dropout)
        self.norm = nn.LayerNorm(tokens.weight.shape[1])

    def forward(self, tokens: Tensor, start: int = 0, positions: Tensor | None = None) -> Tensor:
        """Ids (B, L) int64 at positions start …, or at `positions` (B, L), → vectors (B, L, E)."""
        x: Tensor = self.dropout(self.norm(self.summed(tokens, start, positions)))
        return x


class Tensor2TensorPositions(Positions):
    """The sinusoids of tensor2tensor and fairseq, without parameters; M2M-100 has them (Fan et al. 2021).

    All sines come before all cosines, and the wavelengths reach 10000 within the width: with half = E/2,
    PE(p, i) = sin((p + 2) / 10000^(i/(half − 1))), PE(p, half + i) = cos(the same). Positions begin at 2.

    Args:
        max_length: number of positions.
        width: E, even and at least 4.
    """

    FIRST = 2

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__(max_length)
        if width % 2 or width < 4:
            raise ArgumentError(f"the sinusoids of tensor2tensor need an even width of 4 or more, not {width}")
        half = width // 2
        # in single precision, as there: further on the angles differ from the exact ones
        rates = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
        angles = torch.arange(self.FIRST, self.FIRST + max_length).float()[:, None] * rates  # (max_length, half)
        self.register_buffer("table", torch.cat((angles.sin(), angles.cos()), 1), persistent=False)
