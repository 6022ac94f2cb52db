"""Modules that own the parameters of attention weights and make of them a score, a bias or sinks in each forward pass.

A score or bias is a frozen value and parameters belong to layers, so a layer holds a `Maker`: a module that is called
without arguments and returns the value. A new kind of learned score is one small class.
"""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from regard.attention import Additive, Bias, General, RelativeBias, Score
from regard.errors import ArgumentError

T = TypeVar("T")


class Maker(nn.Module, ABC, Generic[T]):
    """A module that makes a value of its parameters: a `Score`, a `Bias`, or a tensor of sinks."""

    @abstractmethod
    def forward(self) -> T:
        """The value, differentiable in the parameters."""


class Fixed(Maker[T]):
    """Gives what it was given: a score or bias without parameters. Tensors in it don't move with the layer.

    Args:
        value: such as `ScaledDot()` or `ALiBi()`.
    """

    def __init__(self, value: T) -> None:
        super().__init__()
        self.value = value

    def forward(self) -> T:
        """The value."""
        return self.value

    def extra_repr(self) -> str:
        """What is printed between the brackets."""
        return repr(self.value)


class GeneralScore(Maker[Score]):
    """qᵀ W k with a learned W (Luong et al. 2015, eq. 8, "general"); see `regard.attention.General`.

    W starts so that scores of vectors with unit variance have unit variance.

    Args:
        width: of queries; in multi-head attention the head width.
        heads: None is one W for all heads.
        key_width: of keys; None is `width`.
    """

    def __init__(self, width: int, heads: int | None = None, *, key_width: int | None = None) -> None:
        super().__init__()
        shape = (width, width if key_width is None else key_width)
        self.weight = nn.Parameter(torch.empty(shape if heads is None else (heads, *shape)))  # (H, Dq, Dk)
        nn.init.normal_(self.weight, std=(shape[0] * shape[1]) ** -0.5)

    def forward(self) -> Score:
        """`General(W)`."""
        return General(self.weight)


class AdditiveScore(Maker[Score]):
    """v · tanh(q + k) with a learned v (Bahdanau et al. 2015, appendix A.1.2); see `regard.attention.Additive`.

    The projections of queries and keys are those of the layer. v starts with variance 1/D, so that scores have about
    unit variance, as those of `ScaledDot` have.

    Args:
        width: D, of projected queries and keys; in multi-head attention the head width.
        heads: None is one v for all heads.
    """

    def __init__(self, width: int, heads: int | None = None) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.empty((width,) if heads is None else (heads, width)))
        nn.init.normal_(self.v, std=width**-0.5)

    def forward(self) -> Score:
        """`Additive(v)`."""
        return Additive(self.v)


class RelativePositionBias(Maker[Bias]):
    """T5's learned bias for each head and bucket of distances (Raffel et al. 2020): `regard.attention.RelativeBias`.

    T5 has one table in a stack: give all layers the same object. It starts near zero, so that positions are alike.

    Args:
        heads: H.
        buckets: how many; bidirectional, half of them are for keys after the query.
        max_distance: from which distance on all are alike.
        bidirectional: whether keys after the query have buckets of their own: in an encoder, not in a decoder.
    """

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True) -> None:
        super().__init__()
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.table = nn.Parameter(torch.empty(buckets, heads))
        nn.init.normal_(self.table, std=0.02)

    def forward(self) -> Bias:
        """`RelativeBias(table)`."""
        return RelativeBias(self.table, self.bidirectional, self.max_distance)


class LearnedSink(Maker[Tensor]):
    """A learned logit for each head that takes part in the softmax and has no value, as in GPT-OSS (OpenAI 2025).

    It starts at 0: a softmax with 1 added to its denominator.

    Args:
        heads: H.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(heads))

    def forward(self) -> Tensor:
        """The logits (H,)."""
        return self.logits


def as_maker(name: str, value: T | Maker[T], kind: type[object]) -> Maker[T]:
    """A value, or a module that makes one, as a module.

    Args:
        name: of the argument, for messages.
        value: what was given.
        kind: the class of the value.

    Raises:
        ArgumentError: it is neither.
    """
    if isinstance(value, Maker):
        return value
    if isinstance(value, kind):
        if any(isinstance(x, nn.Parameter) for x in vars(value).values()):
            raise ArgumentError(
                f"{name}: a {type(value).__name__} with a parameter would not be trained, moved or saved: give the "
                "Maker that owns it, such as GeneralScore, AdditiveScore or RelativePositionBias"
            )
        return Fixed(value)
    raise ArgumentError(f"{name} must be a {kind.__name__}, or a Maker of one, not {type(value).__name__}")
