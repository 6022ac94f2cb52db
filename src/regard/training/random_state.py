"""The states of all random generators a run may draw from, as tensors."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from regard.training.processes import Processes


def capture_random() -> dict[str, Tensor]:
    """The global generators' states: torch (CPU, and each CUDA device once CUDA is in use), Python and NumPy.

    Returns tensors by name: "torch" and "cuda.0", … as torch gives them (uint8); "python" and "numpy" with the Mersenne
    Twister's words and its position (int64), beside them the spare normal draw each may hold (float64, empty if none).
    """
    states = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device, state in enumerate(torch.cuda.get_rng_state_all()):
            states[f"cuda.{device}"] = state
    _, words, spare = random.getstate()
    states["python"] = torch.tensor(words, dtype=torch.int64)
    states["python.normal"] = torch.tensor([] if spare is None else [spare], dtype=torch.float64)
    _, keys, position, has_spare, normal = cast(tuple[Any, ...], np.random.get_state())
    states["numpy"] = torch.tensor([*keys.tolist(), position], dtype=torch.int64)
    states["numpy.normal"] = torch.tensor([normal] if has_spare else [], dtype=torch.float64)
    return states


def capture_all_random(processes: Processes) -> dict[str, Tensor]:
    """The main process's states, and of process n beside it those that models draw from: "process.n.torch" and, of its
    own CUDA device, "process.n.cuda". All processes call this together."""
    states = capture_random()
    for rank, state in enumerate(processes.gather(torch.get_rng_state())[1:], start=1):
        states[f"process.{rank}.torch"] = state
    if processes.count > 1 and processes.device.type == "cuda":
        own = torch.cuda.get_rng_state(processes.device)
        for rank, state in enumerate(processes.gather(own)[1:], start=1):
            states[f"process.{rank}.cuda"] = state
    return states


def restore_random(states: Mapping[str, Tensor], rank: int = 0, step: int = 0) -> None:
    """Put back what `capture_all_random` gave. States of CUDA devices that this machine lacks are left out.

    A process that was not there when the states were captured gets its own from the main one's seed, `rank` and `step`.
    """
    torch.set_rng_state(states["torch"])
    for device in range(torch.cuda.device_count()):
        if f"cuda.{device}" in states:
            torch.cuda.set_rng_state(states[f"cuda.{device}"], device)
    if rank > 0 and f"process.{rank}.torch" in states:
        torch.set_rng_state(states[f"process.{rank}.torch"])
        if f"process.{rank}.cuda" in states:
            torch.cuda.set_rng_state(states[f"process.{rank}.cuda"])
    elif rank > 0:
        seed_process(torch.initial_seed(), rank, step)
    spare = states["python.normal"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), spare[0] if spare else None))
    words = states["numpy"].tolist()
    normal = states["numpy.normal"].tolist()
    keys = np.array(words[:-1], dtype=np.uint32)
    np.random.set_state(("MT19937", keys, words[-1], len(normal), normal[0] if normal else 0.0))


@contextmanager
def preserved_random() -> Iterator[None]:
    """Whatever the block draws, the generators afterwards are as they were before it."""
    states = capture_random()
    try:
        yield
    finally:
        restore_random(states)


def seed_process(seed: int, rank: int, step: int = 0) -> None:
    """Seed torch so that each process draws its own numbers; process 0 at step 0 has `seed` itself."""
    if rank or step:
        seed = int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(seed)
