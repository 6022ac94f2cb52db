"""Models of Hugging Face directories as what runs them on texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.interop.huggingface.directory import CONFIG
from regard.interop.huggingface.weights import Converted
from regard.interop.huggingface.weights.generation import GENERATION_CONFIG
from regard.models.bert import MaskedLanguageModel, SentenceClassifier, TokenTagger
from regard.models.gpt import GPT
from regard.models.transformer import Transformer
from regard.runs.directory import Tokenizers
from regard.runs.labels import Classifier, Tagger
from regard.runs.language_model import LanguageModel
from regard.runs.masked_model import MaskedModel
from regard.runs.translator import Translator

M = TypeVar("M")


def _model(found: Converted, kind: type[M]) -> M:
    assert isinstance(found.model, kind)  # the tables say which task has which model
    return found.model


def _tokenizer(path: Path, found: Converted) -> Tokenizer:
    if not found.tokenizers:
        raise CheckpointError(
            f"{path}: there is no tokenizer.json, without which no text can be read; tokenizer.save_pretrained of a "
            "fast tokenizer writes it"
        )
    return found.tokenizers[0]


def _translator(path: Path, found: Converted) -> Translator:
    source = _tokenizer(path, found)
    tokenizers, content, model = Tokenizers(source, found.tokenizers[-1]), found.content, _model(found, Transformer)
    around = [*content["frame"]["source_begin"], content["frame"]["source_end"]]
    if max(around) >= model.config.source_vocabulary:
        raise CheckpointError(
            f"{path}: its tokenizer puts the ids {around} around a text; the model has {model.config.source_vocabulary}"
        )
    return Translator(model, tokenizers, content["decoding"], frame=content["frame"])


def _language_model(path: Path, found: Converted) -> LanguageModel:
    said, tokenizer = found.content["generation"], _tokenizer(path, found)
    try:
        return LanguageModel(_model(found, GPT), tokenizer, said["begin"], tuple(said["end"]))
    except ArgumentError as error:
        file = path / GENERATION_CONFIG
        raise CheckpointError(f"{file if file.exists() else path / CONFIG}: {error}") from error


def _masked_model(path: Path, found: Converted) -> MaskedModel:
    if found.content["mask"] is None:
        raise CheckpointError(f"{path}: its tokenizer has no mask token, [MASK] or <mask>")
    return MaskedModel(_model(found, MaskedLanguageModel), _tokenizer(path, found), found.content["mask"])


def _classifier(path: Path, found: Converted) -> Classifier:
    return Classifier(_model(found, SentenceClassifier), _tokenizer(path, found), tuple(found.content["labels"]))


def _tagger(path: Path, found: Converted) -> Tagger:
    return Tagger(_model(found, TokenTagger), _tokenizer(path, found), tuple(found.content["labels"]))


CONVERTED: dict[str, Callable[[Path, Converted], Any]] = {
    "translation": _translator,
    "language_modelling": _language_model,
    "masked_language_modelling": _masked_model,
    "classification": _classifier,
    "tagging": _tagger,
}
"""What runs a model, by its task."""
