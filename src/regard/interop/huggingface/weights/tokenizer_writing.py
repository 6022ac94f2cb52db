"""Tokenizers of this package as those of Hugging Face transformers: tokenizer.json and tokenizer_config.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from regard.data.normalization import join_normalizer, split_normalizer
from regard.data.tokenizer_files import SPECIALS
from regard.data.tokenizers import Tokenizer
from regard.errors import UnsupportedError
from regard.files import write_json
from regard.interop.huggingface.weights.tokenizer_reading import FILE, TARGET
from regard.models.config import ModelConfig, TextConfig
from regard.models.encoder_decoder import EncoderDecoderConfig

TOKENIZER_CONFIG: Final = "tokenizer_config.json"
CLASS: Final = "PreTrainedTokenizerFast"  # which opens any tokenizer.json
MASK: Final = "<mask>"
RUNNING: Final = ("language_modelling", "masked_language_modelling", "encoder")
"""Tasks whose texts are running text (`Tokenizer.encode_text`); those of others are sentences (`Tokenizer.encode`)."""

_TOKEN: Final = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def frame_of(tokenizers: Sequence[Tokenizer]) -> dict[str, Any]:
    """What stands around the texts of a translation model that was trained here: see `translation_content`.

    Raises:
        UnsupportedError: there is no tokenizer.
    """
    if not tokenizers:
        raise UnsupportedError("a translation model without tokenizers can only be written if content has its 'frame'")
    source, target = tokenizers[0], tokenizers[-1]
    return {
        "start": target.bos_id,
        "end": target.eos_id,
        "pad": target.pad_id,
        "source_begin": [],
        "source_end": source.eos_id,
        "source_pad": source.pad_id,
    }


def write_tokenizers(
    directory: Path, task: str, config: ModelConfig, tokenizers: Sequence[Tokenizer], content: Mapping[str, Any]
) -> None:
    """Write the tokenizers of a model into its directory.

    Args:
        directory: of the model.
        task: what it is for.
        config: its configuration.
        tokenizers: none, one, or the source's and the target's.
        content: what its config.json says here: what stands around a text.

    Raises:
        UnsupportedError: a tokenizer has ids that the model hasn't.
    """
    joint = len({one.content for one in tokenizers}) == 1
    for number, tokenizer in enumerate(tokenizers[:1] if joint else tokenizers):
        folder = directory / TARGET if number else directory
        folder.mkdir(exist_ok=True)
        around = _around(task, content, tokenizer, target=number > 0)
        size = _vocabulary(config, target=number > 0)
        frame = _frame(tokenizer, task, size, content.get("mask"))
        frame["post_processor"] = _template(frame, *around, pair=task not in ("translation", "language_modelling"))
        write_json(folder / FILE, frame)
        write_json(folder / TOKENIZER_CONFIG, _settings(frame, task, config, tokenizer, content, target=number > 0))


def _vocabulary(config: ModelConfig, target: bool) -> int:
    if isinstance(config, EncoderDecoderConfig):
        return config.target_vocabulary if target else config.source_vocabulary
    assert isinstance(config, TextConfig)
    return config.vocabulary


def _around(task: str, content: Mapping[str, Any], tokenizer: Tokenizer, target: bool) -> tuple[list[int], list[int]]:
    """The ids that stand before and after a text."""
    if task == "translation":
        frame = content["frame"]
        return ([], [frame["end"]]) if target else (list(frame["source_begin"]), [frame["source_end"]])
    if task == "language_modelling":
        begin = content["generation"]["begin"]
        return ([] if begin is None else [begin], [])
    return [tokenizer.bos_id], [tokenizer.eos_id]


def _frame(tokenizer: Tokenizer, task: str, size: int, mask: int | None) -> dict[str, Any]:
    """The tokenizer's file, with its special tokens as the library finds them, and no id that the model hasn't."""
    frame: dict[str, Any] = json.loads(tokenizer.content)
    vocabulary = frame["model"]["vocab"]
    if len(vocabulary) > size:
        raise UnsupportedError(
            f"the tokenizer has {len(vocabulary)} ids, the model a vocabulary of {size}: transformers would give it "
            "ids that it doesn't have"
        )
    rules, rest = split_normalizer(frame["normalizer"])
    if tokenizer.kind in ("bpe", "unigram") and task in RUNNING:
        rest = None  # it puts a space in front, which running text doesn't have
    if task not in RUNNING:
        rules = [{"type": "Strip", "strip_left": True, "strip_right": True}, *rules]
    frame["normalizer"] = join_normalizer(rules, rest) if rules else rest
    if tokenizer.kind == "given":
        frame["added_tokens"] = [one for one in frame["added_tokens"] if one["id"] < size]
    else:
        frame["added_tokens"] = [{"id": i, "content": name, **_TOKEN} for i, name in enumerate(SPECIALS)]
    if mask is not None and mask not in {one["id"] for one in frame["added_tokens"]}:
        # of a tokenizer that was trained here: the id behind its own
        frame["added_tokens"].append({"id": mask, "content": MASK, **_TOKEN})
    return frame


def _names(frame: Mapping[str, Any]) -> dict[int, str]:
    """The names of all special tokens."""
    return {one["id"]: one["content"] for one in frame["added_tokens"] if one["special"]}


def _template(frame: Mapping[str, Any], before: list[int], after: list[int], pair: bool) -> dict[str, Any] | None:
    """What puts special tokens around a text, or around two of them: the second one is of type 1."""
    if not before and not after:
        return None
    names = _names(frame)

    def special(ids: list[int], kind: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": names[one], "type_id": kind}} for one in ids]

    def text(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [*special(before, 0), text("A", 0), *special(after, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", int(pair)), *special(after, int(pair))],
        "special_tokens": {
            names[one]: {"id": names[one], "ids": [one], "tokens": [names[one]]} for one in {*before, *after}
        },
    }


def _settings(
    frame: Mapping[str, Any],
    task: str,
    config: ModelConfig,
    tokenizer: Tokenizer,
    content: Mapping[str, Any],
    target: bool,
) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    names = _names(frame)
    ids = {"pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": tokenizer.unk_id}
    if task == "translation":
        given = content["frame"]
        ids |= {"eos": given["end" if target else "source_end"], "pad": given["pad" if target else "source_pad"]}
    elif task == "language_modelling":
        begin, end = content["generation"]["begin"], content["generation"]["end"]
        ids |= {"bos": ids["bos"] if begin is None else begin, "eos": end[0] if end else ids["eos"]}
    else:
        ids |= {"cls": tokenizer.bos_id, "sep": tokenizer.eos_id}
        if content.get("mask") is not None:
            ids["mask"] = content["mask"]
    inputs = ["input_ids", "attention_mask"]
    if task not in ("translation", "language_modelling"):
        inputs.insert(1, "token_type_ids")
    return {
        "tokenizer_class": CLASS,
        "model_max_length": config.max_length,
        "model_input_names": inputs,
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": names[one] for role, one in ids.items() if one in names},
    }
