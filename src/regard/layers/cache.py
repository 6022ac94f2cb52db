"""Caches of keys and values: how they grow, and which of their places a hypothesis may see."""

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.attention import Mask
from regard.attention.extent import Extent
from regard.attention.modes import transformed
from regard.attention.visibility import Visibility
from regard.errors import ArgumentError

LEAST = 16  # positions by which a cache grows at least


def grown(cache: Tensor, needed: int) -> Tensor:
    """A cache (…, C, D) with room for `needed` positions: itself, or a larger one with the same beginning.

    It grows by an eighth at least, so that the copies of many steps are few.
    """
    capacity = cache.shape[-2]
    if needed <= capacity:
        return cache
    return F.pad(cache, (0, 0, 0, max(needed - capacity, capacity // 8, LEAST)))


class Since(Mask):
    """Batch element b sees its keys from `first[b]` on: what sequences that end together begin with is padding.

    Args:
        first: integers (B,), each from 0 to K.
    """

    def __init__(self, first: Tensor) -> None:
        if first.is_floating_point() or first.ndim != 1:
            raise ArgumentError(f"Since: first is {tuple(first.shape)} {first.dtype}: expected integers (B,)")
        self.first = first.detach().clone()
        # one mask serves all layers of a step
        self._tables: dict[tuple[int, torch.device, bool], Visibility] = {}

    def __repr__(self) -> str:
        return f"Since({self.first.tolist()})"

    def resolve(self, extent: Extent) -> Visibility:
        """See `Mask.resolve`."""
        if self.first.shape[0] not in (1, extent.batch):
            raise ArgumentError(f"Since: first has {self.first.shape[0]} numbers for a batch of {extent.batch}")
        if self.first.device != extent.device:
            raise ArgumentError(f"Since: first is on {self.first.device}, queries and keys on {extent.device}")
        if torch.compiler.is_compiling() or transformed():  # what is made here must not outlive it
            return self._table(extent)
        key = (extent.keys, extent.device, torch.is_inference_mode_enabled())
        if key not in self._tables:
            self._tables[key] = self._table(extent)
        return self._tables[key]

    def _table(self, extent: Extent) -> Visibility:
        keys = torch.arange(extent.keys, device=extent.device)
        return Visibility(keys=keys >= self.first.view(-1, 1, 1, 1))  # (B, 1, 1, K)
