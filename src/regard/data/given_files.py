"""Reading the file of a given tokenizer: special tokens that no text can hold, and what each id adds to a text."""

import re
from collections.abc import Sequence
from typing import Any, Final

import tokenizers

from regard.data.normalization import split_normalizer
from regard.data.tokenizer_files import (
    REPLACEMENT,
    SPACE_MARK,
    Contents,
    build,
    build_normalizer,
    vocabulary,
)
from regard.errors import CheckpointError, UnsupportedError

HIDDEN: Final = "\U0010ffff"
"""Stands before the names of special tokens in the library's tokenizer; it is never in a text that it gets."""

NAMES: Final = {
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "bos": ("<s>", "<bos>", "[CLS]", "<|startoftext|>", "<|begin_of_text|>"),
    "eos": ("</s>", "<eos>", "[SEP]", "<|endoftext|>", "<|end_of_text|>"),
    "unk": ("<unk>", "[UNK]"),
}
"""What the special tokens are called in the tokenizers of others."""

MASKS: Final = ("[MASK]", "<mask>")
"""What the token in place of a hidden one is called there."""

_BYTE = re.compile("<0x([0-9A-F]{2})>")


def given_contents(frame: dict[str, Any], name: str) -> Contents:
    """Read the file of a tokenizer that `read_tokenizer` has made ready.

    Raises:
        CheckpointError: it is damaged, or not made ready.
    """
    pieces, special = all_pieces(frame, name)
    found = special_ids(frame, pieces, special)
    missing = [role for role in NAMES if role not in found]
    if missing:
        raise CheckpointError(
            f"{name}: not a tokenizer of this package: it has no special token for {', '.join(missing)}; "
            "a tokenizer of others is opened with read_tokenizer"
        )
    rules, rest = split_normalizer(frame.get("normalizer"))
    unknown = {found["unk"], model_unk(frame, pieces)}
    return Contents(
        kind="given",
        pieces=pieces,
        names=lambda: _names(frame, pieces, special),
        surfaces=lambda: _surfaces(frame, pieces, special - unknown, unknown, name),
        pad=found["pad"],
        bos=found["bos"],
        eos=found["eos"],
        unk=found["unk"],
        mask=next((index for index in sorted(special) if pieces[index] in MASKS), None),
        normalizer=build_normalizer(rules, name),
        frame=_hide(frame, pieces, special, name) | {"normalizer": rest},
    )


def all_pieces(frame: dict[str, Any], name: str) -> tuple[list[str], set[int]]:
    """Return the pieces of a file, added tokens included, and the ids of the special ones.

    Raises:
        CheckpointError: they are damaged.
    """
    pieces = vocabulary(frame["model"], name)
    added, special = frame.get("added_tokens"), set()
    if not isinstance(added, list):
        raise CheckpointError(f"{name}: damaged: 'added_tokens' is not a list")
    for token in added:
        match token:
            case {"id": int(index), "content": str(content), "special": bool(is_special)}:
                if index == len(pieces):
                    pieces.append(content)
                if not 0 <= index < len(pieces) or pieces[index] != content:
                    raise CheckpointError(f"{name}: damaged: the added token {content!r} cannot have the id {index}")
                special |= {index} if is_special else set()
            case _:
                raise CheckpointError(f"{name}: damaged: 'added_tokens' holds {token!r:.80}")
    return pieces, special


def special_ids(frame: dict[str, Any], pieces: Sequence[str], among: set[int]) -> dict[str, int]:
    """Return the ids of pad, bos, eos and unk, those that are found `among` some ids."""
    ids = {pieces[index]: index for index in sorted(among, reverse=True)}
    found = {role: ids[name] for role, names in NAMES.items() for name in reversed(names) if name in ids}
    unk = model_unk(frame, pieces)
    if "unk" not in found and unk in among and pieces[unk] not in {name for names in NAMES.values() for name in names}:
        found["unk"] = unk
    return found


def model_unk(frame: dict[str, Any], pieces: Sequence[str]) -> int:
    """Return the id that a model gives to what it doesn't know; -1 if it has none."""
    match frame["model"]:
        case {"type": "Unigram", "unk_id": int(index)} if 0 <= index < len(pieces):
            return index
        case {"unk_token": str(unk)} if unk in pieces:
            return pieces.index(unk)
    return -1


def merged(frame: dict[str, Any], name: str = "the tokenizer") -> list[tuple[str, str, str]]:
    """Return the merges of a byte-pair model: left, right, and the piece that they become; none for another model.

    Raises:
        CheckpointError: they are damaged.
    """
    prefix = frame["model"].get("continuing_subword_prefix") or ""
    try:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in frame["model"].get("merges", ())]
        return [(left, right, left + right.removeprefix(prefix)) for left, right in pairs]
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{name}: damaged: 'merges' is not a list of pairs") from error


def _hide(frame: dict[str, Any], pieces: Sequence[str], special: set[int], name: str) -> dict[str, Any]:
    """The file with special tokens under names that no text holds, and without what is done around a text."""
    model = dict(frame["model"])
    names = [HIDDEN * (index in special) + piece for index, piece in enumerate(pieces)]
    if isinstance(model["vocab"], list):
        model["vocab"] = [[name, score] for name, (_, score) in zip(names, model["vocab"], strict=False)]
    else:
        model["vocab"] = {names[index]: index for index in range(len(model["vocab"]))}
        unk = model_unk(frame, pieces)
        if unk >= 0:
            model["unk_token"] = names[unk]
    if model.get("type") == "BPE":
        model["dropout"] = None
        hidden = {pieces[index] for index in special}
        model["merges"] = [
            [left, right] for left, right, piece in merged(frame, name) if hidden.isdisjoint((left, right, piece))
        ]
    added = [token | {"content": names[token["id"]]} for token in frame["added_tokens"]]
    nothing = {"truncation": None, "padding": None, "post_processor": None}
    return frame | {"added_tokens": added, "model": model} | nothing


def has_member(part: Any, kind: str) -> bool:
    """Return whether a part of a file, a decoder or a pre-tokenizer, is of a type or has a member of it."""
    if not isinstance(part, dict):
        return False
    members = [*part.get("decoders", ()), *part.get("pretokenizers", ())]
    return part.get("type") == kind or any(has_member(member, kind) for member in members)


def _byte_alphabet() -> dict[str, int]:
    """The bytes that the characters of byte-level pieces stand for (GPT-2): printable ones for themselves."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTE_ALPHABET: Final = _byte_alphabet()
"""The bytes that the characters of byte-level pieces stand for (GPT-2)."""


def _surfaces(
    frame: dict[str, Any], pieces: Sequence[str], silent: set[int], unknown: set[int], name: str
) -> list[bytes]:
    """What each id adds to a text."""
    decoder = frame.get("decoder")
    add = _byte_level if has_member(decoder, "ByteLevel") else _Decoder(frame, name)
    byte_fallback = has_member(decoder, "ByteFallback")
    surfaces = []
    for index, piece in enumerate(pieces):
        if index in silent:
            surfaces.append(b"")
        elif index in unknown:
            surfaces.append(REPLACEMENT.encode() if add is _byte_level else add(REPLACEMENT))
        elif byte_fallback and (byte := _BYTE.fullmatch(piece)):
            surfaces.append(bytes([int(byte[1], 16)]))
        else:
            surfaces.append(add(piece))
    return surfaces


def _byte_level(piece: str) -> bytes:
    found = [BYTE_ALPHABET.get(character, -1) for character in piece]
    return piece.encode() if -1 in found else bytes(found)


class _Decoder:
    """What a piece adds to a text inside a sentence, by the library's decoder."""

    def __init__(self, frame: dict[str, Any], name: str) -> None:
        model = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
        decoder = build({"version": "1.0", "decoder": frame.get("decoder"), "model": model}, name).decoder
        self._decoder: tokenizers.decoders.Decoder | None = decoder
        self._end = self._joined("a", "a").removeprefix("a")
        # What removes doubled tokens (CTC), or joins tokens in another way, can't be done for each id alone.
        if not self._end.endswith("a") or self._joined("a", "b", "a", "a") != f"a{self('b').decode()}{self._end * 2}":
            raise UnsupportedError(
                f"{name}: its decoder {frame['decoder']['type']} is not supported; "
                "supported are those that put pieces together one by one"
            )

    def _joined(self, *pieces: str) -> str:
        return " ".join(pieces) if self._decoder is None else str(self._decoder.decode(list(pieces)))

    def __call__(self, piece: str) -> bytes:
        return self._joined("a", piece, "a").removeprefix("a").removesuffix(self._end).encode()


def _names(frame: dict[str, Any], pieces: list[str], special: set[int]) -> list[str]:
    """The names of the ids for display."""
    if not has_member(frame.get("decoder"), "ByteLevel"):
        return pieces
    return [piece if index in special else _shown(_byte_level(piece)) for index, piece in enumerate(pieces)]


def _shown(surface: bytes) -> str:
    """A byte-level piece for display: text where it is text, else its bytes."""
    try:
        return surface.decode().replace(" ", SPACE_MARK)
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in surface)
