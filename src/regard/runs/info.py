"""Facts about a model directory, for people and machines."""

from pathlib import Path
from typing import Any

from regard.models.config import parameter_count
from regard.runs.directory import read_json
from regard.runs.labels import Classifier, Tagger
from regard.runs.language_model import LanguageModel
from regard.runs.load import Runner, open_model_directory
from regard.runs.masked_model import MaskedModel
from regard.runs.translator import Translator

NAMES = {"peak_memory": "peak memory in bytes"}


def describe(directory: Path) -> dict[str, Any]:
    """Architecture, size, vocabularies, defaults and training result of a model directory, a Hugging Face one included.

    Raises:
        CheckpointError: it is not a model directory, or damaged.
    """
    opened = open_model_directory(directory, device="cpu")
    runner = opened.runner
    config = runner.model.config
    facts: dict[str, Any] = {
        "task": opened.task,
        "made by": opened.origin,
        "model": config.words(),
        "parameters": parameter_count(runner.model),
        "file size in bytes": sum(path.stat().st_size for path in sorted(directory.glob("*.safetensors"))),
        "positions": config.max_length,
    }
    facts |= _of(runner)
    facts |= {f"data: {key}": value for key, value in _optional(directory / "data.json").items()}
    result = _optional(directory / "result.json")
    facts |= {f"training: {NAMES.get(key, key)}": value for key, value in result.items() if key != "validation"}
    facts |= {f"validation: {key}": round(value, 4) for key, value in result.get("validation", {}).items()}
    return facts


def _of(runner: Runner) -> dict[str, Any]:
    """What there is to say of one kind."""
    match runner:
        case Translator():
            return _translator(runner)
        case LanguageModel():
            return {"vocabulary": runner.model.config.vocabulary, "end tokens": _pieces(runner, runner.end)}
        case MaskedModel():
            return {"vocabulary": runner.model.config.vocabulary}
        case Classifier() | Tagger():
            return {"vocabulary": runner.model.config.vocabulary, "labels": ", ".join(runner.labels)}


def _translator(translator: Translator) -> dict[str, Any]:
    facts: dict[str, Any] = {"longest sentence in tokens": translator.max_tokens}
    if translator.tokenizers.joint:
        facts["joint vocabulary"] = translator.tokenizers.source.vocab_size
    else:
        facts["source vocabulary"] = translator.tokenizers.source.vocab_size
        facts["target vocabulary"] = translator.tokenizers.target.vocab_size
    return facts | {"decoding": ", ".join(f"{key} {value}" for key, value in translator.decoding.items())}


def _pieces(model: LanguageModel, ids: tuple[int, ...]) -> str:
    return ", ".join(model.tokenizer.pieces(ids))


def _optional(path: Path) -> dict[str, Any]:
    """A JSON file that a model directory may have."""
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path)
    return content
