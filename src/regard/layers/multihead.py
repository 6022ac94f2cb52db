"""Multi-head attention, and the module through which every layer calls `attend`."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention import Bias, Factor, Mask, ScaledDot, Score, attend
from regard.errors import ArgumentError
from regard.layers.makers import Maker, as_maker
from regard.layers.rotary import Rotation

SCALED_DOT = ScaledDot()


class KeysValues(NamedTuple):
    """Projected keys and values of a memory or a cache: each (B, G, K, ·), or (…, K, ·) of a layer with one head."""

    keys: Tensor
    values: Tensor


class Attend(nn.Module):
    """`attend` as a module without parameters, so that what determines the weights can be seen from outside by a hook.

    Args:
        dropout: probability of dropping a weight in training.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout

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
        """q (B, H, Q, D), k and v (B, G, K, ·) → context (B, H, Q, Dv); see `regard.attend`."""
        return attend(
            q,
            k,
            v,
            score=score,
            mask=mask,
            bias=bias,
            factor=factor,
            softcap=softcap,
            sink=sink,
            dropout=self.dropout if self.training else 0.0,
        )


class MultiHeadAttention(nn.Module):
    """Attention by several heads at once, joined and projected (Vaswani et al. 2017, section 3.2.2).

    head_h = attend(x W_h^Q, m W_g^K, m W_g^V) with g = h // (H / G); output = [head_1; …; head_H] W^O. The three input
    projections are one matrix, so self-attention makes queries, keys and values in one product. With fewer key heads
    than query heads this is grouped-query attention (Ainslie et al. 2023).

    Self-attention is `layer(x, mask=…)`, causal with `Causal()`; cross-attention is `layer(x, memory, mask=…)`. For
    step-wise decoding, `queries`, `keys_values` and `attend_to` are the same computation in parts: project the memory
    once, or append each step's keys and values to a cache, and attend to what is there.

    What has no parameters is given as it is, what has some as the module that owns them:

        MultiHeadAttention(512, 8, score=AdditiveScore(64, 8))
        MultiHeadAttention(512, 8, score=Dot(), position_bias=RelativePositionBias(8), bias=False)  # T5
        MultiHeadAttention(512, 8, position_bias=ALiBi(), softcap=50.0, sink=LearnedSink(8))

    Args:
        width: E of input and output.
        heads: H.
        key_heads: G, which divides H; None is H.
        head_width: D; None is E / H, which H must divide.
        score: a score, or the module that makes it.
        position_bias: what is added to the scores, or the module that makes it.
        softcap: c: scores become c · tanh(score / c).
        sink: a logit for each head that takes part in the softmax and has no value, or the module that makes them.
        dropout: probability of dropping an attention weight in training.
        bias: whether the projections of queries, keys and values have one.
        output_bias: whether W^O has one; None is `bias`.

    Raises:
        ArgumentError: the sizes don't divide, or an argument is of another kind.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        key_heads: int | None = None,
        head_width: int | None = None,
        score: Score | Maker[Score] = SCALED_DOT,
        position_bias: Bias | Maker[Bias] | None = None,
        softcap: float | None = None,
        sink: Tensor | Maker[Tensor] | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        output_bias: bool | None = None,
    ) -> None:
        super().__init__()
        groups = heads if key_heads is None else key_heads
        if heads < 1 or (head_width is None and width % heads):
            raise ArgumentError(f"heads must divide the width {width}, and {heads} doesn't")
        if groups < 1 or heads % groups:
            raise ArgumentError(f"key_heads must divide the {heads} heads, and {groups} doesn't")
        if head_width is not None and head_width < 1:
            raise ArgumentError(f"head_width must be 1 or more, not {head_width}")
        self.heads, self.key_heads = heads, groups
        self.head_width = width // heads if head_width is None else head_width
        self.input = nn.Linear(width, (heads + 2 * groups) * self.head_width, bias=bias)
        self.score = as_maker("score", score, Score)
        self.position_bias = None if position_bias is None else as_maker("position_bias", position_bias, Bias)
        self.softcap = softcap
        self.sink = None if sink is None else as_maker("sink", sink, Tensor)
        self.operator = Attend(dropout)
        with_bias = bias if output_bias is None else output_bias
        self.output = nn.Linear(heads * self.head_width, width, bias=with_bias)
        self._reset()

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Mask | None = None,
        factor: Factor | Tensor | None = None,
        rotation: Rotation | None = None,
    ) -> Tensor:
        """Attend from x to `memory`, or to x itself.

        Args:
            x: (B, Q, E).
            memory: (B, K, E), or None for self-attention.
            mask: which keys may be seen.
            factor: what the weights are multiplied by after the softmax.
            rotation: turns queries and keys of self-attention by their positions; see `RotaryPositions`.

        Returns:
            (B, Q, E).

        Raises:
            ArgumentError: x or the memory has another shape, or there is a rotation for a memory.
        """
        if memory is None:
            q, known = self.project(x, rotation)
        elif rotation is not None:
            raise ArgumentError("rotation is for self-attention: a memory's positions aren't those of x")
        else:
            q, known = self.queries(x), self.keys_values(memory)
        return self.attend_to(q, known, mask, factor)

    def project(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, KeysValues]:
        """Queries (B, H, L, D), and keys and values (B, G, L, D), of the same x (B, L, E), in one product.

        With a `rotation`, queries and keys are turned by it.
        """
        self._check("x", x)
        joined, both = self._split(self.input(x)), self.heads + self.key_heads
        if rotation is None:
            q, k, v = torch.split(joined, [self.heads, self.key_heads, self.key_heads], 1)
            return q, KeysValues(k, v)
        q, k = torch.split(rotation.turn(joined[:, :both]), [self.heads, self.key_heads], 1)
        return q, KeysValues(k, joined[:, both:])

    def queries(self, x: Tensor) -> Tensor:
        """Queries (B, H, Q, D) of x (B, Q, E)."""
        self._check("x", x)
        n = self.heads * self.head_width
        bias = self.input.bias
        return self._split(F.linear(x, self.input.weight[:n], None if bias is None else bias[:n]))

    def keys_values(self, memory: Tensor) -> KeysValues:
        """Keys and values (B, G, K, D) of a memory (B, K, E)."""
        self._check("memory", memory)
        n = self.heads * self.head_width
        bias = self.input.bias
        both = self._split(F.linear(memory, self.input.weight[n:], None if bias is None else bias[n:]))
        return KeysValues(*both.chunk(2, 1))

    def attend_to(
        self, q: Tensor, known: KeysValues, mask: Mask | None = None, factor: Factor | Tensor | None = None
    ) -> Tensor:
        """Attend with queries (B, H, Q, D) to keys and values (B, G, K, D), join the heads, project: (B, Q, E)."""
        context = self.operator(  # (B, H, Q, D)
            q,
            known.keys,
            known.values,
            score=self.score(),
            mask=mask,
            bias=None if self.position_bias is None else self.position_bias(),
            factor=factor,
            softcap=self.softcap,
            sink=None if self.sink is None else self.sink(),
        )
        y: Tensor = self.output(context.transpose(1, 2).flatten(2))
        return y

    def _check(self, name: str, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[-1] != self.input.in_features:
            raise ArgumentError(f"{name} is {tuple(x.shape)}: expected (B, length, {self.input.in_features})")

    def _split(self, x: Tensor) -> Tensor:
        heads = x.shape[2] // self.head_width
        return x.view(*x.shape[:2], heads, self.head_width).transpose(1, 2)  # (B, L, n · D) → (B, n, L, D)

    def _reset(self) -> None:
        # the spread Xavier's rule gives a square matrix: the joined one isn't initialised as if it were one projection
        nn.init.normal_(self.input.weight, std=self.input.in_features**-0.5)
        nn.init.xavier_uniform_(self.output.weight)
        for bias in (self.input.bias, self.output.bias):
            if bias is not None:
                nn.init.zeros_(bias)
