"""Text to token ids and back: subwords, words or characters, over the Hugging Face `tokenizers` library.

| kind      | tokens                                               | what `decode(encode(text))` gives      |
|-----------|------------------------------------------------------|----------------------------------------|
| `bpe`     | byte-pair pieces; a rare character becomes its bytes | the text, whatever it is               |
| `unigram` | pieces of a unigram model; rare characters as bytes  | the text, whatever it is               |
| `word`    | the words of `split_words`; unknown ones are `<unk>` | the words, joined by single spaces     |
| `char`    | one a character (code point); unknown ones `<unk>`   | the text, if every character is known  |
| `given`   | those of a tokenizer of others (`read_tokenizer`)    | what that tokenizer keeps of the text  |

`encode` and `decode` are for a sentence: white space at both ends is removed (`str.strip`). `encode_text` and `text_of`
are for running text, of which nothing is removed, line ends included. Otherwise a text is only normalised as the
tokenizer was asked to (`train_tokenizer(…, normalize=…)`), or as a given tokenizer says; runs of spaces stay (`bpe`,
`unigram`, `char`). Where a text is normalised, the table speaks of the normalised text.

Ids 0 to 3 of a trained tokenizer are `<pad> <bos> <eos> <unk>`. Special tokens are never found in a text: `<bos>` or
`<0x41>` typed by a user are ordinary characters. The saved file is one that `tokenizers.Tokenizer.from_file` reads, and
everything is in it.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import tokenizers

from regard.data.given_files import HIDDEN, given_contents
from regard.data.tokenizer_files import (
    BYTES,
    REPLACEMENT,
    SPACE_MARK,
    SPECIALS,
    Contents,
    Kind,
    build,
    parse_frame,
    trained_contents,
)
from regard.data.words import Span, not_text
from regard.errors import ArgumentError, CheckpointError
from regard.files import write_text

__all__ = ["BYTES", "SPACE_MARK", "SPECIALS", "Kind", "Tokenizer"]

_MARK_BYTES = [len(SPECIALS) + byte for byte in SPACE_MARK.encode()]
_LONE_BYTE = re.compile("[\udc80-\udcff]")  # what the error handler "surrogateescape" makes of an invalid byte


class Tokenizer:
    """A tokenizer. Train one (`train_tokenizer`), read a given one (`read_tokenizer`), or a saved one (`load`).

    Attributes:
        kind: "bpe", "unigram", "word", "char" or "given".
        content: the JSON text of its file.
        vocab_size: how many ids there are, the specials among them; it can be less than what was asked for.
        pad_id, bos_id, eos_id, unk_id: the ids of the specials.
        mask_id: the id in place of a hidden token; None where a tokenizer has none, as those that are trained here.
        notes: what `read_tokenizer` changed in a given tokenizer, a sentence each.
    """

    def __init__(self, content: str, name: str = "the tokenizer", notes: Sequence[str] = ()) -> None:
        """Build the tokenizer from the JSON text of its file.

        Args:
            content: the JSON text.
            name: what error messages call it.
            notes: what was changed in a given tokenizer.

        Raises:
            CheckpointError: the content is damaged or is not a tokenizer of this package.
        """
        self.content = content
        frame = parse_frame(content, name)
        read = trained_contents if frame.get("added_tokens") == [] else given_contents
        self._contents: Contents = read(frame, name)
        self._normalizer = self._contents.normalizer
        self._inner = build(self._contents.frame, name)
        self.kind: Kind = self._contents.kind
        self.vocab_size = len(self._contents.pieces)
        self.pad_id = self._contents.pad
        self.bos_id = self._contents.bos
        self.eos_id = self._contents.eos
        self.unk_id = self._contents.unk
        self.mask_id = self._contents.mask
        self.notes = tuple(notes)
        self._marks = self.kind in ("bpe", "unigram")  # their ▁ is always a space

    def __repr__(self) -> str:
        return f"Tokenizer(kind={self.kind!r}, vocab_size={self.vocab_size})"

    @property
    def frame(self) -> dict[str, Any]:
        """The JSON object that the library's tokenizer is built of, special tokens hidden; not to be changed."""
        return self._contents.frame

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` without specials; empty for a text of nothing but white space.

        Raises:
            ArgumentError: `text` holds a surrogate, so it is not Unicode text.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text, as `encode` does, on several threads."""
        return self._encode_ready(self._inner, [self._prepared(text.strip()) for text in texts])

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of running text, or of a part of it, without specials; nothing is stripped.

        A trained tokenizer of subwords puts no space in front, so ids of parts can be put together, and
        `text_of(encode_text(text))` is the text, whatever it is (for `char`, if every character is known). A given
        tokenizer does what it does with any text.

        Raises:
            ArgumentError: `text` holds a surrogate, so it is not Unicode text.
        """
        return self.encode_texts([text])[0]

    def encode_texts(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text, as `encode_text` does, on several threads."""
        inner = self._continuing if self._marks else self._inner
        return self._encode_ready(inner, [self._prepared(text) for text in texts])

    def text_of(self, ids: Sequence[int]) -> bytes:
        """Return the UTF-8 text of `ids`, a part of running text, of which nothing is trimmed.

        Specials add nothing, and `<unk>` adds U+FFFD. The bytes need not be valid UTF-8: a character can be divided
        between ids, so between parts of a text too.

        Raises:
            ArgumentError: an id is not in the vocabulary.
        """
        self._check(ids)
        return b"".join([self.surfaces[index] for index in ids])

    def _prepared(self, text: str) -> str:
        """The text as the inner tokenizer gets it: normalised, and without what hides special tokens."""
        if self._normalizer:
            try:
                text = self._normalizer(text)
            except (TypeError, UnicodeEncodeError) as error:
                raise not_text(text) from error
        return text.replace(HIDDEN, REPLACEMENT) if self.kind == "given" else text

    def _encode_ready(self, inner: tokenizers.Tokenizer, ready: list[str]) -> list[list[int]]:
        try:
            batch = [each.ids for each in inner.encode_batch_fast(ready, add_special_tokens=False)]
        except (TypeError, UnicodeEncodeError) as error:
            raise next(not_text(text) for text in ready if not _is_text(text)) from error
        if self._marks:
            for index, text in enumerate(ready):
                if SPACE_MARK in text:
                    batch[index] = self._encode_with_marks(inner, text)
        return batch

    def _encode_with_marks(self, inner: tokenizers.Tokenizer, text: str) -> list[int]:
        """Encode a text that holds the character ▁ itself, which the pieces use for the space: as its bytes."""
        first, *others = text.split(SPACE_MARK)
        ids = list(inner.encode(first, add_special_tokens=False).ids)
        for part in others:
            ids += _MARK_BYTES
            ids += self._continuing.encode(part, add_special_tokens=False).ids
        return ids

    @cached_property
    def _continuing(self) -> tokenizers.Tokenizer:
        """The same subword tokenizer for running text and the middle of a sentence: it puts no space in front."""
        return build(self.frame | {"normalizer": None}, "the tokenizer")

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`.

        `<pad>`, `<bos>` and `<eos>` are skipped, and all special tokens of a given tokenizer; `<unk>`, and each byte
        that is not part of a UTF-8 character, becomes U+FFFD; one space at the start is dropped, and one at the end
        if a given tokenizer ends its words with one.

        Raises:
            ArgumentError: an id is not in the vocabulary.
        """
        return _LONE_BYTE.sub(REPLACEMENT, self._trimmed_text(self._escaped(ids)))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the name of each id, for display: a space is shown as ▁, a byte as `<0xE4>`, specials by name.

        Raises:
            ArgumentError: an id is not in the vocabulary.
        """
        self._check(ids)
        return [self._names[index] for index in ids]

    @cached_property
    def _names(self) -> list[str]:
        return self._contents.names()

    @cached_property
    def surfaces(self) -> list[bytes]:
        """The bytes that each id adds to a decoded text: a space in front of a word included, none for a special."""
        return self._contents.surfaces()

    def spans(self, ids: Sequence[int]) -> list[Span]:
        """Return the characters of `decode(ids)` that each id covers.

        The space at the start (or end) of a piece is not counted. Skipped specials, and tokens of nothing but spaces,
        get an empty span where they stand; byte tokens that together form one character all get that character.

        Raises:
            ArgumentError: an id is not in the vocabulary.
        """
        escaped = self._escaped(ids)
        shift, size = int(escaped.startswith(" ")), len(self._trimmed_text(escaped))  # decode drops spaces
        # Where each character starts, in bytes; an invalid byte is one byte although U+FFFD takes three.
        starts = [0, *accumulate(len(character.encode("utf-8", "surrogateescape")) for character in escaped)]
        spans: list[Span] = []
        at = 0
        for index in ids:
            surface = self.surfaces[index]
            content = len(surface.strip(b" "))
            begin = at + len(surface) - len(surface.lstrip(b" "))
            at += len(surface)
            first = bisect_right(starts, begin) - 1
            last = bisect_left(starts, begin + content) if content else first
            spans.append((min(max(first - shift, 0), size), min(max(last - shift, 0), size)))
        return spans

    def text_spans(self, text: str) -> list[Span]:
        """Return the characters of `text` that each id of `encode(text)` stands for.

        Like `spans`, but in the text as it was given, which differs from `decode(encode(text))` where a word or a
        character is unknown, or where it was normalised. Use it with `split_words(text)` for the words of a given
        sentence.
        """
        shift = len(text) - len(text.lstrip())
        text = text.strip()
        ready = self._prepared(text)
        if self._marks:  # here the normalised text and the decoded one are the same
            spans = self.spans(self._encode_ready(self._inner, [ready])[0])
        else:
            try:
                found = self._inner.encode(ready, add_special_tokens=False)
            except (TypeError, UnicodeEncodeError) as error:
                raise not_text(ready) from error
            spans = [self._trimmed(ready, index, span) for index, span in zip(found.ids, found.offsets, strict=True)]
        return [(start + shift, end + shift) for start, end in self._normalizer.spans_in(text, spans)]

    def _trimmed(self, text: str, index: int, span: Span) -> Span:
        """The span of an id without the spaces beside its content; empty if there is nothing else."""
        start, end = span
        if self.kind != "given":
            return start, start if text[start:end] == " " else end
        if index in self._silent:  # a ▁ in the text can be such a piece too
            return (start, end) if text[start:end].strip() == SPACE_MARK else (start, start)
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        return start, end

    @cached_property
    def _silent(self) -> frozenset[int]:
        """The ids that add nothing but spaces to a text."""
        return frozenset(index for index, surface in enumerate(self.surfaces) if not surface.strip(b" "))

    def save(self, path: Path | str) -> None:
        """Write the tokenizer to one JSON file, whole or not at all; `tokenizers.Tokenizer.from_file` reads it.

        The same tokenizer gives the same bytes.
        """
        write_text(Path(path), self.content)

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

    def _trimmed_text(self, text: str) -> str:
        """A decoded text without the space that stands for its start or end."""
        text = text.removeprefix(" ")
        return text.removesuffix(" ") if self.kind == "given" else text

    def _escaped(self, ids: Sequence[int]) -> str:
        """The text of `ids`, each invalid byte as a surrogate."""
        return self.text_of(ids).decode("utf-8", "surrogateescape")


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
