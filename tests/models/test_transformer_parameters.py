"""Configurations, presets, parameter formulas and which tables are one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import ArgumentError
from regard.models.config import parameter_count
from regard.models.transformer import Transformer, TransformerConfig, build_transformer


def formula_count(config: TransformerConfig) -> int:
    """By formula.

    With E the width, F the feed-forward width and g = G/H: an attention has (2 + 2g)·E² weights and (2 + 2g)·E biases,
    a feed-forward network 2·E·F weights and F + E biases, a LayerNorm 2·E.
    """
    e, f = config.width, config.feedforward
    kv = e * (config.key_heads or config.heads) // config.heads
    attention = (2 * e + 2 * kv) * e + (2 * e + 2 * kv)
    feedforward = 2 * e * f + f + e
    norm = 2 * e
    encoder = config.encoder_layers * (attention + feedforward + 2 * norm)
    decoder = config.decoder_layers * (2 * attention + feedforward + 3 * norm)
    last = 2 * norm if config.norm == "pre" else 0
    tables = {
        "all": config.target_vocabulary,
        "target": config.source_vocabulary + config.target_vocabulary,
        "none": config.source_vocabulary + 2 * config.target_vocabulary,
    }[config.shared]
    positions = 2 * config.max_length * e if config.positions == "learned" else 0
    return encoder + decoder + last + tables * e + positions


def real_count(config: TransformerConfig) -> int:
    with torch.device("meta"):
        return parameter_count(build_transformer(config))


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    groups, share, head_width = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 5]))
    positions = draw(st.sampled_from(["sinusoidal", "learned"]))
    if positions == "sinusoidal" and groups * share * head_width % 2:
        head_width *= 2
    shared = draw(st.sampled_from(["all", "target", "none"]))
    vocabulary = draw(st.integers(1, 23))
    return TransformerConfig(
        source_vocabulary=vocabulary if shared == "all" else draw(st.integers(1, 23)),
        target_vocabulary=vocabulary,
        encoder_layers=draw(st.integers(1, 3)),
        decoder_layers=draw(st.integers(1, 3)),
        width=groups * share * head_width,
        feedforward=draw(st.integers(1, 29)),
        heads=groups * share,
        key_heads=None if share == 1 and draw(st.booleans()) else groups,
        norm=draw(st.sampled_from(["post", "pre"])),
        positions=positions,
        max_length=draw(st.integers(1, 31)),
        shared=shared,
    )


@settings(deadline=None, max_examples=60)
@given(configs())
def test_the_formula_is_exact(config: TransformerConfig) -> None:
    assert formula_count(config) == real_count(config)


@pytest.mark.parametrize(("name", "millions"), [("base", 65), ("big", 213)])
def test_the_papers_sizes(name: str, millions: int) -> None:
    # table 3 of the paper; about 37000 tokens shared by both languages (section 5.1)
    config = TransformerConfig.preset(name, source_vocabulary=37000, target_vocabulary=37000)
    assert formula_count(config) == pytest.approx(millions * 1e6, rel=0.04)
    assert formula_count(config) == real_count(config)


PRESET_SIZES = {  # layers of each stack, width, feed-forward width, heads, dropout
    "tiny": (4, 128, 256, 4, 0.1),
    "small": (6, 256, 1024, 4, 0.1),
    "base": (6, 512, 2048, 8, 0.1),
    "big": (6, 1024, 4096, 16, 0.3),
}


@pytest.mark.parametrize("name", PRESET_SIZES)
def test_presets(name: str) -> None:
    config = TransformerConfig.preset(name, source_vocabulary=101, target_vocabulary=101)
    assert config.encoder_layers == config.decoder_layers
    sizes = (config.encoder_layers, config.width, config.feedforward, config.heads, config.dropout)
    assert sizes == PRESET_SIZES[name]
    assert (config.norm, config.positions, config.shared) == ("post", "sinusoidal", "all")
    assert formula_count(config) == real_count(config)


def test_settings_replace_a_presets() -> None:
    config = TransformerConfig.preset(
        "big", source_vocabulary=7, target_vocabulary=11, shared="none", dropout=0.2, heads=8
    )
    assert (config.width, config.dropout, config.heads, config.target_vocabulary) == (1024, 0.2, 8, 11)


def test_an_unknown_preset_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="no preset 'huge': there are tiny, small, base, big"):
        TransformerConfig.preset("huge", source_vocabulary=7, target_vocabulary=7)


SMALL = TransformerConfig(
    source_vocabulary=13, target_vocabulary=13, encoder_layers=1, decoder_layers=1, width=6, feedforward=5, heads=3
)


def test_one_table_needs_one_vocabulary() -> None:
    with pytest.raises(ArgumentError, match='"all" needs one vocabulary, not 13 source and 11 target'):
        replace(SMALL, target_vocabulary=11)
    assert replace(SMALL, target_vocabulary=11, shared="target").target_vocabulary == 11


@pytest.mark.parametrize("settings", [{"heads": 4}, {"key_heads": 2}, {"width": 9}])
def test_sizes_that_do_not_fit_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        build_transformer(replace(SMALL, **settings))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("norm", "'post' or 'pre'"),
        ("positions", "'sinusoidal' or 'learned'"),
        ("shared", "'all' or 'target' or 'none'"),
    ],
)
def test_an_unknown_choice_is_an_error(setting: str, expected: str) -> None:
    with pytest.raises(ArgumentError, match=f"{setting} is 'some': expected {expected}"):
        TransformerConfig.preset("tiny", source_vocabulary=13, target_vocabulary=13, **{setting: "some"})


def tables(model: Transformer) -> list[torch.nn.Parameter]:
    return [model.encoder.embedding.tokens.weight, model.decoder.embedding.tokens.weight, model.output.weight]


def test_which_tables_are_one() -> None:
    source, target, output = tables(build_transformer(SMALL))
    assert source is target and target is output
    source, target, output = tables(build_transformer(replace(SMALL, source_vocabulary=11, shared="target")))
    assert source is not target and target is output
    source, target, output = tables(build_transformer(replace(SMALL, source_vocabulary=11, shared="none")))
    assert source is not target and target is not output
    assert [x.shape[0] for x in (source, target, output)] == [11, 13, 13]


@pytest.mark.parametrize("shared", ["all", "target", "none"])
def test_fresh_logits_have_about_unit_variance(shared: str) -> None:
    torch.manual_seed(0)
    config = TransformerConfig.preset(
        "tiny", source_vocabulary=499, target_vocabulary=499, shared=shared, encoder_layers=1, decoder_layers=1
    )
    model = build_transformer(config).eval()
    ids = torch.randint(0, 499, (5, 7))
    logits = model.output(model(ids, torch.full((5,), 7), ids))
    assert 0.7 < logits.std().item() < 1.5


def test_a_seed_repeats_the_weights() -> None:
    torch.manual_seed(7)
    first = build_transformer(SMALL).state_dict()
    torch.manual_seed(7)
    second = build_transformer(SMALL).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
