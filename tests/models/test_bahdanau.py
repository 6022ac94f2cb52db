"""Bahdanau's model: its equations by hand and by plain loops, gradients, and what is Bahdanau's about it."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from oracles.bahdanau import bahdanau
from regard import record
from regard.attention import Padding, additive
from regard.layers import linear_cross_entropy
from regard.models.bahdanau import Bahdanau, BahdanauConfig, build_bahdanau

V = 11
B, S, T = 3, 6, 4
CONFIG = BahdanauConfig(V, V, embedding=5, width=4, attention_width=3, maxout=2)
LENGTHS = torch.tensor([6, 1, 4])


@pytest.fixture(params=["written out", "in tiles"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small sizes by either way of the additive score."""
    if request.param == "in tiles":
        monkeypatch.setattr(additive, "SMALL", 0)
    yield


def build(config: BahdanauConfig = CONFIG) -> Bahdanau:
    """Weights large enough for every term to matter."""
    torch.manual_seed(0)
    model = build_bahdanau(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return model


def ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, V, shape, generator=torch.Generator().manual_seed(seed))


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def test_by_hand() -> None:
    """All widths 1, a source of two words: the update gate is shut (z = 0) and the reset gate half open."""
    model = build_bahdanau(BahdanauConfig(3, 3, embedding=1, width=1, attention_width=1, maxout=1)).double()
    values = {
        "encoder.embedding.tokens.weight": [0.0, 1.0, -0.5],
        "encoder.recurrent.layers.0.0.weight_ih_l0": [0.0, 0.0, 0.8],
        "encoder.recurrent.layers.0.0.weight_hh_l0": [0.0, 0.0, 0.6],
        "encoder.recurrent.layers.0.0.bias_ih_l0": [0.0, -1e3, 0.1],
        "encoder.recurrent.layers.0.0.bias_hh_l0": [0.0, 0.0, 0.2],
        "encoder.recurrent.layers.0.1.weight_ih_l0": [0.0, 0.0, -0.4],
        "encoder.recurrent.layers.0.1.weight_hh_l0": [0.0, 0.0, 1.0],
        "encoder.recurrent.layers.0.1.bias_ih_l0": [0.0, -1e3, 0.0],
        "encoder.recurrent.layers.0.1.bias_hh_l0": [0.0, 0.0, 0.0],
        "decoder.embedding.tokens.weight": [0.3, 0.0, 0.9],
        "decoder.initial.weight": [2.0],
        "decoder.initial.bias": [0.1],
        "decoder.cross.score.v": [1.5],
        "decoder.cross.query.weight": [0.5],
        "decoder.cross.key.weight": [1.0, -1.0],
        "decoder.cross.key.bias": [0.2],
        "decoder.cells.known.weight": [0.0, 0.0, 0.7],
        "decoder.cells.known.bias": [0.0, -1e3, 0.0],
        "decoder.cells.fed.weight": [0.0, 0.0, 0.0, 0.0, 1.0, 0.5],
        "decoder.cells.hidden.0.weight": [0.0, 0.0, 0.4],
        "decoder.cells.hidden.0.bias": [0.0, 0.0, 0.0],
        "decoder.readout.linear.weight": [1.0, 1.0, 0.5, -0.5, -1.0, 2.0, 0.0, 1.0],
        "decoder.readout.linear.bias": [0.0, 0.1],
    }
    assert values.keys() == dict(model.named_parameters()).keys() - {"output.weight"}
    with torch.no_grad():
        for name, value in values.items():
            parameter = model.get_parameter(name)
            parameter.copy_(torch.tensor(value, dtype=torch.float64).view_as(parameter))
    with record(model) as recording, torch.no_grad():
        hidden = model(torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([[0, 2]]))
    # forward: tanh(0.8 x + 0.1 + ½ (0.6 h + 0.2)); backward: tanh(−0.4 x + ½ h), from the last word
    f1 = math.tanh(0.8 * 1.0 + 0.2)
    f2 = math.tanh(0.8 * -0.5 + 0.1 + 0.5 * (0.6 * f1 + 0.2))
    b2 = math.tanh(-0.4 * -0.5)
    b1 = math.tanh(-0.4 * 1.0 + 0.5 * b2)
    state = math.tanh(2.0 * b1 + 0.1)
    for i, y in enumerate([0.3, 0.9]):
        e = [1.5 * math.tanh(0.5 * state + f - b + 0.2) for f, b in ((f1, b1), (f2, b2))]
        a1 = math.exp(e[0]) / (math.exp(e[0]) + math.exp(e[1]))
        assert recording["decoder.cross"].dense()[0, 0, i].tolist() == pytest.approx([a1, 1 - a1], abs=1e-12)
        c, d = a1 * f1 + (1 - a1) * f2, a1 * b1 + (1 - a1) * b2
        pieces = (state + y + 0.5 * c - 0.5 * d, -state + 2 * y + d + 0.1)
        assert hidden[0, i].tolist() == pytest.approx([max(pieces)], abs=1e-12)
        state = math.tanh(0.7 * y + c + 0.5 * d + 0.5 * (0.4 * state))
    assert a1 != pytest.approx(0.5, abs=0.05)


@torch.no_grad()
def test_the_equations_one_by_one(kernel: None) -> None:
    model = build()
    source, target = ids(B, S), ids(B, T, seed=2)
    weights = dict(model.named_parameters())
    with record(model) as recording:
        hidden = model(source, LENGTHS, target)
    assert list(recording) == ["decoder.cross"]
    table = recording["decoder.cross"]
    assert table.shape == (B, 1, T, S)
    assert hidden.shape == (B, T, CONFIG.maxout)
    near(table.dense().sum(-1), torch.ones(B, 1, T, dtype=torch.float64))
    for b, n in enumerate(LENGTHS.tolist()):
        told = bahdanau(weights, source[b, :n], target[b])
        near(hidden[b], told.hidden)
        near(table.dense()[b, 0, :, :n], told.alpha)
        assert not table.dense()[b, 0, :, n:].any()
        assert n == 1 or told.alpha.std() > 0.05


def test_gradients_of_every_parameter_are_those_of_the_equations(kernel: None) -> None:
    model = build()
    source, target, said = ids(B, S), ids(B, T, seed=2), ids(B, T, seed=3)
    parameters = dict(model.named_parameters())

    def loss(hidden: Tensor, b: int) -> Tensor:
        value: Tensor = nn.functional.cross_entropy(model.output(hidden), said[b], reduction="sum")
        return value

    hidden = model(source, LENGTHS, target)
    ours = torch.autograd.grad(sum(loss(hidden[b], b) for b in range(B)), list(parameters.values()))
    told = [bahdanau(parameters, source[b, :n], target[b]).hidden for b, n in enumerate(LENGTHS.tolist())]
    theirs = torch.autograd.grad(sum(loss(x, b) for b, x in enumerate(told)), list(parameters.values()))
    for name, a, b in zip(parameters, ours, theirs, strict=True):
        assert a.any(), name
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def test_gradcheck(kernel: None) -> None:
    model = build()
    target = ids(B, 3, seed=2)

    def hidden(embedded: Tensor, v: Tensor) -> Tensor:
        memory = model.encode(embedded, LENGTHS)
        given = (target, memory.states, memory.last["hidden"][:, 1], Padding(LENGTHS))
        y: Tensor = torch.func.functional_call(model.decoder, {"cross.score.v": v}, given)
        return y

    embedded = torch.randn(B, S, CONFIG.embedding, dtype=torch.float64, requires_grad=True)
    v = torch.randn(CONFIG.attention_width, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(hidden, (embedded, v))


def test_the_readout_takes_the_state_before() -> None:
    """y_0 reaches the first hidden state through V_o alone, and no step of the GRU is part of it."""
    model = build()
    hidden = model(ids(B, S), LENGTHS, ids(B, T))
    cells = list(model.decoder.cells.parameters())
    first = torch.autograd.grad(hidden[:, 0].sum(), cells, allow_unused=True, retain_graph=True)
    assert not any(x is not None and x.any() for x in first)
    assert all(x.any() for x in torch.autograd.grad(hidden[:, 1].sum(), cells))
    near(model(ids(B, S), LENGTHS, ids(B, T)[:, :1]), hidden[:, :1])


def test_under_autocast_the_state_stays_in_float32() -> None:
    model = build().float()
    with torch.autocast("cpu", torch.bfloat16):
        state = model.start(ids(B, S), LENGTHS)
        for tokens in ids(B, T).unbind(1):
            assert state.hypothesis["hidden"].dtype == torch.float32
            _, state = model.step(tokens, state)


def test_a_first_state_without_a_step_is_what_it_was() -> None:
    """A target of one position: the GRU, which it does not need, has gradients of zero."""
    model = build()
    hidden = model(ids(B, S), LENGTHS, ids(B, 1))
    grads = torch.autograd.grad(hidden.sum(), list(model.decoder.cells.parameters()))
    assert not any(grad.any() for grad in grads)
    source = ids(B, S)
    for b, n in enumerate(LENGTHS.tolist()):
        near(hidden[b], bahdanau(dict(model.named_parameters()), source[b, :n], ids(B, 1)[b]).hidden)


def test_keys_are_projected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    calls = {"key": 0, "query": 0}
    for name in calls:
        projection = getattr(model.decoder.cross, name)

        def count(*_: object, name: str = name) -> None:
            calls[name] += 1

        projection.register_forward_hook(count)
    model(ids(B, S), LENGTHS, ids(B, T))
    assert calls == {"key": 1, "query": T}
    state = model.start(ids(B, S), LENGTHS)
    for t in range(3):
        _, state = model.step(ids(B, 3)[:, t], state)
    assert calls == {"key": 2, "query": T + 3}


def test_what_the_state_holds() -> None:
    model = build()
    state = model.start(ids(B, S), LENGTHS)
    n = CONFIG.width
    assert {k: tuple(x.shape) for k, x in state.sentence.items()} == {
        "keys": (B, 1, S, CONFIG.attention_width),
        "annotations": (B, 1, S, 2 * n),
        "lengths": (B,),
    }
    assert {k: tuple(x.shape) for k, x in state.hypothesis.items()} == {"hidden": (B, 1, n)}
    # five hypotheses a sentence: what belongs to sentences stays as it is
    many = state.select_hypotheses(torch.arange(B).repeat_interleave(5))
    with record(model) as recording:
        log_probs, after = model.step(ids(B * 5), many)
    assert log_probs.shape == (B * 5, V) and after.sentence.keys() == state.sentence.keys()
    assert all(after.sentence[name] is x for name, x in state.sentence.items())
    assert recording["decoder.cross"].shape == (B, 1, 5, S)


def test_dropout_on_token_vectors_and_readout() -> None:
    config = replace(CONFIG, dropout=0.5, maxout=400)
    model = build(config).train()
    arguments = (ids(B, S), LENGTHS, ids(B, T))
    hidden = model(*arguments)
    assert 0.4 < (hidden == 0).double().mean().item() < 0.6
    assert (model.embed(arguments[0]) == 0).any() and (model.decoder.embedding(arguments[2]) == 0).any()
    near(model.eval()(*arguments), model(*arguments))


def test_the_papers_sizes() -> None:
    config = BahdanauConfig.preset("paper", source_vocabulary=30000, target_vocabulary=30000)
    with torch.device("meta"):
        model = build_bahdanau(config)
    m, n, a, maxout = 620, 1000, 1000, 500
    shapes = {name: tuple(x.shape) for name, x in model.named_parameters()}
    assert shapes["decoder.cross.query.weight"] == (a, n) and shapes["decoder.cross.key.weight"] == (a, 2 * n)
    assert shapes["decoder.cross.score.v"] == (a,)
    assert shapes["decoder.initial.weight"] == (n, n)
    assert shapes["decoder.cells.fed.weight"] == (3 * n, 2 * n)
    assert shapes["decoder.readout.linear.weight"] == (2 * maxout, n + m + 2 * n)
    assert shapes["output.weight"] == (30000, maxout)
    encoder = 2 * (3 * n * m + 3 * n * n + 2 * 3 * n)
    decoder = n * n + n + 3 * n * (m + 2 * n + n) + 2 * 3 * n
    attention = a * n + a * 2 * n + a + a
    readout = 2 * maxout * (n + m + 2 * n) + 2 * maxout
    tables = 2 * 30000 * m + 30000 * maxout
    assert sum(x.numel() for x in model.parameters()) == encoder + decoder + attention + readout + tables
    assert "width 1000" in config.words() and "maxout 500" in config.words()


def test_it_learns_to_reverse() -> None:
    torch.manual_seed(0)
    model = build_bahdanau(BahdanauConfig(V, V, embedding=24, width=32, attention_width=24, maxout=24))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    value = torch.inf
    for _ in range(150):
        source = torch.randint(3, V, (32, 5), generator=generator)
        target = torch.cat([source.new_full((32, 1), 1), source.flip(1)], 1)  # <bos> and the source from its end
        hidden = model(source, torch.full((32,), 5), target[:, :-1])
        loss = linear_cross_entropy(hidden.flatten(0, 1), model.output.weight, target[:, 1:].flatten()) / source.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.item()
    assert value < 0.1  # guessing gives log 8 = 2.1
    with record(model) as recording:
        model(source, torch.full((32,), 5), target[:, :-1])
    assert recording["decoder.cross"].dense().mean(0)[0].argmax(-1).tolist() == [4, 3, 2, 1, 0]
