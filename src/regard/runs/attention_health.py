"""Attention health while a model trains: read off the passes of training steps, to which nothing is added."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from regard.errors import ArgumentError, RecipeError, UnsupportedError
from regard.insight import attention_health
from regard.models.families import FAMILIES, build_model
from regard.recording import attention_modules, record
from regard.runs.recipe import Recipe
from regard.training import Event, Problem

B = TypeVar("B")


@dataclass(frozen=True)
class AttentionMeasured:
    """The attention of a training step was measured.

    Attributes:
        step: whose forward pass it was; the weights are those before it is taken, as for its loss.
        health: measures by name, as of `regard.insight.attention_health`.
    """

    step: int
    health: Mapping[str, float]


RunEvent = Event | AttentionMeasured
"""What a run tells its listeners."""

Tell = Callable[[RunEvent], None]
"""A listener of a run."""


def check_attention(recipe: Recipe) -> None:
    """Refuse a recipe that asks for the attention of a model that has none, before any data are read.

    Raises:
        RecipeError: it does, or the sizes of its model don't fit each other.
    """
    every = recipe.training.attention_every
    if not every:
        return
    name = recipe.model.name
    try:
        with torch.device("meta"):  # the smallest vocabularies, and no memory for weights
            sizes = {"source_vocabulary": 1, "target_vocabulary": 1, **recipe.model.settings(joint=True)}
            model = build_model(FAMILIES[name].config.preset(recipe.model.preset, **sizes))
        attention_modules(model)
    except ArgumentError as error:
        raise RecipeError(f"model.{error}") from error
    except UnsupportedError:
        raise RecipeError(
            f"training.attention_every = {every}: a model with model.name = {name!r} has no attention to measure; "
            "leave the key out, or choose a model that attends"
        ) from None


def with_attention(
    problem: Problem[B],
    model: nn.Module,
    every: int,
    step: Callable[[], int],
    tell: Tell,
    real: Callable[[B], Mapping[str, Tensor]],
) -> Problem[B]:
    """The same problem, whose loss also measures the attention of a step's first batch, at every `every`-th step.

    The pass itself is recorded, so there is no other, in training mode: weights are those before dropout, of states
    that dropout went through. Nothing that training computes or draws depends on it.

    Args:
        problem: what is learned.
        model: computes its loss, perhaps inside of something else.
        every: how many steps; 0 gives the problem back.
        step: gives the step that is under way.
        tell: is told of each measurement.
        real: says which positions of a batch are not padding, by the name of the sequence (`Work.real`).
    """
    if not every:
        return problem
    last = 0

    def loss(batch: B) -> Tensor:
        nonlocal last
        now = step()
        if now % every or now == last:
            return problem.loss(batch)
        last = now
        with record(model) as recording:
            value = problem.loss(batch)
        rows = real(batch)
        kept = {name: rows[recording.roles[name].queries] for name in recording}
        tell(AttentionMeasured(now, attention_health(recording, real=kept)))
        return value

    return replace(problem, loss=loss)
