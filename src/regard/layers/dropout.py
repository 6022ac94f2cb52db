"""Dropout that draws its random numbers cheaply on the CPU."""

import torch
from torch import Tensor, nn

LEVELS = 1 << 16  # a draw has 16 bits


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` (Srivastava et al. 2014) that takes four draws of 16 bits from each random number of 64.

    On the CPU torch draws one number for each element, one after the other, which costs a tenth of the training of a
    small model. The probability is rounded to a multiple of 2⁻¹⁶, and what is kept is scaled by the rounded one, so
    that the mean is exact. Numbers come from torch's default generator. On other devices this is torch's own.

    Args:
        p: probability of dropping an element, from 0 to 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x (…) in training; x itself otherwise."""
        level = round(self.p * LEVELS)
        if not self.training or level in (0, LEVELS) or x.device.type != "cpu":
            return super().forward(x)
        numbers = torch.empty(x.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
        draws = numbers.view(torch.int16)[: x.numel()].view(x.shape)  # uniform from −2¹⁵ to 2¹⁵ − 1
        kept = (draws >= level - LEVELS // 2).to(x.dtype)
        return x * kept.mul_(LEVELS / (LEVELS - level))
