"""The settings of every model's configuration: presets, and values that a field cannot have."""

from dataclasses import Field, fields
from types import NoneType
from typing import Any, get_args

import pytest

from regard.errors import ArgumentError
from regard.models.encoder_decoder import EncoderDecoderConfig
from regard.models.families import FAMILIES

FIELDS: list[tuple[type[EncoderDecoderConfig], Field[Any]]] = [
    (family.config, field) for family in FAMILIES.values() for field in fields(family.config)
]


def fields_of(kind: type) -> list[tuple[type[EncoderDecoderConfig], Field[Any]]]:
    return [(config, field) for config, field in FIELDS if kind in (field.type, *get_args(field.type))]


def config(kind: type[EncoderDecoderConfig], **settings: Any) -> EncoderDecoderConfig:
    return kind(**({"source_vocabulary": 50, "target_vocabulary": 50} | settings))


def test_the_names_of_the_families() -> None:
    assert list(FAMILIES) == ["transformer", "rnn_seq2seq", "bahdanau", "luong"]
    assert [family.config.NAME for family in FAMILIES.values()] == list(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_presets_and_choices_that_are_not_there(name: str) -> None:
    kind = FAMILIES[name].config
    with pytest.raises(ArgumentError, match="no preset 'huge': there are tiny"):
        kind.preset("huge", source_vocabulary=50, target_vocabulary=50)
    for choice in kind.CHOICES:
        with pytest.raises(ArgumentError, match=f"^{choice} is 'odd': expected '"):
            config(kind, **{choice: "odd"})


@pytest.mark.parametrize(("kind", "field"), fields_of(int), ids=lambda x: getattr(x, "NAME", None) or x.name)
def test_sizes(kind: type[EncoderDecoderConfig], field: Field[Any]) -> None:
    least = 0 if field.name == "maxout" and kind.NAME == "rnn_seq2seq" else 1
    for wrong in (least - 1, -5, True, 2.0, "2", *([] if NoneType in get_args(field.type) else [None])):
        with pytest.raises(ArgumentError) as caught:
            config(kind, **{field.name: wrong})
        assert str(caught.value) == f"{field.name} is {wrong!r}: expected {least} or more"


@pytest.mark.parametrize(("kind", "field"), fields_of(float), ids=lambda x: getattr(x, "NAME", None) or x.name)
def test_shares(kind: type[EncoderDecoderConfig], field: Field[Any]) -> None:
    for wrong in (1.0, 1.5, 1, -0.1, float("nan"), float("inf"), True, "0.1", None):
        with pytest.raises(ArgumentError) as caught:
            config(kind, **{field.name: wrong})
        assert str(caught.value) == f"{field.name} is {wrong!r}: expected 0 or more and less than 1"
    for right in (0, 0.0, 0.999):
        assert getattr(config(kind, **{field.name: right}), field.name) == right


def test_every_model_has_sizes_and_shares() -> None:
    checked = fields_of(int) + fields_of(float)
    names = {kind.NAME: {field.name for owner, field in checked if owner is kind} for kind, _ in FIELDS}
    assert names["transformer"] > {"heads", "key_heads", "feedforward", "dropout", "attention_dropout", "max_length"}
    assert names["rnn_seq2seq"] > {"source_vocabulary", "layers", "embedding", "width", "maxout", "dropout"}
    assert names["bahdanau"] > {"target_vocabulary", "embedding", "width", "attention_width", "maxout", "dropout"}
    assert names["luong"] > {"layers", "embedding", "width", "window", "dropout"}
