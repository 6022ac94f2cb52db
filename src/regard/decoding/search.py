"""Searches as objects: how sequences are looked for, apart from the model and the sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from regard.decoding.beam import best_sequences
from regard.decoding.beam_loop import BeamRules
from regard.decoding.greedy import greedy, greedy_steps
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.limits import Limits
from regard.decoding.penalties import Average, LengthPenalty
from regard.decoding.protocol import StepModel
from regard.decoding.said import Said
from regard.decoding.stopping import Stopping, WhenBehind
from regard.layers.state import State


@runtime_checkable
class Search(Protocol):
    """A way of looking for sequences. An immutable object: one can serve any number of batches.

    Attributes:
        takes_constraints: whether it keeps to the phrases of `limits.constraints`.
    """

    takes_constraints: ClassVar[bool]

    @property
    def width(self) -> int:
        """How many hypotheses of a sentence it looks at in a step."""
        ...

    def run(self, model: StepModel, state: State, limits: Limits) -> list[list[Hypothesis]]:
        """For each sentence of a state from `model.start(batch)` its hypotheses, at least one.

        Best first; samples in the order in which they are drawn. What is found for a sentence does not depend on
        the other sentences of the batch.

        Raises:
            ArgumentError: limits out of range; a state that is not from `start`; log-probabilities that are NaN,
                +inf or of a wrong shape.
        """
        ...


@runtime_checkable
class Stepwise(Protocol):
    """A search that goes token by token and never comes back, so that what it finds can be shown as it comes."""

    def steps(self, model: StepModel, state: State, limits: Limits) -> Iterator[Said]:
        """What `run` finds, one step at a time, each computed when it is asked for; errors come with the first."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The most probable token, step by step; see `greedy`. One hypothesis, its score the log-probability."""

    takes_constraints: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """1."""
        return 1

    def run(self, model: StepModel, state: State, limits: Limits) -> list[list[Hypothesis]]:
        """One hypothesis for each sentence."""
        found = greedy(
            model,
            state,
            bos=limits.bos,
            eos=limits.eos,
            max_length=limits.max_length,
            min_length=limits.min_length,
        )
        return [[one] for one in found]

    def steps(self, model: StepModel, state: State, limits: Limits) -> Iterator[Said]:
        """See `Stepwise`."""
        return greedy_steps(
            model,
            state,
            bos=limits.bos,
            eos=limits.eos,
            max_length=limits.max_length,
            min_length=limits.min_length,
        )


@dataclass(frozen=True)
class Beam:
    """The `width` most probable beginnings, step by step; see `beam_search`.

    Attributes:
        width: hypotheses kept for each sentence, at least 1.
        nbest: how many are returned, at most `width`.
        penalty: how scores come from log-probability and length.
        stopping: when the search for a sentence ends.

    Raises:
        ArgumentError: `width` or `nbest` out of range.
    """

    takes_constraints: ClassVar[bool] = False
    width: int
    nbest: int = 1
    penalty: LengthPenalty = field(default_factory=Average)
    stopping: Stopping = field(default_factory=WhenBehind)

    def __post_init__(self) -> None:
        self.rules()

    def run(self, model: StepModel, state: State, limits: Limits) -> list[list[Hypothesis]]:
        """Up to `nbest` hypotheses for each sentence, best score first."""
        return best_sequences(model, state, limits, self.rules())

    def rules(self) -> BeamRules:
        """These, as the functions take them."""
        return BeamRules(self.width, self.nbest, self.penalty, self.stopping)
