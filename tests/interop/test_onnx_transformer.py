"""A Transformer as ONNX graphs says what it says here."""

import json
import sys
from pathlib import Path

import onnx
import pytest
import torch

import regard
from conftest import TinyModel
from interop.exported_models import run_readme, shaken
from interop.onnx_translators import LENGTHS, Runner, compare
from regard.errors import MissingExtraError
from regard.interop.onnx import write_translator
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs.translator import Translator


@pytest.fixture(scope="module")
def written(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("onnx")
    write(regard.load(tiny_model.directory), directory)
    return directory


def write(ours: Translator, directory: Path) -> None:
    both = ours.tokenizers
    write_translator(directory, ours.model, both.source, both.target, ours.specials, ours.decoding)


def test_the_same_log_probabilities_step_by_step(tmp_path: Path) -> None:
    config = TransformerConfig(13, 13, 1, 2, 12, 16, 4, 2, norm="pre", shared="none", max_length=40, **OTHERS)
    torch.manual_seed(0)
    model = build_transformer(config).eval()
    shaken(model)
    theirs = Runner(model, tmp_path)
    for lengths in LENGTHS:
        for width in (1, 2):
            assert compare(model, theirs, width, lengths) < 1e-5


OTHERS = {"activation": "gelu", "embedding_norm": True, "output_bias": True, "dropout": 0.0}


def test_a_readme_translates_a_ragged_batch(
    written: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*tiny_model.sources, "  one ", "today today two", "cats sleep dogs"]
    ours = regard.load(tiny_model.directory)
    expected = [one.text for one in ours.translate(texts, beam=1, max_length=36)]
    example = '"Two dogs play.", "A man reads the newspaper in the park."'
    assert run_readme(written, monkeypatch, **{example: ", ".join(map(repr, texts))}) == expected
    assert expected[: len(tiny_model.targets)] == tiny_model.targets


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


def test_without_the_library(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"needs onnxscript: pip install 'regard\[onnx\]'"):
        write(regard.load(tiny_model.directory), tmp_path)
