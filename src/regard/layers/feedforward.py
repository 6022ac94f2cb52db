"""Position-wise feed-forward networks."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ArgumentError

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # x Φ(x) (Hendrycks and Gimpel 2016)
    "gelu_tanh": partial(F.gelu, approximate="tanh"),  # the same approximated, as GPT-2 computes it
    "relu": F.relu,
    "silu": F.silu,  # x σ(x)
}


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name.

    Raises:
        ArgumentError: there is none.
    """
    if name not in ACTIVATIONS:
        raise ArgumentError(f"activation is {name!r}: expected {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class FeedForward(nn.Module):
    """FFN(x) = W₂ · a(W₁ x + b₁) + b₂ at each position (Vaswani et al. 2017, eq. 2, with a = ReLU).

    Args:
        width: E.
        hidden: width between the two layers.
        activation: a, a name of `ACTIVATIONS`.
        bias: whether there are b₁ and b₂.

    Raises:
        ArgumentError: there is no such activation.
    """

    def __init__(self, width: int, hidden: int, activation: str = "relu", bias: bool = True) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden, bias=bias)
        self.outer = nn.Linear(hidden, width, bias=bias)
        self.activation = activation_named(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(…, E) → (…, E)."""
        y: Tensor = self.outer(self.activation(self.inner(x)))
        return y


class GatedFeedForward(nn.Module):
    """FFN(x) = W₂ · (a(V x) ⊙ W₁ x) at each position (Shazeer 2020, "GLU Variants Improve Transformer", eq. 6).

    With a = SiLU this is SwiGLU, the network of Llama. Three matrices instead of two: two thirds of the usual hidden
    width give as many parameters.

    Args:
        width: E.
        hidden: width between the layers.
        activation: a, a name of `ACTIVATIONS`.
        bias: whether the three products have a bias.

    Raises:
        ArgumentError: there is no such activation.
    """

    def __init__(self, width: int, hidden: int, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.inner = nn.Linear(width, hidden, bias=bias)
        self.outer = nn.Linear(hidden, width, bias=bias)
        self.activation = activation_named(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(…, E) → (…, E)."""
        y: Tensor = self.outer(self.activation(self.gate(x)) * self.inner(x))
        return y
