"""Sampling over the step protocol: each token is drawn from the model's distribution.

A draw is the largest of log p(token) + noise(token), with noise from the Gumbel distribution: the token is then
distributed as p (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030). The noise is a function of the sentence's key,
the sample's number, the step and the token's id, and of nothing else: Philox, a counter-based generator (Salmon et al.
2011), makes it. So a sample depends neither on the other sentences of the batch nor on how many samples are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from regard.decoding.filters import Filter
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.limits import Limits
from regard.decoding.protocol import StepModel, check_best, first_tokens, length_limits, next_log_probs
from regard.decoding.said import Said, collected, wide
from regard.errors import ArgumentError
from regard.layers.state import State

BLOCK = 1 << 20  # numbers of double precision at a time: they stay in the cache


@dataclass(frozen=True)
class Sampling:
    """Sequences drawn token by token; see `sample`.

    Attributes:
        temperature: below 1 sharpens the distribution, above 1 flattens it; towards 0 this becomes greedy search.
        filters: `TopK`, `TopP`, `MinP`: which tokens can be drawn; applied in order.
        samples: how many sequences for each sentence.

    Raises:
        ArgumentError: a temperature that is not above 0 and finite, or no samples.
    """

    takes_constraints: ClassVar[bool] = False
    temperature: float = 1.0
    filters: tuple[Filter, ...] = ()
    samples: int = 1

    def __post_init__(self) -> None:
        _check(self.temperature, self.samples)

    @property
    def width(self) -> int:
        """The number of samples."""
        return self.samples

    def run(self, model: StepModel, state: State, limits: Limits) -> list[list[Hypothesis]]:
        """`samples` hypotheses for each sentence, in the order of their numbers; `limits.keys` are their keys."""
        steps = self.steps(model, state, limits)
        return collected(steps, first_tokens(state, limits.bos).shape[0], self.samples, limits.eos)

    def steps(self, model: StepModel, state: State, limits: Limits) -> Iterator[Said]:
        """See `Stepwise`."""
        return sample_steps(
            model,
            state,
            keys=limits.keys,
            bos=limits.bos,
            eos=limits.eos,
            max_length=limits.max_length,
            min_length=limits.min_length,
            temperature=self.temperature,
            filters=self.filters,
            samples=self.samples,
        )


def sample(
    model: StepModel,
    state: State,
    *,
    keys: Sequence[int],
    bos: int,
    eos: int,
    max_length: int | Tensor,
    min_length: int = 0,
    temperature: float = 1.0,
    filters: Sequence[Filter] = (),
    samples: int = 1,
) -> list[list[Hypothesis]]:
    """Sequences drawn token by token until `eos` is drawn.

    Sample i of a sentence is a function of the model, the sentence and its key: the other sentences of the batch and
    the number of samples have no part in it, nor has the device. (A model's log-probabilities differ in their last
    digits from batch to batch. That changes a token only where the two largest sums of log-probability and noise are
    as near as that.)

    All samples of a sentence read the one memory of that sentence. A sample that is done takes no place any more
    where all sentences have one; a sentence leaves the batch with its last sample.

    Args:
        model: only its `step` is called.
        state: from `model.start(batch)`.
        keys: for each sentence an integer from 0 to 2^64 − 1. Equal keys mean equal noise.
        bos: the token fed first.
        eos: the token that ends a sequence.
        max_length: the largest number of tokens, an int or an integer tensor (S,). A sequence that reaches it is cut
            there without asking for `eos`.
        min_length: `eos` is forbidden before that many tokens; `max_length` wins where a sentence's own is smaller.
        temperature: log-probabilities are divided by it, and made a distribution again.
        filters: applied in order to that distribution, which is normalised again after each.
        samples: how many sequences for each sentence. They can be equal.

    Returns:
        For each sentence its samples, in order of their numbers. `log_prob` and its terms are of the model's own
        distribution, before temperature and filters; `score` is `log_prob`. `finished` is False where a sequence was
        cut: at `max_length`, or before a step at which no token was possible.

    Raises:
        ArgumentError: keys, limits, temperature or samples out of range; a state that is not from `start`;
            log-probabilities that are NaN, +inf or of a wrong shape.
    """
    steps = sample_steps(
        model,
        state,
        keys=keys,
        bos=bos,
        eos=eos,
        max_length=max_length,
        min_length=min_length,
        temperature=temperature,
        filters=filters,
        samples=samples,
    )
    return collected(steps, first_tokens(state, bos).shape[0], samples, eos)


@torch.no_grad()
def sample_steps(
    model: StepModel,
    state: State,
    *,
    keys: Sequence[int],
    bos: int,
    eos: int,
    max_length: int | Tensor,
    min_length: int = 0,
    temperature: float = 1.0,
    filters: Sequence[Filter] = (),
    samples: int = 1,
) -> Iterator[Said]:
    """What `sample` draws, step by step: each is computed when it is asked for.

    Arguments and errors as for `sample`; errors come with the first step.
    """
    _check(temperature, samples)
    tokens = first_tokens(state, bos)
    sentences, device = tokens.shape[0], tokens.device
    if len(keys) != sentences or not all(0 <= key < 1 << 64 for key in keys):
        raise ArgumentError(
            f"keys: {len(keys)} for {sentences} sentences; expected one for each, integers from 0 to 2^64 - 1"
        )
    limits = length_limits(max_length, min_length, tokens)
    # One row per sentence, one slot per sample: (A, W). A slot whose sample is done is fed `eos`, and not looked at.
    rows = torch.arange(sentences, device=device)
    numbers = torch.arange(samples, device=device).expand(sentences, samples)
    alive = torch.ones_like(numbers, dtype=torch.bool)
    step = 0
    while rows.shape[0]:
        log_probs, state = next_log_probs(model, tokens, state, eos if step < min_length else None)
        if step == 0 and samples > 1:  # one row for each sentence so far
            parents = torch.arange(sentences, device=device).repeat_interleave(samples)
            log_probs, state = log_probs[parents], state.select_hypotheses(parents)
        slots = alive.flatten().nonzero().squeeze(1)  # (L,)
        row, number = rows.repeat_interleave(alive.shape[1])[slots], numbers.flatten()[slots]
        own = log_probs[slots]
        best = own.amax(1)
        check_best(best, step)
        possible = best > -torch.inf
        of_rows = [keys[i] for i in row.tolist()]
        chosen = _draw(own, of_rows, number.tolist(), step, temperature, filters)
        terms = wide(own.gather(1, chosen[:, None])[:, 0])
        yield Said(row, number, chosen.where(possible, -1), terms.where(possible, 0))

        step += 1
        going = possible & (chosen != eos) & (limits[row] > step)
        tokens = torch.full_like(alive, eos, dtype=torch.int64).flatten()
        tokens[slots] = chosen
        if not bool(going.all()):
            alive = alive.flatten().index_put((slots,), going).view(alive.shape)
            kept, order = _compact(alive)
            if not kept.shape[0]:
                break
            parents = (kept[:, None] * alive.shape[1] + order).flatten()
            tokens = tokens[parents]
            rows = rows[kept]
            numbers, alive = (each[kept].gather(1, order) for each in (numbers, alive))
            state = state.select_sentences(kept).select_hypotheses(parents)


def tempered(log_probs: Tensor, temperature: float, filters: Sequence[Filter]) -> Tensor:
    """The distributions that tokens are drawn from: natural logarithms (N, V), −inf where filtered out.

    They are float64, float32 on a device that has no float64 (MPS).

    Args:
        log_probs: (N, V) the model's own; a row of nothing but −inf stays one.
        temperature, filters: as for `sample`.
    """
    possible = log_probs.amax(1, keepdim=True) > -torch.inf
    wide = torch.float32 if log_probs.device.type == "mps" else torch.float64
    own = log_probs.to(wide).where(possible, 0.0)
    # less the best first: divided by a tiny temperature, that would be −inf, too
    scores = ((own - own.amax(1, keepdim=True)) / temperature).log_softmax(1)
    for one in filters:
        scores = scores.masked_fill(~one.kept(scores), -torch.inf).log_softmax(1)
    return scores.where(possible, -torch.inf)


def gumbel(keys: Sequence[int], numbers: Sequence[int], step: int, count: int) -> Tensor:
    """Noise of the standard Gumbel distribution: float64 (len(keys), count), on the CPU.

    Column i of a row is a function of its key, its number, the step and i.
    """
    drawn = np.empty((len(keys), count), dtype=np.uint64)
    for row, key, number in zip(drawn, keys, numbers, strict=True):
        # Philox is given its whole state: raw draws are the same in all versions of NumPy.
        # As uint64: of a list with large numbers NumPy would make floats.
        words = np.array([key, number], np.uint64), np.array([0, step, 0, 0], np.uint64)
        row[:] = np.random.Philox(key=words[0], counter=words[1]).random_raw(count)
    drawn >>= np.uint64(12)
    uniform = drawn.astype(np.float64)  # 52 bits: a half more is still exact, and neither 0 nor 1 comes out
    uniform += 0.5
    uniform *= 2.0**-52
    return torch.from_numpy(uniform).log_().neg_().log_().neg_()


def _draw(
    own: Tensor, keys: list[int], numbers: list[int], step: int, temperature: float, filters: Sequence[Filter]
) -> Tensor:
    """A token (L,) for each row of the model's log-probabilities (L, V); any token where none is possible."""
    rows = max(1, BLOCK // own.shape[1])
    parts = []
    for first in range(0, own.shape[0], rows):
        block = slice(first, first + rows)
        scores = tempered(own[block], temperature, filters)
        noise = gumbel(keys[block], numbers[block], step, own.shape[1])
        parts.append((scores + noise.to(scores)).argmax(1))
    return torch.cat(parts)


def _compact(alive: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows (A′,) of (A, W) have a True, and the indices (A′, W′) of their slots, those True first.

    W′ is the largest number of them in a row.
    """
    counts = alive.sum(1)
    kept = counts.nonzero().squeeze(1)
    width = int(counts.max()) if counts.numel() else 0
    return kept, alive[kept].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]


def _check(temperature: float, samples: int) -> None:
    if not (temperature > 0 and math.isfinite(temperature)):
        hint = ": temperature 0 is greedy search, Greedy()" if temperature == 0 else ""
        raise ArgumentError(f"temperature is {temperature}; expected a number above 0{hint}")
    if samples < 1:
        raise ArgumentError(f"samples is {samples}; expected at least 1")
