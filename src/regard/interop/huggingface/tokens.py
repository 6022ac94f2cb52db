"""What stands at the positions of a text that a Hugging Face tokenizer made.

Names, and the text of which words are made, come from the ids alone. A piece of a vocabulary says where a space is by
a mark, of which there are four kinds; which one a tokenizer uses is the one that most of its pieces have.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from regard.data import group_by_words, split_words
from regard.insight.tokens import Tokens, Word, parted

Surface = Callable[[str], bytes]
"""The bytes that a piece adds to the text."""

BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
REPLACEMENT = "\ufffd"
SHOWN = str.maketrans({" ": "▁", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def reader_of(tokenizer: Any) -> Callable[[str, Sequence[int], Sequence[bool]], Tokens]:
    """What makes `Tokens` of the ids of a sequence, by a tokenizer of transformers.

    Special are padding, and the tokens that the tokenizer calls so, except the one for what is unknown, which stands
    for a part of the text. Ids beyond its vocabulary are named by their number.

    The words are those of the text that the tokenizer has left: WordPiece forgets whether there was a space beside
    punctuation, so that its `don't` is three words.

    Args:
        tokenizer: a fast or a slow one.
    """
    pieces: dict[int, str] = {number: piece for piece, number in tokenizer.get_vocab().items()}
    added: dict[int, Any] = dict(tokenizer.added_tokens_decoder)
    special = {*tokenizer.all_special_ids, *(number for number, one in added.items() if one.special)}
    unknown = {tokenizer.unk_token_id} - _others(tokenizer)
    special -= unknown
    pieces |= {number: str(one) for number, one in added.items()}
    surface_of = _surface_of([piece for number, piece in pieces.items() if number not in added], tokenizer)
    plain = _shown if surface_of is _of_bytes else _as_it_is

    def surface(number: int) -> bytes:
        if number in unknown or number not in pieces:
            return REPLACEMENT.encode()
        return str(added[number]).encode() if number in added else surface_of(pieces[number])

    def name(number: int) -> str:
        if number in added or number not in pieces:
            return pieces.get(number, str(number))
        return plain(pieces[number])

    def read(sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
        apart = [not here or one in special for one, here in zip(ids, real, strict=True)]
        # what is special is no part of a word, and no word goes on behind it
        surfaces = [b" " if no else surface(one) for one, no in zip(ids, apart, strict=True)]
        return Tokens(tuple(map(name, ids)), tuple(apart), tuple(ids), _words(surfaces), tuple(not one for one in real))

    return read


def _others(tokenizer: Any) -> set[int | None]:
    """The special tokens that have another use than for what is unknown, which may be one of them (GPT-2)."""
    found: set[int | None] = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return found | {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id}


def _words(surfaces: Sequence[bytes]) -> tuple[Word, ...]:
    """The words of the text that pieces make together."""
    escaped = b"".join(surfaces).decode("utf-8", "surrogateescape")
    # where each character begins, in bytes; a byte that is none is a character of its own
    begins = [0, *accumulate(len(one.encode("utf-8", "surrogateescape")) for one in escaped)]
    spans, at = [], 0
    for surface in surfaces:
        first = at + len(surface) - len(surface.lstrip(b" "))
        at += len(surface)
        content = len(surface.strip(b" "))
        start = bisect_right(begins, first) - 1
        spans.append((start, bisect_left(begins, first + content) if content else start))
    text = "".join(REPLACEMENT if "\udc80" <= one <= "\udcff" else one for one in escaped)
    words = split_words(text)
    groups = group_by_words(spans, words)
    return parted(Word(text[a:b], tuple(group)) for (a, b), group in zip(words, groups, strict=True))


def _surface_of(pieces: Sequence[str], tokenizer: Any) -> Surface:
    """How the pieces of a vocabulary become text."""
    kinds: list[tuple[int, Surface]] = [
        (sum(piece.startswith("Ġ") for piece in pieces), _of_bytes),
        (sum(piece.startswith("▁") for piece in pieces), _of_sentencepiece),
        (sum(piece.startswith("##") for piece in pieces), _of_wordpiece),
        (sum(piece.endswith("</w>") for piece in pieces), _of_ended),
    ]
    most, kind = max(kinds, key=lambda one: one[0])
    if most:
        return kind
    if all(len(piece) == 1 and piece < "\u0100" for piece in pieces):  # of bytes (ByT5)
        return lambda piece: piece.encode("latin-1")
    letters = [piece for piece in pieces if piece.isalpha()][:2]
    joined = tokenizer.decode(tokenizer.convert_tokens_to_ids(letters)) if len(letters) == 2 else ""
    return _of_word if " " in joined else str.encode


def _of_bytes(piece: str) -> bytes:
    """Byte-level BPE (GPT-2): each character stands for a byte."""
    return b"".join(bytes([BYTES[one]]) if one in BYTES else one.encode() for one in piece)


def _of_sentencepiece(piece: str) -> bytes:
    """SentencePiece: ▁ is a space, `<0xE4>` a byte."""
    if byte := BYTE.fullmatch(piece):
        return bytes.fromhex(byte[1])
    return piece.replace("▁", " ").encode()


def _of_wordpiece(piece: str) -> bytes:
    """WordPiece: ## goes on with a word."""
    return piece[2:].encode() if piece.startswith("##") and len(piece) > 2 else f" {piece}".encode()


def _of_ended(piece: str) -> bytes:
    """BPE with the end of a word marked by </w>."""
    return piece.replace("</w>", " ").encode()


def _of_word(piece: str) -> bytes:
    """A word."""
    return f" {piece}".encode()


def _shown(piece: str) -> str:
    """The name of a byte-level piece: its text, with ▁ for a space; its bytes where they are no text."""
    raw = _of_bytes(piece)
    try:
        return raw.decode().translate(SHOWN)
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in raw)


def _as_it_is(piece: str) -> str:
    return piece.removesuffix("</w>").translate(SHOWN) or piece


def _bytes() -> dict[str, int]:
    """Which byte each character stands for: printable ones for themselves, the others in order from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTES = _bytes()
