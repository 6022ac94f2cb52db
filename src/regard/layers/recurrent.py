"""Recurrent layers: over whole sequences, fused, and position by position where an input depends on the last output.

Cells are those of torch: the simple RNN h' = tanh(W x + U h + b) (Elman 1990), the LSTM (Hochreiter & Schmidhuber 1997,
with the forget gate of Gers et al. 2000) and the GRU (Cho et al. 2014), whose candidate is tanh(W x + b + r ∘ (U h +
b')): the reset gate r acts after the product with U, and not before it as in the paper, so that fused code applies.

Weights and biases start as torch's, uniform within ±W^-½, with one exception: the biases of an LSTM's forget gate start
at 1 (together). With those of torch a fresh cell forgets half of what it holds at each step, a millionth is left after
20, and how long it takes to learn otherwise is a matter of luck (Gers et al. 2000; Jozefowicz et al. 2015).

A state is a dict of tensors (B, L, W): "hidden", and "cell" for the LSTM.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from regard.attention.precision import NOTHING, own_precision
from regard.errors import ArgumentError
from regard.layers.dropout import Dropout

CellKind = Literal["rnn", "gru", "lstm"]
Network = nn.RNN | nn.GRU | nn.LSTM
FUSED: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
STATES: dict[CellKind, tuple[str, ...]] = {"rnn": ("hidden",), "gru": ("hidden",), "lstm": ("hidden", "cell")}
"""Names of the tensors of a state."""
RecurrentState = dict[str, Tensor]


def run(network: Network, x: Tensor | PackedSequence, state: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
    """What a network of torch gives for x, and its state after it: a list as `state` is, whatever the cell."""
    # torch has a tuple of states for the LSTM alone
    y, last = network(x, state[0] if len(state) == 1 else tuple(state))
    return y, [last] if len(state) == 1 else list(last)


class Whole:
    """Reads sequences without padding."""

    def read(self, network: Network, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run one layer in one direction.

        Args:
            network: of torch, with one layer.
            x: (B, S, I), the longest sequences first.
            state: to begin with, (1, B, W) each.

        Returns:
            outputs (B, S, W), zero where padded, and the state after each sequence's last position, (1, B, W) each.
        """
        y, last = run(network, x, state)
        return y.contiguous(), last  # torch gives a view


class Pieces:
    """Reads the positions up to the end of the shortest sequence, then those up to the next one's end without it, …

    Nothing is computed for padding, and each piece is a rectangle. On the CPU this takes 0.55 to 0.93 of the time of
    torch's packed sequences where lengths in a batch are alike (benchmarks/recurrent.py): the gradient of a packed
    sequence is as large as all of it at each position.

    Args:
        lengths: of the sequences, falling, at least 1.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.ends = sorted(set(lengths))
        self.rows = [sum(n >= end for n in lengths) for end in self.ends]

    def read(self, network: Network, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `Whole.read`."""
        batch, positions = x.shape[:2]
        sizes = [end - begin for begin, end in zip([0, *self.ends], [*self.ends, positions], strict=True)]
        outputs: list[Tensor] = []
        ended: list[list[Tensor]] = []
        state = list(state)
        # split and not slices: their gradients would each be as large as x
        *pieces, padding = torch.split(x, sizes, 1)
        for piece, rows in zip(pieces, self.rows, strict=True):
            ended.append([part[:, rows:] for part in state])
            y, state = run(network, piece[:rows], [part[:, :rows] for part in state])
            outputs.append(F.pad(y, (0, 0, 0, 0, 0, batch - rows)))
        y = torch.cat(outputs, 1) if outputs else x.new_zeros(batch, 0, network.hidden_size)
        y = F.pad(y, (0, 0, 0, padding.shape[1])) if padding.shape[1] else y
        return y, [torch.cat(same, 1) for same in zip(state, *reversed(ended), strict=True)]


class Packed:
    """Reads packed sequences: on a GPU one call for all lengths.

    Args:
        lengths: of the sequences, falling, at least 1.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = torch.tensor(lengths)

    def read(self, network: Network, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `Whole.read`."""
        packed = pack_padded_sequence(x, self.lengths, batch_first=True)
        y, last = run(network, packed, state)
        outputs, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
        return outputs, last


Reader = Whole | Pieces | Packed


class Recurrent(nn.Module):
    """A stack of recurrent layers over whole sequences.

    Under `torch.autocast` it runs in the precision of its parameters all the same, on every device: on a GPU torch
    would run it in float16 whatever dtype was asked for, and without scaling of the loss its gradients vanish there.

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
        self.cell, self.width, self.directions = cell, width, 2 if bidirectional else 1
        widths = [input_width] + [self.directions * width] * (layers - 1)
        # a network for each layer and direction: torch's stacks don't take sequences in pieces in both directions
        self.layers = nn.ModuleList(
            nn.ModuleList(FUSED[cell](i, width, batch_first=True) for _ in range(self.directions)) for i in widths
        )
        self.dropout = Dropout(dropout)
        if cell == "lstm":
            for name, parameter in self.named_parameters():
                if "bias" in name:
                    open_forget_gate(parameter, 1.0 if "bias_ih" in name else 0.0)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: RecurrentState | None = None
    ) -> tuple[Tensor, RecurrentState]:
        """Read sequences.

        Args:
            x: (B, S, I).
            lengths: (B,) int64, how many positions of each count, 1 or more; None is all.
            state: to begin with, (B, L·directions, W) each; None is zero.

        Returns:
            outputs of the last layer (B, S, W·directions), zero where padded; and the state after each sequence's last
            position, (B, L·directions, W): layer by layer, forward before backward.

        Raises:
            ArgumentError: there is no length for each sequence, or one is less than 1 or longer than S.
        """
        if state is None:
            state = zero_state(self.cell, x, len(self.layers) * self.directions, self.width)
        names = STATES[self.cell]
        first = [state[name] for name in names]
        precision = own_precision(x.device)
        if precision is not NOTHING:  # autocast has rounded what comes
            dtype = next(self.parameters()).dtype
            x, first = x.to(dtype), [part.to(dtype) for part in first]
        with precision:
            y, parts = self._in_order(x, lengths, first)
        return y, dict(zip(names, parts, strict=True))

    def _in_order(self, x: Tensor, lengths: Tensor | None, first: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, the state as a list."""
        if lengths is None:
            return self._read(Whole(), x, None, first)
        known, order, reader = _longest_first(x, lengths)
        back = order.argsort()
        y, parts = self._read(reader, x[order], known, [part[order] for part in first])
        return y[back], [part[back] for part in parts]

    def _read(
        self, reader: Reader, x: Tensor, lengths: Tensor | None, first: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, the longest sequences first."""
        lasts: list[list[Tensor]] = []
        for i, networks in enumerate(cast(list[list[Network]], self.layers)):
            x = self.dropout(x) if i else x
            outputs = []
            for network, backward in zip(networks, (False, True), strict=False):
                begin = [part[None, :, len(lasts)].contiguous() for part in first]  # (1, B, W)
                y, last = reader.read(network, reverse(x, lengths) if backward else x, begin)
                outputs.append(reverse(y, lengths) if backward else y)
                lasts.append(last)
            x = torch.cat(outputs, 2) if len(outputs) > 1 else outputs[0]
        return x, [torch.cat([part.transpose(0, 1) for part in same], 1) for same in zip(*lasts, strict=True)]


def _longest_first(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Reader]:
    """Lengths of the sequences (B, S, I), falling; which sequences these are; and what reads them in this order."""
    if lengths.shape != x.shape[:1]:
        raise ArgumentError(f"lengths has shape {tuple(lengths.shape)}: expected ({x.shape[0]},), one a sequence")
    known, order = lengths.to(x.device).sort(descending=True, stable=True)
    numbers = known.tolist()
    for n in numbers[:1] + numbers[-1:]:
        if not 1 <= n <= x.shape[1]:
            raise ArgumentError(f"lengths has {n}: expected 1 to {x.shape[1]}, the positions there are")
    return known, order, Pieces(numbers) if x.device.type == "cpu" else Packed(numbers)


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
        self.hidden = cast(list[nn.Linear], nn.ModuleList(nn.Linear(width, gates) for _ in range(layers)))
        self.dropout = Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)
        if cell == "lstm":
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    open_forget_gate(parameter, 0.0 if name.startswith("hidden") else 1.0)

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
        advance, names = ADVANCE[self.cell], STATES[self.cell]
        before = zip(*(state[name].unbind(1) for name in names), strict=True)  # of each layer
        x = torch.addmm(known, fed, self.fed.weight.t())
        after: list[tuple[Tensor, ...]] = []
        for i, (layer, product) in enumerate(zip(before, self.hidden, strict=True)):
            if i:
                x = self.upper[i - 1](self.dropout(after[-1][0]))
            after.append(advance(x, product(layer[0]), layer))
        parts = zip(names, zip(*after, strict=True), strict=True)
        return after[-1][0], {name: torch.stack(same, 1) for name, same in parts}


def advance_rnn(x: Tensor, u: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One position of a simple RNN: W x + b and U h + b' (N, W) → the next h."""
    return (torch.tanh(x + u),)


def advance_gru(x: Tensor, u: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One position of a GRU: W x + b and U h + b' (N, 3·W), reset, update and candidate side by side, and h (N, W) →
    the next h."""
    (h,) = state
    width = h.shape[1]
    x_gates, x_candidate = torch.split(x, [2 * width, width], 1)
    u_gates, u_candidate = torch.split(u, [2 * width, width], 1)
    reset, update = torch.sigmoid(x_gates + u_gates).chunk(2, 1)
    candidate = torch.tanh(torch.addcmul(x_candidate, reset, u_candidate))
    # with mixed precision the state keeps its own
    return (torch.lerp(candidate.to(h.dtype), h, update.to(h.dtype)),)


def advance_lstm(x: Tensor, u: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One position of an LSTM: W x + b and U h + b' (N, 4·W), input, forget, candidate and output side by side, and h
    and the cell (N, W) → the next h and cell."""
    into, keep, candidate, out = (x + u).chunk(4, 1)
    cell = torch.addcmul(keep.sigmoid() * state[1], into.sigmoid(), candidate.tanh())
    return out.sigmoid() * cell.tanh(), cell


ADVANCE = {"rnn": advance_rnn, "gru": advance_gru, "lstm": advance_lstm}


def zero_state(cell: CellKind, like: Tensor, layers: int, width: int) -> RecurrentState:
    """The state of zeros for a batch as `like`, (B, …): (B, L, W) each."""
    return {name: like.new_zeros(like.shape[0], layers, width) for name in STATES[cell]}


def open_forget_gate(bias: Tensor, value: float) -> None:
    """Set the forget gate's part of an LSTM's bias (4·W,), the second quarter, in place."""
    with torch.no_grad():
        bias.chunk(4)[1].fill_(value)


def reverse(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Sequences the other way round, each within its own length; done twice it gives x back.

    Args:
        x: (B, S, ·).
        lengths: (B,) int64; positions from there on stay where they are. None is S.
    """
    if lengths is None:
        return x.flip(1)
    at = torch.arange(x.shape[1], device=x.device)
    ends = lengths[:, None].to(x.device)
    order = torch.where(at < ends, ends - 1 - at, at)  # (B, S)
    return x.gather(1, order[:, :, None].expand_as(x))


def reverse_words(x: Tensor, lengths: Tensor) -> Tensor:
    """Sequences with all but their last position, `<eos>`, the other way round: a b c `<eos>` → c b a `<eos>`.

    Sutskever et al. 2014 reverse the words of the source, so that the first ones are near the target's first; every
    sentence still ends with `<eos>`. Done twice it gives x back.

    Args:
        x: (B, S, ·).
        lengths: (B,) int64; positions from there on stay where they are.
    """
    return reverse(x, lengths - 1)
