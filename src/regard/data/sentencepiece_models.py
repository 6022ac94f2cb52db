"""A SentencePiece model as the file of the `tokenizers` library, with the same ids for every text.

Unigram models add scores in single precision; here they are added in double precision, so that two ways to cut a text
whose scores differ by less than that rounding can come out the other way.
"""

import base64
import importlib
from typing import Any, Final

from regard.data.tokenizer_files import SPACE_MARK
from regard.errors import DataError, MissingExtraError, UnsupportedError

_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_TOKEN: Final = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def frame_of_model(raw: bytes, name: str) -> dict[str, Any]:
    """Return the file for a SentencePiece model.

    Args:
        raw: the content of the `.model` file.
        name: what messages call it.

    Raises:
        DataError: it is no SentencePiece model, or damaged.
        UnsupportedError: it has something that the library can't do in the same way; the message says what.
        MissingExtraError: `sentencepiece` (with `protobuf`) is not installed.
    """
    model = _parsed(raw, name)
    pieces = [piece.piece for piece in model.pieces]
    types = [piece.type for piece in model.pieces]
    _check(model, pieces, types, name)
    whole = any(SPACE_MARK in piece[1:] for piece in pieces) or SPACE_MARK not in pieces
    unk = types.index(_UNKNOWN)
    bpe = model.trainer_spec.model_type == _BPE
    special = [index for index, kind in enumerate(types) if kind in (_UNKNOWN, _CONTROL)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": pieces[index], **_TOKEN} for index in special],
        "normalizer": _normalizer(model.normalizer_spec),
        "pre_tokenizer": _pre_tokenizer(whole, literal_bytes=not bpe and model.trainer_spec.byte_fallback),
        "post_processor": None,
        "decoder": _DECODER,
        "model": _bpe(model, pieces, types, unk) if bpe else _unigram(model, types, unk),
    }


_DECODER: Final = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def _parsed(raw: bytes, name: str) -> Any:
    try:
        processor = importlib.import_module("sentencepiece").SentencePieceProcessor
        parser = importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    except ImportError as error:
        raise MissingExtraError(
            f"{name}: reading a SentencePiece model needs {error.name}: pip install 'regard[sentencepiece]'"
        ) from error
    try:
        processor(model_proto=raw)
    except RuntimeError as error:
        raise DataError(f"{name}: neither a tokenizer.json nor a SentencePiece model, or damaged: {error}") from error
    model = parser.FromString(raw)
    if not model.pieces:
        raise DataError(f"{name}: neither a tokenizer.json nor a SentencePiece model: it has no pieces")
    return model


def _check(model: Any, pieces: list[str], types: list[int], name: str) -> None:
    """Refuse what would not give the same ids."""
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    normal = [piece for piece, kind in zip(pieces, types, strict=True) if kind == _NORMAL]
    unsupported = {
        "a model of words or characters": trainer.model_type not in (_UNIGRAM, _BPE),
        "symbols defined by the user": _USER_DEFINED in types,
        "pieces marked as unused": _UNUSED in types,
        "white space as a suffix": trainer.treat_whitespace_as_suffix,
        "spaces that are not escaped": not normalizer.escape_whitespaces,
        "rules for the decoded text": bool(model.denormalizer_spec.precompiled_charsmap),
        "pieces made of characters that are not pieces": trainer.model_type == _BPE
        and not set(normal) >= {character for piece in normal for character in piece},
        "pieces with '<0' beside byte tokens": trainer.model_type == _UNIGRAM
        and trainer.byte_fallback
        and any("<0" in piece for piece in normal),
    }
    for what, present in unsupported.items():
        if present:
            raise UnsupportedError(f"{name}: this SentencePiece model has {what}, which is not supported")
    if types.count(_UNKNOWN) != 1:
        raise DataError(f"{name}: a SentencePiece model with {types.count(_UNKNOWN)} unknown tokens, expected one")


def _normalizer(spec: Any) -> dict[str, Any]:
    """The character map as SentencePiece applies it (`character_map`), then white space."""
    rest: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}]
    if spec.remove_extra_whitespaces:
        rest = [
            {"type": "Replace", "pattern": {"Regex": r"\A +| +(?= )"}, "content": ""},
            *rest,
            {"type": "Replace", "pattern": {"Regex": rf"{SPACE_MARK}+\z"}, "content": ""},
        ]
    if spec.add_dummy_prefix:
        place = 1 if spec.remove_extra_whitespaces else 0
        rest.insert(place, {"type": "Prepend", "prepend": SPACE_MARK})
    rules = []
    if spec.precompiled_charsmap:
        blob = base64.b64encode(spec.precompiled_charsmap).decode()
        rules.append({"type": "Precompiled", "precompiled_charsmap": blob})
    return {
        "type": "Sequence",
        "normalizers": [{"type": "Sequence", "normalizers": rules}, {"type": "Sequence", "normalizers": rest}],
    }


def _pre_tokenizer(whole: bool, literal_bytes: bool) -> dict[str, Any] | None:
    """Where a text is cut before pieces are looked for: before spaces, unless pieces reach over them."""
    split = {"type": "Metaspace", "replacement": SPACE_MARK, "prepend_scheme": "never", "split": True}
    steps: list[dict[str, Any]] = [] if whole else [split]
    if literal_bytes:
        # The library would take <0x41> in a text for a byte token. No piece has both sides of this cut.
        pattern = {"Regex": "<(?=0x[0-9A-F]{2}>)"}
        steps.append({"type": "Split", "pattern": pattern, "behavior": "MergedWithPrevious", "invert": False})
    return {"type": "Sequence", "pretokenizers": steps} if steps else None


def _unigram(model: Any, types: list[int], unk: int) -> dict[str, Any]:
    # Scores of other tokens are never added up, but the least of all scores sets that of an unknown character.
    highest = max((piece.score for piece in model.pieces if piece.type == _NORMAL), default=0.0)
    vocabulary = [[piece.piece, piece.score if piece.type == _NORMAL else highest] for piece in model.pieces]
    return {
        "type": "Unigram",
        "unk_id": unk,
        "vocab": vocabulary,
        "byte_fallback": bool(model.trainer_spec.byte_fallback),
    }


def _bpe(model: Any, pieces: list[str], types: list[int], unk: int) -> dict[str, Any]:
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == _NORMAL}
    # SentencePiece merges whichever neighbours make the best piece, the leftmost first.
    merges = [
        (-score, len(piece) - cut, [piece[:cut], piece[cut:]])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    merges.sort(key=lambda merge: merge[:2])
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": pieces[unk],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": bool(model.trainer_spec.byte_fallback),
        "ignore_merges": False,
        "vocab": {piece: index for index, piece in enumerate(pieces)},
        "merges": [parts for _, _, parts in merges],
    }
