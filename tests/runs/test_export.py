"""Exports of directories: what goes where, what is refused, and that a directory is whole or not there."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from conftest import PAIRS, TinyModel
from regard.data import train_tokenizer
from regard.errors import ArgumentError, CheckpointError, UnsupportedError
from regard.interop import ctranslate2, onnx
from regard.models.bahdanau import BahdanauConfig
from regard.models.bert import BERTConfig, build_masked_language_model
from regard.models.families import build_model
from regard.models.gpt import GPTConfig, build_gpt
from regard.runs.directory import Tokenizers, save_model, write_model
from regard.runs.export import WRITERS, export

JOINT = train_tokenizer("bpe", [text for pair in PAIRS for text in pair], 331)
SIZE = JOINT.vocab_size


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gpt")
    config = GPTConfig(vocabulary=SIZE, layers=1, width=8, feedforward=16, heads=2, max_length=32)
    torch.manual_seed(0)
    weights = build_gpt(config).state_dict()
    JOINT.save(directory / "tokenizer.json")
    write_model(directory, "language_modelling", config, weights, {"generation": {"begin": 1, "end": [2]}})
    return directory


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bert")
    config = BERTConfig(vocabulary=SIZE + 1, layers=1, width=8, feedforward=16, heads=2, max_length=32)
    torch.manual_seed(0)
    weights = build_masked_language_model(config).state_dict()
    JOINT.save(directory / "tokenizer.json")
    write_model(directory, "masked_language_modelling", config, weights, {"mask": SIZE, "next_sentence": False})
    return directory


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bahdanau")
    config = BahdanauConfig(SIZE, SIZE, embedding=6, width=8, attention_width=7, maxout=5)
    Tokenizers(JOINT, JOINT).save(directory)
    decoding = {"beam": 1, "penalty": "none", "alpha": 1.0, "max_ratio": 2.0}
    save_model(directory, config, build_model(config).state_dict(), decoding)
    return directory


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_to_ctranslate2(tiny_model: TinyModel, gpt: Path, tmp_path: Path) -> None:
    done = export(tiny_model.directory, "ctranslate2", tmp_path / "a" / "b", "int8")
    names = {"README.md", "config.json", "model.bin", "shared_vocabulary.json", "tokenizer.json"}
    assert set(done.files) == names
    assert files(done.directory) == names | {"export.json"}
    assert done.files["model.bin"] == (done.directory / "model.bin").stat().st_size
    assert (done.task, done.target, done.precision) == ("translation", "ctranslate2", "int8")
    assert done.model.startswith("Transformer, 1+1 layers")
    assert json.loads((done.directory / "export.json").read_text())["to"] == "ctranslate2"
    assert not [path for path in done.directory.parent.iterdir() if path != done.directory]  # nothing is left behind
    again = export(gpt, "ctranslate2", tmp_path / "gpt")
    assert again.task == "language_modelling" and "vocabulary.json" in again.files


def test_to_huggingface(tiny_model: TinyModel, gpt: Path, bert: Path, tmp_path: Path) -> None:
    for directory in (tiny_model.directory, gpt, bert):
        done = export(directory, "huggingface", tmp_path / directory.name)
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(done.files)
        ours, theirs = regard.load(directory), regard.load(done.directory)
        weights = ours.model.state_dict()
        for name, weight in theirs.model.state_dict().items():
            assert torch.equal(weight, weights[name])
        with pytest.raises(UnsupportedError, match="is a directory of Hugging Face transformers already"):
            export(done.directory, "huggingface", tmp_path / "again")
    onward = export(tmp_path / tiny_model.directory.name, "ctranslate2", tmp_path / "onward")  # and from there on
    assert "model.bin" in onward.files


def test_what_goes_to_onnx(recurrent: Path, gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []

    def keep(directory: Path, *rest: object) -> tuple[str, ...]:
        given.append((directory.name, *rest))
        return ()

    monkeypatch.setattr(onnx, "write_translator", keep)
    monkeypatch.setattr(onnx, "write_generator", keep)
    assert export(recurrent, "onnx", tmp_path / "r").task == "translation"
    assert export(gpt, "onnx", tmp_path / "g").task == "language_modelling"
    (_, model, source, target, specials, decoding), (_, gpt_model, tokenizer, begin, end) = given
    assert model.config.NAME == "bahdanau" and source is target and specials.eos == 2 and decoding["beam"] == 1
    assert gpt_model.config.NAME == "gpt" and tokenizer.vocab_size == SIZE and (begin, end) == (1, (2,))


def test_what_a_library_lacks(recurrent: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"CTranslate2 has Transformers only.*Bahdanau.*exported to onnx"):
        export(recurrent, "ctranslate2", tmp_path / "a")
    with pytest.raises(UnsupportedError, match="masked_language_modelling can be exported to huggingface, not to onnx"):
        export(bert, "onnx", tmp_path / "a")
    with pytest.raises(UnsupportedError, match="transformers has no model like this one"):
        export(recurrent, "huggingface", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments(tiny_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="target is 'tflite': expected huggingface, ctranslate2, onnx"):
        export(tiny_model.directory, "tflite", tmp_path / "a")
    with pytest.raises(ArgumentError, match="precision is 'int4': expected float32, float16, int8"):
        export(tiny_model.directory, "ctranslate2", tmp_path / "a", "int4")
    with pytest.raises(ArgumentError, match="precision int8 is for ctranslate2"):
        export(tiny_model.directory, "onnx", tmp_path / "a", "int8")
    with pytest.raises(CheckpointError, match="no such model directory"):
        export(tmp_path / "missing", "onnx", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_an_export_is_replaced_and_no_other(
    tiny_model: TinyModel, gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(tiny_model.directory, "ctranslate2", out)
    assert export(gpt, "ctranslate2", out).task == "language_modelling"
    assert "shared_vocabulary.json" not in files(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(directory: Path, *rest: object) -> None:
        (directory / "half").write_text("")
        raise OSError("the disk is full")

    monkeypatch.setattr(ctranslate2, "write_translator", fail)
    with pytest.raises(OSError, match="full"):
        export(tiny_model.directory, "ctranslate2", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ArgumentError, match=r"holds notes\.txt, which is not from an export"):
        export(gpt, "ctranslate2", out)
    with pytest.raises(ArgumentError, match="exists, and not from an export"):
        export(gpt, "ctranslate2", tiny_model.directory)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="exists, and not from an export"):
        export(gpt, "ctranslate2", tmp_path / "file")
    with pytest.raises(ArgumentError, match="file is not a directory"):
        export(gpt, "ctranslate2", tmp_path / "file" / "in" / "it")
    for damaged in ("{", "[]", '{"format": "regard export 1", "files": ["README.md"]}'):
        (out / "export.json").write_text(damaged)
        with pytest.raises(ArgumentError, match="not from an export"):
            export(gpt, "ctranslate2", out)


def test_what_somebody_put_into_a_directory_of_an_export_stays(gpt: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(name: str, why: str) -> None:
        with pytest.raises(ArgumentError, match=f"holds {name}, {why}"):
            export(gpt, "ctranslate2", out)

    export(gpt, "ctranslate2", out)
    weights = (out / "model.bin").read_bytes()
    (out / "model.bin").write_bytes(bytes(len(weights)))  # tuned further: the same size, other numbers
    refused(r"model\.bin", "which has been changed since the export")
    assert (out / "model.bin").read_bytes() == bytes(len(weights))
    (out / "model.bin").write_bytes(weights)
    (out / "empty").mkdir()
    refused("empty", "which is not from an export")
    (out / "empty").rmdir()
    (out / "linked").symlink_to(gpt)
    refused("linked", "which is not from an export")
    (out / "linked").unlink()
    (out / "model.bin").rename(tmp_path / "elsewhere")
    (out / "model.bin").symlink_to(tmp_path / "elsewhere")
    refused(r"model\.bin", "which is no plain file")
    (out / "model.bin").unlink()
    export(gpt, "ctranslate2", out)  # a file less is nobody's loss
    assert (out / "model.bin").read_bytes() == weights


def test_the_directory_of_the_model_is_never_written_to(
    gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "models" / "hf"
    export(gpt, "huggingface", model)
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    (tmp_path / "link").symlink_to(model)
    for out, why in (
        (model, "is"),
        (tmp_path / "link", "is"),
        (model / "new" / "..", "is"),
        (model / "inside" / "it", "lies in"),
        (model.parent, "holds"),
        (Path("/"), "holds"),
    ):
        for origin in (model, tmp_path / "link"):
            with pytest.raises(ArgumentError, match=f"{why} the directory of the model"):
                export(origin, "ctranslate2", out, "int8")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(ArgumentError, match="is the current directory"):
        export(model, "ctranslate2", Path("."))
    with pytest.raises(ArgumentError, match=r"\.\. holds the current directory"):
        export(gpt, "ctranslate2", Path(".."))
    assert files(here) == set()


def test_links_stay_links(gpt: Path, tmp_path: Path) -> None:
    for name in ("an export", "empty", "missing"):
        where, link = tmp_path / name, tmp_path / f"{name} link"
        link.symlink_to(where)
        if name == "an export":
            export(gpt, "huggingface", where)
        if name == "empty":
            where.mkdir()
        done = export(gpt, "ctranslate2", link)
        assert done.directory == link and link.is_symlink() and "model.bin" in files(where)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(ArgumentError, match="circle"):
        export(gpt, "ctranslate2", tmp_path / "circle")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_older_export_comes_back_if_the_new_one_cannot_take_its_place(
    error: BaseException, gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "out", os.replace
    export(gpt, "ctranslate2", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(old: Path, new: Path) -> None:
        if ".tmp-" in Path(old).name and Path(new) == out:
            raise error
        rename(old, new)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        export(gpt, "huggingface", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_failed_export_leaves_no_folders_above_it(gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(directory: Path, *rest: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(ctranslate2, "write_generator", fail)
    with pytest.raises(OSError, match="full"):
        export(gpt, "ctranslate2", tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_every_task_goes_somewhere() -> None:
    tasks = {task for writers in WRITERS.values() for task in writers}
    assert tasks == set(WRITERS["huggingface"])
