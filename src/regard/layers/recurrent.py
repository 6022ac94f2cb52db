"""Recurrent layers: over whole sequences, fused, and position by position where an input depends on the last output.

Cells are those of torch: the simple RNN h' = tanh(W x + U h + b) (Elman 1990), the LSTM (Hochreiter & Schmidhuber 1997,
with the forget gate of Gers et al. 2000) and the GRU (Cho et al. 2014) whose reset gate acts after the product with U.
A state is a dict of tensors (B, L, W): "hidden", and "cell" for the LSTM.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regard.layers.dropout import Dropout

CellKind = Literal["rnn", "gru", "lstm"]
FUSED: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
RecurrentState = dict[str, Tensor]


class Recurrent(nn.Module):
    """A stack of recurrent layers over whole sequences.

    Args:
        cell: "rnn", "gru" or "lstm".
        input_width: I.
        width: W of each layer and direction.
        layers: L.
        bidirectional: each layer also reads backwards, from each sequence's own end; its outputs are 2·W wide.
        dropout: between layers.
    """

    def __init__(
        self,
        cell: CellKind,
        input_width: int,
        width: int,
        layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cell, self.directions = cell, 2 if bidirectional else 1
        self.network = FUSED[cell](
            input_width,
            width,
            layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Read sequences.

        Args:
            x: (B, S, I).
            lengths: (B,) int64, how many positions of each count; None is all.
            state: to begin with, (B, L·directions, W) each; None is zero.

        Returns:
            outputs of the last layer (B, S, W·directions), zero where padded; and the state after each sequence's last
            position, (B, L·directions, W): layer by layer, forward before backward.
        """
        first = None if state is None else self._inner(state)
        if lengths is None:
            y, last = self.network(x, first)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            out, last = self.network(packed, first)
            y, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        parts = last if self.cell == "lstm" else (last,)
        names = ("hidden", "cell")
        return y, {name: part.transpose(0, 1) for name, part in zip(names, parts, strict=False)}

    def _inner(self, state: RecurrentState) -> Tensor | tuple[Tensor, Tensor]:
        hidden = state["hidden"].transpose(0, 1).contiguous()
        return (hidden, state["cell"].transpose(0, 1).contiguous()) if self.cell == "lstm" else hidden


class StackedCells(nn.Module):
    """A stack of recurrent layers one position at a time, for decoders whose input has a part fed back from the output.

    The part of the first layer's input that is known beforehand is projected for all positions at once by `inputs`.

    Args:
        cell: "rnn", "gru" or "lstm".
        input_width: I, of what is known beforehand.
        fed_width: F, of what is fed back.
        width: W of each layer.
        layers: L.
        dropout: between layers.
    """

    def __init__(
        self, cell: CellKind, input_width: int, fed_width: int, width: int, layers: int = 1, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.cell, self.width = cell, width
        gates = GATES[cell] * width
        self.known = nn.Linear(input_width, gates)
        self.fed = nn.Linear(fed_width, gates, bias=False)
        self.upper = nn.ModuleList(nn.Linear(width, gates) for _ in range(layers - 1))
        self.hidden = nn.ModuleList(nn.Linear(width, gates) for _ in range(layers))
        self.dropout = Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def inputs(self, x: Tensor) -> Tensor:
        """What `step` takes of inputs known beforehand: (…, I) → (…, gates · W)."""
        y: Tensor = self.known(x)
        return y

    def step(self, known: Tensor, fed: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Advance each sequence by one position.

        Args:
            known: of this position, from `inputs`, (N, gates · W).
            fed: (N, F).
            state: (N, L, W) each.

        Returns:
            the output of the last layer (N, W), and the new state.
        """
        x = known + self.fed(fed)
        hidden, cells = state["hidden"].unbind(1), state.get("cell")
        new: list[Tensor] = []
        new_cells: list[Tensor] = []
        for i, (h, product) in enumerate(zip(hidden, self.hidden, strict=True)):
            if i:
                x = self.upper[i - 1](self.dropout(new[-1]))
            u = product(h)
            if self.cell == "rnn":
                new.append(torch.tanh(x + u))
            elif self.cell == "gru":
                reset, update, _ = (x + u).sigmoid().chunk(3, 1)
                candidate = torch.tanh(x[:, 2 * self.width :] + reset * u[:, 2 * self.width :])
                new.append(torch.lerp(candidate, h, update))
            else:
                assert cells is not None
                gates = x + u
                into, keep, _, out = gates.sigmoid().chunk(4, 1)
                cell = keep * cells[:, i] + into * torch.tanh(gates[:, 2 * self.width : 3 * self.width])
                new_cells.append(cell)
                new.append(out * torch.tanh(cell))
        after = {"hidden": torch.stack(new, 1)}
        if new_cells:
            after["cell"] = torch.stack(new_cells, 1)
        return new[-1], after


def zero_state(cell: CellKind, like: Tensor, layers: int, width: int) -> RecurrentState:
    """The state of zeros for a batch as `like`, (B, …): (B, L, W) each."""
    names = ("hidden", "cell") if cell == "lstm" else ("hidden",)
    return {name: like.new_zeros(like.shape[0], layers, width) for name in names}
