"""Products in the precision of their factors."""

from contextlib import AbstractContextManager, nullcontext

import torch

NOTHING = nullcontext()


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Products inside it keep the dtype of their factors; autocast would round scores to half precision."""
    if not (torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)):
        return NOTHING
    return torch.autocast(device.type, enabled=False)
