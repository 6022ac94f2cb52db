"""`record`: sees every attention, changes nothing, leaves nothing behind."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from regard.attention import AttentionMap
from regard.errors import ArgumentError, UnsupportedError
from regard.insight.tokens import Tokens
from regard.models.transformer import Transformer, TransformerConfig, build_transformer
from regard.recording import attention_modules, record
from regard.recording.calls import Calls
from regard.runs.load import load_translator

SOURCE = torch.tensor([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])
TARGET = torch.tensor([[1, 4, 5, 6, 7, 8, 9], [1, 9, 8, 7, 0, 0, 0]])
NAMES = [
    *(f"encoder.layers.{i}.attention" for i in range(2)),
    *(f"decoder.layers.{i}.{kind}" for i in range(3) for kind in ("attention", "cross")),
]


@pytest.fixture
def model() -> Transformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = TransformerConfig(11, 13, 2, 3, 12, 20, 6, key_heads=3, dropout=0.0, shared="target", max_length=17)
        return build_transformer(config).eval()


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_every_attention_is_seen_and_nothing_changes(model: Transformer) -> None:
    before = model(SOURCE, LENGTHS, TARGET)
    with record(model) as recording:
        during = model(SOURCE, LENGTHS, TARGET)
    after = model(SOURCE, LENGTHS, TARGET)
    assert torch.equal(before, during) and torch.equal(before, after)
    assert _hooks(model) == 0
    assert list(recording) == NAMES and len(recording) == len(NAMES)
    assert recording["encoder.layers.1.attention"].shape == (2, 6, 5, 5)
    assert recording["decoder.layers.0.attention"].shape == (2, 6, 7, 7)
    assert recording["decoder.layers.2.cross"].shape == (2, 6, 7, 5)


def test_masks_are_recorded(model: Transformer) -> None:
    with record(model) as recording:
        model(SOURCE, LENGTHS, TARGET)
    cross = recording["decoder.layers.1.cross"].dense()
    assert cross[1, :, :, 3:].abs().max() == 0 and cross[0].min() > 0
    causal = recording["decoder.layers.1.attention"].dense()
    assert causal.triu(1).abs().max() == 0
    for table in recording.values():
        torch.testing.assert_close(table.dense().sum(-1), torch.ones(table.shape[:3]))


def test_gradients_are_the_same_and_recorded_tensors_have_none(model: Transformer) -> None:
    def gradient() -> torch.Tensor:
        model.zero_grad()
        model(SOURCE, LENGTHS, TARGET).square().sum().backward()
        weight = model.output.weight.grad
        assert weight is not None
        return weight.clone()

    plain = gradient()
    with record(model) as recording:
        recorded = gradient()
    assert torch.equal(plain, recorded)
    assert not recording["decoder.layers.0.cross"].dense().requires_grad


def test_hooks_go_when_the_model_or_the_block_fails(model: Transformer) -> None:
    with pytest.raises(IndexError), record(model):
        model(SOURCE + 99, LENGTHS, TARGET)
    assert _hooks(model) == 0
    with pytest.raises(KeyboardInterrupt), record(model):
        raise KeyboardInterrupt
    assert _hooks(model) == 0
    with record(model) as recording:
        model(SOURCE, LENGTHS, TARGET)
    assert len(recording) == len(NAMES)


def test_what_was_recorded_does_not_change_later(model: Transformer) -> None:
    with record(model) as recording:
        model(SOURCE, LENGTHS, TARGET)
    before = recording["decoder.layers.0.cross"].dense().clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model(SOURCE, LENGTHS, TARGET)
    assert torch.equal(recording["decoder.layers.0.cross"].dense(), before)


def test_decoding_steps_are_recorded_as_they_were(model: Transformer) -> None:
    with torch.no_grad(), record(model, where="decoder.layers.0.attention", keep=9) as recording:
        state = model.start(SOURCE, LENGTHS)
        for step in range(4):
            _, state = model.step(TARGET[:, step], state)
    calls = recording.calls("decoder.layers.0.attention")
    assert [call.shape for call in calls] == [(2, 6, 1, n) for n in (1, 2, 3, 4)]
    with torch.no_grad(), record(model) as whole:
        model(SOURCE, LENGTHS, TARGET[:, :4])
    forced = whole["decoder.layers.0.attention"].dense()
    for n, call in enumerate(calls):  # the cache that was written to afterwards is not what is held
        torch.testing.assert_close(call.dense()[:, :, 0], forced[:, :, n, : n + 1])


def test_patterns_heads_and_keep(model: Transformer) -> None:
    with record(model) as everything, record(model, where="decoder.*.cross", heads=[4, 1], keep=2) as some:
        for count in (3, 5, 7):
            model(SOURCE, LENGTHS, TARGET[:, :count])
    assert list(some) == [name for name in NAMES if name.endswith("cross")]
    assert [call.shape for call in some.calls("decoder.layers.2.cross")] == [(2, 2, 5, 5), (2, 2, 7, 5)]
    full = everything["decoder.layers.2.cross"].dense()
    torch.testing.assert_close(some["decoder.layers.2.cross"].dense(), full[:, [4, 1]])
    assert len(everything.calls("decoder.layers.2.cross")) == 1


def test_a_translator_is_recorded_through_its_model(tiny_model) -> None:
    translator = load_translator(tiny_model.directory, device="cpu")
    plain = translator.translate(tiny_model.sources)
    with record(translator) as recording:
        assert translator.translate(tiny_model.sources) == plain
        assert "decoder.layers.0.cross" in recording
    assert _hooks(translator.model) == 0


def test_errors(model: Transformer) -> None:
    with pytest.raises(UnsupportedError, match="Linear has no attention of this package"):
        attention_modules(nn.Linear(3, 5))
    with pytest.raises(ArgumentError, match="matches no attention of the model; there are: encoder"):
        record(model, where="decoder.layers.9.*")
    with pytest.raises(ArgumentError, match='keep must be 1 or more, or "generation", not 0'):
        record(model, keep=0)
    with pytest.raises(ArgumentError, match="has heads 0 to 5, so no 6"), record(model, heads=[0, 6]):
        model(SOURCE, LENGTHS, TARGET)
    assert _hooks(model) == 0
    with pytest.raises(UnsupportedError, match=r"compiled model can.t be recorded"):
        record(torch.compile(model))
    for named, message in (
        ({"where": 3}, "where must be a pattern over module paths, not 3"),
        ({"heads": 3}, "heads must be a list of one or more integers, or None, not 3"),
        ({"heads": ["a"]}, r"heads must be .*not \['a'\]"),
        ({"heads": [True]}, "heads must be"),
        ({"heads": []}, "heads must be"),
        ({"keep": True}, 'keep must be 1 or more, or "generation", not True'),
        ({"keep": None}, "keep must be"),
    ):
        with pytest.raises(ArgumentError, match=message):
            record(model, **named)
    for wrong in (3, None, "model", SimpleNamespace(model=3)):
        with pytest.raises(ArgumentError, match=f"what holds one as .model, not {type(wrong).__name__}"):
            record(wrong)
    recorder = record(model)
    with recorder as recording, pytest.raises(ArgumentError, match="already open"):
        recorder.__enter__()
    with pytest.raises(KeyError, match="was not recorded; recorded: nothing yet"):
        recording["decoder.layers.0.cross"]


def test_a_step_that_is_fed_the_numbers_of_the_prompt_is_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told without looking at the numbers, for which a GPU would have to be waited for."""
    calls = Calls(None, 1, lambda _, ids, real: Tokens(tuple(map(str, ids)), tuple(not one for one in real)))
    monkeypatch.setattr(torch, "equal", None)
    ids, real = torch.tensor([[0], [5]]), torch.tensor([[False], [True]])
    q = torch.randn(2, 1, 1, 4)

    def special() -> list[bool]:
        return [tokens.special[0] for tokens in calls.tokens("text")]

    calls.read("text", ids, None)  # a pass before
    calls.began()
    calls.fed("text", ids + 1, None, None)
    assert [tokens.texts for tokens in calls.tokens("text")] == [("1",), ("6",)]
    calls.began()
    calls.read("text", ids, real)
    calls.fed("text", ids, None, None)
    calls.attended("layer", AttentionMap(q, q))
    assert special() == [True, False]
    calls.fed("text", ids, None, None)
    assert special() == [False, False]
    calls.read("text", ids, real)  # a pass in between
    calls.attended("layer", AttentionMap(q, q))
    calls.fed("text", ids, None, None)
    assert special() == [False, False]


def test_recordings_of_a_generation_close_in_any_order(model: Transformer) -> None:
    methods = vars(model).keys() & {"start", "step"}
    first, second = record(model, keep="generation"), record(model, keep=2)
    one, other = first.__enter__(), second.__enter__()
    with torch.no_grad():
        state = model.start(SOURCE, LENGTHS)
        _, state = model.step(TARGET[:, 0], state)
        first.__exit__(None, None, None)
        _, state = model.step(TARGET[:, 1], state)
        second.__exit__(None, None, None)
        model.step(TARGET[:, 2], state)
    assert vars(model).keys() & {"start", "step"} == methods == set()
    name = "decoder.layers.0.attention"
    assert one[name].shape == (2, 6, 1, 1) and [call.shape[-1] for call in other.calls(name)] == [1, 2]
