"""Luong's model: values by hand, and its equations position by position."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.luong import luong
from regard import AttentionMap, record
from regard.attention import Padding
from regard.layers import linear_cross_entropy
from regard.models.luong import Luong, LuongConfig, build_luong

B, S, T, V = 3, 7, 9, 11
LENGTHS = torch.tensor([7, 3, 5])
CONFIG = LuongConfig(V, V, layers=2, embedding=3, width=4, window=2, dropout=0.0)
COMBINATIONS: list[dict[str, Any]] = [
    {"score": score, "attention": attention, "input_feeding": feeding}
    for score, attention, feeding in product(
        ["dot", "general", "concat"], ["global", "local-m", "local-p"], [True, False]
    )
]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"input_feeding": False, "reverse_source": True},
    {"attention": "local-m", "score": "dot", "reverse_source": True},
    {"attention": "local-p", "score": "concat", "layers": 1},
    {"attention": "local-p", "input_feeding": False},
]


def name(variant: dict[str, Any]) -> str:
    return "-".join(f"{k}:{v}" if isinstance(v, (bool, int)) else v for k, v in variant.items()) or "plain"


combinations = pytest.mark.parametrize("variant", COMBINATIONS, ids=name)


def build(variant: dict[str, Any], spread: float = 0.8) -> Luong:
    """Weights so large that positions differ and places are predicted all over the source."""
    torch.manual_seed(0)
    model = build_luong(replace(CONFIG, **variant)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=spread)
    return model


def ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(seed))


def near(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def run(model: Luong, source: Tensor, lengths: Tensor, target: Tensor) -> tuple[Tensor, AttentionMap]:
    """Attentional states, and the one map of the whole target."""
    with record(model, keep=100) as recording:
        hidden = model(source, lengths, target)
    assert list(recording) == ["decoder.cross"]
    [table] = recording.calls("decoder.cross")
    assert table.shape == (source.shape[0], 1, target.shape[1], source.shape[1])
    return hidden, table


# Values found by hand


def look(model: Luong, states: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (Q, K) and contexts (Q, W) of states (Q, W) at positions 0, 1, …"""
    decoder, padding = model.decoder, Padding(torch.tensor([len(memory)]))
    sight = decoder.focus(states[None, None], torch.arange(len(states)), padding)
    with record(decoder) as recording:
        context = decoder.cross(states[None, None], memory[None, None], *sight)
    return recording["cross"].dense()[0, 0], context[0, 0]


def small(**settings: Any) -> Luong:
    settings = {"layers": 1, "embedding": 1, "width": 2, "input_feeding": False, "dropout": 0.0} | settings
    return build_luong(LuongConfig(V, V, **settings)).double()


def rows(*x: list[float]) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


MEMORY = rows([math.log(2), 5], [0, 7], [math.log(3), -1])


def test_dot() -> None:
    seen, context = look(small(score="dot"), rows([1, 0], [-1, 0]), MEMORY)
    near(seen, rows([2 / 6, 1 / 6, 3 / 6], [3 / 11, 6 / 11, 2 / 11]))
    near(context[:, 1], rows([14 / 6, 55 / 11])[0])  # (2·5 + 1·7 − 3·1) / 6, (3·5 + 6·7 − 2·1) / 11


def test_general() -> None:
    model = small(score="general")
    # h · W m with W = [[0, 1], [2, 0]]: h = (1, 0) sees the second number of m, h = (0, 1) twice the first
    model.decoder.cross.key.weight.data = rows([0, 1], [2, 0])
    memory = rows([math.log(2), 0], [0, math.log(5)], [math.log(3), math.log(4)])
    seen, _ = look(model, rows([1, 0], [0, 1]), memory)
    near(seen, rows([0.1, 0.5, 0.4], [4 / 14, 1 / 14, 9 / 14]))


def test_concat() -> None:
    model = small(score="concat")
    # v · tanh(W [h; m]) with W = [[1, 0, 2, 0], [0, 0, 0, 0]]: tanh(h_0 + 2 m_0), times 2 ln 2
    cross = model.decoder.cross
    cross.query.weight.data, cross.key.weight.data = rows([1, 0], [0, 0]), rows([2, 0], [0, 0])
    cross.score.v.data = rows([2 * math.log(2), 9])[0]
    half = math.atanh(0.5)
    seen, _ = look(model, rows([half, 3], [-half, 3]), rows([0, 1], [-half, 1], [half / 2, -1]))
    # first row: tanh of half, −half, 2 · half, whose tanh is 0.8; scores ln 2, −ln 2, 1.6 ln 2
    first = rows([2, 0.5, 2**1.6])[0]
    second = rows([0.5, 2**-2 * 2 ** (2 - 2 * 0.9285714285714286), 1])[0]  # −half, −3 · half: tanh −13/14, and 0
    near(seen, torch.stack([first / first.sum(), second / second.sum()]))


def test_local_monotonic() -> None:
    """D = 1 around t, and around the last position once the target is longer."""
    seen, _ = look(small(score="dot", attention="local-m", window=1), rows(*[[1, 0]] * 5), MEMORY)
    end = [0, 1 / 4, 3 / 4]
    near(seen, rows([2 / 3, 1 / 3, 0], [2 / 6, 1 / 6, 3 / 6], end, end, end))


def test_local_predictive() -> None:
    """p = 2 · sigmoid(v · tanh(W h)), D = 1, σ = 1/2; weights over the window times exp(−2 (s − p)²)."""
    model = small(score="dot", attention="local-p", window=1)
    focus = model.decoder.focus
    focus.hidden.weight.data = rows([0, math.atanh(0.5)], [0, 0])
    focus.place.weight.data = rows([2 * math.log(3), 4])  # h_1 of 0: p = 1; of 1: 2 · 3/4; of −1: 2 · 1/4
    seen, context = look(model, rows([0, 0], [0, 1], [0, -1]), rows([0, 0], [0, 0], [0, 0]))
    assert context.abs().max().item() == 0
    away, half = math.exp(-2), math.exp(-0.5)
    near(seen, rows([away / 3, 1 / 3, away / 3], [0, half / 2, half / 2], [half / 2, half / 2, 0]))


def test_attentional_state() -> None:
    """tanh(W_c [c; h]): context first."""
    decoder = small().decoder
    decoder.join.weight.data = rows([1, 0, 10, 0], [0, 2, 0, 20])
    near(decoder.attentional(rows([0.1, 0.2]), rows([0.03, 0.04])), torch.tanh(rows([0.4, 1.2])))


# The equations, position by position


@combinations
def test_it_is_the_paper(variant: dict[str, Any]) -> None:
    variant = {"reverse_source": variant["attention"] == "local-p", **variant}
    model = build(variant)
    source, target = ids(B, S), ids(B, T, seed=2)
    hidden, table = run(model, source, LENGTHS, target)
    expected = [luong(model, x[:n], y) for x, n, y in zip(source, LENGTHS, target, strict=True)]
    for b, (states, maps) in enumerate(expected):
        near(hidden[b], states, 1e-10)
        near(table.dense()[b, 0, :, : maps.shape[1]], maps.detach(), 1e-10)
        assert not table.dense()[b, 0, :, maps.shape[1] :].any()
        near(table.mass()[b, 0], maps.sum(-1).detach(), 1e-10)
    if variant["attention"] == "local-p":
        assert table.mass().max() < 1
    else:
        near(table.mass(), torch.ones_like(table.mass()))
    along = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    actual = torch.autograd.grad((hidden * along).sum(), list(model.parameters()), allow_unused=True)
    total = sum((states * x).sum() for (states, _), x in zip(expected, along, strict=True))
    wanted = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    for (parameter, _), a, b in zip(model.named_parameters(), actual, wanted, strict=True):
        assert (b is None) == (parameter == "output.weight")
        if b is not None:
            assert a is not None and b.any(), parameter
            near(a, b, 1e-8)


def test_the_windows_above_are_windows() -> None:
    """Each kind of attention sees other places than the others: the parity above compares no map of all positions."""
    source, target = ids(1, S), ids(1, T, seed=2)
    lengths = torch.tensor([S])
    monotonic = run(build({"attention": "local-m"}), source, lengths, target)[1].dense()[0, 0]
    for t in range(T):
        assert monotonic[t].nonzero()[:, 0].tolist() == [s for s in range(S) if abs(s - min(t, S - 1)) <= 2]
    predictive = run(build({"attention": "local-p"}), source, lengths, target)[1].dense()[0, 0]
    first = [int(row.nonzero()[0]) for row in predictive]
    assert len(set(first)) > 1  # places move
    assert all(len(row.nonzero()) <= 5 for row in predictive)
    assert (run(build({}), source, lengths, target)[1].dense() > 0).all()


@pytest.mark.parametrize("variant", VARIANTS, ids=name)
def test_gradients(variant: dict[str, Any]) -> None:
    model = build({"width": 2, "embedding": 2, **variant}, 0.5)
    lengths, target = torch.tensor([4, 2]), ids(2, 3)
    generator = torch.Generator().manual_seed(4)
    memory, hidden, cell = (
        torch.randn(2, n, 2, dtype=torch.float64, generator=generator).requires_grad_()
        for n in (4, model.config.layers, model.config.layers)
    )
    parameters = dict(model.decoder.named_parameters())

    def decode(memory: Tensor, hidden: Tensor, cell: Tensor, *given: Tensor) -> Tensor:
        named = dict(zip(parameters, given, strict=True))
        out: Tensor = torch.func.functional_call(model.decoder, named, (target, memory, lengths, hidden, cell))
        return out

    assert torch.autograd.gradcheck(decode, (memory, hidden, cell, *parameters.values()), fast_mode=True)


def test_a_reversed_source_is_read_the_other_way_round_and_mapped_in_its_own_order() -> None:
    source, target = ids(B, S), ids(B, T, seed=2)
    turned = source.clone()
    for b, n in enumerate(LENGTHS.tolist()):
        turned[b, : n - 1] = source[b, : n - 1].flip(0)  # <eos> stays last
    plain, reverse = build({}), build({"reverse_source": True})
    hidden, table = run(plain, turned, LENGTHS, target)
    other, mapped = run(reverse, source, LENGTHS, target)
    near(other, hidden)
    assert not torch.equal(turned, source)
    for b, n in enumerate(LENGTHS.tolist()):
        order = [*range(n - 2, -1, -1), n - 1]
        near(mapped.dense()[b, 0][:, order], table.dense()[b, 0, :, :n])


def test_looking_changes_nothing() -> None:
    for variant in VARIANTS:
        model = build(variant)
        arguments = (ids(B, S), LENGTHS, ids(B, T, seed=2))
        assert torch.equal(run(model, *arguments)[0], model(*arguments))


@torch.no_grad()
@combinations
def test_steps_equal_the_whole(variant: dict[str, Any]) -> None:
    model = build(variant)
    source, target = ids(B, S), ids(B, T, seed=2)
    hidden, table = run(model, source, LENGTHS, target)
    log_probs = model.output(hidden).log_softmax(-1)
    state = model.start(source, LENGTHS)
    assert state.position == 0
    for t in range(T):
        with record(model, keep=100) as recording:
            step, state = model.step(target[:, t], state)
        assert step.shape == (B, V) and state.position == t + 1
        near(step, log_probs[:, t], 1e-10)
        [row] = recording.calls("decoder.cross")
        near(row.dense(), table.dense()[:, :, t : t + 1], 1e-10)


def test_it_learns_to_copy_by_looking() -> None:
    torch.manual_seed(0)
    model = build_luong(replace(CONFIG, layers=1, embedding=32, width=32))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    value = torch.inf
    for _ in range(150):
        words = torch.randint(3, V, (32, 5), generator=generator)
        source = torch.cat([words, words.new_full((32, 1), 2)], 1)
        target = torch.cat([words.new_full((32, 1), 1), words], 1)
        hidden = model(source, torch.full((32,), 6), target)
        loss = linear_cross_entropy(hidden.flatten(0, 1), model.output.weight, source.flatten()) / source.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.item()
    assert value < 0.1  # guessing gives log 8 = 2.1
