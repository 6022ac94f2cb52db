"""Recurrent layers in training: gradients, counts and fresh values of parameters, dropout, mixed precision."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from regard.layers import Recurrent, StackedCells, zero_state
from regard.layers.recurrent import GATES, STATES, CellKind

CELLS: tuple[CellKind, ...] = get_args(CellKind)
LENGTHS = [4, 7, 1, 3, 7, 2]
B, S, E, W = len(LENGTHS), 9, 3, 5
cells = pytest.mark.parametrize("cell", CELLS)
shapes = pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (3, False), (1, True), (2, True)])


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(cell: CellKind, layers: int = 1, bidirectional: bool = False, **options: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, E, W, layers, bidirectional=bidirectional, **options).double()


@cells
def test_gradients_of_whole_sequences(cell: CellKind) -> None:
    torch.manual_seed(0)
    model = Recurrent(cell, 1, 2, bidirectional=True).double()
    x = numbers(3, 4, 1, seed=1).requires_grad_()
    first = [numbers(3, 2, 2, seed=2).requires_grad_() for _ in STATES[cell]]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        y, last = model(x, torch.tensor([2, 4, 1]), dict(zip(STATES[cell], rest, strict=False)))
        return (y, *last.values())

    # parameters are changed in place by the check
    assert torch.autograd.gradcheck(run, (x, *first, *model.parameters()))


@cells
def test_gradients_of_steps(cell: CellKind) -> None:
    torch.manual_seed(0)
    stack = StackedCells(cell, 2, 2, 2, 2).double()
    known, fed = numbers(3, 2, seed=1).requires_grad_(), numbers(3, 2, seed=2).requires_grad_()
    first = [numbers(3, 2, 2, seed=3).requires_grad_() for _ in STATES[cell]]

    def run(known: Tensor, fed: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        y, last = stack.step(stack.inputs(known), fed, dict(zip(STATES[cell], rest, strict=False)))
        y, last = stack.step(stack.inputs(known), y * fed, last)
        return (y, *last.values())

    assert torch.autograd.gradcheck(run, (known, fed, *first, *stack.parameters()))


@cells
@shapes
def test_parameter_counts(cell: CellKind, layers: int, bidirectional: bool) -> None:
    directions = 1 + bidirectional
    inputs = E + (layers - 1) * directions * W
    expected = directions * GATES[cell] * W * (inputs + layers * (W + 2))
    assert sum(p.numel() for p in build(cell, layers, bidirectional).parameters()) == expected
    stack = StackedCells(cell, E, 7, W, layers)
    expected = GATES[cell] * W * (E + 7 + (layers - 1) * W + layers * (W + 2))
    assert sum(p.numel() for p in stack.parameters()) == expected


@cells
def test_fresh_weights_are_uniform_and_forget_gates_open(cell: CellKind) -> None:
    torch.manual_seed(0)
    width = 64
    modules = (Recurrent(cell, 32, width, 2, bidirectional=True), StackedCells(cell, 32, 32, width, 2))
    for module in modules:
        gates: dict[str, Tensor] = {}
        for name, parameter in module.named_parameters():
            drawn = parameter.detach()
            if "bias" in name and cell == "lstm":
                gates[name] = drawn.chunk(4)[1]
                drawn = torch.cat([x for i, x in enumerate(drawn.chunk(4)) if i != 1])
            assert 0.85 * width**-0.5 < drawn.abs().max() <= width**-0.5, name
            assert drawn.mean().abs() < 0.3 * width**-0.5, name
        # of each cell's two biases together
        opened = [bool((gate == 1).all()) for gate in gates.values()]
        shut = [bool((gate == 0).all()) for gate in gates.values()]
        assert sum(opened) == sum(shut) == len(gates) / 2
        assert len(gates) == (0 if cell != "lstm" else 8 if isinstance(module, Recurrent) else 4)


@cells
def test_dropout_is_between_layers_and_follows_the_seed(cell: CellKind) -> None:
    x, lengths = numbers(B, S, E, seed=1), torch.tensor(LENGTHS)
    for layers, drops in ((1, False), (2, True)):
        model = build(cell, layers, True, dropout=0.5)
        stack = StackedCells(cell, E, 4, W, layers, dropout=0.5).double()
        step = stack.inputs(x[:, 0]), numbers(B, 4), zero_state(cell, x, layers, W)

        def read(model: Recurrent = model) -> Tensor:
            torch.manual_seed(3)
            y: Tensor = model(x, lengths)[0]
            return y

        assert torch.equal(read(), read())
        assert torch.equal(model(x, lengths)[0], read()) is not drops
        assert torch.equal(stack.step(*step)[0], stack.step(*step)[0]) is not drops
        model.eval()
        stack.eval()
        assert torch.equal(model(x, lengths)[0], read())
        assert torch.equal(stack.step(*step)[0], stack.step(*step)[0])


@cells
def test_mixed_precision_runs_and_is_near(cell: CellKind) -> None:
    model = build(cell, 2, True).float()
    stack = StackedCells(cell, E, W, W, 2)
    x, lengths = numbers(B, S, E, seed=1).float(), torch.tensor(LENGTHS)

    def run() -> list[Tensor]:
        state = zero_state(cell, x, 2, W)
        y = x.new_zeros(B, W)
        for inputs in stack.inputs(x).unbind(1):
            y, state = stack.step(inputs, y, state)
        return [model(x, lengths)[0], y]

    exact = run()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run()
    assert torch.equal(rounded[0], exact[0])  # whole sequences are read in full precision
    torch.testing.assert_close(rounded[1].float(), exact[1], atol=0.02, rtol=0)
    sum(y.float().sum() for y in rounded).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in [*model.parameters(), *stack.parameters()])


@cells
def test_under_autocast_rounded_vectors_are_read_in_the_precision_of_the_weights(cell: CellKind) -> None:
    model = build(cell, 2).float()
    x, lengths = numbers(B, S, E, seed=1).bfloat16(), torch.tensor(LENGTHS)
    state = {name: numbers(B, 2, W, seed=2).bfloat16() for name in STATES[cell]}
    for given in (None, lengths):
        with torch.autocast("cpu", torch.bfloat16):
            y, last = model(x, given, state)
        expected, end = model(x.float(), given, {name: part.float() for name, part in state.items()})
        assert torch.equal(y, expected) and all(torch.equal(last[name], end[name]) for name in end)
        assert y.dtype == torch.float32
