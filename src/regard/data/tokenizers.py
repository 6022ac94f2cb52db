"""Text to token ids and back: subwords, words or characters, over the Hugging Face `tokenizers` library.

| kind   | tokens                                               | what `decode(encode(text))` gives      |
|--------|------------------------------------------------------|----------------------------------------|
| `bpe`  | byte-pair pieces; a rare character becomes its bytes | the text, whatever it is               |
| `word` | the words of `split_words`; unknown ones are `<unk>` | the words, joined by single spaces     |
| `char` | one a character (code point); unknown ones `<unk>`   | the text, if every character is known  |

The only normalisation is `str.strip`: white space at both ends is removed. There is no Unicode normalisation and no
case folding, and runs of spaces stay (`bpe`, `char`).

Ids 0 to 3 are `<pad> <bos> <eos> <unk>`. They are never found in a text: `<bos>` or `<0x41>` typed by a user are
ordinary characters. The saved file is one that `tokenizers.Tokenizer.from_file` reads, and everything is in it.
"""

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal

import tokenizers

from regard.data.words import Span, not_text
from regard.errors import ArgumentError, CheckpointError
from regard.files import write_text

Kind = Literal["bpe", "word", "char"]

SPECIALS: Final = ("<pad>", "<bos>", "<eos>", "<unk>")
"""The names of ids 0, 1, 2 and 3."""
BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""The names of the byte tokens of a `bpe` tokenizer, ids 4 to 259."""
SPACE_MARK: Final = "▁"
"""What a space is shown as, in `bpe` pieces and by `Tokenizer.pieces`."""

_MARK_BYTES = [len(SPECIALS) + byte for byte in SPACE_MARK.encode()]
_REPLACEMENT = "\ufffd"
_LONE_BYTE = re.compile("[\udc80-\udcff]")  # what the error handler "surrogateescape" makes of an invalid byte


class Tokenizer:
    """A trained tokenizer. Make one with `train_tokenizer`, or read one with `Tokenizer.load`.

    Attributes:
        kind: "bpe", "word" or "char".
        vocab_size: how many ids there are, the specials among them; it can be less than what was asked for.
    """

    pad_id: Final = 0
    bos_id: Final = 1
    eos_id: Final = 2
    unk_id: Final = 3

    def __init__(self, content: str, name: str = "the tokenizer") -> None:
        """Build the tokenizer from the JSON text of its file.

        Args:
            content: the JSON text.
            name: what error messages call it.

        Raises:
            CheckpointError: the content is damaged or is not a tokenizer of this package.
        """
        self._content = content
        self._frame = _read(content, name)
        self.kind: Kind = _kind(self._frame, name)
        self._pieces = _vocabulary(self._frame, self.kind, name)
        self._surfaces = [_surface(piece, index, self.kind) for index, piece in enumerate(self._pieces)]
        self.vocab_size = len(self._pieces)
        self._inner = _build(content, name)

    def __repr__(self) -> str:
        return f"Tokenizer(kind={self.kind!r}, vocab_size={self.vocab_size})"

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` without specials; empty for a text of nothing but white space.

        Raises:
            ArgumentError: `text` holds a surrogate, so it is not Unicode text.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text, as `encode` does, on several threads."""
        stripped = [text.strip() for text in texts]
        try:
            batch = [each.ids for each in self._inner.encode_batch_fast(stripped, add_special_tokens=False)]
        except (TypeError, UnicodeEncodeError) as error:
            raise next(not_text(text) for text in stripped if not _is_text(text)) from error
        if self.kind == "bpe":
            for index, text in enumerate(stripped):
                if SPACE_MARK in text:
                    batch[index] = self._encode_with_marks(text)
        return batch

    def _encode_with_marks(self, text: str) -> list[int]:
        """Encode a text that holds the character ▁ itself, which the pieces use for the space: as its bytes."""
        first, *others = text.split(SPACE_MARK)
        ids = list(self._inner.encode(first, add_special_tokens=False).ids)
        for part in others:
            ids += _MARK_BYTES
            ids += self._continuing.encode(part, add_special_tokens=False).ids
        return ids

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        """The same `bpe` tokenizer for the middle of a text: it puts no space in front."""
        frame = json.loads(self._content)
        frame["normalizer"] = None
        return tokenizers.Tokenizer.from_str(json.dumps(frame))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`.

        `<pad>`, `<bos>` and `<eos>` are skipped; `<unk>`, and each byte that is not part of a UTF-8 character,
        becomes U+FFFD; one space at the start is dropped.

        Raises:
            ArgumentError: an id is not in the vocabulary.
        """
        return _LONE_BYTE.sub(_REPLACEMENT, self._escaped(ids)).removeprefix(" ")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the name of each id, for display: a space is shown as ▁, a byte as `<0xE4>`, specials by name.

        Raises:
            ArgumentError: an id is not in the vocabulary.
        """
        self._check(ids)
        if self.kind == "char":
            return [self._pieces[index].replace(" ", SPACE_MARK) for index in ids]
        return [self._pieces[index] for index in ids]

    def spans(self, ids: Sequence[int]) -> list[Span]:
        """Return the characters of `decode(ids)` that each id covers.

        The space at the start of a piece is not counted. Skipped specials, and tokens of nothing but spaces, get
        an empty span where they stand; byte tokens that together form one character all get that character.

        Raises:
            ArgumentError: an id is not in the vocabulary.
        """
        escaped = self._escaped(ids)
        shift = int(escaped.startswith(" "))  # the space that decode drops
        # Where each character starts, in bytes; an invalid byte is one byte although U+FFFD takes three.
        starts = [0, *accumulate(len(character.encode("utf-8", "surrogateescape")) for character in escaped)]
        spans: list[Span] = []
        at = 0
        for index in ids:
            surface = self._surfaces[index]
            content = len(surface.lstrip(b" "))
            begin, at = at + len(surface) - content, at + len(surface)
            first = bisect_right(starts, begin) - 1
            last = bisect_left(starts, at) if content else first
            spans.append((max(first - shift, 0), max(last - shift, 0)))
        return spans

    def text_spans(self, text: str) -> list[Span]:
        """Return the characters of `text` that each id of `encode(text)` stands for.

        Like `spans`, but in the text as it was given, which differs from `decode(encode(text))` where a word or a
        character is unknown. Use it with `split_words(text)` for the words of a given sentence.
        """
        shift = len(text) - len(text.lstrip())
        text = text.strip()
        if self.kind == "bpe":  # here the two texts are the same
            return [(start + shift, end + shift) for start, end in self.spans(self.encode(text))]
        try:
            offsets = self._inner.encode(text, add_special_tokens=False).offsets
        except (TypeError, UnicodeEncodeError) as error:
            raise not_text(text) from error
        return [(a + shift, (a if text[a:b] == " " else b) + shift) for a, b in offsets]

    def save(self, path: Path | str) -> None:
        """Write the tokenizer to one JSON file, whole or not at all; `tokenizers.Tokenizer.from_file` reads it.

        The same tokenizer gives the same bytes.
        """
        write_text(Path(path), self._content)

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Read a tokenizer that `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged or not a tokenizer of this package.
        """
        try:
            content = Path(path).read_bytes().decode("utf-8")
        except OSError as error:
            raise CheckpointError(f"{path}: cannot read the tokenizer: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path}: not a tokenizer file: it is not UTF-8 text") from error
        return cls(content, str(path))

    def _check(self, ids: Sequence[int]) -> None:
        for index in ids:
            if not 0 <= index < self.vocab_size:
                raise ArgumentError(f"ids: got {index}, expected ids from 0 to {self.vocab_size - 1}")

    def _escaped(self, ids: Sequence[int]) -> str:
        """The text of `ids`, each invalid byte as a surrogate."""
        self._check(ids)
        return b"".join([self._surfaces[index] for index in ids]).decode("utf-8", "surrogateescape")


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _surface(piece: str, index: int, kind: Kind) -> bytes:
    """The bytes that an id adds to a decoded text."""
    if index == Tokenizer.unk_id:
        piece = _REPLACEMENT
    elif index < len(SPECIALS):
        return b""
    match kind:
        case "bpe" if len(SPECIALS) <= index < len(SPECIALS) + len(BYTES):
            return bytes([index - len(SPECIALS)])
        case "bpe":
            return piece.replace(SPACE_MARK, " ").encode()
        case "word":
            return b" " + piece.encode()
        case "char":
            return piece.encode()


def _read(content: str, name: str) -> dict[str, Any]:
    try:
        frame = json.loads(content)
    except ValueError as error:
        raise CheckpointError(f"{name}: not a tokenizer file, or damaged: {error}") from error
    if not (isinstance(frame, dict) and isinstance(frame.get("model"), dict)):
        raise CheckpointError(f"{name}: not a tokenizer file: it has no 'model'")
    if frame.get("added_tokens") != []:
        raise CheckpointError(f"{name}: not a tokenizer of this package: it has 'added_tokens'")
    return frame


def _kind(frame: dict[str, Any], name: str) -> Kind:
    """The kind, which the file does not name: from the model's type and from how it splits."""
    split = frame.get("pre_tokenizer")
    if isinstance(split, dict):
        match frame["model"].get("type"), split.get("type"), split.get("behavior"):
            case "BPE", "Sequence", _:
                return "bpe"
            case "WordLevel", "Split", "Removed":
                return "word"
            case "WordLevel", "Split", "Isolated":
                return "char"
    raise CheckpointError(f"{name}: not a tokenizer of this package: its kind is none of bpe, word, char")


def _vocabulary(frame: dict[str, Any], kind: Kind, name: str) -> list[str]:
    """The pieces in the order of their ids, checked."""
    vocabulary = frame["model"].get("vocab")
    if not isinstance(vocabulary, dict) or set(vocabulary.values()) != set(range(len(vocabulary))):
        raise CheckpointError(f"{name}: damaged: the ids of 'vocab' are not 0, 1, 2, …")
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    expected = [*SPECIALS, *BYTES] if kind == "bpe" else [*SPECIALS]
    if pieces[: len(expected)] != expected:
        raise CheckpointError(
            f"{name}: not a tokenizer of this package: the first ids should be {', '.join(SPECIALS)}"
            + (", then the 256 bytes" if kind == "bpe" else "")
        )
    return pieces


def _build(content: str, name: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises plain Exception and nothing narrower
        raise CheckpointError(f"{name}: not a tokenizer file, or damaged: {error}") from error
