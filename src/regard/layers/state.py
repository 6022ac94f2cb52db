"""The state a model carries from one decoding step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from regard.errors import ArgumentError


@dataclass(frozen=True)
class State:
    """What a model remembers between two calls of `step`: tensors by name, per sentence or per hypothesis.

    A batch has S sentences and N = S · W hypotheses, sentence-major: hypothesis n belongs to sentence
    n // W. W is 1 after `start`; a beam search widens it to its beam. A memory (encoder keys, values, their
    mask) is per sentence and is never repeated per hypothesis: a model sees its N hypotheses as (S, W)
    where it reads a memory. Caches of what has been generated are per hypothesis. The State is immutable:
    `select_*` and a model's `step` return new ones.

    Attributes:
        sentence: tensors with leading axis S.
        hypothesis: tensors with leading axis N.
        position: how many tokens have been fed, the same for every hypothesis; the next token has this
            position.

    Raises:
        ArgumentError: tensors of one kind disagree in their leading axis.
    """

    sentence: dict[str, Tensor]
    hypothesis: dict[str, Tensor]
    position: int

    def __post_init__(self) -> None:
        _check_leading("sentence", self.sentence)
        _check_leading("hypothesis", self.hypothesis)

    def select_sentences(self, rows: Tensor) -> State:
        """The state of the sentences `rows` (int64, indices into S), in that order; touches only `sentence`."""
        return replace(self, sentence={k: v.index_select(0, rows) for k, v in self.sentence.items()})

    def select_hypotheses(self, parents: Tensor) -> State:
        """The state in which hypothesis i continues old hypothesis `parents[i]` (int64, indices into N).

        An index may come several times or never; touches only `hypothesis`.
        """
        return replace(self, hypothesis={k: v.index_select(0, parents) for k, v in self.hypothesis.items()})


def _check_leading(kind: str, tensors: Mapping[str, Tensor]) -> None:
    sizes = {name: tensor.shape[0] if tensor.dim() else None for name, tensor in tensors.items()}
    values = list(sizes.values())  # compared, as sizes have no hash where a model is exported
    if None in values or any(size != values[0] for size in values):
        raise ArgumentError(f"state: {kind} tensors have leading axes {sizes}; expected one common size")
