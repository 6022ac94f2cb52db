"""What every search is told about the sentences of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regard.decoding.constraints import Constraints


@dataclass(frozen=True)
class Limits:
    """What every search is told about the sentences of a batch.

    Attributes:
        bos: the token fed first.
        eos: the token that ends a sequence.
        max_length: the largest number of tokens without `eos`, an int or an integer tensor (S,).
        min_length: `eos` is forbidden before that many tokens; `max_length` wins where it is smaller.
        keys: one integer per sentence, from which its random draws follow; only a search that draws reads it.
        constraints: for each sentence the phrases that must appear, empty for none; `()`: no sentence has any. Only a
            search whose `takes_constraints` is True reads it.
    """

    bos: int
    eos: int
    max_length: int | Tensor
    min_length: int = 0
    keys: tuple[int, ...] = ()
    constraints: tuple[Constraints, ...] = ()
