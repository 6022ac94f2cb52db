"""Recurrent cells written down from their equations, independent of the package: one sequence, one position at a time.

Weights are those of torch's cells: W (gates · width, inputs), U (gates · width, width) and a bias for each, gates side
by side in torch's order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """W, U, b and b' of one layer in one direction."""

    w: Tensor
    u: Tensor
    b: Tensor
    b_hidden: Tensor

    def gate(self, number: int, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """W x + b and U h + b' of one gate."""
        width = h.shape[0]
        rows = slice(number * width, (number + 1) * width)
        return self.w[rows] @ x + self.b[rows], self.u[rows] @ h + self.b_hidden[rows]


State = tuple[Tensor, ...]
"""h, and the LSTM's c."""
Cell = Callable[[Weights, Tensor, State], State]


def rnn(weights: Weights, x: Tensor, state: State) -> State:
    """Elman 1990."""
    a, b = weights.gate(0, x, state[0])
    return (torch.tanh(a + b),)


def lstm(weights: Weights, x: Tensor, state: State) -> State:
    """Gers et al. 2000; gates: input, forget, candidate, output."""
    h, c = state
    into, keep, candidate, out = (sum(weights.gate(i, x, h), torch.zeros_like(h)) for i in range(4))
    c = sigmoid(keep) * c + sigmoid(into) * torch.tanh(candidate)
    return sigmoid(out) * torch.tanh(c), c


def gru(weights: Weights, x: Tensor, state: State) -> State:
    """torch's: the reset gate after the product; gates: reset, update, candidate."""
    (h,) = state
    reset, update = (sigmoid(sum(weights.gate(i, x, h), torch.zeros_like(h))) for i in range(2))
    a, b = weights.gate(2, x, h)
    return ((1 - update) * torch.tanh(a + reset * b) + update * h,)


def paper_gru(weights: Weights, x: Tensor, state: State) -> State:
    """Cho et al. 2014, equations 5 to 8: the reset gate before the product; their z is the share of the old state."""
    (h,) = state
    reset, update = (sigmoid(sum(weights.gate(i, x, h), torch.zeros_like(h))) for i in range(2))
    a, b = weights.gate(2, x, reset * h)
    return (update * h + (1 - update) * torch.tanh(a + b),)


CELLS: dict[str, Cell] = {"rnn": rnn, "gru": gru, "lstm": lstm}
PARTS = {"rnn": 1, "gru": 1, "lstm": 2}


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def run(cell: str, weights: Weights, sequence: Tensor, state: State) -> tuple[Tensor, State]:
    """A layer over one sequence (n, I): outputs (n, W) and the last state."""
    outputs = []
    for x in sequence:
        state = CELLS[cell](weights, x, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def run_stack(
    cell: str, layers: list[list[Weights]], sequence: Tensor, states: list[State]
) -> tuple[Tensor, list[State]]:
    """Layers of one or two directions over one sequence (n, I), with the states of layer 0 forward, backward, layer 1 …

    Returns:
        the last layer's outputs (n, directions · W), and the states that each direction ends with.
    """
    lasts: list[State] = []
    for directions in layers:
        outputs, last = run(cell, directions[0], sequence, states[len(lasts)])
        lasts.append(last)
        if len(directions) == 2:
            backward, last = run(cell, directions[1], sequence.flip(0), states[len(lasts)])
            lasts.append(last)
            outputs = torch.cat([outputs, backward.flip(0)], 1)
        sequence = outputs
    return sequence, lasts
