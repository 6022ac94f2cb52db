"""A model directory as a directory of another library: Hugging Face transformers, CTranslate2, ONNX."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from regard.errors import ArgumentError, CheckpointError, UnsupportedError
from regard.files import sync_folder, umask, write_json
from regard.interop import ctranslate2, onnx
from regard.interop.huggingface.weights import write_weights
from regard.models.transformer import Transformer
from regard.runs.directory import read_config, read_json
from regard.runs.language_model import LanguageModel
from regard.runs.load import Opened, open_model_directory
from regard.runs.translator import Translator

RECORD: Final = "export.json"
"""Says that `export` wrote a directory, and which files are its own."""
FORMAT: Final = "regard export 1"
PRECISIONS: Final = ctranslate2.PRECISIONS


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        directory: where.
        target: for which library.
        task: what the model is for.
        model: its architecture in one line.
        precision: in which its weights are stored.
        files: their sizes in bytes, by name.
    """

    directory: Path
    target: str
    task: str
    model: str
    precision: str
    files: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "directory": str(self.directory),
            "to": self.target,
            "task": self.task,
            "model": self.model,
            "precision": self.precision,
            "files": dict(self.files),
        }


@dataclass(frozen=True)
class _Origin:
    """A model to be written.

    Attributes:
        path: its directory.
        opened: the model.
        precision: of the weights, one of `PRECISIONS`.
    """

    path: Path
    opened: Opened
    precision: str


def export(directory: Path, target: str, out: Path, precision: str = "float32") -> Exported:
    """Write a model for another library, whole or not at all.

    Args:
        directory: of the model: one that `regard train` made, or one of Hugging Face's.
        target: "huggingface", "ctranslate2" or "onnx".
        out: the directory to make: new, empty, or one that `export` has made before, which is replaced.
        precision: of the weights: "float32"; CTranslate2 also has "float16" and "int8".

    Raises:
        ArgumentError: there is no such target or precision, or `out` holds something else.
        CheckpointError: the model cannot be read.
        UnsupportedError: the library has no such model; the message says which has.
        MissingExtraError: what writes for this library isn't installed.
    """
    if target not in WRITERS:
        raise ArgumentError(f"target is {target!r}: expected {', '.join(WRITERS)}")
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision is {precision!r}: expected {', '.join(PRECISIONS)}")
    if precision != "float32" and target != "ctranslate2":
        raise ArgumentError(f"precision {precision} is for ctranslate2: what is written for {target} is float32")
    _check_free(out)
    opened = open_model_directory(directory, device="cpu")
    writers = WRITERS[target]
    if opened.task not in writers:
        able = " or ".join(name for name, tasks in WRITERS.items() if opened.task in tasks)
        raise UnsupportedError(f"{directory}: a model for {opened.task} can be exported to {able}, not to {target}")
    words = str(opened.runner.model.config.words())
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp-", dir=out.parent))
    try:
        writers[opened.task](temporary, _Origin(directory, opened, precision))
        temporary.chmod(0o777 & ~umask())  # mkdtemp's 0700 would hide the model from other users
        files = {str(file.relative_to(temporary)): file.stat().st_size for file in _files(temporary)}
        record = {"format": FORMAT, "to": target, "task": opened.task, "model": words, "files": [*files, RECORD]}
        write_json(temporary / RECORD, record)
        _check_free(out)  # the export took a while
        _replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # only there if something failed
    return Exported(out, target, opened.task, words, precision, files)


def _translator_to_ctranslate2(directory: Path, origin: _Origin) -> None:
    translator = _translator(origin)
    model = translator.model
    if not isinstance(model, Transformer):
        raise UnsupportedError(
            f"{origin.path}: CTranslate2 has Transformers only, and this is another model ({model.config.words()}): "
            "it can be exported to onnx"
        )
    ctranslate2.write_translator(
        directory,
        model,
        translator.tokenizers.source,
        translator.tokenizers.target,
        translator.specials,
        translator.decoding,
        origin.precision,
    )


def _translator_to_onnx(directory: Path, origin: _Origin) -> None:
    translator = _translator(origin)
    onnx.write_translator(
        directory,
        translator.model,
        translator.tokenizers.source,
        translator.tokenizers.target,
        translator.specials,
        translator.decoding,
    )


def _language_model_to_ctranslate2(directory: Path, origin: _Origin) -> None:
    model = _language_model(origin)
    ctranslate2.write_generator(directory, model.model, model.tokenizer, model.begin, model.end, origin.precision)


def _language_model_to_onnx(directory: Path, origin: _Origin) -> None:
    model = _language_model(origin)
    onnx.write_generator(directory, model.model, model.tokenizer, model.begin, model.end)


def _to_huggingface(directory: Path, origin: _Origin) -> None:
    runner = origin.opened.runner
    if origin.opened.origin != "regard":
        raise UnsupportedError(f"{origin.path}: is a directory of {origin.opened.origin} already")
    if isinstance(runner, Translator):
        both = runner.tokenizers
        tokenizers = [both.source] if both.joint else [both.source, both.target]
    else:
        tokenizers = [runner.tokenizer]
    content = {k: v for k, v in read_config(origin.path).content.items() if k not in ("format", "task", "model")}
    write_weights(directory, origin.opened.task, runner.model, tokenizers, content)


def _translator(origin: _Origin) -> Translator:
    assert isinstance(origin.opened.runner, Translator)  # the task says so
    return origin.opened.runner


def _language_model(origin: _Origin) -> LanguageModel:
    assert isinstance(origin.opened.runner, LanguageModel)  # the task says so
    return origin.opened.runner


WRITERS: Final[Mapping[str, Mapping[str, Callable[[Path, _Origin], None]]]] = {
    "huggingface": dict.fromkeys(
        ("translation", "language_modelling", "masked_language_modelling", "classification", "tagging"),
        _to_huggingface,
    ),
    "ctranslate2": {
        "translation": _translator_to_ctranslate2,
        "language_modelling": _language_model_to_ctranslate2,
    },
    "onnx": {
        "translation": _translator_to_onnx,
        "language_modelling": _language_model_to_onnx,
    },
}
"""What writes a model into a directory, by the library and the task of the model."""


def _check_free(out: Path) -> None:
    """Refuse a place where something lies that `export` didn't write."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / RECORD).is_file():
        raise ArgumentError(f"{out} exists, and not from an export: choose another directory")
    try:
        record = read_json(out / RECORD)
        own = set(record["files"]) if record["format"] == FORMAT else set()
    except (CheckpointError, KeyError, TypeError):
        own = set()
    for file in _files(out):
        name = str(file.relative_to(out))
        if name not in own:
            raise ArgumentError(f"{out} holds {name}, which is not from an export: choose another directory")


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if not path.is_dir())


def _replace(new: Path, out: Path) -> None:
    """Put a directory in its place; what was there before, of an older export, is gone only after that."""
    if out.exists() and any(out.iterdir()):
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
        os.replace(out, old)
        os.replace(new, out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(new, out)
    sync_folder(out.parent)
