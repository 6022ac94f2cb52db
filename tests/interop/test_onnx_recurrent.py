"""Models with recurrent networks as ONNX graphs say what they say here. Simple RNN, GRU; both directions; one vector or
a memory; see `test_onnx_luong` for the LSTM."""

from pathlib import Path

import pytest

from interop.onnx_translators import SIZES, check
from regard.models.bahdanau import BahdanauConfig
from regard.models.encoder_decoder import EncoderDecoderConfig
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig

CONFIGS = [
    RNNSeq2SeqConfig(*SIZES, cell="rnn", layers=2, embedding=6, width=8, bidirectional=True, context="every", maxout=5),
    BahdanauConfig(*SIZES, embedding=6, width=8, attention_width=7, maxout=5),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda x: x.NAME)
def test_step_by_step_and_in_the_readme(
    config: EncoderDecoderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(config, tmp_path, monkeypatch)
