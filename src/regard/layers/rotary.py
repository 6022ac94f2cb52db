"""Rotary positions: queries and keys are turned by angles that grow with their position."""

import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Stretch:
    """Longer wavelengths, so that a model reads further than it was trained to at first.

    Without `original` all are `factor` times as long: position interpolation (Chen et al. 2023, arXiv:2306.15595,
    equation 4). With it, as in Llama 3.1 (Meta's llama-models, `apply_scaling`), those that come round at least `high`
    times within the `original` positions stay, those that come round at most `low` times are `factor` times as long,
    and between them the frequency goes over from one to the other, linear in the number of rounds.

    Attributes:
        factor: above 0; 1 changes nothing.
        original: positions that a model was trained with before, or None.
        low, high: numbers of rounds.

    Raises:
        ArgumentError: the factor isn't above 0, or high not above low.
    """

    factor: float
    original: int | None = None
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ArgumentError(f"Stretch: the factor is {self.factor}; expected more than 0")
        if not self.high > self.low:
            raise ArgumentError(f"Stretch: high is {self.high}; expected more than low, {self.low}")

    def apply(self, frequency: Tensor) -> Tensor:
        """New angles for a step (D / 2,) from the old ones."""
        if self.original is None:
            return frequency / self.factor
        rounds = self.original / (2 * math.pi / frequency)
        kept = ((rounds - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
        return (1 - kept) * frequency / self.factor + kept * frequency


class RotaryPositions(nn.Module):
    """Rotary position embedding (Su et al. 2021, "RoFormer", section 3.2.2), without parameters.

    The pair (x_i, x_{i + D/2}) of a query or key at position p is turned by the angle p · base^(−2i / D): scores then
    depend on positions through their distances. Which numbers make a pair is a convention; this one, halves, is that of
    Llama's weights in Hugging Face's layout (the paper pairs neighbours). Angles are computed in float32, as those that
    published models were trained with (float64 where that is asked for), anew for each pass: there is no last position.

    Args:
        head_width: D, even.
        base: of the wavelengths; they go from 2π to 2π · base.
        stretch: makes them longer, or None.

    Raises:
        ArgumentError: an odd width.
    """

    def __init__(self, head_width: int, base: float = 10000.0, stretch: Stretch | None = None) -> None:
        super().__init__()
        if head_width % 2:
            raise ArgumentError(f"rotary positions need an even head width, not {head_width}")
        self.head_width = head_width
        self.base = base
        self.stretch = stretch

    def forward(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """The turns of positions (L,) or (B, L), integers, for queries and keys of `dtype`."""
        wide = torch.promote_types(dtype, torch.float32)
        steps = torch.arange(0, self.head_width, 2, dtype=wide, device=positions.device)
        frequency = 1.0 / (self.base ** (steps / self.head_width))  # (D / 2,)
        if self.stretch is not None:
            frequency = self.stretch.apply(frequency)
        angle = positions[..., None].to(wide) * frequency  # (L, D / 2) or (B, L, D / 2)
        cos, sin = angle.cos(), angle.sin()
        both = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        rows = (1, *positions.shape) if positions.ndim == 1 else tuple(positions.shape)
        return Rotation(*(x.to(dtype).view(rows[0], 1, rows[1], self.head_width) for x in both))

    def extra_repr(self) -> str:
        """What is printed between the brackets."""
        return f"{self.head_width}, base={self.base}" + ("" if self.stretch is None else f", {self.stretch}")
