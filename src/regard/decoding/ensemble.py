"""Several models that speak as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.decoding.merged import merged, part
from regard.decoding.protocol import StepModel
from regard.errors import ArgumentError
from regard.layers.state import State


class Ensemble:
    """A model whose probability of the next token is the (weighted) mean of its members' probabilities.

    As fairseq does; Marian takes the mean of log-probabilities. The mean of probabilities is a distribution again, so
    that samples, scores and thresholds mean what they mean for one model.

    Args:
        models: step models over the same vocabulary; every member is given the same batch, and the same tokens.
        weights: of the members, positive; equal if not given. They are divided by their sum.

    Raises:
        ArgumentError: no models, not a weight for each, or a weight that is not positive.
    """

    def __init__(self, models: Sequence[StepModel], weights: Sequence[float] | None = None) -> None:
        given = [1.0] * len(models) if weights is None else list(weights)
        if not models or len(given) != len(models):
            raise ArgumentError(
                f"{len(models)} models and {len(given)} weights; expected a model at least, and as many"
            )
        if not all(weight > 0 and math.isfinite(weight) for weight in given):
            raise ArgumentError(f"weights are {given}; expected numbers above 0")
        self.models = tuple(models)
        self.weights = tuple(weight / math.fsum(given) for weight in given)

    def start(self, *batch: Any, **named: Any) -> State:
        """The states of all members, in one."""
        return merged({str(i): model.start(*batch, **named) for i, model in enumerate(self.models)})

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Feeds the tokens to every member: the logarithm of the mean probability of the next token (N, V′).

        In single precision at least, whatever the members' own.

        Raises:
            ArgumentError: the members' vocabularies are of different sizes.
        """
        steps = [model.step(tokens, part(state, str(i))) for i, model in enumerate(self.models)]
        shapes = [tuple(log_probs.shape) for log_probs, _ in steps]
        if len(set(shapes)) > 1:
            raise ArgumentError(f"members returned log-probabilities {shapes}; expected equal shapes")
        after = merged({str(i): each for i, (_, each) in enumerate(steps)})
        return log_mean([log_probs for log_probs, _ in steps], self.weights), after


def log_mean(log_probs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """log Σ wᵢ·exp(log pᵢ) of tensors of one shape, in single precision at least; −inf where all are."""
    wide = [each.to(torch.promote_types(each.dtype, torch.float32)) for each in log_probs]
    weighted = [each + math.log(weight) for each, weight in zip(wide, weights, strict=True)]
    return torch.stack(weighted).logsumexp(0)
