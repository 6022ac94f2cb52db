"""Tokenizers of others: a `tokenizer.json` of Hugging Face's library, or a SentencePiece model.

What is taken over is how a text becomes ids. Templates that put special tokens around a text, truncation and padding
are not: the tasks here add their own special tokens. Special tokens are never found in a text.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from regard.data.given_files import NAMES, all_pieces, given_contents, merged, special_ids
from regard.data.normalization import Rule, join_normalizer, rules_of, split_normalizer
from regard.data.sentencepiece_models import frame_of_model
from regard.data.tokenizer_files import SPECIALS, build, parse_frame, trained_contents
from regard.data.tokenizers import Tokenizer
from regard.errors import CheckpointError, DataError

_MODELS: Final = ("BPE", "Unigram", "WordPiece", "WordLevel")
_NOT_TAKEN: Final = ("truncation", "padding", "post_processor")
_TOKEN: Final = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def read_tokenizer(path: Path | str, normalize: Sequence[Rule] = ()) -> Tokenizer:
    """Open a tokenizer that someone else has made, or one of this package.

    pad, bos, eos and unk are found by their usual names (`given_files.NAMES`) among the special tokens, then in the
    vocabulary. Those that are missing get ids at the end of the vocabulary; `Tokenizer.notes` says which.

    Args:
        path: a `tokenizer.json`, or a SentencePiece model (byte-pair or unigram; needs the extra `sentencepiece`).
        normalize: what is done to every text before: "nfc", "nfkc", "lower".

    Returns:
        A tokenizer of kind "given", or of the kind that `train_tokenizer` made.

    Raises:
        ArgumentError: a rule is unknown.
        DataError: the file is missing, damaged or no tokenizer.
        UnsupportedError: the tokenizer can't be taken over as it is; the message says what is missing here.
        MissingExtraError: it is a SentencePiece model, and the extra is not installed.
    """
    name = str(path)
    rules = rules_of(normalize)
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot read the tokenizer: {error.strerror}") from error
    try:
        if raw.lstrip()[:1] != b"{":
            return _made_ready(frame_of_model(raw, name), rules, name)
        content = raw.decode("utf-8")
        frame = parse_frame(content, name)
        if not _is_ready(frame):
            return _made_ready(_canonical(frame, name), rules, name)
        if rules:
            own, rest = split_normalizer(frame.get("normalizer"))
            content = _text(frame | {"normalizer": join_normalizer([*rules, *own], rest)})
        return _checked(Tokenizer(content, name))
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not a tokenizer file: it is not UTF-8 text") from error
    except CheckpointError as error:
        raise DataError(str(error)) from error


def _is_ready(frame: dict[str, Any]) -> bool:
    """Whether `Tokenizer` can read the file: one of this package, or one made ready before."""
    try:
        _ = (trained_contents if frame.get("added_tokens") == [] else given_contents)(frame, "")
    except CheckpointError:
        return False
    return all(frame.get(key) is None for key in _NOT_TAKEN)


def _canonical(frame: dict[str, Any], name: str) -> dict[str, Any]:
    """The file as the present version of the library writes it."""
    kind = frame["model"].get("type")
    if kind is not None and kind not in _MODELS:
        raise DataError(f"{name}: its model is a {kind!r}, expected {', '.join(_MODELS)}")
    canonical: dict[str, Any] = json.loads(build(frame, name).to_str())
    return canonical


def _made_ready(frame: dict[str, Any], rules: list[dict[str, Any]], name: str) -> Tokenizer:
    """The tokenizer of a file with all special tokens."""
    pieces, special = all_pieces(frame, name)
    # What merges make is an ordinary piece even if it is called like a special token.
    ordinary = {piece for _, _, piece in merged(frame, name)}
    found = special_ids(frame, pieces, {index for index in range(len(pieces)) if pieces[index] not in ordinary})
    found |= special_ids(frame, pieces, special)
    notes = []
    for role, names in NAMES.items():
        if role not in found:
            added = next(name for name in (SPECIALS[list(NAMES).index(role)], *names) if name not in pieces)
            found[role] = len(pieces)
            pieces.append(added)
            notes.append(f"{name} has no token for {role}: {added} is added with the id {found[role]}")
    new = {found[role] for role in NAMES} - special
    tokens = [token for token in frame["added_tokens"] if token["id"] not in new]
    tokens += [{"id": index, "content": pieces[index], **_TOKEN} for index in new]
    own, rest = split_normalizer(frame["normalizer"])
    frame = frame | {
        **dict.fromkeys(_NOT_TAKEN),
        "added_tokens": sorted(tokens, key=lambda token: int(token["id"])),
        "normalizer": join_normalizer([*rules, *own], rest),
    }
    return _checked(Tokenizer(_text(frame), name, notes))


def _checked(tokenizer: Tokenizer) -> Tokenizer:
    _ = tokenizer.surfaces  # a decoder that is not supported is an error now
    return tokenizer


def _text(frame: dict[str, Any]) -> str:
    return json.dumps(frame, ensure_ascii=False) + "\n"
