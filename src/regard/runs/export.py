"""A model directory as a directory of another library: Hugging Face transformers, CTranslate2, ONNX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from regard.errors import ArgumentError, UnsupportedError
from regard.interop import ctranslate2, onnx
from regard.interop.huggingface.weights import write_weights
from regard.models.transformer import Transformer
from regard.runs.directory import read_config
from regard.runs.export_place import place_of, write_record, written
from regard.runs.language_model import LanguageModel
from regard.runs.load import Opened, open_model_directory
from regard.runs.translator import Translator

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
        notes: which of the model's defaults of decoding the program in the directory doesn't have, a sentence each.
    """

    directory: Path
    target: str
    task: str
    model: str
    precision: str
    files: Mapping[str, int]
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "directory": str(self.directory),
            "to": self.target,
            "task": self.task,
            "model": self.model,
            "precision": self.precision,
            "files": dict(self.files),
            "notes": list(self.notes),
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
        out: the directory to make: new, empty, or one that `export` has made before and nobody has changed, which is
            replaced; a link stays and what it names is made. Not the model's directory, nor in it or around it.
        precision: of the weights: "float32"; CTranslate2 also has "float16" and "int8".

    Raises:
        ArgumentError: there is no such target or precision, or `out` can't be made, or holds something else.
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
    place = place_of(out, directory)
    opened = open_model_directory(directory, device="cpu")
    writers = WRITERS[target]
    if opened.task not in writers:
        able = " or ".join(name for name, tasks in WRITERS.items() if opened.task in tasks)
        raise UnsupportedError(f"{directory}: a model for {opened.task} can be exported to {able}, not to {target}")
    words = str(opened.runner.model.config.words())
    with written(place, out) as temporary:
        notes = writers[opened.task](temporary, _Origin(directory, opened, precision))
        files = write_record(temporary, {"to": target, "task": opened.task, "model": words})
    return Exported(out, target, opened.task, words, precision, files, tuple(notes))


def _translator_to_ctranslate2(directory: Path, origin: _Origin) -> Sequence[str]:
    translator = _translator(origin)
    model = translator.model
    if not isinstance(model, Transformer):
        raise UnsupportedError(
            f"{origin.path}: CTranslate2 has Transformers only, and this is another model ({model.config.words()}): "
            "it can be exported to onnx"
        )
    return ctranslate2.write_translator(
        directory,
        model,
        translator.tokenizers.source,
        translator.tokenizers.target,
        translator.specials,
        translator.decoding,
        origin.precision,
    )


def _translator_to_onnx(directory: Path, origin: _Origin) -> Sequence[str]:
    translator = _translator(origin)
    return onnx.write_translator(
        directory,
        translator.model,
        translator.tokenizers.source,
        translator.tokenizers.target,
        translator.specials,
        translator.decoding,
    )


def _language_model_to_ctranslate2(directory: Path, origin: _Origin) -> Sequence[str]:
    model = _language_model(origin)
    ctranslate2.write_generator(directory, model.model, model.tokenizer, model.begin, model.end, origin.precision)
    return ()


def _language_model_to_onnx(directory: Path, origin: _Origin) -> Sequence[str]:
    model = _language_model(origin)
    onnx.write_generator(directory, model.model, model.tokenizer, model.begin, model.end)
    return ()


def _to_huggingface(directory: Path, origin: _Origin) -> Sequence[str]:
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
    return ()


def _translator(origin: _Origin) -> Translator:
    assert isinstance(origin.opened.runner, Translator)  # the task says so
    return origin.opened.runner


def _language_model(origin: _Origin) -> LanguageModel:
    assert isinstance(origin.opened.runner, LanguageModel)  # the task says so
    return origin.opened.runner


WRITERS: Final[Mapping[str, Mapping[str, Callable[[Path, _Origin], Sequence[str]]]]] = {
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
"""What writes a model into a directory, by the library and the task of the model, and gives `Exported.notes`."""
