"""How much memory a process has used."""

import json
import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Most memory so far, in bytes: of the GPU where one is used, else the resident memory of this process."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.cuda.max_memory_allocated()
    # Linux hands the peak of the process that started this one down into ru_maxrss, but begins VmHWM anew
    try:
        lines = STATUS.read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def earlier_peak(result: Path) -> int:
    """The `peak_memory` that an interrupted part of a run wrote into its result.json; 0 if there is none."""
    try:
        return int(json.loads(result.read_text("utf-8"))["peak_memory"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
