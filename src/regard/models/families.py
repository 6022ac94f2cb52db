"""The encoder–decoder models there are, by the name that recipes and saved models give them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from regard.models.bahdanau import BahdanauConfig, build_bahdanau
from regard.models.encoder_decoder import EncoderDecoder, ModelConfig
from regard.models.luong import LuongConfig, build_luong
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig, build_rnn_seq2seq
from regard.models.transformer import TransformerConfig, build_transformer


@dataclass(frozen=True)
class Family:
    """A kind of model: its configuration, and what makes a model with fresh weights of one."""

    config: type[ModelConfig]
    build: Callable[[Any], EncoderDecoder]


FAMILIES: dict[str, Family] = {
    "transformer": Family(TransformerConfig, build_transformer),
    "rnn_seq2seq": Family(RNNSeq2SeqConfig, build_rnn_seq2seq),
    "bahdanau": Family(BahdanauConfig, build_bahdanau),
    "luong": Family(LuongConfig, build_luong),
}


def family_of(config: ModelConfig) -> str:
    """The name of the family that a configuration belongs to."""
    return next(name for name, family in FAMILIES.items() if type(config) is family.config)


def build_model(config: ModelConfig) -> EncoderDecoder:
    """A model of any family with fresh weights (torch's default generator)."""
    return FAMILIES[family_of(config)].build(config)
