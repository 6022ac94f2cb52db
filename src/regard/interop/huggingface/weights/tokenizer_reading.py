"""The tokenizers of Hugging Face directories, and what they put around a text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import tokenizers as library

from regard.data.given_tokenizers import read_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.errors import CheckpointError, DataError, UnsupportedError
from regard.interop.huggingface.directory import TOKENIZERS
from regard.interop.huggingface.weights.marian_tokenizers import MARIAN_FILES, read_marian_tokenizers

FILE: Final = "tokenizer.json"
TARGET: Final = "target"
"""The folder with the tokenizer of the target language, where it is another one than the source's."""

PROBES: Final = ("a", "1", "。")
"""Texts of which a tokenizer knows one, to see what it puts around."""


def read_tokenizers(directory: Path, model_type: str, config: Mapping[str, Any]) -> tuple[Tokenizer, ...]:
    """The tokenizers of a directory: none, one, or the source's and the target's.

    Args:
        directory: of the model.
        model_type: its family.
        config: content of config.json.

    Raises:
        CheckpointError: there are files of a tokenizer, but not those that are read, or they are damaged; the message
            says how to make them.
    """
    files = [directory / FILE, directory / TARGET / FILE]
    try:
        if files[0].exists():
            return tuple(read_tokenizer(file) for file in files if file.exists())
        if model_type == "marian" and any((directory / name).exists() for name in MARIAN_FILES):
            return read_marian_tokenizers(directory)
    except (DataError, UnsupportedError) as error:
        raise CheckpointError(str(error)) from error
    present = [name for name in TOKENIZERS if (directory / name).exists() and name != "tokenizer_config.json"]
    if present:
        raise CheckpointError(
            f"{directory}: its tokenizer is in {present[0]}, and there is no {FILE}, which is what is read. Make it "
            f"once, in Python: from transformers import AutoTokenizer; "
            f"AutoTokenizer.from_pretrained({str(directory)!r}).save_pretrained({str(directory)!r})"
        )
    return ()


def template(directory: Path) -> tuple[list[int], list[int]] | None:
    """The ids that the tokenizer of a directory puts before and after a text; None if it has no tokenizer.json.

    Raises:
        CheckpointError: it puts something into the text.
    """
    file = directory / FILE
    if not file.exists():
        return None
    inner = library.Tokenizer.from_file(str(file))
    probe = next((text for text in PROBES if inner.encode(text, add_special_tokens=False).ids), PROBES[0])
    plain = inner.encode(probe, add_special_tokens=False).ids
    whole = inner.encode(probe, add_special_tokens=True).ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    raise CheckpointError(f"{file}: what it puts around a text is not supported")


def framed(task: str, content: Mapping[str, Any], directory: Path, tokenizers: Sequence[Tokenizer]) -> dict[str, Any]:
    """What a directory says of its model, with what its tokenizer says.

    Args:
        task: of the model.
        content: what its config.json and generation_config.json say.
        directory: of the model.
        tokenizers: that were read.

    Raises:
        CheckpointError: the tokenizer doesn't fit the task; the message names its file.
    """
    found = dict(content)
    around = template(directory)
    if task == "translation" and tokenizers:
        frame = dict(found["frame"])
        before, after = around if around is not None else ([], [frame["end"]])
        if len(after) != 1:
            raise CheckpointError(f"{directory / FILE}: it ends a text with the ids {after}; supported is one")
        frame |= {"source_begin": before, "source_end": after[0]}
        frame["source_unknown"], frame["unknown"] = tokenizers[0].unk_id, tokenizers[-1].unk_id
        found["frame"] = frame
    if task == "language_modelling" and around is not None:
        before, after = around
        if len(before) > 1 or after:
            raise CheckpointError(
                f"{directory / FILE}: it puts {before} before and {after} after a text; supported is one id before"
            )
        found["generation"] = {**found["generation"], "begin": before[0] if before else None}
    if task == "masked_language_modelling" and tokenizers:
        found["mask"] = tokenizers[0].mask_id
    return found
