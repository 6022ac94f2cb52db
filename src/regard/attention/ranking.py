"""The largest numbers of each row, ties by lower index, without sorting the row."""

import torch
from torch import Tensor

DEPTH = 8
"""Columns of a group. What is ranked in all is least near this for eight numbers of some thousand."""


def largest(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n largest of each row (…, K), largest first, equal ones by lower index; n ≤ K.

    Returns:
        values (…, n) and indices (…, n) int64. −∞ in a row comes last, in any order.
    """
    found, unsure = _choose(scores, n)
    index = found.sort(-1).values
    best, order = scores.gather(-1, index).sort(dim=-1, descending=True, stable=True)
    index = index.gather(-1, order)
    if bool(unsure.any()):  # equal scores are rare, and which of them come first is a matter of their places
        best[unsure], index[unsure] = _stable(scores[unsure], n)
    return best, index


def _choose(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Indices (…, n) of the n largest of each row, in any order; and (…) whether one left out is equal to the least.

    The n largest are in n groups of columns: those with the largest maxima. So a row is read once for the maxima, these
    are ranked in the same way, and then the columns of n groups. Group g is the columns g + i · count, so that maxima
    are taken of numbers that lie beside each other.
    """
    keys = scores.shape[-1]
    count = keys // DEPTH
    if count < 2 * n:
        values, index = scores.topk(n, -1, sorted=False)
        least = values.amin(-1, keepdim=True)
        return index, ((scores >= least).sum(-1) > n) & (least[..., 0] > -torch.inf)
    groups = scores[..., : DEPTH * count].reshape(*scores.shape[:-1], DEPTH, count)
    chosen, unsure = _choose(groups.amax(-2), n)
    steps = torch.arange(DEPTH, device=scores.device)[:, None] * count
    place = (steps + chosen[..., None, :]).flatten(-2)  # (…, DEPTH · n)
    if DEPTH * count < keys:  # columns left over are in every choice
        rest = torch.arange(DEPTH * count, keys, device=scores.device)
        place = torch.cat([place, rest.expand(*chosen.shape[:-1], -1)], -1)
    among, also = _choose(scores.gather(-1, place), n)
    return place.gather(-1, among), unsure | also


def _stable(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """`largest`, for any row."""
    keys = scores.shape[-1]
    values, index = scores.topk(n, -1)
    least = values[..., -1:]  # the n-th largest
    if bool(((scores >= least).sum(-1) > n).any()):
        # torch.topk takes any of equal values, so the choice among those equal to the n-th is made on their positions
        position = torch.arange(keys, 0, -1, device=scores.device)
        rank = (scores > least).long() * (keys + 1) + (scores >= least).long() * position
        index = rank.topk(n, -1).indices
    index = index.sort(-1).values
    best, order = scores.gather(-1, index).sort(dim=-1, descending=True, stable=True)
    return best, index.gather(-1, order)
