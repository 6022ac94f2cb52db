"""The encoder–decoder models there are, by the name that recipes and saved models give them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from regard.models.bahdanau import BahdanauConfig, build_bahdanau
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from regard.models.luong import LuongConfig, build_luong
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig, build_rnn_seq2seq
from regard.models.transformer import TransformerConfig, build_transformer


@dataclass(frozen=True)
class Family:
    """A kind of model: its configuration, and what makes a model with fresh weights of one."""

    config: type[EncoderDecoderConfig]
    build: Callable[[Any], EncoderDecoder]


FAMILIES: dict[str, Family] = {
    family.config.NAME: family
    for family in (
        Family(TransformerConfig, build_transformer),
        Family(RNNSeq2SeqConfig, build_rnn_seq2seq),
        Family(BahdanauConfig, build_bahdanau),
        Family(LuongConfig, build_luong),
    )
}


def build_model(config: EncoderDecoderConfig) -> EncoderDecoder:
    """A model of any family with fresh weights (torch's default generator)."""
    return FAMILIES[config.NAME].build(config)
