"""The best continuations of each sentence's hypotheses, found in one pass over the log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """The k best continuations of each sentence, best first; ties by lower hypothesis, then lower token.

    Where there are fewer than k, the rest has `totals` −inf, parent 0 and token 0.

    Attributes:
        parents: int64 (S, k) which of the sentence's W hypotheses is continued.
        tokens: int64 (S, k) by which token.
        log_probs: (S, k) that token's log-probability.
        totals: (S, k) the log-probability of the whole.
    """

    parents: Tensor
    tokens: Tensor
    log_probs: Tensor
    totals: Tensor


def best_continuations(log_probs: Tensor, totals: Tensor, k: int) -> Candidates:
    """The k best of all W · V′ continuations of each sentence by total log-probability.

    The maximum of each run of about √V′ neighbouring tokens is taken first: the k best continuations are within the
    k runs with the best maxima, so only those are looked at closely. One pass over the log-probabilities and no copy
    of them, several times faster than `topk` over all.

    Args:
        log_probs: (S · W, V′) of the next token.
        totals: (S, W) of the hypotheses so far; −inf for one that does not exist. The sum has the wider of
            the two dtypes.
        k: how many to return.
    """
    sentences, width = totals.shape
    vocabulary = log_probs.shape[1]
    dtype = torch.promote_types(log_probs.dtype, totals.dtype)
    run = min(vocabulary, (isqrt(vocabulary) + 31) // 32 * 32)  # aligned: multiples of 32 are measurably faster
    whole = vocabulary // run * run
    maxima = log_probs[:, :whole].view(sentences * width, -1, run).amax(2)  # (N, R)
    if whole < vocabulary:
        maxima = torch.cat((maxima, log_probs[:, whole:].amax(1, keepdim=True)), 1)
    runs = maxima.shape[1]
    # Rounding is monotone: the maximum of the sums is the sum with the maximum.
    sums = maxima.view(sentences, width, runs) + totals[:, :, None]
    chosen = top(sums.flatten(1), k)[1].sort(1).values  # (S, ≤ k), in the order of hypotheses and tokens

    parent = (chosen // runs)[:, :, None]  # (S, ≤ k, 1)
    token = (chosen % runs * run)[:, :, None] + torch.arange(run, device=chosen.device)  # (S, ≤ k, run)
    flat = (parent * vocabulary + token.clamp(max=vocabulary - 1)).flatten(1)
    token_log_probs = log_probs.reshape(sentences, -1).gather(1, flat).view(token.shape).to(dtype)
    token_log_probs = token_log_probs.masked_fill(token >= vocabulary, -torch.inf)
    sums = (token_log_probs + totals.gather(1, parent[:, :, 0])[:, :, None]).flatten(1)

    values, place = top(sums, k)
    found = flat.gather(1, place)
    missing = (0, k - values.shape[1])
    return Candidates(
        parents=torch.nn.functional.pad(found // vocabulary, missing),
        tokens=torch.nn.functional.pad(found % vocabulary, missing),
        log_probs=torch.nn.functional.pad(token_log_probs.flatten(1).gather(1, place), missing, value=-torch.inf),
        totals=torch.nn.functional.pad(values, missing, value=-torch.inf),
    )


def top(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row (all, if there are fewer) in falling order, and their indices; ties by lower index.

    `torch.topk` leaves ties open, and with them which hypothesis survives. Places of −inf stay in any order.
    """
    if k >= values.shape[1]:
        return values.sort(dim=1, descending=True, stable=True)
    best, index = values.topk(k + 1, dim=1)
    tied = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -torch.inf)).any(1)
    best, index = best[:, :k], index[:, :k]
    if bool(tied.any()):  # rare; a sort is several times slower
        ordered = values[tied].sort(dim=1, descending=True, stable=True)
        best, index = best.clone(), index.clone()
        best[tied], index[tied] = ordered.values[:, :k], ordered.indices[:, :k]
    return best, index
