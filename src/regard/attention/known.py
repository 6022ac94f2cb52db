"""What was found out about stored tensors."""

import torch
from torch import Tensor

from regard.attention.modes import readable


class Known:
    """What was found out about tensors by name, so that those which many tables share are read, and widened, once."""

    def __init__(self) -> None:
        self._ranges: dict[str, tuple[int, int]] = {}
        self._wide: dict[str, Tensor] = {}

    def within(self, name: str, x: Tensor, low: int, high: int) -> bool:
        """Whether all integers, or bytes of truth values, are in a range, as far as they can be read."""
        if not readable(x) or not x.numel():
            return True
        if name not in self._ranges:
            numbers = x.view(torch.uint8) if x.dtype == torch.bool else x
            self._ranges[name] = int(numbers.amin()), int(numbers.amax())
        return low <= self._ranges[name][0] and self._ranges[name][1] <= high

    def wide(self, name: str, x: Tensor) -> Tensor:
        """x in int64."""
        if name not in self._wide:
            self._wide[name] = x.long()
        return self._wide[name]
