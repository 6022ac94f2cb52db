"""Attention with one head from queries to a memory: the form of Bahdanau's and Luong's decoders."""

import torch
from torch import Tensor, nn

from regard.attention import Bias, Factor, Mask, Score
from regard.attention.precision import own_precision
from regard.layers.makers import AdditiveScore, Maker, as_maker
from regard.layers.multihead import Attend, KeysValues


class Attention(nn.Module):
    """Weights of a memory's vectors for each query by any score, and the mean of the vectors by these weights.

    What queries, keys and values are is said by three modules, each of which may be left out:

        Attention(Dot())                                                         # Luong et al. 2015, eq. 8, "dot"
        Attention(GeneralScore(query_width, key_width=memory_width))             # "general"
        additive_attention(query_width, memory_width, width)                     # "concat", and Bahdanau et al. 2015
        Attention(ScaledDot(), query=Linear(…), key=Linear(…), value=Linear(…))  # Vaswani et al. 2017, eq. 1

    `layer(query, memory)` does all at once. Step by step, `keys_values(memory)` is computed once, and `attend_to` is
    called with the `queries(x)` of each step; the hypotheses of a sentence can be the queries of one attention.

    Args:
        score: a score, or the module that makes it.
        query, key: projections of queries and memory to what the score compares; None leaves them as they are.
        value: projection of the memory to what is averaged; None leaves it as it is.
        dropout: probability of dropping an attention weight in training.

    Raises:
        ArgumentError: `score` is of another kind.
    """

    def __init__(
        self,
        score: Score | Maker[Score],
        *,
        query: nn.Module | None = None,
        key: nn.Module | None = None,
        value: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.score = as_maker("score", score, Score)
        self.query, self.key, self.value = (nn.Identity() if x is None else x for x in (query, key, value))
        self.operator = Attend(dropout)

    def forward(
        self, query: Tensor, memory: Tensor, mask: Mask | None = None, factor: Factor | Tensor | None = None
    ) -> Tensor:
        """Attend from each query to the memory.

        Args:
            query: (…, Q, ·).
            memory: (…, K, ·).
            mask: which keys may be seen.
            factor: what the weights are multiplied by after the softmax, as in Luong's local-p.

        Returns:
            (…, Q, ·), as wide as the values.
        """
        return self.attend_to(self.queries(query), self.keys_values(memory), mask, factor)

    def queries(self, x: Tensor) -> Tensor:
        """What the score compares of x (…, Q, ·): (…, Q, ·)."""
        y: Tensor = self.query(x)
        return y

    def keys_values(self, memory: Tensor) -> KeysValues:
        """What the score compares of a memory (…, K, ·), and what is averaged."""
        return KeysValues(self.key(memory), self.value(memory))

    def attend_to(
        self, q: Tensor, known: KeysValues, mask: Mask | None = None, factor: Factor | Tensor | None = None
    ) -> Tensor:
        """Attend with the queries (…, Q, ·) that `queries` gave to what `keys_values` gave: (…, Q, ·)."""
        q, k, v = in_one_precision(q, known.keys, known.values)
        y: Tensor = self.operator(q, k, v, score=self.score(), mask=mask, factor=factor)
        return y


class StepAttend(Attend):
    """`attend` for a recurrence, in which each query depends on what the one before it saw.

    `step` computes one position. After the last, all queries go through the module together with the contexts that the
    steps gave: no weight is computed again, but what looks at calls of `Attend` from outside sees one attention of all
    queries. It costs every pass, looked at or not, what it takes to put queries and contexts together.
    """

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, /, *, score: Score, mask: Mask | None, factor: Factor | Tensor | None
    ) -> Tensor:
        """As `Attend.forward`, unseen from outside."""
        return super().forward(q, k, v, score=score, mask=mask, factor=factor)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        /,
        *,
        score: Score,
        mask: Mask | None = None,
        bias: Bias | Tensor | None = None,
        factor: Factor | Tensor | None = None,
        softcap: float | None = None,
        sink: Tensor | None = None,
    ) -> Tensor:
        """Give back v, the contexts of the queries (…, Q, ·)."""
        return v


class StepwiseAttention(Attention):
    """`Attention` for a recurrence: `attend_step` at each position, and `seen` after the last.

    Under `torch.autocast` it is computed in float32 nevertheless: keys and values are the same at each step, and would
    be rounded, and kept for the backward pass, once a step. Arguments are those of `Attention`.
    """

    def __init__(
        self,
        score: Score | Maker[Score],
        *,
        query: nn.Module | None = None,
        key: nn.Module | None = None,
        value: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(score, query=query, key=key, value=value, dropout=dropout)
        self.operator: StepAttend = StepAttend(dropout)

    def keys_values(self, memory: Tensor) -> KeysValues:
        """See `Attention.keys_values`; under autocast float32, whatever the projections gave."""
        known = super().keys_values(memory)
        if not torch.is_autocast_enabled(memory.device.type):
            return known
        return KeysValues(*(x.to(torch.promote_types(x.dtype, torch.float32)) for x in known))

    def attend_to(
        self, q: Tensor, known: KeysValues, mask: Mask | None = None, factor: Factor | Tensor | None = None
    ) -> Tensor:
        """See `Attention.attend_to`: one step, and seen."""
        context = self.attend_step(q, known, mask, factor)
        self.seen(q, context, known.keys, mask, factor)
        return context

    def attend_step(
        self, q: Tensor, known: KeysValues, mask: Mask | None = None, factor: Factor | Tensor | None = None
    ) -> Tensor:
        """As `attend_to`, for one position of each sequence or hypothesis, unseen: q (…, Q, ·) → (…, Q, ·)."""
        q = as_autocast_allows(q, known.keys)
        with own_precision(q.device):
            return self.operator.step(q, *known, score=self.score(), mask=mask, factor=factor)

    def seen(
        self,
        q: Tensor,
        contexts: Tensor,
        keys: Tensor,
        mask: Mask | None = None,
        factor: Factor | Tensor | None = None,
    ) -> None:
        """Let observers see the attention of all positions: queries, contexts (…, Q, ·) and what they attended to."""
        self.operator(as_autocast_allows(q, keys), keys, contexts, score=self.score(), mask=mask, factor=factor)


def as_autocast_allows(x: Tensor, like: Tensor) -> Tensor:
    """x in the dtype of `like` under `torch.autocast`; elsewhere as it is, so that two dtypes are an error."""
    return x.to(like.dtype) if torch.is_autocast_enabled(x.device.type) else x


def in_one_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in the precision of a surrounding `torch.autocast`, into which it brings those that were projected only.

    `torch.nn.functional.scaled_dot_product_attention` is treated so by torch itself.
    """
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)


def additive_attention(query_width: int, memory_width: int, width: int, dropout: float = 0.0) -> Attention:
    """v · tanh(W q + U m), the mean of the memory's own vectors (Bahdanau et al. 2015, appendix A.1.2).

    Luong's concat, v · tanh([W U] [q; m]), is the same (Luong et al. 2015, eq. 8).

    Args:
        query_width: of queries.
        memory_width: of the memory and of the result.
        width: of W q and U m.
        dropout: probability of dropping an attention weight in training.
    """
    return Attention(
        AdditiveScore(width),
        query=nn.Linear(query_width, width, bias=False),
        key=nn.Linear(memory_width, width, bias=False),
        dropout=dropout,
    )
