"""Positional encodings: what tells a model without recurrence where a token stands."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention.modes import readable
from regard.errors import ArgumentError


class Positions(nn.Module):
    """A vector for each position 0 … max_length − 1.

    Attributes:
        max_length: number of positions.
    """

    table: Tensor

    def __init__(self, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length

    def forward(self, start: int, length: int) -> Tensor:
        """Vectors of the positions start … start + length − 1, (length, E).

        Raises:
            ArgumentError: they go past `max_length`.
        """
        if start + length > self.max_length:
            raise ArgumentError(f"position {start + length - 1} is past the last one, {self.max_length - 1}")
        return self.table[start : start + length]

    def at(self, positions: Tensor) -> Tensor:
        """Vectors of positions (…) int64, in any order: (…, E).

        Raises:
            ArgumentError: one is past `max_length` or negative; on a CPU only, elsewhere a look would be a wait.
        """
        if readable(positions) and positions.numel():
            least, most = (int(x) for x in positions.aminmax())
            if least < 0 or most >= self.max_length:
                wrong = least if least < 0 else most
                raise ArgumentError(f"position {wrong}: expected 0 to {self.max_length - 1}")
        return F.embedding(positions, self.table)


class SinusoidalPositions(Positions):
    """Sines and cosines of geometrically spaced wavelengths, without parameters (Vaswani et al. 2017, section 3.5).

    PE(p, 2i) = sin(p / 10000^(2i/E)), PE(p, 2i+1) = cos(p / 10000^(2i/E)).

    Args:
        max_length: number of positions.
        width: E, even.
    """

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__(max_length)
        if width % 2:
            raise ArgumentError(f"sinusoidal positions need an even width, not {width}")
        self.register_buffer("table", sinusoids(max_length, width), persistent=False)


class LearnedPositions(Positions):
    """A learned vector for each position (Gehring et al. 2017; Devlin et al. 2019).

    Args:
        max_length: number of positions.
        width: E.
    """

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__(max_length)
        self.table = nn.Parameter(torch.empty(max_length, width))
        nn.init.normal_(self.table, std=width**-0.5)


def sinusoids(length: int, width: int) -> Tensor:
    """The table of `SinusoidalPositions`, (length, width) float32, computed in float64."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    wavelength = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    angle = position * wavelength  # (length, width / 2)
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1).float()
