"""Searches as objects: how sequences are looked for, apart from the model and the sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from regard.decoding.beam import beam_search
from regard.decoding.greedy import greedy
from regard.decoding.hypothesis import Hypothesis
from regard.decoding.penalties import Average, LengthPenalty
from regard.decoding.protocol import StepModel
from regard.decoding.stopping import Stopping, WhenBehind
from regard.layers.state import State


@dataclass(frozen=True)
class Limits:
    """What every search is told about the sentences of a batch.

    Attributes:
        bos: the token fed first.
        eos: the token that ends a sequence.
        max_length: the largest number of tokens without `eos`, an int or an integer tensor (S,).
        min_length: `eos` is forbidden before that many tokens; `max_length` wins where it is smaller.
        keys: one integer per sentence, from which its random draws follow; only a search that draws reads it.
    """

    bos: int
    eos: int
    max_length: int | Tensor
    min_length: int = 0
    keys: tuple[int, ...] = ()


class Search(Protocol):
    """A way of looking for sequences. An immutable object: one can serve any number of batches."""

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


@dataclass(frozen=True)
class Greedy:
    """The most probable token, step by step; see `greedy`. One hypothesis, its score the log-probability."""

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


@dataclass(frozen=True)
class Beam:
    """The `width` most probable beginnings, step by step; see `beam_search`.

    Attributes:
        width: hypotheses kept for each sentence, at least 1.
        nbest: how many are returned, at most `width`.
        penalty: how scores come from log-probability and length.
        stopping: when the search for a sentence ends.
    """

    width: int
    nbest: int = 1
    penalty: LengthPenalty = field(default_factory=Average)
    stopping: Stopping = field(default_factory=WhenBehind)

    def run(self, model: StepModel, state: State, limits: Limits) -> list[list[Hypothesis]]:
        """Up to `nbest` hypotheses for each sentence, best score first."""
        return beam_search(
            model,
            state,
            beam=self.width,
            bos=limits.bos,
            eos=limits.eos,
            max_length=limits.max_length,
            min_length=limits.min_length,
            nbest=self.nbest,
            penalty=self.penalty,
            stopping=self.stopping,
        )
