"""Luong's model against its equations, position by position, and what must hold whatever its weights."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles.luong import luong
from regard import AttentionMap, record
from regard.attention import Padding
from regard.errors import ArgumentError
from regard.layers import Attend, linear_cross_entropy
from regard.models.encoder_decoder import parameter_count
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
variants = pytest.mark.parametrize("variant", VARIANTS, ids=name)


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


# Invariances


@variants
def test_source_padding_is_invisible(variant: dict[str, Any]) -> None:
    model = build(variant)
    source, target = ids(B, S), ids(B, T, seed=2)
    hidden = model(source, LENGTHS, target)
    padding = torch.arange(S)[None] >= LENGTHS[:, None]
    near(model(source.masked_fill(padding, 3), LENGTHS, target), hidden)
    near(model(torch.cat([source, ids(B, 4, seed=3)], 1), LENGTHS, target), hidden)
    shorter = model(source, torch.tensor([7, 3, 4]), target)
    assert (shorter[2] - hidden[2]).abs().max().item() > 1e-6


@variants
def test_a_batch_equals_one_by_one(variant: dict[str, Any]) -> None:
    model = build(variant)
    source, target = ids(B, S), ids(B, T, seed=2)
    hidden = model(source, LENGTHS, target)
    for b, n in enumerate(LENGTHS.tolist()):
        near(model(source[b : b + 1, :n], LENGTHS[b : b + 1], target[b : b + 1]), hidden[b : b + 1])
    order = torch.tensor([2, 0, 1])
    near(model(source[order], LENGTHS[order], target[order]), hidden[order])


@variants
def test_a_later_target_token_changes_nothing_earlier(variant: dict[str, Any]) -> None:
    model = build(variant, 0.4)
    source, target = ids(B, S), ids(B, T, seed=2)
    hidden = model(source, LENGTHS, target)
    for t in range(T):
        changed = target.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        other = model(source, LENGTHS, changed)
        near(other[:, :t], hidden[:, :t])
        assert ((other[:, t] - hidden[:, t]).abs().amax(-1) > 1e-6).all()


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


# Step by step


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


@torch.no_grad()
@variants
def test_hypotheses_are_chosen_widened_and_their_sentences_leave(variant: dict[str, Any]) -> None:
    model = build(variant)
    source, lengths, width = ids(B, S), LENGTHS, 4
    state = model.start(source, lengths)
    history = torch.ones(B, 1, dtype=torch.int64)
    _, state = model.step(history[:, 0], state)
    generator = torch.Generator().manual_seed(5)
    state = state.select_hypotheses(torch.arange(B).repeat_interleave(width))
    history = history.repeat_interleave(width, 0)
    for t in range(1, 6):
        if t == 3:  # the sentence in the middle is done
            stay = torch.tensor([0, 2])
            source, lengths = source[stay], lengths[stay]
            kept = (stay[:, None] * width + torch.arange(width)).flatten()
            state, history = state.select_sentences(stay).select_hypotheses(kept), history[kept]
        tokens = torch.randint(0, V, (len(history),), generator=generator)
        history = torch.cat([history, tokens[:, None]], 1)
        log_probs, state = model.step(tokens, state)
        hidden = model(source.repeat_interleave(width, 0), lengths.repeat_interleave(width), history)
        near(log_probs, model.output(hidden[:, -1]).log_softmax(-1), 1e-10)
        parents = torch.randint(0, width, (len(source), width), generator=generator)
        parents = (parents + width * torch.arange(len(source))[:, None]).flatten()
        state, history = state.select_hypotheses(parents), history[parents]
        assert all(x.shape[0] == len(source) for x in state.sentence.values())  # never repeated


# Training


@variants
def test_a_gradient_reaches_every_parameter(variant: dict[str, Any]) -> None:
    model = build({"dropout": 0.2, **variant}, 0.5).train()
    source, target = ids(B, S), ids(B, T, seed=2)
    hidden = model(source, LENGTHS, target)
    linear_cross_entropy(hidden.flatten(0, 1), model.output.weight, target.flatten(), 0.1).backward()
    for parameter, x in model.named_parameters():
        assert x.grad is not None and bool(x.grad.isfinite().all()) and bool(x.grad.any()), parameter


@combinations
def test_no_table_of_vectors_is_kept_for_the_backward_pass(variant: dict[str, Any]) -> None:
    """Nothing as large as (B, T, S, W): what is kept grows with T + S, or with T · S without the width."""
    batch, length, width = 2, 40, 32
    model = build({"layers": 1, "width": width, **variant}, 0.1)
    sizes: list[int] = []

    def keep(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(ids(batch, length), torch.tensor([length, length - 3]), ids(batch, length))
    gates = 4 * width  # of the fused LSTM, whose workspace has a few numbers for each gate
    assert max(sizes) <= batch * length * gates * 3 < batch * length * length * width


@combinations
def test_bfloat16(variant: dict[str, Any]) -> None:
    model = build({"attention": "global", **variant}, 0.4).float()
    arguments = (ids(B, S), LENGTHS, ids(B, T, seed=2))
    exact, table = run(model, *arguments)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, rounded = run(model, *arguments)
    hidden.float().sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in model.parameters() if x.grad is not None)
    near(hidden.float(), exact, 0.05)
    near(rounded.mass(), table.mass(), 0.05)


@pytest.mark.parametrize("feeding", [True, False])
def test_each_dropout_has_its_rate(feeding: bool) -> None:
    model = build_luong(replace(CONFIG, dropout=0.3, input_feeding=feeding))
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.3}
    assert model.encoder.embedding.dropout.p == model.decoder.embedding.dropout.p == model.decoder.dropout.p == 0.3
    assert [module.dropout for module in model.modules() if isinstance(module, Attend)] == [0.0]
    arguments = (ids(B, S), LENGTHS, ids(B, T))
    dropped = torch.stack([model.train()(*arguments) == 0 for _ in range(10)]).double().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.06)  # of the attentional state, 1080 numbers
    assert not torch.equal(model.train()(*arguments), model(*arguments))
    assert torch.equal(model.eval()(*arguments), model(*arguments))


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


def test_blocks_are_apart() -> None:
    for feeding in (True, False):
        model = build_luong(replace(CONFIG, input_feeding=feeding))
        held = [x for block in model.blocks() for x in block.parameters()]
        assert len({id(x) for x in held}) == len(held)
        rest = {model.output.weight, model.encoder.embedding.tokens.weight}
        assert {*held, *rest} == set(model.parameters())


# Configuration


def test_presets() -> None:
    tiny, mini, paper = (LuongConfig.preset(x, source_vocabulary=7, target_vocabulary=7) for x in LuongConfig.PRESETS)
    assert list(LuongConfig.PRESETS) == ["tiny", "small", "paper"]
    for config in (tiny, mini):
        assert (config.score, config.attention, config.input_feeding) == ("general", "global", True)
    assert [(c.layers, c.embedding, c.width) for c in (tiny, mini, paper)] == [
        (1, 128, 256),
        (2, 256, 512),
        (4, 1000, 1000),
    ]
    assert (paper.score, paper.attention, paper.window) == ("general", "local-p", 10)
    assert (paper.input_feeding, paper.reverse_source, paper.dropout) == (True, True, 0.2)
    assert "2+2 LSTM layers, width 512" in mini.words() and "global attention, general score, with" in mini.words()
    assert "local-p (window 10)" in paper.words() and paper.words().endswith("source reversed")


@pytest.mark.parametrize("variant", [*COMBINATIONS, {"layers": 3}, {"layers": 1}], ids=name)
def test_parameters_are_counted(variant: dict[str, Any]) -> None:
    c = replace(CONFIG, **variant)
    e, w = c.embedding, c.width

    def lstm(first: int, biases: int) -> int:
        return 4 * w * (first + w + biases) + (c.layers - 1) * 4 * w * (2 * w + biases)

    decoder = lstm(e + w if c.input_feeding else e, 2)
    score = {"dot": 0, "general": w * w, "concat": 2 * w * w + w}[c.score]
    place = w * w + w if c.attention == "local-p" else 0
    expected = 2 * V * e + lstm(e, 2) + decoder + score + place + 2 * w * w + w * V
    assert parameter_count(build_luong(c)) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "cosine"}, "score is 'cosine': expected 'dot' or 'general' or 'concat'"),
        ({"attention": "local"}, "attention is 'local': expected 'global' or 'local-m' or 'local-p'"),
        ({"window": 0}, "window is 0: expected 1 or more positions"),
        ({"layers": 0}, "layers is 0: expected 1 or more"),
        ({"embedding": -1}, "embedding is -1: expected 1 or more"),
        ({"width": 0}, "width is 0: expected 1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0: expected 0 or more and less than 1"),
    ],
)
def test_wrong_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(CONFIG, **settings)


def test_an_unknown_preset_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="no preset 'huge': there are tiny, small, paper"):
        LuongConfig.preset("huge", source_vocabulary=7, target_vocabulary=7)
