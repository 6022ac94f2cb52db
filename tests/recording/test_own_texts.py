"""Recording GPT and BERT: passes, padding, and generations whose maps are those of reading what was found again."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from regard.attention import Document, Padding
from regard.errors import UnsupportedError
from regard.insight.tokens import Role, Tokens
from regard.models import gpt
from regard.models.bert import BERTConfig, build_bert
from regard.recording import Recording, load_recording, record
from small_texts import ENCODERS, SEARCHES, language_model

PROMPTS = ["the dog", "two cats play", "t"]


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-6, rtol=0)


def away(tokens: Tokens) -> tuple[bool, ...]:
    """Which positions are padding."""
    return tokens.padding or (False,) * len(tokens.texts)


def read_again(model: Any, ids: list[int]) -> Recording:
    with torch.no_grad(), record(model) as recording:
        model(torch.tensor([ids]))
    return recording


@pytest.mark.parametrize("preset", ["gpt-nano", "llama-nano"])
def test_a_pass(preset: str) -> None:
    runner = language_model(preset)
    ids = [runner.tokenizer.encode_text(text) for text in PROMPTS]
    tokens = torch.zeros(3, max(map(len, ids)), dtype=torch.int64)
    for line, row in zip(tokens, ids, strict=True):
        line[: len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in ids])
    with torch.no_grad(), record(runner) as recording:
        runner.model(tokens, Padding(lengths))
    assert list(recording) == ["layers.0.attention", "layers.1.attention"]
    assert set(recording.roles.values()) == {Role("causal", "text", "text")}
    known = recording.tokens("layers.1.attention")[0]
    for number, row in enumerate(ids):
        assert known[number].ids[: len(row)] == tuple(row)
        assert away(known[number]) == (False,) * len(row) + (True,) * (tokens.shape[1] - len(row))
        alone = read_again(runner.model, row)
        for name, table in recording.items():
            weights = table.dense()[number]
            near(weights[:, : len(row), : len(row)], alone[name].dense()[0])
            assert bool((weights.triu(1) == 0).all())


def test_packed_texts() -> None:
    runner = language_model("gpt-nano")
    first, second = (runner.tokenizer.encode_text(text) for text in PROMPTS[:2])
    tokens = torch.tensor([[*first, *second, 0]])
    ids = torch.tensor([[0] * len(first) + [1] * len(second) + [-1]])
    places = torch.tensor([[*range(len(first)), *range(len(second)), 0]])
    with torch.no_grad(), record(runner.model) as recording:
        runner.model(tokens, Document(ids), places)
    table, n = recording["layers.1.attention"].dense()[0], len(first)
    near(table[:, n:-1, n:-1], read_again(runner.model, second)["layers.1.attention"].dense()[0])
    assert bool((table[:, n:, :n] == 0).all())
    assert recording.tokens("layers.1.attention")[0][0].padding == (False,) * (tokens.shape[1] - 1) + (True,)


@pytest.mark.parametrize("preset", ["gpt-nano", "llama-nano"])
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("chunk", [3, 512])
def test_a_generation_is_what_reading_it_gives(
    preset: str, search: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpt, "PROMPT_CHUNK", chunk)
    runner = language_model(preset)
    plain = runner.generate(PROMPTS, max_tokens=6, **SEARCHES[search])
    with record(runner, keep="generation") as recording:
        found = runner.generate(PROMPTS, max_tokens=6, **SEARCHES[search])
    assert [one.tokens for one in found] == [one.tokens for one in plain]  # watching changes nothing
    assert not runner.listeners and not vars(runner.model).keys() & {"start", "step", "extend"}
    each = len(found) // len(PROMPTS)
    known = recording.tokens("layers.1.attention")[0]
    assert len(known) == len(found)
    for number, one in enumerate(found):
        prompt = [runner.begin, *runner.tokenizer.encode_text(PROMPTS[number // each])]
        places = [at for at, gone in enumerate(away(known[number])) if not gone]
        ids = [known[number].ids[at] for at in places]
        said = list(one.tokens)
        assert ids[: len(prompt)] == prompt and len(ids) >= len(prompt) + len(said) - 1
        assert runner.tokenizer.pieces(ids[len(prompt) :]) == said[: len(ids) - len(prompt)]
        alone = read_again(runner.model, ids)
        for name, table in recording.items():
            weights = table.dense()[number]
            near(weights[:, places][:, :, places], alone[name].dense()[0])
            elsewhere = [at for at in range(weights.shape[-1]) if at not in places]
            assert bool((weights[:, places][:, :, elsewhere] == 0).all())


@pytest.mark.parametrize(("seed", "samples"), [(1, 2), (3, 1)])
def test_sequences_end_in_any_order(seed: int, samples: int) -> None:
    runner = language_model("gpt-nano")
    how: dict[str, Any] = {"max_tokens": 8, "samples": samples, "stop": ["e", "s", "a", "o", " "], "seed": seed}
    with record(runner, keep="generation") as recording:
        found = runner.generate(PROMPTS, **how)
    lengths = [len(one.tokens) for one in found]
    assert any(later < sooner for sooner, later in pairwise(lengths))  # a later one ends first
    known, table = recording.tokens("layers.1.attention")[0], recording["layers.1.attention"].dense()
    for number in range(len(found)):
        places = [at for at, gone in enumerate(away(known[number])) if not gone]
        alone = read_again(runner.model, [known[number].ids[at] for at in places])
        near(table[number][:, places][:, :, places], alone["layers.1.attention"].dense()[0])


def test_a_generation_without_anyone_who_says_what_was_found(tmp_path: Any) -> None:
    runner = language_model("llama-nano")
    ids = runner.tokenizer.encode_text("the dog sleeps")
    with torch.no_grad(), record(runner.model, keep="generation", heads=[1, 3]) as recording:
        state = runner.model.start(torch.tensor([ids]), torch.tensor([len(ids)]))
        state = state.select_hypotheses(torch.tensor([0, 0])).select_sentences(torch.tensor([0]))
        for tokens in ([4, 5], [6, 7]):
            _, state = runner.model.step(torch.tensor(tokens), state)
            state = state.select_hypotheses(torch.tensor([1, 1]))
        _, state = runner.model.step(torch.tensor([8, 9]), state)
    for number, last in enumerate((8, 9)):
        alone = read_again(runner.model, [*ids, 5, 7, last])
        near(recording["layers.0.attention"].dense()[number], alone["layers.0.attention"].dense()[0, [1, 3]])
    recording.save(tmp_path / "r.safetensors")
    loaded = load_recording(tmp_path / "r.safetensors")
    near(loaded["layers.1.attention"].dense(), recording["layers.1.attention"].dense())
    assert loaded.tokens("layers.1.attention")[0][1].ids == (*ids, 5, 7, 9)


def test_the_symbol_for_padding_is_none_where_it_is_said() -> None:
    runner = language_model("gpt-nano")
    pad = runner.tokenizer.pad_id
    tokens, lengths = torch.tensor([[pad, 5, pad, 6], [5, pad, pad, pad]]), torch.tensor([4, 2])
    with torch.no_grad(), record(runner) as recording:
        runner.model(tokens, Padding(lengths))
    known = recording.tokens("layers.0.attention")[0]
    assert [one.padding for one in known] == [(), (False, False, True, True)]
    assert [one.special for one in known] == [(True, False, True, False), (False, True, True, True)]
    for kind in ENCODERS:
        encoder = ENCODERS[kind]()
        with torch.no_grad(), record(encoder) as recording:
            encoder.model(tokens, lengths=lengths)
        known = recording.tokens("encoder.layers.0.attention")[0]
        assert [one.padding for one in known] == [(), (False, False, True, True)]


def test_nothing_to_begin_with() -> None:
    model = language_model("gpt-nano").model
    with torch.no_grad(), record(model, keep="generation") as recording:
        state = model.start(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
        for tokens in ([4, 5], [6, 7]):
            _, state = model.step(torch.tensor(tokens), state)
    near(recording["layers.0.attention"].dense()[1], read_again(model, [5, 7])["layers.0.attention"].dense()[0])


def test_each_call_and_what_was_started_before() -> None:
    model = language_model("gpt-nano").model
    with torch.no_grad():
        before = model.start(torch.tensor([[3, 4, 5]]), torch.tensor([3]))
        with record(model, keep=2) as recording:
            _, state = model.step(torch.tensor([6]), before)
            assert recording.tokens("layers.0.attention") == ([], [])  # nobody knows what
            model.step(torch.tensor([7]), state)
    assert [table.shape for table in recording.calls("layers.1.attention")] == [(1, 4, 1, 4), (1, 4, 1, 5)]


def test_a_text_that_goes_on_beyond_the_positions_is_no_single_map() -> None:
    runner = language_model("gpt-nano")
    with record(runner, keep="generation") as recording:
        runner.generate("the dog", max_tokens=40, beam=1)
    with pytest.raises(UnsupportedError, match=r"its beginning, .* was never fed"):
        recording["layers.0.attention"].dense()


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders(kind: str) -> None:
    runner = ENCODERS[kind]()
    tokens, lengths = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 0, 0]]), torch.tensor([5, 3])
    with torch.no_grad(), record(runner) as recording:
        runner.model(tokens, lengths=lengths)
    assert list(recording) == ["encoder.layers.0.attention", "encoder.layers.1.attention"]
    assert set(recording.roles.values()) == {Role("self", "text", "text")}
    known = recording.tokens("encoder.layers.0.attention")[1]
    assert known[1].padding == (False, False, False, True, True) and known[0].ids == (5, 6, 7, 8, 9)
    with torch.no_grad(), record(runner.model.encoder) as alone:
        runner.model.encoder(tokens[1:, :3], torch.tensor([3]))
    near(recording["encoder.layers.1.attention"].dense()[1, :, :3, :3], alone["layers.1.attention"].dense()[0])
    assert set(alone.roles.values()) == {Role("self", "text", "text")}


def test_layers_of_an_encoder_are_recorded_as_what_they_are() -> None:
    model = build_bert(BERTConfig.preset("tiny", vocabulary=9)).eval()
    with torch.no_grad(), record(model, where="layers.1.*") as recording:
        model(torch.tensor([[3, 4]]), torch.tensor([2]))
    assert list(recording) == ["layers.1.attention"] and recording.model == "BERT"
