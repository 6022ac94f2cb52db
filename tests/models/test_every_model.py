"""What every encoder–decoder model must do, whatever it is made of."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.small_models import CASES, LENGTHS, SOURCE, TARGET, B, Case, S, T, V, build, cases, fresh, ids, near
from regard import record
from regard.decoding import Average, Ensemble, WhenFull, beam_search, greedy
from regard.layers import TokenEmbedding
from regard.models.config import parameter_count
from regard.models.encoder_decoder import EncoderDecoder, Memory
from regard.models.families import FAMILIES, build_model

BOS, EOS = 0, 1


def said(model: EncoderDecoder, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
    """Log-probabilities of the next token at all positions (B, T, V), teacher-forced."""
    logits: Tensor = model.output(model(source, lengths, target))
    return logits.log_softmax(-1)


def test_no_family_is_left_out() -> None:
    assert {case.config.NAME for case in CASES.values()} == FAMILIES.keys()
    for name, family in FAMILIES.items():
        assert type(build_model(CASES[name].config)) is type(family.build(CASES[name].config))


@pytest.mark.parametrize("name", FAMILIES)
def test_presets(name: str) -> None:
    config = FAMILIES[name].config
    assert {"tiny", "small"} < config.PRESETS.keys()
    counts = {}
    for preset in config.PRESETS:
        chosen = config.preset(preset, source_vocabulary=50, target_vocabulary=50, max_length=19)
        assert (chosen.source_vocabulary, chosen.max_length) == (50, 19) and name == chosen.NAME
        assert "\n" not in chosen.words() and str(config.PRESETS[preset].get("width", "")) in chosen.words()
        with torch.device("meta"):
            counts[preset] = parameter_count(build_model(chosen))
    assert counts["tiny"] < counts["small"] < max(counts.values())


@cases
def test_the_same_seed_gives_the_same_weights(case: Case) -> None:
    first, again, other = (fresh(case.config, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    assert any(not torch.equal(x, other[name]) for name, x in first.items())


@cases
def test_hidden_states_are_those_of_the_parts(case: Case) -> None:
    model = build(case)
    hidden = model(SOURCE, LENGTHS, TARGET)
    embedded = model.embed(SOURCE)
    memory = model.encode(embedded, LENGTHS)
    assert hidden.shape == (B, T, model.output.in_features) and model.output.bias is None
    assert embedded.shape[:2] == memory.states.shape[:2] == (B, S)
    assert hidden.dtype == embedded.dtype == torch.float64
    assert torch.equal(model.decode(memory, TARGET), hidden)
    tables = [name for name, module in model.named_modules() if isinstance(module, TokenEmbedding)]
    assert "encoder.embedding.tokens" in tables
    for part in memory.last.values():
        assert part.shape[0] == B and part.ndim == 3


@cases
def test_a_source_position_has_its_own_state(case: Case) -> None:
    """In the order of the source, whichever way it is read: each state depends on the token at its place."""
    model = build(case)
    for position in range(S - 1):
        embedded = model.embed(SOURCE).detach().requires_grad_()
        (grad,) = torch.autograd.grad(model.encode(embedded, LENGTHS).states[0, position, ::3].sum(), embedded)
        assert grad[0, position].any() and not grad[1:].any()


@cases
def test_a_later_target_token_changes_nothing_earlier(case: Case) -> None:
    model = build(case)
    before = said(model, SOURCE, LENGTHS, TARGET)
    for t in range(T):
        changed = TARGET.clone()
        changed[:, t] = (changed[:, t] + 1) % V
        after = said(model, SOURCE, LENGTHS, changed)
        near(after[:, :t], before[:, :t], 1e-12)
        assert ((after[:, t] - before[:, t]).abs().amax(-1) > 1e-6).all()


@cases
def test_padding_does_not_matter(case: Case) -> None:
    model = build(case)
    before = said(model, SOURCE, LENGTHS, TARGET)
    padding = torch.arange(S) >= LENGTHS[:, None]
    near(said(model, SOURCE.masked_fill(padding, 3), LENGTHS, TARGET), before)
    near(said(model, torch.cat([SOURCE, ids(B, 3, seed=3)], 1), LENGTHS, TARGET), before)
    near(said(model, SOURCE, LENGTHS, torch.cat([TARGET, ids(B, 2, seed=4)], 1))[:, :T], before)
    # but what is not padding does
    shorter = said(model, SOURCE, LENGTHS - torch.tensor([0, 0, 1, 0]), TARGET)
    assert (shorter[2] - before[2]).abs().max().item() > 1e-6


@cases
def test_the_batch_does_not_matter(case: Case) -> None:
    model = build(case)
    before = said(model, SOURCE, LENGTHS, TARGET)
    for b, n in enumerate(LENGTHS.tolist()):
        near(said(model, SOURCE[b : b + 1, :n], LENGTHS[b : b + 1], TARGET[b : b + 1]), before[b : b + 1])
    order = torch.tensor([2, 0, 3, 1])
    near(said(model, SOURCE[order], LENGTHS[order], TARGET[order]), before[order])


@cases
def test_sequences_of_one(case: Case) -> None:
    model = build(case)
    whole = said(model, SOURCE[3:, :1], torch.tensor([1]), TARGET[3:, :1])
    near(whole, said(model, SOURCE, LENGTHS, TARGET)[3:, :1])
    near(whole.exp().sum(-1), torch.ones(1, 1, dtype=torch.float64))


@torch.no_grad()
@cases
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_steps_are_the_teacher_forced_pass(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    model = build(case) if dtype == torch.float64 else fresh(case.config).eval()
    expected = said(model, SOURCE, LENGTHS, TARGET)
    state = model.start(SOURCE, LENGTHS)
    assert state.position == 0
    for t in range(T):
        log_probs, state = model.step(TARGET[:, t], state)
        assert log_probs.shape == (B, V) and log_probs.dtype == dtype and state.position == t + 1
        near(log_probs, expected[:, t], tolerance)


@torch.no_grad()
@cases
def test_steps_with_selections(case: Case) -> None:
    model, width = build(case), 3
    source, lengths, history = SOURCE, LENGTHS, torch.full((B, 1), BOS)

    def expected() -> Tensor:
        each = history.shape[0] // source.shape[0]
        return said(model, source.repeat_interleave(each, 0), lengths.repeat_interleave(each), history)[:, -1]

    generator = torch.Generator().manual_seed(3)
    log_probs, state = model.step(history[:, -1], model.start(source, lengths))
    near(log_probs, expected())
    widened = torch.arange(B).repeat_interleave(width)
    state, history = state.select_hypotheses(widened), history[widened]
    for t in range(6):
        sentences = source.shape[0]
        tokens = torch.randint(0, V, (sentences * width,), generator=generator)
        history = torch.cat([history, tokens[:, None]], 1)
        log_probs, state = model.step(tokens, state)
        near(log_probs, expected())
        # what belongs to sentences is never repeated
        assert {x.shape[0] for x in state.sentence.values()} <= {sentences}
        parents = torch.randint(0, width, (sentences, width), generator=generator)
        parents = (parents + torch.arange(sentences)[:, None] * width).flatten()
        state, history = state.select_hypotheses(parents), history[parents]
        if t in (1, 3):  # a sentence leaves and the others change places
            rows = torch.tensor([2, 0, 3] if t == 1 else [1])
            members = (rows[:, None] * width + torch.arange(width)).flatten()
            state = state.select_sentences(rows).select_hypotheses(members)
            source, lengths, history = source[rows], lengths[rows], history[members]


@torch.no_grad()
@cases
def test_continuations_of_a_state_do_not_touch_each_other(case: Case) -> None:
    model, same = build(case), torch.arange(B)
    _, state = model.step(TARGET[:, 0], model.start(SOURCE, LENGTHS))
    left, right = state.select_hypotheses(same), state.select_hypotheses(same)
    _, left = model.step(TARGET[:, 1], left)
    _, right = model.step((TARGET[:, 1] + 1) % V, right)
    near(model.step(TARGET[:, 2], left)[0], said(model, SOURCE, LENGTHS, TARGET)[:, 2])


@torch.no_grad()
@cases
def test_greedy_search(case: Case) -> None:
    model = build(case)
    search: dict[str, Any] = {"bos": BOS, "eos": EOS, "max_length": 8}
    found = greedy(model, model.start(SOURCE, LENGTHS), **search)
    beams = beam_search(model, model.start(SOURCE, LENGTHS), beam=1, penalty=Average(), stopping=WhenFull(), **search)
    for b, n in enumerate(LENGTHS.tolist()):
        source, length, tokens = SOURCE[b : b + 1, :n], LENGTHS[b : b + 1], [BOS]
        while len(tokens) <= 8 and tokens[-1] != EOS:  # all positions anew each time
            tokens.append(int(said(model, source, length, torch.tensor([tokens]))[0, -1].argmax()))
        assert found[b].tokens == tuple(token for token in tokens[1:] if token != EOS)
        assert found[b].finished == (tokens[-1] == EOS)
        (alone,) = greedy(model, model.start(source, length), **search)
        for other in (alone, beams[b][0]):
            assert other.tokens == found[b].tokens
            assert other.log_prob == pytest.approx(found[b].log_prob, abs=1e-9)


@torch.no_grad()
@cases
def test_beam_search(case: Case) -> None:
    model = build(case)
    search: dict[str, Any] = {"beam": 3, "nbest": 3, "bos": BOS, "eos": EOS, "max_length": 6}
    search |= {"penalty": Average(), "stopping": WhenFull()}
    found = beam_search(model, model.start(SOURCE, LENGTHS), **search)
    for b, n in enumerate(LENGTHS.tolist()):
        source, length = SOURCE[b : b + 1, :n], LENGTHS[b : b + 1]
        (alone,) = beam_search(model, model.start(source, length), **search)
        assert [one.tokens for one in alone] == [one.tokens for one in found[b]]
        assert len({one.tokens for one in alone}) == 3
        for one in found[b]:  # its score is what the model says of it
            outputs = torch.tensor([*one.tokens, *([EOS] if one.finished else [])])
            inputs = torch.cat([torch.tensor([BOS]), outputs[:-1]])
            told = said(model, source, length, inputs[None])[0].gather(1, outputs[:, None])[:, 0]
            assert one.token_log_probs == pytest.approx(told.tolist(), abs=1e-9)


@torch.no_grad()
@cases
def test_ensembles(case: Case) -> None:
    members = [build(case, 0), build(case, 1), build(CASES["transformer"], 2)]
    ensemble = Ensemble(members)
    expected = torch.stack([said(member, SOURCE, LENGTHS, TARGET).exp() for member in members]).mean(0).log()
    state = ensemble.start(SOURCE, LENGTHS)
    for t in range(T):
        log_probs, state = ensemble.step(TARGET[:, t], state)
        near(log_probs, expected[:, t])


@cases
def test_weights_go_from_model_to_model(case: Case) -> None:
    model, other = build(case), fresh(case.config, 9).double().eval()
    assert not torch.allclose(other(SOURCE, LENGTHS, TARGET), model(SOURCE, LENGTHS, TARGET))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(SOURCE, LENGTHS, TARGET), model(SOURCE, LENGTHS, TARGET))
    assert other.config == case.config


@torch.no_grad()
@cases
def test_recorded_maps(case: Case) -> None:
    model = build(case)
    before = model(SOURCE, LENGTHS, TARGET)
    if not case.sees:
        assert not any("cross" in name for name, _ in model.named_modules())
        return
    with record(model) as recording:
        assert torch.equal(model(SOURCE, LENGTHS, TARGET), before)
        table = recording[case.sees].dense()  # (B, H, T, S)
        memory = model.encode(model.embed(SOURCE[:1]), LENGTHS[:1])
        order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
        model.decode(Memory(memory.states[:, order], memory.lengths, memory.last), TARGET[:1])
        shuffled = recording[case.sees].dense()
    assert table.shape[0] == B and table.shape[2:] == (T, S)
    assert not table[torch.arange(S).expand(B, 1, T, S).ge(LENGTHS[:, None, None, None]).expand_as(table)].any()
    mass = table.sum(-1)
    assert (mass > 0).any(-1).all() and (mass <= 1 + 1e-12).all()
    if case.everywhere:  # each column is of the memory's vector there
        near(mass, torch.ones_like(mass))
        near(shuffled, table[:1, :, :, order])
        assert table[0].std() > 0.01


@torch.no_grad()
@cases
def test_recorded_steps(case: Case) -> None:
    if not case.sees:
        return
    model = build(case)
    with record(model) as recording:
        model(SOURCE, LENGTHS, TARGET)
    whole = recording[case.sees].dense()
    state = model.start(SOURCE, LENGTHS)
    for t in range(T):
        with record(model) as recording:
            _, state = model.step(TARGET[:, t], state)
        near(recording[case.sees].dense(), whole[:, :, t : t + 1])
