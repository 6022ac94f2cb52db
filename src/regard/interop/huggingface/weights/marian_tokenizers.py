"""Marian's tokenizers: a SentencePiece model for each language, and one table of ids of all their pieces (vocab.json).

The ids of a text are those of `MarianTokenizer`, with one difference: where several characters that the language's
model doesn't know follow each other, and the other language's does, they become pieces of that one instead of one
`<unk>`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from regard.data.given_files import NAMES
from regard.data.sentencepiece_models import frame_of_model
from regard.data.tokenizers import Tokenizer
from regard.errors import CheckpointError
from regard.interop.huggingface.directory import read_object

VOCABULARY: Final = "vocab.json"
TARGET_VOCABULARY: Final = "target_vocab.json"
MARIAN_FILES: Final = ("source.spm", "target.spm", VOCABULARY)

NEVER: Final = -1e5
"""The score of a piece that the language's model doesn't have: whatever else makes a text is better."""
_TOKEN: Final = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def read_marian_tokenizers(directory: Path) -> tuple[Tokenizer, Tokenizer]:
    """The tokenizers of the source and of the target language.

    Pieces of a model that vocab.json doesn't have get ids behind all others; they stand for what is unknown.

    Raises:
        CheckpointError: a file is missing or damaged.
        DataError, UnsupportedError: a SentencePiece model is damaged, or can't be taken over.
        MissingExtraError: sentencepiece isn't installed.
    """
    missing = [name for name in MARIAN_FILES if not (directory / name).exists()]
    if missing:
        raise CheckpointError(
            f"{directory}: its tokenizer is that of Marian, which is {', '.join(MARIAN_FILES)}; {missing[0]} is missing"
        )
    own = directory / TARGET_VOCABULARY
    tables = [directory / VOCABULARY, own if own.exists() else directory / VOCABULARY]
    source, target = (
        _tokenizer(directory / model, table) for model, table in zip(("source.spm", "target.spm"), tables, strict=True)
    )
    return source, target


def _tokenizer(model: Path, table: Path) -> Tokenizer:
    frame = frame_of_model(model.read_bytes(), str(model))
    pieces = _pieces(table)
    lacking = [name for name in ("</s>", "<unk>", "<pad>") if name not in pieces]
    if lacking:
        raise CheckpointError(f"{table}: it has no {lacking[0]}")
    own = frame["model"]
    known = dict(own["vocab"]) if own["type"] == "Unigram" else own["vocab"]
    special = {one["content"] for one in frame["added_tokens"]} | {"</s>", "<unk>", "<pad>"}
    # a begin symbol is not of Marian's, but each tokenizer here has one
    names = [*pieces, *(piece for piece in known if piece not in pieces)]
    names += [NAMES["bos"][0]] if NAMES["bos"][0] not in names else []
    special.add(NAMES["bos"][0])
    ids = {piece: place for place, piece in enumerate(names)}
    if own["type"] == "Unigram":
        scores = [[piece, 0.0 if piece in special else known.get(piece, NEVER)] for piece in names]
        changed = own | {"vocab": scores, "unk_id": ids["<unk>"]}
    else:
        changed = own | {"vocab": ids, "unk_token": "<unk>"}
    tokens = [
        {"id": place, "content": piece, **_TOKEN, "special": piece in special}
        for piece, place in ids.items()
        if piece in special or _is_language(piece)
    ]
    return Tokenizer(json.dumps(frame | {"added_tokens": tokens, "model": changed}, ensure_ascii=False), str(model))


def _is_language(piece: str) -> bool:
    """Whether a piece says which language is wanted: `>>fra<<`, written in front of a text."""
    return piece.startswith(">>") and piece.endswith("<<")


def _pieces(table: Path) -> list[str]:
    """The pieces in the order of their ids."""
    content: Mapping[str, Any] = read_object(table)
    if not all(type(one) is int for one in content.values()) or set(content.values()) != set(range(len(content))):
        raise CheckpointError(f"{table}: its ids are not 0, 1, 2, …")
    return sorted(content, key=content.__getitem__)
