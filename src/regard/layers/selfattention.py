"""The small self-attention classes that people meet first: one head, one sequence at a time or a batch of them."""

from torch import Tensor, nn

from regard.attention import Causal, Dot, Mask, Score
from regard.layers.makers import Maker, as_maker
from regard.layers.multihead import SCALED_DOT, Attend

DOT = Dot()


class SimpleSelfAttention(nn.Module):
    """Self-attention without weights: each vector becomes a mean of all, weighted by softmax of their dot products.

    Args:
        score: another score than the dot product, or the module that makes it.
    """

    def __init__(self, score: Score | Maker[Score] = DOT) -> None:
        super().__init__()
        self.score = as_maker("score", score, Score)
        self.operator = Attend()

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """(…, L, E) → (…, L, E)."""
        y: Tensor = self.operator(x, x, x, score=self.score(), mask=mask)
        return y


class SelfAttention(nn.Module):
    """Self-attention with one head: queries, keys and values are three projections of x (Vaswani et al. 2017, eq. 1).

    Args:
        d_in: width of x.
        d_out: width of queries, keys, values and output.
        bias: whether the projections have one.
        score: a score, or the module that makes it, such as `AdditiveScore(d_out)`.
        dropout: probability of dropping an attention weight in training.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        bias: bool = False,
        *,
        score: Score | Maker[Score] = SCALED_DOT,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.query = nn.Linear(d_in, d_out, bias=bias)
        self.key = nn.Linear(d_in, d_out, bias=bias)
        self.value = nn.Linear(d_in, d_out, bias=bias)
        self.score = as_maker("score", score, Score)
        self.operator = Attend(dropout)

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """(…, L, d_in) → (…, L, d_out)."""
        y: Tensor = self.operator(self.query(x), self.key(x), self.value(x), score=self.score(), mask=mask)
        return y


class CausalSelfAttention(SelfAttention):
    """`SelfAttention` in which a position sees only itself and what came before.

    Args:
        d_in: width of x.
        d_out: width of queries, keys, values and output.
        dropout: probability of dropping an attention weight in training.
        bias: whether the projections have one.
        score: as for `SelfAttention`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        dropout: float = 0.0,
        bias: bool = False,
        *,
        score: Score | Maker[Score] = SCALED_DOT,
    ) -> None:
        super().__init__(d_in, d_out, bias, score=score, dropout=dropout)

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """(…, L, d_in) → (…, L, d_out); `mask` limits what the causal mask leaves."""
        return super().forward(x, Causal() if mask is None else Causal() & mask)
