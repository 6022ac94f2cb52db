"""Models with recurrent networks as ONNX graphs say what they say here."""

from pathlib import Path

import pytest
import torch

from interop.exported_models import SOURCES, TARGETS, letters, run_readme, shaken
from interop.onnx_translators import LENGTHS, Runner, compare
from regard.interop.onnx import write_translator
from regard.models.bahdanau import BahdanauConfig
from regard.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from regard.models.families import build_model
from regard.models.luong import LuongConfig
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig
from regard.runs.directory import Tokenizers
from regard.runs.translator import Translator

SEQ2SEQ = RNNSeq2SeqConfig(
    13, 13, cell="rnn", layers=2, embedding=6, width=8, bidirectional=True, context="every", maxout=5, dropout=0.0
)
LUONG = LuongConfig(
    13,
    13,
    layers=2,
    embedding=6,
    width=8,
    window=1,
    attention="local-p",
    score="concat",
    input_feeding=False,
    dropout=0.0,
)


def model_of(config: EncoderDecoderConfig) -> EncoderDecoder:
    torch.manual_seed(1)
    model = build_model(config).eval()
    shaken(model, 0.5)
    return model


@pytest.mark.parametrize("config", [SEQ2SEQ, LUONG], ids=lambda x: x.NAME)
def test_the_same_log_probabilities_step_by_step(config: EncoderDecoderConfig, tmp_path: Path) -> None:
    model = model_of(config)
    theirs = Runner(model, tmp_path)
    for lengths in LENGTHS:
        for width in (1, 2):
            assert compare(model, theirs, width, lengths) < 1e-5


def test_two_tokenizers_and_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = letters(SOURCES), letters(TARGETS)
    config = BahdanauConfig(
        source.vocab_size, target.vocab_size, embedding=6, width=8, attention_width=7, maxout=5, max_length=30
    )
    model = model_of(config)
    model.output.weight.data[0] = -3.0  # special tokens are ordinary ones to the library
    ours = Translator(model, Tokenizers(source, target), {"beam": 1, "penalty": "none", "alpha": 1.0, "max_ratio": 2.0})
    write_translator(tmp_path, model, source, target, ours.specials, ours.decoding)
    texts = SOURCES[:4]
    example = '"Two dogs play.", "A man reads the newspaper in the park."'
    found = run_readme(tmp_path, monkeypatch, **{example: ", ".join(map(repr, texts))})
    expected = [one.text for one in ours.translate(texts, max_length=29)]
    assert [line.replace("<unk>", "\ufffd").replace("<bos>", "").replace("<pad>", "") for line in found] == expected
    assert len(set(expected)) > 1
