"""Luong's model for one sentence, position by position, from the equations of Luong, Pham & Manning 2015.

Nothing of the package computes here: weights are read from a model, the loops are those of the paper. Positions are
counted from 0 and S includes `<eos>`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regard.models.luong import Luong


@dataclass(frozen=True)
class Cell:
    """One LSTM layer: gates in the order input, forget, candidate, output."""

    into: Tensor
    into_bias: Tensor
    across: Tensor
    across_bias: Tensor

    def __call__(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.into @ x + self.into_bias + self.across @ h + self.across_bias).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


def fused_cells(recurrent: nn.Module) -> list[Cell]:
    """The layers of torch's LSTMs in a module, the lowest first."""
    names = ("weight_ih_l", "bias_ih_l", "weight_hh_l", "bias_hh_l")
    networks = [module for module in recurrent.modules() if isinstance(module, nn.LSTM)]
    return [Cell(*(getattr(x, f"{name}{i}") for name in names)) for x in networks for i in range(x.num_layers)]


def decoder_cells(model: Luong) -> list[Cell]:
    """The decoder's layers; the first one's input is [token; h̃] with input feeding."""
    if not model.config.input_feeding:
        return fused_cells(model.decoder.recurrent)
    stack = model.decoder.cells
    first = torch.cat([stack.known.weight, stack.fed.weight], 1)
    into = [(first, stack.known.bias), *((x.weight, x.bias) for x in stack.upper)]
    return [Cell(*x, h.weight, h.bias) for x, h in zip(into, stack.hidden, strict=True)]


def climb(cells: list[Cell], x: Tensor, past: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """One position through all layers: (h, c) of each."""
    after = []
    for cell, (h, c) in zip(cells, past, strict=True):
        after.append(cell(x, h, c))
        x = after[-1][0]
    return after


def score(model: Luong, h: Tensor, m: Tensor) -> Tensor:
    """Eq. 8."""
    cross = model.decoder.cross
    if model.config.score == "dot":
        return h @ m
    if model.config.score == "general":
        return h @ cross.key.weight @ m
    joined = torch.cat([cross.query.weight, cross.key.weight], 1)
    return cross.score.v @ torch.tanh(joined @ torch.cat([h, m]))


def weights(model: Luong, h: Tensor, t: int, memory: list[Tensor]) -> Tensor:
    """a_t (S,): eq. 7 over the window, and for local-p eq. 9 and 10."""
    last, window = len(memory) - 1, model.config.window
    place: Tensor | None = None
    if model.config.attention == "global":
        seen = range(last + 1)
    elif model.config.attention == "local-m":
        seen = [s for s in range(last + 1) if abs(s - min(t, last)) <= window]
    else:
        focus = model.decoder.focus
        place = last * torch.sigmoid(focus.place.weight[0] @ torch.tanh(focus.hidden.weight @ h))
        seen = [s for s in range(last + 1) if abs(s - place.item()) <= window]
    exps = {s: score(model, h, memory[s]).exp() for s in seen}
    total = sum(exps.values())
    row = [h.new_zeros(()) for _ in memory]
    for s, x in exps.items():
        row[s] = x / total
        if place is not None:
            row[s] = row[s] * torch.exp(-((s - place) ** 2) / (2 * (window / 2) ** 2))
    return torch.stack(row)


def luong(model: Luong, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Attentional states (T, W) of one target (T,), and a_t of each (T, S), for one source (S,) without padding."""
    config = model.config
    zero = next(model.parameters()).new_zeros(config.width)
    past = [(zero, zero)] * config.layers
    order = list(range(len(source)))
    if config.reverse_source:
        order = [*order[-2::-1], order[-1]]
    read: dict[int, Tensor] = {}
    cells = fused_cells(model.encoder.recurrent)
    for s, x in zip(order, model.encoder.embedding(source)[order], strict=True):
        past = climb(cells, x, past)
        read[s] = past[-1][0]
    memory = [read[s] for s in range(len(source))]
    cells, fed = decoder_cells(model), zero
    outputs, rows = [], []
    for t, x in enumerate(model.decoder.embedding(target)):
        past = climb(cells, torch.cat([x, fed]) if config.input_feeding else x, past)
        h = past[-1][0]
        row = weights(model, h, t, memory)
        context = sum(a * m for a, m in zip(row, memory, strict=True))
        fed = torch.tanh(model.decoder.join.weight @ torch.cat([context, h]))  # eq. 5
        outputs.append(fed)
        rows.append(row)
    return torch.stack(outputs), torch.stack(rows)
