"""Local directories of Hugging Face models: opened offline, from safetensors alone, without code of their own."""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from regard.errors import CheckpointError, MissingExtraError

CONFIG: Final = "config.json"
WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")
PICKLED: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
TOKENIZERS: Final = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "source.spm"),
)
"""Files of which one at least is there if there is a tokenizer."""


def open_directory(path: str | Path, device: torch.device | str = "cpu") -> tuple[Any, Any]:
    """Open a model of Hugging Face transformers and its tokenizer from a local directory.

    Nothing is fetched, no code of the directory is run, and no pickle is read. Weights keep their dtype, and attention
    is computed as the library does by default.

    Args:
        path: what `model.save_pretrained(path)` and `tokenizer.save_pretrained(path)` wrote.
        device: where the model goes.

    Returns:
        The model, in evaluation mode, and the tokenizer, or None if there are no files of one.

    Raises:
        CheckpointError: the directory is missing, no such directory, damaged, or its weights are pickled or incomplete.
        MissingExtraError: transformers isn't installed.
    """
    path = Path(path)
    name = architecture(path)
    check_weights(path, name)
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: Hugging Face models need transformers: pip install 'regard[huggingface]'"
        ) from error
    kind = getattr(transformers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel)):
        raise CheckpointError(
            f"{path / CONFIG}: transformers {transformers.__version__} has no model {name}; "
            "models with code of their own are not run"
        )
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with _named(path, "model"), quiet():
        opens: Any = kind.from_pretrained
        model, report = opens(path, use_safetensors=True, dtype="auto", output_loading_info=True, **local)
    missing = sorted(report["missing_keys"])
    if missing:  # the library fills them with random numbers
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(f"{path}: the weights lack {', '.join(missing[:3])}{more}, which {name} has")
    tokenizer = None
    if any((path / file).exists() for file in TOKENIZERS):
        with _named(path, "tokenizer"), quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
    return model.to(device).eval(), tokenizer


def is_directory(config: object) -> bool:
    """Whether the content of a config.json is that of a Hugging Face model."""
    return isinstance(config, dict) and ("architectures" in config or "model_type" in config)


def read_object(file: Path) -> dict[str, Any]:
    """The content of a JSON file that is an object.

    Raises:
        CheckpointError: it is missing, damaged, or something else.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: damaged or not readable ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: expected a JSON object, not {content!r:.80}")
    return content


def architecture(path: Path) -> str:
    """The class that the directory's model is of.

    Raises:
        CheckpointError: config.json is missing or damaged, or doesn't say it.
    """
    file = path / CONFIG
    named = read_object(file).get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str) or not named[0].isidentifier():
        raise CheckpointError(f"{file}: expected the name of the model's class as architectures[0], not {named!r}")
    return named[0]


def check_weights(path: Path, name: str) -> None:
    """Refuse a directory whose weights are not safetensors.

    Args:
        path: the directory.
        name: class of its model, for the command that converts pickled weights.

    Raises:
        CheckpointError: there are no weights, or only pickled ones.
    """
    if any((path / file).exists() for file in WEIGHTS):
        return
    pickled = [file for file in PICKLED if (path / file).exists()]
    if pickled:
        raise CheckpointError(
            f"{path}: its weights are only in {pickled[0]}, which is not read, as such a file may run code. If you "
            f"trust it, convert it once, in Python: from transformers import {name}; "
            f"model = {name}.from_pretrained({str(path)!r}); "
            f"model.save_pretrained({str(path)!r}, safe_serialization=True)"
        )
    raise CheckpointError(f"{path}: there are no weights, expected {WEIGHTS[0]}")


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """What the library says of a damaged directory, which may be an error of any kind, as one of this package."""
    try:
        yield
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise CheckpointError(
            f"{path}: transformers can't open its {what}: {type(error).__name__}: {first[:300]}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers from writing progress bars and warnings to standard error."""
    from transformers import utils

    logging: Any = utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
