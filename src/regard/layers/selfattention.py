"""The small self-attention classes that people meet first: one head, one sequence at a time or a batch of them."""

from torch import Tensor, nn

from regard.attention import Causal, Dot, ScaledDot
from regard.layers.multihead import Attend


class SimpleSelfAttention(nn.Module):
    """Self-attention without weights: each vector becomes a mean of all, weighted by softmax of their dot products."""

    def __init__(self) -> None:
        super().__init__()
        self.operator = Attend(Dot(), dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(…, L, E) → (…, L, E)."""
        y: Tensor = self.operator(x, x, x)
        return y


class SelfAttention(nn.Module):
    """Self-attention with one head: queries, keys and values are three projections of x (Vaswani et al. 2017, eq. 1).

    Args:
        d_in: width of x.
        d_out: width of queries, keys, values and output.
        bias: whether the projections have one.
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = False) -> None:
        super().__init__()
        self.query = nn.Linear(d_in, d_out, bias=bias)
        self.key = nn.Linear(d_in, d_out, bias=bias)
        self.value = nn.Linear(d_in, d_out, bias=bias)
        self.operator = Attend(ScaledDot(), dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(…, L, d_in) → (…, L, d_out)."""
        y: Tensor = self.operator(self.query(x), self.key(x), self.value(x))
        return y


class CausalSelfAttention(SelfAttention):
    """`SelfAttention` in which a position sees only itself and what came before.

    Args:
        d_in: width of x.
        d_out: width of queries, keys, values and output.
        dropout: probability of dropping an attention weight in training.
        bias: whether the projections have one.
    """

    def __init__(self, d_in: int, d_out: int, dropout: float = 0.0, bias: bool = False) -> None:
        super().__init__(d_in, d_out, bias)
        self.operator = Attend(ScaledDot(), dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(…, L, d_in) → (…, L, d_out)."""
        y: Tensor = self.operator(self.query(x), self.key(x), self.value(x), mask=Causal())
        return y
