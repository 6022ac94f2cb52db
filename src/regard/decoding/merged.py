"""States within a State, for models that are made of others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from regard.errors import ArgumentError
from regard.layers.state import State


def merged(states: Mapping[str, State]) -> State:
    """One State with the tensors of several, each tensor's name behind the name of its state and a full stop.

    Raises:
        ArgumentError: the states are not at the same position, or not of as many sentences and hypotheses.
    """
    positions = {name: state.position for name, state in states.items()}
    if len(set(positions.values())) != 1:
        raise ArgumentError(f"states at the positions {positions}; expected one common position")
    return State(
        {f"{name}.{key}": value for name, state in states.items() for key, value in state.sentence.items()},
        {f"{name}.{key}": value for name, state in states.items() for key, value in state.hypothesis.items()},
        next(iter(positions.values())),
    )


def part(state: State, name: str) -> State:
    """The state called `name` in a State made by `merged`."""
    return State(_named(state.sentence, name), _named(state.hypothesis, name), state.position)


def _named(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
