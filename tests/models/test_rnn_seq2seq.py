"""Sequence to sequence without attention: values by hand, the papers' equations in loops, what is handed over."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles import recurrent as oracle
from regard.layers import linear_cross_entropy
from regard.models.rnn_seq2seq import LastState, RNNSeq2Seq, RNNSeq2SeqConfig, build_rnn_seq2seq

B, S, T, SOURCE, TARGET = 3, 7, 5, 17, 13
LENGTHS = torch.tensor([7, 2, 5])
CONFIG = RNNSeq2SeqConfig(SOURCE, TARGET, layers=2, embedding=4, width=6)


def build(**variant: Any) -> RNNSeq2Seq:
    torch.manual_seed(0)
    return build_rnn_seq2seq(replace(CONFIG, **variant)).double().eval()


def ids(size: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, size, shape, generator=torch.Generator().manual_seed(seed))


def batch() -> tuple[Tensor, Tensor, Tensor]:
    return ids(SOURCE, B, S), LENGTHS, ids(TARGET, B, T, seed=2)


def assert_same(a: Tensor, b: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


# -- values --


def test_one_unit_by_hand() -> None:
    """Encoder h = tanh(½ x + ¼ h), read in the order b a <eos>; decoder h = tanh(x − h)."""
    config = RNNSeq2SeqConfig(3, 2, cell="rnn", layers=1, embedding=1, width=1, reverse_source=True)
    model = build_rnn_seq2seq(config).double().eval()
    values = {
        "encoder.embedding.tokens.weight": [[0.3], [-0.2], [0.1]],  # <eos>, a, b
        "encoder.recurrent.layers.0.0.weight_ih_l0": [[0.5]],
        "encoder.recurrent.layers.0.0.weight_hh_l0": [[0.25]],
        "decoder.embedding.tokens.weight": [[0.7], [-0.4]],
        "decoder.recurrent.layers.0.0.weight_ih_l0": [[1.0]],
        "decoder.recurrent.layers.0.0.weight_hh_l0": [[-1.0]],
        "output.weight": [[2.0], [-2.0]],
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.tensor(values[name], dtype=torch.float64)) if name in values else parameter.zero_()
    h = math.tanh(0.5 * 0.1)  # 0.04995837
    h = math.tanh(0.5 * -0.2 + 0.25 * h)  # −0.08728770
    h = math.tanh(0.5 * 0.3 + 0.25 * h)
    assert h == pytest.approx(0.12748069, abs=1e-8)
    first = math.tanh(0.7 - h)
    second = math.tanh(-0.4 - first)
    source, lengths, target = torch.tensor([[1, 2, 0]]), torch.tensor([3]), torch.tensor([[0, 1]])
    memory = model.encode(model.embed(source), lengths)
    assert_same(memory.last["hidden"], torch.tensor([[[h]]], dtype=torch.float64))
    hidden = model(source, lengths, target)
    assert_same(hidden[0, :, 0], torch.tensor([first, second], dtype=torch.float64))
    probability = 1 / (1 + math.exp(-4 * second))  # of logits 2h and −2h
    assert model.output(hidden)[0, 1].softmax(-1)[0].item() == pytest.approx(probability, abs=1e-12)


def weights(recurrent: nn.Module) -> list[list[oracle.Weights]]:
    layers: Any = recurrent.layers
    return [[oracle.Weights(n.weight_ih_l0, n.weight_hh_l0, n.bias_ih_l0, n.bias_hh_l0) for n in x] for x in layers]


def zeros(cell: str, count: int) -> list[oracle.State]:
    return [(torch.zeros(6, dtype=torch.float64),) * oracle.PARTS[cell] for _ in range(count)]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("both", [False, True])
def test_the_last_state_begins_the_decoder(cell: Any, both: bool) -> None:
    """Sutskever et al. 2014 in plain loops: words reversed, <eos> last, the state handed over layer by layer."""
    model = build(cell=cell, bidirectional=both)
    source, lengths, target = batch()
    hidden = model(source, lengths, target)
    memory = model.encode(model.embed(source), lengths)
    for b, n in enumerate(lengths.tolist()):
        order = [*range(n - 2, -1, -1), n - 1]
        read = (model.encoder.embedding.tokens.weight * 2)[source[b, order]]  # √4
        states, ends = oracle.run_stack(cell, weights(model.encoder.recurrent), read, zeros(cell, 2 * (1 + both)))
        assert_same(memory.states[b, order], states)
        assert not memory.states[b, n:].any()
        first: list[oracle.State] = ends
        if both:
            context: Any = model.decoder.context
            first = [
                tuple(
                    context.bridges[name].layers[i](torch.cat([ends[2 * i][part], ends[2 * i + 1][part]]))
                    for part, name in enumerate(memory.last)
                )
                for i in range(2)
            ]
        written = (model.decoder.embedding.tokens.weight * 2)[target[b]]
        assert_same(hidden[b], oracle.run_stack(cell, weights(model.decoder.recurrent), written, first)[0])


@pytest.mark.parametrize("both", [False, True])
def test_the_context_goes_to_every_step(both: bool) -> None:
    """Cho et al. 2014, A.1, in plain loops: c = tanh(V h_N), h'_0 = tanh(V' c), c in each input and in the maxout."""
    model = build(cell="gru", layers=1, bidirectional=both, reverse_source=False, context="every", maxout=3)
    source, lengths, target = batch()
    hidden = model(source, lengths, target)
    context: Any = model.decoder.context
    linear: Any = model.decoder.readout.maxout.linear  # type: ignore[union-attr]
    for b, n in enumerate(lengths.tolist()):
        read = (model.encoder.embedding.tokens.weight * 2)[source[b, :n]]
        _, ends = oracle.run_stack("gru", weights(model.encoder.recurrent), read, zeros("gru", 1 + both))
        c = torch.tanh(context.summary.weight @ torch.cat([end[0] for end in ends]) + context.summary.bias)
        first = torch.tanh(context.first.weight @ c + context.first.bias)
        written = (model.decoder.embedding.tokens.weight * 2)[target[b]]
        inputs = torch.cat([written, c.expand(T, -1)], 1)
        states, _ = oracle.run_stack("gru", weights(model.decoder.recurrent), inputs, [(first,)])
        for t in range(T):
            pieces = linear.weight @ torch.cat([states[t], written[t], c]) + linear.bias
            assert_same(hidden[b, t], torch.stack([torch.maximum(pieces[2 * j], pieces[2 * j + 1]) for j in range(3)]))


def test_a_reversed_source_is_that_source_and_states_keep_their_places() -> None:
    reversing, plain = build(reverse_source=True), build(reverse_source=False)
    target = ids(TARGET, 2, T)
    source, lengths = torch.tensor([[1, 2, 3, 9, 0], [4, 9, 0, 0, 0]]), torch.tensor([4, 2])
    turned = torch.tensor([[3, 2, 1, 9, 0], [4, 9, 0, 0, 0]])
    assert_same(reversing(source, lengths, target), plain(turned, lengths, target))
    ours = reversing.encode(reversing.embed(source), lengths).states
    theirs = plain.encode(plain.embed(turned), lengths).states
    assert_same(ours[0], theirs[0, [2, 1, 0, 3, 4]])
    assert_same(ours[1], theirs[1])


def test_one_direction_hands_its_state_over_as_it_is() -> None:
    model = build()
    source, lengths, _ = batch()
    memory = model.encode(model.embed(source), lengths)
    first, c = model.decoder.context(memory.last)
    assert isinstance(model.decoder.context, LastState) and not list(model.decoder.context.parameters())
    assert all(torch.equal(first[name], memory.last[name]) for name in ("hidden", "cell"))
    assert c.shape == (B, 0)


def test_dropout_only_in_training_and_at_its_rate() -> None:
    model = build(dropout=0.5, context="every", maxout=3)
    assert torch.equal(model(*batch()), model(*batch()))
    model.train()
    assert not torch.equal(model(*batch()), model(*batch()))
    # two embeddings, between layers of two stacks, and the read-out
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5] * 5


@pytest.mark.parametrize("variant", [{}, {"cell": "gru", "context": "every", "maxout": 16}])
def test_it_learns_to_copy(variant: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, layers=1, embedding=16, width=48, dropout=0.0, **variant)
    model = build_rnn_seq2seq(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    value = torch.inf
    for _ in range(150):
        words = torch.randint(3, TARGET, (32, 3), generator=generator)
        source = torch.cat([words, torch.full((32, 1), 2)], 1)
        target = torch.cat([torch.full((32, 1), 1), words], 1)
        hidden = model(source, torch.full((32,), 4), target[:, :-1])
        loss = linear_cross_entropy(hidden.flatten(0, 1), model.output.weight, words.flatten()) / words.numel()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value = loss.item()
    assert value < 0.3  # guessing gives log 10 = 2.3
