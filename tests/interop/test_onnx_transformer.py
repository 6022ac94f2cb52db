"""A Transformer as ONNX graphs says what it says here."""

import json
import shutil
import sys
from pathlib import Path

import onnx
import pytest

import regard
from conftest import TinyModel
from interop.exported_models import run_readme
from interop.onnx_translators import LENGTHS, Runner, compare
from regard.errors import MissingExtraError
from regard.interop.onnx import translation, write_translator
from regard.runs.translator import Translator

EXAMPLE = '"Two dogs play.", "A man reads the newspaper in the park."'


@pytest.fixture(scope="module")
def translator(tiny_model: TinyModel) -> Translator:
    opened: Translator = regard.load(tiny_model.directory)
    return opened


@pytest.fixture(scope="module")
def written(translator: Translator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("onnx")
    write(translator, directory)
    return directory


def write(ours: Translator, directory: Path) -> None:
    both = ours.tokenizers
    write_translator(directory, ours.model, both.source, both.target, ours.specials, ours.decoding)


def test_the_same_log_probabilities_step_by_step(translator: Translator, written: Path) -> None:
    theirs = Runner(written)
    for lengths in LENGTHS:
        for width in (1, 2):
            assert compare(translator.model, theirs, width, lengths) < 1e-5


def test_the_readme_translates_a_ragged_batch(
    translator: Translator, written: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*tiny_model.sources, "  two ", "play today play"]
    expected = [one.text for one in translator.translate(texts, beam=1)]
    assert run_readme(written, monkeypatch, **{EXAMPLE: ", ".join(map(repr, texts))}) == expected
    assert expected[: len(tiny_model.pairs)] == tiny_model.targets
    assert "`regard translate --beam 1`" in (written / "README.md").read_text()  # the model's own is a wider beam


@pytest.mark.parametrize(
    "defaults",
    [
        {"max_ratio": 0.5, "min_length": 25},
        {"max_length": 2},
        {"max_length": 9, "min_length": 6, "forced_last": 2},
        {"forced_first": 20, "no_repeat_ngram": 2, "max_length": 15, "forced_last": 9},
        {"no_repeat_ngram": 1},
        {"phrases": True},
    ],
    ids=lambda x: ", ".join(x),
)
def test_the_readme_keeps_to_the_defaults(
    defaults: dict[str, object],
    translator: Translator,
    written: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both, texts = translator.tokenizers, ["two dogs play", "play today play two cats", "a"]
    free = {"beam": 1, "penalty": "none", "alpha": 1.0, "max_ratio": 2.0, "forbidden": [[0], [1], [3]]}
    plain = Translator(translator.model, both, free).translate(texts)
    if "phrases" in defaults:  # of two tokens and of one, which would be said
        said = [both.target.encode(one.text) for one in plain]
        defaults = {"forbidden": [*free["forbidden"], said[0][:2], said[1][1:2]], "no_repeat_ngram": 3}
    decoding = free | defaults
    expected = Translator(translator.model, both, decoding).translate(texts)
    assert [one.tokens for one in expected] != [one.tokens for one in plain]
    monkeypatch.setattr(translation, "write_graph", lambda path, graph: shutil.copy(written / path.name, path))
    notes = write_translator(tmp_path, translator.model, both.source, both.target, translator.specials, decoding)
    found = run_readme(tmp_path, monkeypatch, **{EXAMPLE: ", ".join(map(repr, texts))})
    assert (found, notes) == ([one.text for one in expected], ())


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
        write(translator, tmp_path)
