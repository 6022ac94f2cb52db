"""Which backend runs a call: the first of the list that doesn't refuse it."""

from dataclasses import dataclass

import torch

from regard.attention.backends.blockwise import BLOCKWISE
from regard.attention.backends.contract import Backend, Call
from regard.attention.backends.factorised import FACTORISED
from regard.attention.backends.flex import FLEX
from regard.attention.backends.reference import REFERENCE
from regard.attention.backends.sdpa import SDPA_BACKEND
from regard.attention.backends.short import SHORT

BACKENDS: tuple[Backend, ...] = (SHORT, FLEX, SDPA_BACKEND, FACTORISED, BLOCKWISE, REFERENCE)
"""Fastest first; the last one refuses nothing."""


@dataclass(frozen=True)
class AttentionPlan:
    """What `attend` would do with a call.

    Attributes:
        backend: name of the backend that runs it.
        how: how, and what memory it takes.
        refused: the faster backends, each with the reason why it can't run the call.
    """

    backend: str
    how: str
    refused: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.how}"]
        lines += [f"not {name}: {why}" for name, why in self.refused.items()]
        return "\n".join(lines)


def choose(call: Call) -> Backend:
    """The backend that runs a call; for `torch.export` the one that is right for every size, whatever the example's."""
    if torch.compiler.is_exporting():
        return REFERENCE
    for backend in BACKENDS:
        if backend.refuses(call) is None:
            return backend
    raise AssertionError("the last backend refuses nothing")


def plan(call: Call) -> AttentionPlan:
    """Explain `choose`."""
    refused: dict[str, str] = {}
    for backend in BACKENDS:
        why = backend.refuses(call)
        if why is None:
            return AttentionPlan(backend.name, backend.how(call), refused)
        refused[backend.name] = why
    raise AssertionError("the last backend refuses nothing")
