"""The ways a call can be run: each backend, and the fused one as it is where torch's private operator is missing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest import mock

from torch import Tensor

from oracles.attention_cases import Problem
from regard.attention import scoring
from regard.attention.backends import flash, sdpa
from regard.attention.backends.blockwise import BLOCKWISE
from regard.attention.backends.contract import Backend
from regard.attention.backends.factorised import FACTORISED
from regard.attention.backends.reference import REFERENCE
from regard.attention.backends.sdpa import SDPA_BACKEND
from regard.attention.backends.short import SHORT
from regard.attention.operator import build_call


@contextmanager
def without_cpu_flash() -> Iterator[None]:
    """As on a torch without the private operator for the CPU."""
    with mock.patch.object(sdpa, "cpu_flash", lambda: None):
        yield


@contextmanager
def small_blocks() -> Iterator[None]:
    """The pieces of a long call in a short one: a few queries, heads and batch elements at a time."""
    with mock.patch.multiple(flash, ROWS=2, TABLE=24, SHARED=8):
        yield


@contextmanager
def few_weights() -> Iterator[None]:
    """Blocks so small that most calls have many."""
    with mock.patch.object(scoring, "BLOCK", 20):
        yield


RUNNERS: dict[str, tuple[Backend, Callable[[], AbstractContextManager[None]]]] = {
    "short": (SHORT, nullcontext),
    "sdpa": (SDPA_BACKEND, nullcontext),
    "sdpa, small blocks": (SDPA_BACKEND, small_blocks),
    "sdpa, public": (SDPA_BACKEND, without_cpu_flash),
    "factorised": (FACTORISED, nullcontext),
    "blockwise": (BLOCKWISE, few_weights),
    "reference": (REFERENCE, nullcontext),
}


def run(runner: str, problem: Problem, need_lse: bool = False) -> tuple[Tensor, Tensor | None] | None:
    """Context and ℓ (if asked for) of a backend, or None where it refuses the call."""
    backend, setting = RUNNERS[runner]
    p = problem
    with setting():
        call = build_call(p.q, p.k, p.v, **p.options, dropout=0.0, need_lse=need_lse)
        if backend.refuses(call) is not None:
            return None
        return backend.run(call)
