"""How much memory a process has used."""

import resource
import sys

import torch


def peak_memory() -> int:
    """Most memory so far, in bytes: of the GPU where one is used, else the resident memory of this process."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
