"""Additive scores Σ_d w_d · tanh(q_d + k_d), without a table of queries × keys × width."""

import torch
from torch import Tensor


def additive_scores(q: Tensor, k: Tensor, weight: Tensor) -> Tensor:
    """Additive scores of all pairs.

    Args:
        q: (B, H, Q, D).
        k: (B, G, K, D), G dividing H: query head h reads key head h // (H / G).
        weight: (1, H or 1, 1, D).

    Returns:
        (B, H, Q, K).
    """
    if q.shape[1] != k.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    return (torch.tanh(q[:, :, :, None] + k[:, :, None]) * weight[:, :, :, None].to(q.dtype)).sum(-1)
