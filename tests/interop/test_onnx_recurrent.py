"""Models with recurrent networks as ONNX graphs say what they say here."""

from pathlib import Path

import pytest
import torch

from interop.exported_models import SOURCES, TARGETS, letters, run_readme, shaken
from interop.onnx_translators import LENGTHS, Runner, compare
from regard.interop.onnx import write_translator
from regard.models.bahdanau import BahdanauConfig
from regard.models.encoder_decoder import EncoderDecoderConfig
from regard.models.families import build_model
from regard.models.luong import LuongConfig
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig
from regard.runs.directory import Tokenizers
from regard.runs.translator import Translator

SOURCE, TARGET = letters(SOURCES), letters(TARGETS)
SIZES = SOURCE.vocab_size, TARGET.vocab_size
EXAMPLE = '"Two dogs play.", "A man reads the newspaper in the park."'
# simple RNN, GRU and LSTM; both directions; a memory or none; whatever a decoder has
CONFIGS = [
    RNNSeq2SeqConfig(*SIZES, cell="rnn", layers=2, embedding=6, width=8, bidirectional=True, context="every", maxout=5),
    BahdanauConfig(*SIZES, embedding=6, width=8, attention_width=7, maxout=5),
    LuongConfig(
        *SIZES, layers=2, embedding=6, width=8, window=1, attention="local-p", score="concat", input_feeding=False
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda x: x.NAME)
def test_step_by_step_and_in_the_readme(
    config: EncoderDecoderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model = build_model(config).eval()
    shaken(model, 0.5)
    decoding = {"beam": 1, "penalty": "none", "alpha": 1.0, "max_ratio": 2.0, "forbidden": [[0], [1], [3]]}
    ours = Translator(model, Tokenizers(SOURCE, TARGET), decoding)
    write_translator(tmp_path, model, SOURCE, TARGET, ours.specials, decoding)
    theirs = Runner(tmp_path)
    for lengths in LENGTHS:
        for width in (1, 2):
            assert compare(model, theirs, width, lengths) < 1e-5
    texts = SOURCES[:4]
    monkeypatch.setattr(ours, "max_tokens", 40)
    expected = [one.text for one in ours.translate(texts, max_length=40)]
    found = run_readme(tmp_path, monkeypatch, **{EXAMPLE: ", ".join(map(repr, texts)), "range(1023)": "range(40)"})
    assert found == expected
    assert len(set(expected)) > 1
