"""Sequence to sequence without attention: values by hand, the papers' equations in loops, invariances, searches."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles import recurrent as oracle
from regard.decoding import Average, WhenFull, beam_search, greedy
from regard.layers import linear_cross_entropy
from regard.models.rnn_seq2seq import FedContext, LastState, RNNSeq2Seq, RNNSeq2SeqConfig, build_rnn_seq2seq
from regard.training.recompute import recompute

B, S, T, SOURCE, TARGET = 3, 7, 5, 17, 13
LENGTHS = torch.tensor([7, 2, 5])
CONFIG = RNNSeq2SeqConfig(SOURCE, TARGET, layers=2, embedding=4, width=6)
VARIANTS: list[dict[str, Any]] = [
    {"cell": cell, "layers": layers, "bidirectional": both, "reverse_source": cell != "gru", "context": c, "maxout": m}
    for cell, (layers, both), (c, m) in product(
        ["lstm", "gru", "rnn"], [(1, False), (2, True)], [("first", 0), ("every", 3), ("first", 3)]
    )
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(str(x) for x in v.values()))


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


# -- invariances --


@variants
def test_source_padding_is_invisible_and_batches_do_not_matter(variant: dict[str, Any]) -> None:
    model = build(**variant)
    source, lengths, target = batch()
    hidden = model(source, lengths, target)
    padding = torch.arange(S) >= lengths[:, None]
    assert_same(model(source.masked_fill(padding, 3), lengths, target), hidden)
    assert_same(model(torch.cat([source, ids(SOURCE, B, 4, seed=3)], 1), lengths, target), hidden)
    for b, n in enumerate(lengths.tolist()):
        assert_same(model(source[b : b + 1, :n], lengths[b : b + 1], target[b : b + 1]), hidden[b : b + 1])
    order = torch.tensor([2, 0, 1])
    assert_same(model(source[order], lengths[order], target[order]), hidden[order])
    # but what is not padding is seen
    assert (model(source, torch.tensor([7, 2, 4]), target)[2] - hidden[2]).abs().max() > 1e-9


@variants
def test_a_target_token_changes_nothing_earlier(variant: dict[str, Any]) -> None:
    model = build(**variant)
    source, lengths, target = batch()
    hidden = model(source, lengths, target)
    changed = target.clone()
    changed[:, 2] = (changed[:, 2] + 1) % TARGET
    other = model(source, lengths, changed)
    assert_same(other[:, :2], hidden[:, :2], 1e-14)
    assert ((other[:, 2:] - hidden[:, 2:]).abs().amax(-1) > 1e-9).all()


@variants
def test_a_gradient_reaches_every_parameter(variant: dict[str, Any]) -> None:
    model = build(**variant).train()
    source, lengths, target = batch()
    hidden = model(source, lengths, target)
    loss = linear_cross_entropy(hidden.flatten(0, 1), model.output.weight, target.flatten(), 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


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


# -- step by step --


def forced(model: RNNSeq2Seq, source: Tensor, lengths: Tensor, history: Tensor) -> Tensor:
    """Log-probabilities after the last token of each history (N, t), all positions computed anew."""
    width = history.shape[0] // source.shape[0]
    hidden = model(source.repeat_interleave(width, 0), lengths.repeat_interleave(width), history)
    return model.output(hidden[:, -1]).log_softmax(-1)  # type: ignore[no-any-return]


@torch.no_grad()
@variants
def test_steps_are_the_teacher_forced_positions(variant: dict[str, Any]) -> None:
    model = build(**variant)
    source, lengths, target = batch()
    log_probs = model.output(model(source, lengths, target)).log_softmax(-1)
    state = model.start(source, lengths)
    assert state.position == 0
    for t in range(T):
        step, state = model.step(target[:, t], state)
        assert step.shape == (B, TARGET) and state.position == t + 1
        assert_same(step, log_probs[:, t])
    context = state.sentence["context"]
    assert context.shape == (B, 6 if isinstance(model.decoder.context, FedContext) else 0)


@torch.no_grad()
@variants
def test_hypotheses_that_are_chosen_widened_and_leave(variant: dict[str, Any]) -> None:
    model = build(**variant)
    source, lengths, _ = batch()
    generator = torch.Generator().manual_seed(3)
    history = torch.ones(B, 1, dtype=torch.int64)
    _, state = model.step(history[:, -1], model.start(source, lengths))
    width = 3
    widened = torch.arange(B).repeat_interleave(width)
    state, history = state.select_hypotheses(widened), history[widened]
    for t in range(5):
        sentences = source.shape[0]
        tokens = torch.randint(0, TARGET, (sentences * width,), generator=generator)
        history = torch.cat([history, tokens[:, None]], 1)
        log_probs, state = model.step(tokens, state)
        assert_same(log_probs, forced(model, source, lengths, history))
        assert state.sentence["context"].shape[0] == sentences
        parents = torch.randint(0, width, (sentences, width), generator=generator)
        parents = (parents + torch.arange(sentences)[:, None] * width).flatten()
        state, history = state.select_hypotheses(parents), history[parents]
        if t in (1, 3):  # a sentence leaves and the others change places
            rows = torch.tensor([2, 0] if t == 1 else [1])
            members = (rows[:, None] * width + torch.arange(width)).flatten()
            state = state.select_sentences(rows).select_hypotheses(members)
            source, lengths, history = source[rows], lengths[rows], history[members]


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 4])
@variants
def test_a_sentence_is_translated_alone_as_in_a_batch(variant: dict[str, Any], beam: int) -> None:
    model = build(**variant)
    source, lengths, _ = batch()
    limits = {"bos": 1, "eos": 2, "max_length": 9}

    def search(source: Tensor, lengths: Tensor) -> list[tuple[tuple[int, ...], float]]:
        state = model.start(source, lengths)
        if beam == 1:
            found = greedy(model, state, **limits)
        else:
            found = [
                best[0]
                for best in beam_search(model, state, beam=beam, penalty=Average(1.0), stopping=WhenFull(), **limits)
            ]
        return [(tuple(one.tokens), one.log_prob) for one in found]

    together = search(source, lengths)
    for b, n in enumerate(lengths.tolist()):
        ((tokens, log_prob),) = search(source[b : b + 1, :n], lengths[b : b + 1])
        assert tokens == together[b][0]
        assert log_prob == pytest.approx(together[b][1], abs=1e-9)


# -- training --


@variants
def test_recomputed_blocks_give_the_same_gradients(variant: dict[str, Any]) -> None:
    batched = batch()
    grads = []
    for again in (False, True):
        model = build(**variant, dropout=0.3).train()
        blocks = model.blocks()
        owned = [id(p) for block in blocks for p in block.parameters()]
        assert len(owned) == len(set(owned))
        if again:
            recompute(blocks)
        torch.manual_seed(4)
        model(*batched).square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    for a, b in zip(*grads, strict=True):
        assert_same(a, b)


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
