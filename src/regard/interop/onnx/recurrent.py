"""Recurrent layers as the operators RNN, GRU and LSTM of ONNX, which read sequences of different lengths themselves.

torch's exporter would write a recurrence out position by position, for the length of the example.
"""

import copy
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor, nn

from regard.layers import Recurrent, RecurrentState
from regard.layers.recurrent import STATES, CellKind, Network

OPERATORS: Final[dict[CellKind, str]] = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}
ORDER: Final[dict[CellKind, tuple[int, ...]]] = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""ONNX's order of the gates, as places in torch's: update, reset, candidate; input, output, forget, candidate."""

M = TypeVar("M", bound=nn.Module)


def with_onnx_recurrence(model: M) -> M:
    """A copy of a model, ready to be exported, in which ONNX's operators do what `Recurrent` does; the model itself if
    it has none."""
    paths = [path for path, module in model.named_modules() if isinstance(module, Recurrent)]
    if not paths:
        return model
    other = copy.deepcopy(model)
    for path in paths:
        other.set_submodule(path, OnnxRecurrent(cast(Recurrent, other.get_submodule(path))))
    return other


class OnnxRecurrent(nn.Module):
    """What `Recurrent` computes, by an operator of ONNX for each layer and direction. It can be exported, not run.

    Args:
        layers: to be done so.
    """

    def __init__(self, layers: Recurrent) -> None:
        super().__init__()
        self.cell, self.width, self.directions = layers.cell, layers.width, layers.directions
        self.stack = nn.ModuleList(
            nn.ModuleList(
                _Direction(layers.cell, network, backward)
                for network, backward in zip(cast(list[Network], networks), (False, True), strict=False)
            )
            for networks in cast(list[nn.ModuleList], layers.layers)
        )

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """See `Recurrent.forward`."""
        names = STATES[self.cell]
        x = x.transpose(0, 1)  # (S, B, I): the layout that all engines know
        counts = None if lengths is None else lengths.to(torch.int32)
        lasts: list[list[Tensor]] = []
        for directions in cast(list[list[_Direction]], self.stack):
            outputs = []
            for direction in directions:
                first = [None if state is None else state[name][None, :, len(lasts)] for name in names]  # (1, B, W)
                y, last = direction(x, counts, first)
                outputs.append(y)
                lasts.append(last)
            x = torch.cat(outputs, 2) if len(outputs) > 1 else outputs[0]
        parts = (torch.stack(same, 1) for same in zip(*lasts, strict=True))  # (B, L · directions, W)
        return x.transpose(0, 1), dict(zip(names, parts, strict=True))


class _Direction(nn.Module):
    """One layer in one direction, its weights in ONNX's order."""

    input: Tensor
    hidden: Tensor
    bias: Tensor

    def __init__(self, cell: CellKind, network: Network, backward: bool) -> None:
        super().__init__()
        self.cell, self.width, self.backward = cell, network.hidden_size, backward

        def ordered(weight: Tensor) -> Tensor:
            gates = weight.detach().chunk(len(ORDER[cell]), 0)
            return torch.cat([gates[at] for at in ORDER[cell]], 0)[None]

        weights = {name: ordered(weight) for name, weight in network.named_parameters()}
        self.register_buffer("input", weights["weight_ih_l0"])  # (1, gates · W, I)
        self.register_buffer("hidden", weights["weight_hh_l0"])  # (1, gates · W, W)
        self.register_buffer("bias", torch.cat([weights["bias_ih_l0"], weights["bias_hh_l0"]], 1))  # (1, 2 · gates · W)

    def forward(self, x: Tensor, lengths: Tensor | None, first: list[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
        """x (S, B, I), lengths (B,) int32 and a state (1, B, W) each → outputs (S, B, W) and the state (B, W) each."""
        positions, batch = x.shape[:2]
        attributes: dict[str, Any] = {
            "hidden_size": self.width,
            "direction": "reverse" if self.backward else "forward",
        }
        if self.cell == "gru":
            attributes["linear_before_reset"] = 1  # the reset gate acts after the product, as torch's does
        shapes = [(positions, 1, batch, self.width)] + [(1, batch, self.width)] * len(first)
        y, *last = torch.onnx.ops.symbolic_multi_out(
            OPERATORS[self.cell],
            (x, self.input, self.hidden, self.bias, lengths, *first),
            attributes,
            dtypes=[x.dtype] * len(shapes),
            shapes=shapes,
        )
        return y[:, 0], [part[0] for part in last]
