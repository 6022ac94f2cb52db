"""Configurations of sequence to sequence without attention: presets, parameter formulas, settings that are wrong."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from regard.errors import ArgumentError
from regard.models.config import parameter_count
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig, build_rnn_seq2seq

SOURCE, TARGET = 17, 13
CONFIG = RNNSeq2SeqConfig(SOURCE, TARGET, layers=2, embedding=4, width=6)


def expected_count(c: RNNSeq2SeqConfig) -> int:
    """Tables, both stacks, what is between them, read-out and output."""
    gates, parts = {"lstm": (4, 2), "gru": (3, 1), "rnn": (1, 1)}[c.cell]
    directions, fed = 1 + c.bidirectional, c.width if c.context == "every" else 0

    def stack(inputs: int, directions: int) -> int:
        below = [inputs] + [directions * c.width] * (c.layers - 1)
        return sum(directions * gates * c.width * (i + c.width + 2) for i in below)

    between = c.layers * parts * (directions * c.width + 1) * c.width if c.bidirectional else 0
    if fed:
        between = (directions * c.width + 1) * c.width + (c.width + 1) * c.width * c.layers * parts
    count = (c.source_vocabulary + c.target_vocabulary) * c.embedding + between
    count += stack(c.embedding, directions) + stack(c.embedding + fed, 1)
    if c.maxout:
        count += (c.width + c.embedding + fed + 1) * 2 * c.maxout
    return count + (c.maxout or c.width) * c.target_vocabulary


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("context", ["first", "every"])
@pytest.mark.parametrize("maxout", [0, 3])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (1, True), (3, False), (3, True)])
def test_parameter_counts(cell: Any, context: Any, maxout: int, layers: int, both: bool) -> None:
    config = replace(CONFIG, cell=cell, context=context, maxout=maxout, layers=layers, bidirectional=both)
    with torch.device("meta"):
        assert parameter_count(build_rnn_seq2seq(config)) == expected_count(config)


@pytest.mark.parametrize("name", RNNSeq2SeqConfig.PRESETS)
def test_presets(name: str) -> None:
    config = RNNSeq2SeqConfig.preset(name, source_vocabulary=101, target_vocabulary=97)
    with torch.device("meta"):
        model = build_rnn_seq2seq(config)
    assert parameter_count(model) == expected_count(config)
    assert config.max_length == 1024


def test_presets_of_the_papers() -> None:
    # 160,000 source and 80,000 target words: "384M parameters of which 64M are pure recurrent connections"
    paper = RNNSeq2SeqConfig.preset("sutskever", source_vocabulary=160_000, target_vocabulary=80_000)
    recurrent = 2 * 4 * 4 * 1000 * (1000 + 1000)
    assert recurrent == 64_000_000
    assert expected_count(paper) == 320_000_000 + recurrent + 2 * 4 * 4 * 1000 * 2  # and biases
    assert paper.words() == (
        "Sequence to sequence, 4+4 LSTM layers of width 1000, source reversed, embedding 1000, "
        "one context vector at the start"
    )
    paper = RNNSeq2SeqConfig.preset("cho", source_vocabulary=15_000, target_vocabulary=15_000, bidirectional=True)
    assert paper.words() == (
        "Sequence to sequence, 1+1 GRU layers of width 1000, encoder in both directions, embedding 100, "
        "one context vector at every step, maxout 500"
    )


@pytest.mark.parametrize("width", [256, 512, 1024])
def test_the_context_is_as_wide_as_asked(width: int) -> None:
    with torch.device("meta"):
        model = build_rnn_seq2seq(RNNSeq2SeqConfig(SOURCE, TARGET, cell="gru", context="every", width=width))
        first, c = model.decoder.context({"hidden": torch.zeros(1, 1, width)})
    assert c.shape == (1, width) and first["hidden"].shape == (1, 1, width)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "mgu"}, "cell is 'mgu': expected 'rnn' or 'gru' or 'lstm'"),
        ({"context": "last"}, "context is 'last': expected 'first' or 'every'"),
    ],
)
def test_settings_that_are_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(CONFIG, **settings)


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(ArgumentError, match="no preset 'big': there are tiny, small, sutskever, cho"):
        RNNSeq2SeqConfig.preset("big", source_vocabulary=1, target_vocabulary=1)


def test_a_seed_repeats_the_weights() -> None:
    torch.manual_seed(7)
    first = build_rnn_seq2seq(CONFIG).state_dict()
    torch.manual_seed(7)
    second = build_rnn_seq2seq(CONFIG).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
