"""Configurations of GPT and BERT: presets, values they cannot have, fresh weights, what training asks of a model."""

import copy
import math
from dataclasses import Field, asdict, fields
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from regard.errors import ArgumentError
from regard.layers import Stretch, linear_cross_entropy
from regard.models.bert import (
    BERTConfig,
    build_bert,
    build_classifier,
    build_masked_language_model,
    build_tagger,
)
from regard.models.config import TextConfig, table_names
from regard.models.gpt import GPTConfig, build_gpt
from regard.training import build_optimizer
from regard.training.recompute import recompute

KINDS: list[type[TextConfig]] = [GPTConfig, BERTConfig]
FIELDS: list[tuple[type[TextConfig], Field[Any]]] = [(kind, field) for kind in KINDS for field in fields(kind)]


def of(kind: type) -> list[tuple[type[TextConfig], Field[Any]]]:
    return [(owner, field) for owner, field in FIELDS if kind in (field.type, *get_args(field.type))]


def label(x: Any) -> str:
    return str(getattr(x, "NAME", None) or x.name)


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_presets_and_choices_that_are_not_there(kind: type[TextConfig]) -> None:
    with pytest.raises(ArgumentError, match="no preset 'huge': there are"):
        kind.preset("huge", vocabulary=50)
    for choice in kind.CHOICES:
        with pytest.raises(ArgumentError, match=f"^{choice} is 'odd': expected '"):
            kind(**{"vocabulary": 50, choice: "odd"})
    for preset in kind.PRESETS:
        config = kind.preset(preset, vocabulary=50, max_length=9)
        assert kind(**asdict(config)) == config  # plain values: what is saved gives the same again
        assert str(config.layers) in config.words()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "field"), of(int), ids=label)
def test_sizes(kind: type[TextConfig], field: Field[Any]) -> None:
    for wrong in (0, -5, True, 2.0, "2"):
        with pytest.raises(ArgumentError) as caught:
            kind(**{"vocabulary": 50, field.name: wrong})
        assert str(caught.value) == f"{field.name} is {wrong!r}: expected 1 or more"


@pytest.mark.parametrize(("kind", "field"), of(float), ids=label)
def test_numbers(kind: type[TextConfig], field: Field[Any]) -> None:
    positive = "positive" in field.metadata
    assert positive == field.name.startswith(("norm_epsilon", "rotary_"))
    for wrong in (-0.1, float("nan"), float("inf"), True, "0.1", None, 0.0 if positive else 1.0):
        with pytest.raises(ArgumentError, match=f"^{field.name} is "):
            kind(**{"vocabulary": 50, field.name: wrong})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "heads = 5 doesn't divide width = 768"),
        ({"key_heads": 5}, "key_heads = 5 doesn't divide heads = 12"),
        ({"width": 9, "heads": 3, "positions": "sinusoidal"}, "width = 9 is odd"),
        ({"width": 9, "heads": 3, "positions": "rotary"}, "heads are 3 wide: rotary positions need an even width"),
        ({"head_width": 5, "positions": "rotary"}, "heads are 5 wide"),
        ({"rotary_low": 4.0}, "rotary_high = 4.0 is not above rotary_low = 4.0"),
        ({"shared": "all"}, "shared is 'all': expected true or false"),
    ],
)
def test_what_does_not_fit_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        GPTConfig(vocabulary=50, **settings)
    with pytest.raises(ArgumentError, match="heads = 5 doesn't divide width = 768"):
        BERTConfig(vocabulary=50, heads=5)


def test_which_layers_have_biases() -> None:
    def biases(bias: Any, **more: Any) -> set[str]:
        model = build_gpt(GPTConfig(vocabulary=9, layers=1, width=8, feedforward=8, heads=2, bias=bias, **more))
        return {name.removesuffix(".bias") for name, _ in model.named_parameters() if name.endswith("bias")}

    linear = {"layers.0.attention.input", "layers.0.attention.output", "layers.0.feedforward.inner"}
    linear |= {"layers.0.feedforward.outer"}
    norms = {"norm", "layers.0.attention_residual.norm", "layers.0.feedforward_residual.norm"}
    assert biases("all") == linear | norms
    assert biases("all", norm="rms") == linear
    assert biases("queries_keys_values") == {"layers.0.attention.input"}
    assert biases("none") == set()


def test_fresh_weights_are_spread_as_those_of_gpt2() -> None:
    torch.manual_seed(0)
    model = build_gpt(GPTConfig.preset("gpt-nano", vocabulary=1000))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert torch.equal(parameter, torch.full_like(parameter, 1.0 if name.endswith("weight") else 0.0)), name
            continue
        back = name.endswith(("attention.output.weight", "feedforward.outer.weight"))
        wanted = 0.02 / math.sqrt(8) if back else 0.02
        assert abs(parameter.std().item() / wanted - 1) < 0.03, name
    assert model.output.weight is model.embedding.tokens.weight
    model = build_gpt(GPTConfig.preset("llama-nano", vocabulary=100))
    assert model.output.weight is not model.embedding.tokens.weight


def test_fresh_weights_of_bert() -> None:
    torch.manual_seed(0)
    config = BERTConfig.preset("tiny", vocabulary=1000)
    for model in (build_masked_language_model(config, True), build_classifier(config, 300), build_tagger(config, 300)):
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                assert torch.equal(parameter, torch.full_like(parameter, 1.0 if name.endswith("weight") else 0.0)), name
            elif parameter.numel() > 256:
                assert abs(parameter.std().item() / 0.02 - 1) < 0.03, name
    for build in (build_classifier, build_tagger):
        with pytest.raises(ArgumentError, match="labels is 0: expected 1 or more"):
            build(config, 0)
    with pytest.raises(ArgumentError, match="no next-sentence prediction"):
        build_masked_language_model(config).following(torch.zeros(1, 2, 128))


def test_tables_are_known_as_such() -> None:
    gpt, bert = GPTConfig.preset("gpt-nano", vocabulary=9), BERTConfig.preset("tiny", vocabulary=9)
    assert table_names(build_gpt(gpt)) == {"embedding.tokens.weight", "embedding.positions.table"}
    names = {"tokens.weight", "positions.table", "types.weight"}
    assert table_names(build_tagger(bert, 2)) == {f"encoder.embedding.{name}" for name in names}


def batch() -> Tensor:
    return torch.randint(0, 9, (3, 11), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("preset", ["gpt-nano", "llama-nano", "bert"])
def test_recomputed_gradients_are_the_same(preset: str) -> None:
    torch.manual_seed(0)
    model: Any
    if preset == "bert":
        model = build_bert(BERTConfig.preset("tiny", vocabulary=9, dropout=0.3, attention_dropout=0.0))
    else:
        model = build_gpt(GPTConfig.preset(preset, vocabulary=9, dropout=0.3))
    twin = copy.deepcopy(model)
    recompute(twin.blocks())
    gradients = []
    for one in (model, twin):
        torch.manual_seed(1)
        more = (torch.tensor([11, 4, 7]),) if preset == "bert" else ()
        one(batch(), *more).square().sum().backward()
        gradients.append({name: p.grad for name, p in one.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


@pytest.mark.parametrize("preset", ["gpt-nano", "llama-nano"])
def test_a_small_model_learns_a_text_by_heart(preset: str) -> None:
    torch.manual_seed(0)
    model = build_gpt(GPTConfig.preset(preset, vocabulary=9, layers=2, width=32, feedforward=64, dropout=0.0))
    optimizer = build_optimizer(model, 3e-3, (0.9, 0.99), 0.1, exempt=table_names(model))
    tokens = batch()
    for _ in range(120):
        hidden = model(tokens[:, :-1]).flatten(0, 1)
        loss = linear_cross_entropy(hidden, model.output.weight, tokens[:, 1:].flatten()) / 30
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss.item() < 0.5  # at first ln 9 = 2.2


@torch.no_grad()
@pytest.mark.parametrize("preset", ["gpt-nano", "llama-nano"])
def test_steps_in_half_precision(preset: str) -> None:
    torch.manual_seed(0)
    model = build_gpt(GPTConfig.preset(preset, vocabulary=9)).eval()
    nn.init.normal_(model.embedding.tokens.weight)
    tokens = batch()
    exact = model.output(model(tokens)).log_softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        state = model.start(tokens[:, :6], torch.tensor([6, 6, 6]))
        assert state.hypothesis["cache"].dtype == torch.bfloat16
        found, _ = model.step(tokens[:, 6], state)
    torch.testing.assert_close(found.float(), exact[:, 6], atol=0.3, rtol=0.05)
    halves = copy.deepcopy(model).bfloat16()
    found, _ = halves.step(tokens[:, 6], halves.start(tokens[:, :6], torch.tensor([6, 4, 6])))
    torch.testing.assert_close(found[::2].float(), exact[::2, 6], atol=0.3, rtol=0.05)


def test_a_configuration_that_was_saved_without_longer_wavelengths() -> None:
    config = GPTConfig.preset("llama-nano", vocabulary=50)
    saved = {
        name: value for name, value in asdict(config).items() if name in ("rotary_base", "positions", "vocabulary")
    }
    assert GPTConfig(**saved).rotary_factor == 1.0 and build_gpt(config).rotary.stretch is None  # type: ignore[union-attr]
    longer = build_gpt(GPTConfig.preset("llama-nano", vocabulary=50, rotary_factor=8.0, rotary_original=100))
    assert longer.rotary is not None and longer.rotary.stretch == Stretch(8.0, 100, 1.0, 4.0)
