"""Facts about a model directory, for people and machines."""

from pathlib import Path
from typing import Any

import torch

from regard.models.config import parameter_count
from regard.runs.directory import WEIGHTS, load_model, read_json

NAMES = {"peak_memory": "peak memory in bytes"}


def describe(directory: Path) -> dict[str, Any]:
    """Architecture, size, vocabularies, decoding defaults and training result of a model directory.

    Raises:
        CheckpointError: it is not a model directory, or damaged.
    """
    saved = load_model(directory, torch.device("cpu"))
    config = saved.model.config
    facts: dict[str, Any] = {
        "task": "translation",
        "model": config.words(),
        "parameters": parameter_count(saved.model),
        "file size in bytes": (directory / WEIGHTS).stat().st_size,
        "longest sentence in tokens": config.max_length - 1,
    }
    if saved.tokenizers.joint:
        facts["joint vocabulary"] = saved.tokenizers.source.vocab_size
    else:
        facts["source vocabulary"] = saved.tokenizers.source.vocab_size
        facts["target vocabulary"] = saved.tokenizers.target.vocab_size
    facts["decoding"] = ", ".join(f"{key} {value}" for key, value in saved.decoding.items())
    facts |= {f"data: {key}": value for key, value in _optional(directory / "data.json").items()}
    result = _optional(directory / "result.json")
    facts |= {f"training: {NAMES.get(key, key)}": value for key, value in result.items() if key != "validation"}
    facts |= {f"validation: {key}": round(value, 4) for key, value in result.get("validation", {}).items()}
    return facts


def _optional(path: Path) -> dict[str, Any]:
    """A JSON file that a model directory may have."""
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path)
    return content
