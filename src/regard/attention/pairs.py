"""The scores of lifted queries and keys, for each form of score."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from regard.attention.additive import additive_scores
from regard.attention.precision import own_precision
from regard.attention.scores import Form

PairScores = Callable[[Mapping[str, Tensor], float], Tensor]
"""Scores (B, H, rows, columns) from "q" (B, H, rows, ·), "k" (B, G, columns, ·), and "weight" if the form has it."""


def _inner(parts: Mapping[str, Tensor], scale: float) -> Tensor:
    # queries are fewer numbers than scores
    return matmul_grouped(parts["q"] * scale, parts["k"].transpose(-1, -2))


def _additive(parts: Mapping[str, Tensor], scale: float) -> Tensor:
    return additive_scores(parts["q"], parts["k"], parts["weight"])


def _factorised(parts: Mapping[str, Tensor], scale: float) -> Tensor:
    product = matmul_grouped(parts["q"], parts["k"].transpose(-1, -2))
    # where the product is 0, the gradient of its logarithm would be infinite
    nothing = product <= 0.0
    return product.masked_fill(nothing, 1.0).log().masked_fill(nothing, -torch.inf)


PAIRS: dict[Form, PairScores] = {"inner": _inner, "additive": _additive, "factorised": _factorised}


def matmul_grouped(a: Tensor, b: Tensor) -> Tensor:
    """a (B, H, M, N) times b (B, G, N, P), query head h with key head h // (H / G), without repeating b."""
    heads, groups = a.shape[1], b.shape[1]
    with own_precision(a.device):
        if heads == groups:
            return a @ b
        batch, _, rows, inner = a.shape
        folded = a.reshape(batch, groups, heads // groups * rows, inner)
        return (folded @ b).view(batch, heads, rows, b.shape[-1])
