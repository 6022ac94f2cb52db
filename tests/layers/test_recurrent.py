"""Recurrent layers: values by hand, torch's modules, plain loops; padding that changes nothing; gradients."""

from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor, nn

from oracles import recurrent as oracle
from regard.errors import ArgumentError
from regard.layers import Recurrent, RecurrentState, StackedCells, zero_state
from regard.layers.recurrent import (
    ADVANCE,
    FUSED,
    GATES,
    STATES,
    CellKind,
    Packed,
    Pieces,
    Whole,
    reverse,
    reverse_words,
)

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


def state_of(cell: CellKind, rows: int, layers: int, seed: int = 5) -> RecurrentState:
    return {name: numbers(rows, layers, W, seed=seed + i) for i, name in enumerate(STATES[cell])}


def oracle_weights(model: Recurrent) -> list[list[oracle.Weights]]:
    return [
        [oracle.Weights(n.weight_ih_l0, n.weight_hh_l0, n.bias_ih_l0, n.bias_hh_l0) for n in layer]
        for layer in cast(list[list[Any]], model.layers)
    ]


def assert_same(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


# -- by hand: one unit --


@pytest.mark.parametrize(
    ("cell", "w", "u", "b", "b_hidden", "x", "before", "after"),
    [
        # tanh(0.5·1 + 0.2 + (−0.5·0.4 + 0)) = tanh(0.5)
        ("rnn", [0.5], [-0.5], [0.2], [0.0], 1.0, [0.4], [0.46211716]),
        # gates ½; candidate tanh(½); c = ½·2 + ½·0.46211716; h = ½ tanh(c)
        ("lstm", [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], 0.5, [0.3, 2.0], [0.42144305, 1.23105858]),
        # everything is forgotten and nothing let in: c = 0
        ("lstm", [0, 0, 1, 0], [0, 0, 0, 0], [-99, -99, 0, 0], [0, 0, 0, 0], 0.5, [0.3, 2.0], [0.0, 0.0]),
        # kept whole, and let out whole, through U h: h = tanh(2)
        ("lstm", [0, 0, 0, 0], [0, 99, 0, 99], [0, 0, 0, 0], [-9, 0, 0, 0], 1.0, [1.0, 2.0], [0.96402758, 2.0]),
        # gates ½; candidate tanh(0.25 + ½·0.5); h = ½·0.46211716 + ½·0.5
        ("gru", [0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0], 0.25, [0.5], [0.48105858]),
        # the reset gate acts on the bias of U h too: candidate tanh(0.25 + ½·(0 + 0.5))
        ("gru", [0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0.5], 0.25, [0.5], [0.48105858]),
        # reset shut, update shut: only the input is left; update open: only the past is
        ("gru", [0, 0, 1], [0, 0, 9], [-99, -99, 0], [0, 0, 0], 0.5, [0.7], [0.46211716]),
        ("gru", [0, 0, 1], [0, 0, 9], [0, 99, 0], [0, 0, 0], 0.5, [0.7], [0.7]),
    ],
)
def test_one_unit_by_hand(
    cell: CellKind,
    w: list[float],
    u: list[float],
    b: list[float],
    b_hidden: list[float],
    x: float,
    before: list[float],
    after: list[float],
) -> None:
    values = [torch.tensor(v, dtype=torch.float64) for v in (w, u, b, b_hidden)]
    weights = oracle.Weights(values[0][:, None], values[1][:, None], values[2], values[3])
    expected = [torch.tensor([v], dtype=torch.float64) for v in after]
    first = tuple(torch.tensor([v], dtype=torch.float64) for v in before)
    for got, want in zip(oracle.CELLS[cell](weights, torch.tensor([x]).double(), first), expected, strict=True):
        assert_same(got, want, 1e-8)

    model = Recurrent(cell, 1, 1).double()
    for parameter, value in zip(model.parameters(), values, strict=True):
        parameter.data.copy_(value.view_as(parameter))
    state = {name: value[None, None] for name, value in zip(STATES[cell], first, strict=True)}
    y, last = model(torch.full((1, 1, 1), x).double(), None, state)
    assert_same(y[0, 0], expected[0], 1e-8)

    stack = StackedCells(cell, 1, 2, 1).double()
    stack.known.weight.data.copy_(values[0][:, None] / 2)  # half of the input is known, the other fed back
    stack.fed.weight.data.copy_(torch.stack([values[0] / 2, 0 * values[0]], 1))
    for linear, bias in ((stack.known, values[2]), (stack.hidden[0], values[3])):
        linear.bias.data.copy_(bias)
    stack.hidden[0].weight.data.copy_(values[1][:, None])
    out, new = stack.step(stack.inputs(torch.tensor([[x]]).double()), torch.tensor([[x, 7.0]]).double(), state)
    assert_same(out[0], expected[0], 1e-8)
    for name, want in zip(STATES[cell], expected, strict=True):
        assert_same(last[name][0, 0], want, 1e-8)
        assert_same(new[name][0, 0], want, 1e-8)


def test_the_papers_gru_is_another_one_where_the_reset_gate_is_neither_open_nor_shut() -> None:
    weights = oracle.Weights(numbers(3 * W, E), numbers(3 * W, W, seed=1), numbers(3 * W, seed=2), numbers(3 * W) * 0)
    x, state = numbers(E, seed=3), (numbers(W, seed=4),)
    ours, paper = oracle.gru(weights, x, state)[0], oracle.paper_gru(weights, x, state)[0]
    assert (ours - paper).abs().max() > 1e-3
    weights.b[:W] = 99.0  # open
    assert_same(oracle.gru(weights, x, state)[0], oracle.paper_gru(weights, x, state)[0])
    # and with U diagonal reset and product commute
    diagonal = torch.eye(W, dtype=torch.float64).repeat(3, 1)
    weights = oracle.Weights(weights.w, diagonal, numbers(3 * W, seed=2), weights.b_hidden)
    assert_same(oracle.gru(weights, x, state)[0], oracle.paper_gru(weights, x, state)[0])


# -- torch and plain loops --


@cells
@shapes
def test_whole_sequences_are_those_of_torch(cell: CellKind, layers: int, bidirectional: bool) -> None:
    model = build(cell, layers, bidirectional)
    theirs = FUSED[cell](E, W, layers, batch_first=True, bidirectional=bidirectional).double()
    for parameter, value in zip(theirs.parameters(), model.parameters(), strict=True):  # layer by layer, as ours
        parameter.data.copy_(value)
    x, first = numbers(B, S, E, seed=1), state_of(cell, B, layers * (1 + bidirectional))
    y, last = model(x, None, first)
    parts = tuple(first[name].transpose(0, 1) for name in STATES[cell])
    expected, end = theirs(x, parts if cell == "lstm" else parts[0])
    assert_same(y, expected)
    for name, part in zip(STATES[cell], end if cell == "lstm" else (end,), strict=True):
        assert_same(last[name], part.transpose(0, 1))


@cells
@shapes
@pytest.mark.parametrize("given", [False, True])
def test_sequences_of_all_lengths_are_plain_loops(
    cell: CellKind, layers: int, bidirectional: bool, given: bool
) -> None:
    model = build(cell, layers, bidirectional)
    x, count = numbers(B, S, E, seed=1), layers * (1 + bidirectional)
    first = state_of(cell, B, count) if given else None
    y, last = model(x, torch.tensor(LENGTHS), first)
    start = zero_state(cell, x, count, W) if first is None else first
    assert y.shape == (B, S, W * (1 + bidirectional))
    assert all(part.shape == (B, count, W) for part in last.values()) and tuple(last) == STATES[cell]
    for b, n in enumerate(LENGTHS):
        states = [tuple(start[name][b, i] for name in STATES[cell]) for i in range(count)]
        assert not y[b, n:].any()
        expected, states = oracle.run_stack(cell, oracle_weights(model), x[b, :n], states)
        assert_same(y[b, :n], expected)
        for i, state in enumerate(states):
            for name, part in zip(STATES[cell], state, strict=True):
                assert_same(last[name][b, i], part)


@cells
@pytest.mark.parametrize("lengths", [[7, 4, 4, 1], [9, 9, 9, 9], [3], [2, 1]])
def test_pieces_and_packed_sequences_are_the_same(cell: CellKind, lengths: list[int]) -> None:
    network = FUSED[cell](E, W, batch_first=True).double()
    x = numbers(len(lengths), S, E, seed=1).requires_grad_()
    state = [part.transpose(0, 1).contiguous() for part in state_of(cell, len(lengths), 1).values()]
    results = []
    for reader in (Pieces(lengths), Packed(lengths)):
        y, last = reader.read(network, x, state)
        grads = torch.autograd.grad(y.square().sum() + last[-1].sin().sum(), [x, *network.parameters()])
        results.append([y, *last, *grads])
    for a, b in zip(*results, strict=True):
        assert_same(a, b)
    if set(lengths) == {S}:
        assert_same(results[0][0], Whole().read(network, x, state)[0])


@cells
@pytest.mark.parametrize("layers", [1, 3])
def test_stepwise_cells_are_the_plain_loop(cell: CellKind, layers: int) -> None:
    torch.manual_seed(0)
    stack = StackedCells(cell, E, 4, W, layers).double()
    known, fed, state = numbers(B, S, E, seed=1), numbers(S, B, 4, seed=2), state_of(cell, B, layers)
    last, outputs = state, []
    for inputs, part in zip(stack.inputs(known).unbind(1), fed, strict=True):
        y, last = stack.step(inputs, part, last)
        outputs.append(y)
    joined = torch.cat([stack.known.weight, stack.fed.weight], 1)
    below = [(joined, stack.known.bias), *((u.weight, u.bias) for u in cast(list[nn.Linear], stack.upper))]
    weights = [[oracle.Weights(w, h.weight, b, h.bias)] for (w, b), h in zip(below, stack.hidden, strict=True)]
    for b in range(B):
        states = [tuple(state[name][b, i] for name in STATES[cell]) for i in range(layers)]
        sequence = torch.cat([known[b], fed[:, b]], 1)
        expected, ends = oracle.run_stack(cell, weights, sequence, states)
        assert_same(torch.stack(outputs)[:, b], expected)
        for i, end in enumerate(ends):
            for name, part in zip(STATES[cell], end, strict=True):
                assert_same(last[name][b, i], part)


# -- padding and batches --


@cells
@shapes
def test_padding_is_invisible(cell: CellKind, layers: int, bidirectional: bool) -> None:
    model = build(cell, layers, bidirectional)
    x, lengths = numbers(B, S, E, seed=1), torch.tensor(LENGTHS)
    y, last = model(x, lengths)
    padding = torch.arange(S) >= lengths[:, None]
    for filled in (x.masked_fill(padding[..., None], torch.nan), x[:, : max(LENGTHS)], torch.cat([x, x], 1)):
        other, end = model(filled, lengths)
        assert_same(other[:, : max(LENGTHS)], y[:, : max(LENGTHS)], 1e-15)
        assert not other[:, max(LENGTHS) :].any()
        for name in last:
            assert_same(end[name], last[name], 1e-15)


@cells
@shapes
def test_padding_has_no_gradient(cell: CellKind, layers: int, bidirectional: bool) -> None:
    model = build(cell, layers, bidirectional)
    x, lengths = numbers(B, S, E, seed=1).requires_grad_(), torch.tensor(LENGTHS)
    y, last = model(x, lengths)
    (y.sin().sum() + sum(part.sin().sum() for part in last.values())).backward()
    assert x.grad is not None
    real = torch.arange(S) < lengths[:, None]
    assert torch.equal(x.grad.abs().amax(-1) > 0, real)
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sequence_alone_is_as_in_a_batch(cell: CellKind, dtype: torch.dtype) -> None:
    model = build(cell, 2, True).to(dtype)
    atol = 1e-6 if dtype == torch.float32 else 1e-14
    x = numbers(B, S, E, seed=1).to(dtype)
    y, last = model(x, torch.tensor(LENGTHS))
    for b, n in enumerate(LENGTHS):
        for alone, end in (model(x[b : b + 1, :n]), model(x[b : b + 1, :n], torch.tensor([n]))):
            assert_same(alone[0], y[b, :n], atol)
            assert all(torch.allclose(end[name][0], last[name][b], rtol=0, atol=atol) for name in last)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    other, _ = model(x[order], torch.tensor(LENGTHS)[order])
    assert_same(other, y[order], atol)


@cells
def test_a_sequence_read_in_two_parts_is_as_at_once(cell: CellKind) -> None:
    model = build(cell, 2)
    x = numbers(B, S, E, seed=1)
    y, last = model(x)
    left, middle = model(x[:, :4])
    right, end = model(x[:, 4:], torch.full((B,), S - 4), middle)
    assert_same(torch.cat([left, right], 1), y)
    assert all(torch.allclose(end[name], last[name], rtol=0, atol=1e-14) for name in last)


def test_reversal_within_each_length() -> None:
    x = torch.tensor([[1, 2, 3, 9, 0], [1, 9, 0, 0, 0], [9, 0, 0, 7, 0], [1, 2, 3, 4, 9]])[..., None]
    lengths = torch.tensor([4, 2, 1, 5])
    # <eos>, 9, stays the last
    expected = [[3, 2, 1, 9, 0], [1, 9, 0, 0, 0], [9, 0, 0, 7, 0], [4, 3, 2, 1, 9]]
    assert reverse_words(x, lengths)[..., 0].tolist() == expected
    assert torch.equal(reverse_words(reverse_words(x, lengths), lengths), x)
    expected = [[9, 3, 2, 1, 0], [9, 1, 0, 0, 0], [9, 0, 0, 7, 0], [9, 4, 3, 2, 1]]
    assert reverse(x, lengths)[..., 0].tolist() == expected
    assert torch.equal(reverse(x), x.flip(1))


def test_a_batch_of_no_sequence() -> None:
    y, last = build("lstm", 2, True)(numbers(0, 3, E), torch.tensor([], dtype=torch.int64))
    assert y.shape == (0, 3, 2 * W) and last["hidden"].shape == last["cell"].shape == (0, 4, W)


@cells
def test_zero_states(cell: CellKind) -> None:
    state = zero_state(cell, numbers(2, 1), 3, W)
    assert tuple(state) == STATES[cell] == (("hidden", "cell") if cell == "lstm" else ("hidden",))
    assert set(ADVANCE) == set(STATES) == set(GATES) == set(FUSED) == set(CELLS)
    for part in state.values():
        assert part.shape == (2, 3, W) and part.dtype == torch.float64 and not part.any()


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 2], r"lengths has shape \(2,\): expected \(3,\)"),
        ([4, 10, 1], "lengths has 10: expected 1 to 9"),
        ([4, 0, 1], "lengths has 0: expected 1 to 9"),
        ([4, -1, 1], "lengths has -1: expected 1 to 9"),
    ],
)
def test_lengths_that_are_wrong(lengths: list[int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build("gru")(numbers(3, S, E), torch.tensor(lengths))
