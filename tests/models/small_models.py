"""Small models of every kind and choice, and what is fed to them."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from regard.models.bahdanau import BahdanauConfig
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from regard.models.families import build_model
from regard.models.luong import LuongConfig
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig
from regard.models.transformer import TransformerConfig

V = 13
B, S, T = 4, 7, 5
LENGTHS = torch.tensor([7, 2, 5, 1])
SEQ2SEQ = RNNSeq2SeqConfig(V, V, embedding=6, width=8, dropout=0.0)
LUONG = LuongConfig(V, V, layers=1, embedding=6, width=8, window=1, dropout=0.0)


@dataclass(frozen=True)
class Case:
    """A small model.

    Attributes:
        config: its sizes and choices.
        sees: the attention from target to source, "" where there is none.
        everywhere: whether that may look at all of the source, with weights that sum to 1.
    """

    config: EncoderDecoderConfig
    sees: str = "decoder.cross"
    everywhere: bool = True


CASES = {
    "transformer": Case(
        TransformerConfig(V, V, 1, 2, 12, 16, 3, dropout=0.0, shared="target"), sees="decoder.layers.1.cross"
    ),
    "rnn_seq2seq": Case(SEQ2SEQ, sees=""),
    "rnn_seq2seq cho": Case(
        replace(SEQ2SEQ, cell="gru", bidirectional=True, reverse_source=False, context="every", maxout=5), sees=""
    ),
    "rnn_seq2seq deep": Case(replace(SEQ2SEQ, cell="rnn", layers=2, context="every"), sees=""),
    "rnn_seq2seq deep, both ways": Case(replace(SEQ2SEQ, layers=2, bidirectional=True, maxout=3), sees=""),
    "rnn_seq2seq LSTM, every": Case(replace(SEQ2SEQ, layers=2, context="every", maxout=3), sees=""),
    "rnn_seq2seq GRU, first": Case(replace(SEQ2SEQ, cell="gru", layers=2, reverse_source=False), sees=""),
    "bahdanau": Case(BahdanauConfig(V, V, embedding=6, width=8, attention_width=7, maxout=5)),
    "luong": Case(replace(LUONG, layers=2)),
    "luong no feeding": Case(replace(LUONG, input_feeding=False)),
    "luong concat": Case(replace(LUONG, score="concat")),
    "luong concat, no feeding": Case(replace(LUONG, score="concat", input_feeding=False, reverse_source=True)),
    "luong local-m": Case(replace(LUONG, score="dot", attention="local-m"), everywhere=False),
    "luong local-p": Case(replace(LUONG, attention="local-p", reverse_source=True), everywhere=False),
    "luong local-p concat, no feeding": Case(
        replace(LUONG, attention="local-p", score="concat", input_feeding=False), everywhere=False
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def fresh(config: EncoderDecoderConfig, seed: int = 0) -> EncoderDecoder:
    torch.manual_seed(seed)
    return build_model(config)


def build(case: Case, seed: int = 0) -> EncoderDecoder:
    """In float64, with weights large enough for every part to matter."""
    model = fresh(case.config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.6)
    return model


def ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(2, V, shape, generator=torch.Generator().manual_seed(seed))


SOURCE, TARGET = ids(B, S), ids(B, T, seed=2)


def near(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)
