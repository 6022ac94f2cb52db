"""Products in the precision of their factors."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

NOTHING = nullcontext()


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Products inside it keep the dtype of their factors; autocast would round scores to half precision."""
    if not (torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)):
        return NOTHING
    return torch.autocast(device.type, enabled=False)


def fitted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in another dtype, finite numbers beyond its range as its largest: they must not become infinite."""
    if x.dtype == dtype:
        return x
    limits = torch.finfo(dtype)
    if torch.finfo(x.dtype).max > limits.max:
        x = x.clamp(limits.min, limits.max)
    return x.to(dtype)
