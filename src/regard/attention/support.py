"""What goes with what: the combinations that are refused, and the table of those that run, with the backend of each.

`support_docs` makes docs/attention-support.md of it; the tests go through its options.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from regard.attention.biases import ALiBi, Diagonals, GaussianFactor, RelativeBias
from regard.attention.masks import Causal, Dense, Document, Interval, Mask, Near, Padding, Prefix, Window
from regard.attention.scores import Form
from regard.errors import UnsupportedError

Option = Literal["mask", "bias", "factor", "softcap", "sink", "dropout"]


@dataclass(frozen=True)
class Refusal:
    """Why a combination isn't supported, and the nearest that is."""

    why: str
    nearest: str


REFUSED: dict[tuple[Form, Option], Refusal] = {
    ("factorised", "softcap"): Refusal(
        "a soft-cap bounds scores, and kernel attention has similarities instead",
        "the same call without softcap, or with an inner score such as Gaussian(sigma)",
    ),
}
"""Every combination that `attend` and `AttentionMap` refuse; all others run."""


def check_supported(form: Form, options: dict[Option, object]) -> None:
    """Raise `UnsupportedError` for a combination in `REFUSED`; `options` are those given, None where not."""
    for (refused, option), refusal in REFUSED.items():
        if refused == form and options.get(option) is not None:
            raise UnsupportedError(
                f"{option} with a score of the {form} form: {refusal.why}; nearest: {refusal.nearest}"
            )


MASKS: dict[str, Callable[[int, int, int], Mask | None]] = {
    "no mask": lambda batch, queries, keys: None,
    "Causal()": lambda batch, queries, keys: Causal(),
    "Causal(offsets)": lambda batch, queries, keys: Causal(torch.arange(batch) + keys - queries - 1),
    "Padding(lengths)": lambda batch, queries, keys: Padding(torch.arange(batch) % 2 + keys - 1),
    "Causal() & Padding(lengths)": lambda batch, queries, keys: Causal() & Padding(torch.arange(batch) % 2 + keys - 1),
    "Window(left, right)": lambda batch, queries, keys: Window(keys // 8, keys // 8),
    "Prefix(n) | Causal()": lambda batch, queries, keys: Prefix(torch.arange(batch) % 2 + keys // 3) | Causal(),
    "Document(ids) & Causal()": lambda batch, queries, keys: (
        Document(torch.arange(queries) * 3 // max(1, queries), torch.arange(keys) * 3 // max(1, keys)) & Causal()
    ),
    "Interval(start, stop)": lambda batch, queries, keys: Interval(
        (torch.arange(queries) - 3).clamp(0), torch.arange(queries) + 2
    ),
    "Near(centre, radius)": lambda batch, queries, keys: Near(torch.linspace(0, keys - 1, queries), keys / 16),
    "Dense(table)": lambda batch, queries, keys: Dense(torch.arange(queries)[:, None] % 3 != torch.arange(keys) % 3),
}
"""One of each mask for given B, Q and K."""

Made = dict[str, Any]
"""Keyword arguments of `attend`."""


def _learned_bias(batch: int, heads: int, queries: int, keys: int) -> Made:
    return {"bias": RelativeBias(torch.linspace(-1, 1, 32 * heads).view(32, heads).requires_grad_())}


OPTIONS: dict[str, Callable[[int, int, int, int], Made]] = {
    "nothing else": lambda batch, heads, queries, keys: {},
    "bias=ALiBi()": lambda batch, heads, queries, keys: {"bias": ALiBi()},
    "bias=RelativeBias(table), learned": _learned_bias,
    "bias=Diagonals(values)": lambda batch, heads, queries, keys: {
        "bias": Diagonals(torch.linspace(-1, 1, heads * (queries + keys - 1)).view(heads, -1))
    },
    "bias=tensor": lambda batch, heads, queries, keys: {"bias": _waves(queries, keys)},
    "softcap": lambda batch, heads, queries, keys: {"softcap": 5.0},
    "sink": lambda batch, heads, queries, keys: {"sink": torch.linspace(-1, 1, heads)},
    "factor=GaussianFactor(centre, sigma)": lambda batch, heads, queries, keys: {
        "factor": GaussianFactor(torch.linspace(0, keys - 1, queries), keys / 8)
    },
    "factor=tensor": lambda batch, heads, queries, keys: {"factor": _waves(queries, keys).square()},
    "dropout": lambda batch, heads, queries, keys: {"dropout": 0.1},
    "return_lse": lambda batch, heads, queries, keys: {"return_lse": True},
}
"""One of each other option for given B, H, Q and K."""


def _waves(queries: int, keys: int) -> Tensor:
    return torch.sin(torch.arange(queries)[:, None] * 0.7 + torch.arange(keys) * 0.3)
