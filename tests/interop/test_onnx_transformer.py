"""A Transformer as ONNX graphs says what it says here."""

import json
import sys
from pathlib import Path

import onnx
import pytest
import torch

from interop.exported_models import SOURCES, TARGETS, letters, run_readme, shaken
from interop.onnx_translators import LENGTHS, Runner, compare
from regard.errors import MissingExtraError
from regard.interop.onnx import write_translator
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs.directory import Tokenizers
from regard.runs.translator import Translator

JOINT = letters(SOURCES + TARGETS)
EXAMPLE = '"Two dogs play.", "A man reads the newspaper in the park."'


@pytest.fixture(scope="module")
def translator() -> Translator:
    size = JOINT.vocab_size
    config = TransformerConfig(
        size, size, 1, 1, 12, 16, 3, dropout=0.0, norm="pre", activation="gelu", embedding_norm=True, max_length=30
    )
    torch.manual_seed(0)
    model = build_transformer(config).eval()
    shaken(model, 0.6)
    # pad, bos and unk: the library doesn't leave them out of a text
    decoding = {"beam": 1, "penalty": "none", "alpha": 1.0, "max_ratio": 2.0, "forbidden": [[0], [1], [3]]}
    return Translator(model, Tokenizers(JOINT, JOINT), decoding)


@pytest.fixture(scope="module")
def written(translator: Translator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("onnx")
    write_translator(directory, translator.model, JOINT, JOINT, translator.specials, translator.decoding)
    return directory


def test_the_same_log_probabilities_step_by_step(translator: Translator, written: Path) -> None:
    theirs = Runner(written)
    for lengths in LENGTHS:
        for width in (1, 2):
            assert compare(translator.model, theirs, width, lengths) < 1e-5


def test_the_readme_translates_a_ragged_batch(
    translator: Translator, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*SOURCES[:4], "  two ", "play play"]
    expected = [one.text for one in translator.translate(texts, max_length=29)]
    assert run_readme(written, monkeypatch, **{EXAMPLE: ", ".join(map(repr, texts))}) == expected
    assert len(set(expected)) > 3


def test_what_the_directory_says(written: Path) -> None:
    content = json.loads((written / "config.json").read_text())
    assert content["task"] == "translation" and content["model"]["name"] == "transformer"
    for part in ("encoder", "step"):
        model = onnx.load(written / content[part]["file"])
        onnx.checker.check_model(model)
        shapes = {
            place.name: [axis.dim_param or axis.dim_value for axis in place.type.tensor_type.shape.dim]
            for place in model.graph.input
        }
        assert shapes == {place["name"]: place["axes"] for place in content[part]["inputs"]}
        assert [place.name for place in model.graph.output] == content[part]["outputs"]
        assert str(Path(__file__).parents[2]) not in str(model)  # where it was made is nobody's business


def test_without_the_library(translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"needs onnxscript: pip install 'regard\[onnx\]'"):
        write_translator(tmp_path, translator.model, JOINT, JOINT, translator.specials, translator.decoding)
