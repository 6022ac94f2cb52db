"""Luong's configuration: presets, sizes, dropout, and what is refused."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from regard.errors import ArgumentError
from regard.layers import Attend
from regard.models.config import parameter_count
from regard.models.luong import LuongConfig, build_luong

V = 11
CONFIG = LuongConfig(V, V, layers=2, embedding=3, width=4, window=2, dropout=0.0)
VARIANTS: list[dict[str, Any]] = [
    {"score": score, "attention": attention, "input_feeding": feeding, "layers": layers}
    for score, attention, feeding, layers in product(
        ["dot", "general", "concat"], ["global", "local-m", "local-p"], [True, False], [1, 3]
    )
]


@pytest.mark.parametrize("feeding", [True, False])
def test_each_dropout_has_its_rate(feeding: bool) -> None:
    torch.manual_seed(0)
    model = build_luong(replace(CONFIG, dropout=0.3, input_feeding=feeding))
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert rates == {0.3}
    assert model.encoder.embedding.dropout.p == model.decoder.embedding.dropout.p == model.decoder.dropout.p == 0.3
    assert [module.dropout for module in model.modules() if isinstance(module, Attend)] == [0.0]
    arguments = (torch.randint(0, V, (3, 7)), torch.tensor([7, 3, 5]), torch.randint(0, V, (3, 9)))
    dropped = torch.stack([model.train()(*arguments) == 0 for _ in range(10)]).double().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.06)  # of the attentional state, 1080 numbers
    assert not torch.equal(model.train()(*arguments), model(*arguments))
    assert torch.equal(model.eval()(*arguments), model(*arguments))


def test_blocks_are_apart() -> None:
    for feeding in (True, False):
        model = build_luong(replace(CONFIG, input_feeding=feeding))
        held = [x for block in model.blocks() for x in block.parameters()]
        assert len({id(x) for x in held}) == len(held)
        rest = {model.output.weight, model.encoder.embedding.tokens.weight}
        assert {*held, *rest} == set(model.parameters())


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


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(str(x) for x in v.values()))
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
    ],
)
def test_wrong_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(CONFIG, **settings)


def test_an_unknown_preset_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="no preset 'huge': there are tiny, small, paper"):
        LuongConfig.preset("huge", source_vocabulary=7, target_vocabulary=7)
