"""What a tokenizer's file says: its kind, the name of each id, what each id adds to a text, which ids are special.

The file is a `tokenizer.json` of the `tokenizers` library. Those that `train_tokenizer` makes have no added tokens, and
their first ids are the specials (then the bytes, for subwords). All others are tokenizers that were given
(`given_files`).
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

import tokenizers

from regard.data.normalization import Normalizer, split_normalizer
from regard.errors import CheckpointError

Kind = Literal["bpe", "unigram", "word", "char", "given"]

SPECIALS: Final = ("<pad>", "<bos>", "<eos>", "<unk>")
"""The names of ids 0, 1, 2 and 3 of a trained tokenizer."""
BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The names of the byte tokens of a `bpe` or `unigram` tokenizer, ids 4 to 259."""
SPACE_MARK: Final = "▁"
"""What a space is shown as, in subword pieces and by `Tokenizer.pieces`."""
REPLACEMENT: Final = "\ufffd"
"""What an unknown token, or an invalid byte, becomes in a text."""


@dataclass(frozen=True)
class Contents:
    """What a tokenizer's file says.

    Attributes:
        kind: the kind.
        pieces: the piece of each id, as the file has it.
        names: makes the name of each id, for display.
        surfaces: makes the bytes that each id adds to a decoded text.
        pad, bos, eos, unk: the ids of the specials.
        mask: the id in place of a hidden token; None if there is none.
        normalizer: what is done to a text first.
        frame: the rest, of which the library's tokenizer is built.
    """

    kind: Kind
    pieces: list[str]
    names: Callable[[], list[str]]
    surfaces: Callable[[], list[bytes]]
    pad: int
    bos: int
    eos: int
    unk: int
    mask: int | None
    normalizer: Normalizer
    frame: dict[str, Any]


def parse_frame(content: str, name: str) -> dict[str, Any]:
    """Return the JSON object in a tokenizer's file.

    Raises:
        CheckpointError: it is not one.
    """
    try:
        frame = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{name}: not a tokenizer file, or damaged: {error}") from error
    if not (isinstance(frame, dict) and isinstance(frame.get("model"), dict)):
        raise CheckpointError(f"{name}: not a tokenizer file: it has no 'model'")
    return frame


def trained_contents(frame: dict[str, Any], name: str) -> Contents:
    """Read the file of a tokenizer that `train_tokenizer` made.

    Raises:
        CheckpointError: it is damaged, or another tokenizer's.
    """
    kind = _kind(frame, name)
    pieces = _pieces(frame, kind, name)
    rules, rest = split_normalizer(frame.get("normalizer"))
    return Contents(
        kind=kind,
        pieces=pieces,
        names=lambda: [piece.replace(" ", SPACE_MARK) for piece in pieces] if kind == "char" else pieces,
        surfaces=lambda: [_surface(piece, index, kind) for index, piece in enumerate(pieces)],
        pad=0,
        bos=1,
        eos=2,
        unk=3,
        mask=None,
        normalizer=build_normalizer(rules, name),
        frame=frame | {"normalizer": rest},
    )


def build(frame: dict[str, Any], name: str) -> tokenizers.Tokenizer:
    """Return the library's tokenizer.

    Raises:
        CheckpointError: the library does not accept it; the message says why.
    """
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(frame))
    except Exception as error:  # the library raises plain Exception and nothing narrower
        raise CheckpointError(f"{name}: not a tokenizer file, or damaged: {error}") from error


def build_normalizer(rules: list[dict[str, Any]], name: str) -> Normalizer:
    """Return the rules that come first.

    Raises:
        CheckpointError: they are damaged.
    """
    try:
        return Normalizer(rules)
    except Exception as error:  # as above
        raise CheckpointError(f"{name}: damaged: its normalizer: {error}") from error


def _surface(piece: str, index: int, kind: Kind) -> bytes:
    if index == SPECIALS.index("<unk>"):
        piece = REPLACEMENT
    elif index < len(SPECIALS):
        return b""
    match kind:
        case "bpe" | "unigram" if len(SPECIALS) <= index < len(SPECIALS) + len(BYTES):
            return bytes([index - len(SPECIALS)])
        case "bpe" | "unigram":
            return piece.replace(SPACE_MARK, " ").encode()
        case "word":
            return b" " + piece.encode()
        case _:
            return piece.encode()


def _kind(frame: dict[str, Any], name: str) -> Kind:
    """The kind, which the file does not name: from the model's type and from how it splits."""
    split = frame.get("pre_tokenizer")
    if isinstance(split, dict):
        match frame["model"].get("type"), split.get("type"), split.get("behavior"):
            case "BPE", "Sequence", _:
                return "bpe"
            case "Unigram", "Sequence", _:
                return "unigram"
            case "WordLevel", "Split", "Removed":
                return "word"
            case "WordLevel", "Split", "Isolated":
                return "char"
    raise CheckpointError(f"{name}: not a tokenizer of this package: its kind is none of bpe, unigram, word, char")


def _pieces(frame: dict[str, Any], kind: Kind, name: str) -> list[str]:
    """The pieces in the order of their ids, checked."""
    pieces = vocabulary(frame["model"], name)
    expected = [*SPECIALS, *BYTES] if kind in ("bpe", "unigram") else [*SPECIALS]
    if pieces[: len(expected)] != expected:
        raise CheckpointError(
            f"{name}: not a tokenizer of this package: the first ids should be {', '.join(SPECIALS)}"
            + (", then the 256 bytes" if len(expected) > len(SPECIALS) else "")
        )
    return pieces


def vocabulary(model: dict[str, Any], name: str) -> list[str]:
    """Return the pieces of a model in the order of their ids.

    Raises:
        CheckpointError: they are missing, or their ids are not 0, 1, 2, …
    """
    match model:
        case {"type": "Unigram", "vocab": list(pairs)}:
            if all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
                return [piece for piece, _ in pairs]
            raise CheckpointError(f"{name}: damaged: 'vocab' is not a list of pieces with scores")
        case {"vocab": dict(table)} if _are_ids(table.values()):
            return sorted(table, key=table.__getitem__)
    raise CheckpointError(f"{name}: damaged: the ids of 'vocab' are not 0, 1, 2, …")


def _are_ids(values: Collection[object]) -> bool:
    return all(type(value) is int for value in values) and set(values) == set(range(len(values)))
