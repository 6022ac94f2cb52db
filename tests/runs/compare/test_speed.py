"""What is timed, how it is counted, and that the model is left as it was; times themselves are not judged."""

import itertools

import pytest
import torch

from regard.models.encoder_decoder import EncoderDecoder
from regard.models.families import FAMILIES
from regard.runs.compare import speed
from regard.runs.compare.speed import measure_speed
from regard.tasks.translation import Specials

SPECIALS = Specials(pad=0, bos=1, eos=2, source_pad=3, source_eos=4)
SIZES: dict[str, dict[str, object]] = {
    "transformer": {"encoder_layers": 1, "decoder_layers": 1, "width": 8, "feedforward": 8, "heads": 2, "dropout": 0.5},
    "rnn_seq2seq": {"layers": 1, "embedding": 6, "width": 8, "dropout": 0.5},
    "bahdanau": {"embedding": 6, "width": 4, "attention_width": 5, "maxout": 6, "dropout": 0.5},
    "luong": {"layers": 1, "embedding": 6, "width": 8, "dropout": 0.5},
}


def small(name: str = "transformer") -> EncoderDecoder:
    family = FAMILIES[name]
    shared = {"shared": "target"} if name == "transformer" else {}
    return family.build(family.config(11, 13, max_length=20, **shared, **SIZES[name]))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_model_is_measured_and_left_as_it_was(name: str) -> None:
    model = small(name).train()
    model.output.eval()
    modes = [module.training for module in model.modules()]
    gradients = [torch.ones_like(parameter) for parameter in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    random_state = torch.get_rng_state()
    found = measure_speed(model, SPECIALS, lengths=(16, 4, 20, 21, 256), tokens=32, rounds=1)
    assert [one.length for one in found] == [4, 16, 20]  # the model has positions for 20
    assert all(one.training > 0 and one.decoding > 0 for one in found)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, gradient)


def test_batches_have_the_asked_tokens_whatever_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, decoded = [], []
    model = small()
    monkeypatch.setattr(speed, "_train", lambda model, batch: trained.append((model.training, batch)))
    monkeypatch.setattr(speed, "_decode", lambda model, batch: decoded.append((model.training, batch)))
    measure_speed(model, SPECIALS, lengths=(4, 10), tokens=45, rounds=2)
    assert [mode for mode, _ in trained] == [True] * 6 and [mode for mode, _ in decoded] == [False] * 6
    assert [tuple(batch.inputs.shape) for _, batch in trained] == [(11, 4)] * 3 + [(4, 10)] * 3
    assert [tuple(batch.inputs.shape) for _, batch in decoded] == [(16, 4)] * 3 + [(16, 10)] * 3
    for _, batch in trained + decoded:
        assert batch.sources.tokens.shape == batch.inputs.shape and bool(batch.real.all())
        words, said = batch.sources.tokens[:, :-1], batch.outputs[:, :-1]
        assert not torch.isin(words, torch.tensor([3, 4])).any() and int(words.max()) < 11
        assert not torch.isin(said, torch.tensor([0, 1, 2])).any() and int(said.max()) < 13
        assert (batch.sources.tokens[:, -1] == 4).all() and (batch.outputs[:, -1] == 2).all()


def test_decoding_goes_on_to_the_full_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    fed, calls = [], {"start": 0}
    whole, start = model.step, model.start

    def step(tokens, state):
        fed.append(tokens.clone())
        log_probs, state = whole(tokens, state)
        ends = torch.full_like(log_probs, -9.0)
        ends[:, SPECIALS.eos] = 0.0
        return ends, state

    def started(*batch):
        calls["start"] += 1
        return start(*batch)

    monkeypatch.setattr(model, "step", step)
    monkeypatch.setattr(model, "start", started)
    measure_speed(model, SPECIALS, lengths=(5,), tokens=5, rounds=2)
    assert calls["start"] == 3 and len(fed) == 15
    assert [int(row[0]) for row in fed[:5]] == [SPECIALS.bos] + [SPECIALS.eos] * 4


def test_times_are_medians_a_token_without_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    # each piece of work is between two looks at the clock
    durations = itertools.cycle([100.0, 2.0, 1.0, 6.0])
    now, inside = [0.0], [False]

    def clock() -> float:
        if inside[0]:
            now[0] += next(durations)
        inside[0] = not inside[0]
        return now[0]

    monkeypatch.setattr(speed.time, "perf_counter", clock)
    found = measure_speed(small(), SPECIALS, lengths=(4, 8), tokens=16)
    assert [one.training for one in found] == [pytest.approx(2e6 / 16)] * 2
    assert [one.decoding for one in found] == [pytest.approx(2e6 / (16 * 4)), pytest.approx(2e6 / (16 * 8))]
