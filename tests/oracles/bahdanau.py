"""Bahdanau, Cho & Bengio 2015, appendix A, position by position and key by key.

The GRU is torch's: with r and z the gates,

    n = tanh(W x + b + r ∘ (U s + b′)),  s′ = (1 − z) ∘ n + z ∘ s,

where the paper (A.1.1) has the reset gate before the product and z the other way round:

    n = tanh(W x + U (r ∘ s)),  s′ = (1 − z) ∘ s + z ∘ n.

Exchanging z for 1 − z is a change of sign of what it is made of; the place of r is a real difference, small in what can
be learned, and fused code has torch's.
"""

from typing import NamedTuple

import torch
from torch import Tensor

Weights = dict[str, Tensor]


class Told(NamedTuple):
    """What the model says of one pair.

    Attributes:
        hidden: t_1 … t_T (T, l).
        alpha: (T, S).
    """

    hidden: Tensor
    alpha: Tensor


def gru(known: Tensor, state: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """One step of torch's GRU from W x + b (3n,), s (n,), U (3n, n) and b′ (3n,), gates in the order r, z, n."""
    n = state.shape[0]
    product = recurrent @ state + bias
    reset, update = torch.sigmoid(known[: 2 * n] + product[: 2 * n]).split(n)
    candidate = torch.tanh(known[2 * n :] + reset * product[2 * n :])
    return (1 - update) * candidate + update * state


def read(weights: Weights, direction: int, embedded: Tensor) -> list[Tensor]:
    """The states of one direction of the encoder for (S, m), in the order in which they are read."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w, u, b, c = (weights[f"encoder.recurrent.layers.0.{direction}.{name}_l0"] for name in names)
    states = [torch.zeros(u.shape[1], dtype=u.dtype)]
    for x in embedded:
        states.append(gru(w @ x + b, states[-1], u, c))
    return states[1:]


def bahdanau(weights: Weights, source: Tensor, target: Tensor) -> Told:
    """What a model with these weights says of one unpadded source (S,) and target (T,) that begins with `<bos>`.

    Args:
        weights: the model's parameters by name.
        source, target: ids.
    """

    def embedding(side: str, tokens: Tensor) -> Tensor:
        table = weights[f"{side}.embedding.tokens.weight"]
        return table[tokens] * table.shape[1] ** 0.5

    def linear(name: str, x: Tensor) -> Tensor:
        return weights[f"decoder.{name}.weight"] @ x + weights.get(f"decoder.{name}.bias", torch.zeros(()))

    x = embedding("encoder", source)
    forward, backward = read(weights, 0, x), read(weights, 1, x.flip(0))[::-1]
    annotations = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
    state = torch.tanh(linear("initial", backward[0]))
    hidden, alpha = [], []
    for y in embedding("decoder", target):
        query = linear("cross.query", state)
        energies = [weights["decoder.cross.score.v"] @ torch.tanh(query + linear("cross.key", h)) for h in annotations]
        weight = torch.stack(energies).softmax(0)
        context = torch.stack([a * h for a, h in zip(weight, annotations, strict=True)]).sum(0)
        pieces = linear("readout.linear", torch.cat([state, y, context]))
        hidden.append(torch.maximum(pieces[0::2], pieces[1::2]))
        alpha.append(weight)
        known = linear("cells.known", y) + linear("cells.fed", context)
        u, b = (weights[f"decoder.cells.hidden.0.{part}"] for part in ("weight", "bias"))
        state = gru(known, state, u, b)
    return Told(torch.stack(hidden), torch.stack(alpha))
