"""What a run was trained on and has used, and what machine a measurement was taken on."""

import platform
from pathlib import Path
from typing import Any

import torch

from regard.runs.memory import earlier_peak, peak_memory

CPUINFO = Path("/proc/cpuinfo")


def resources(device: torch.device, earlier: Path) -> dict[str, Any]:
    """For a run's result.json: the most memory so far, and the machine; `earlier` is that of an interrupted part."""
    return {"peak_memory": max(peak_memory(), earlier_peak(earlier)), "machine": machine_words(device)}


def machine_words(device: torch.device) -> str:
    """The name of an accelerator, or that of the processor and the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{platform.machine()}, {device.type}"
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    """Its name where Linux tells it, else what kind it is."""
    try:
        lines = CPUINFO.read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
