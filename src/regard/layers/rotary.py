"""Rotary positions: queries and keys are turned by angles that grow with their position."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from regard.errors import ArgumentError


class Rotation(NamedTuple):
    """The turns of one pass; one `Rotation` serves all layers and heads.

    Attributes:
        cos: cosines of the angles, (1 or B, 1, L, D), those of the first half of D and again those.
        sin: sines, negative in the first half of D.
    """

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Queries or keys (B, n, L, D) with each pair of their numbers turned, in their dtype."""
        half = x.shape[-1] // 2
        # with mixed precision x is narrower than the turns
        return torch.addcmul(x * self.cos, x.roll(half, -1), self.sin).to(x.dtype)


class RotaryPositions(nn.Module):
    """Rotary position embedding (Su et al. 2021, "RoFormer", section 3.2.2), without parameters.

    The pair (x_i, x_{i + D/2}) of a query or key at position p is turned by the angle p · base^(−2i / D): scores then
    depend on positions through their distances. Which numbers make a pair is a convention; this one, halves, is that of
    Llama's weights in Hugging Face's layout (the paper pairs neighbours). Angles are computed in float32, as those that
    published models were trained with (float64 where that is asked for), anew for each pass: there is no last position.

    Args:
        head_width: D, even.
        base: of the wavelengths; they go from 2π to 2π · base.

    Raises:
        ArgumentError: an odd width.
    """

    def __init__(self, head_width: int, base: float = 10000.0) -> None:
        super().__init__()
        if head_width % 2:
            raise ArgumentError(f"rotary positions need an even head width, not {head_width}")
        self.head_width = head_width
        self.base = base

    def forward(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """The turns of positions (L,) or (B, L), integers, for queries and keys of `dtype`."""
        wide = torch.promote_types(dtype, torch.float32)
        steps = torch.arange(0, self.head_width, 2, dtype=wide, device=positions.device)
        frequency = 1.0 / (self.base ** (steps / self.head_width))  # (D / 2,)
        angle = positions[..., None].to(wide) * frequency  # (L, D / 2) or (B, L, D / 2)
        cos, sin = angle.cos(), angle.sin()
        both = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        rows = (1, *positions.shape) if positions.ndim == 1 else tuple(positions.shape)
        return Rotation(*(x.to(dtype).view(rows[0], 1, rows[1], self.head_width) for x in both))

    def extra_repr(self) -> str:
        """What is printed between the brackets."""
        return f"{self.head_width}, base={self.base}"
