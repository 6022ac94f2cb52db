"""The character map of a SentencePiece model: which characters it replaces before it tokenises.

`tokenizers` has a normalizer for it ("Precompiled") that takes shorter matches and looks at grapheme clusters, so that
a half-width kana with its voicing mark, or a letter with two accents, comes out differently. Here the map is applied as
SentencePiece does: at each place the longest entry that matches.
"""

import base64
import operator
import struct
from collections.abc import Iterator
from typing import Any

from regard.data.words import Span


class CharacterMap:
    """Replaces the longest matching entries of a table, from left to right.

    Args:
        blob: the table as SentencePiece compiles it: a trie from UTF-8 keys to places in a block of results. The trie
            is a double array (Darts): a unit holds the byte that leads to it, and an offset to its children.

    Raises:
        ValueError: the table is damaged.
    """

    def __init__(self, blob: bytes) -> None:
        size = int.from_bytes(blob[:4], "little")
        if not size or size % 4 or 4 + size > len(blob):
            raise ValueError("the character map is damaged: its size is wrong")
        self._units = struct.unpack_from(f"<{size // 4}I", blob, 4)
        self._results = blob[4 + size :]
        self._quiet: set[str] = set()  # pairs of characters at which no entry begins

    @classmethod
    def of_rule(cls, rule: dict[str, Any]) -> "CharacterMap":
        """Read the map from a rule of a tokenizer's file.

        Raises:
            ValueError: it is damaged.
        """
        blob = rule.get("precompiled_charsmap")
        if not isinstance(blob, str):
            raise ValueError("the character map is damaged: it is not a text")
        return cls(base64.b64decode(blob, validate=True))

    def apply(self, text: str) -> str:
        """Return the changed text."""
        pairs = set(map(operator.add, text, text[1:] + "\0")) - self._quiet
        self._quiet |= {pair for pair in pairs if self._is_quiet(pair)}
        if pairs <= self._quiet:
            return text
        return "".join(piece for piece, _ in self._parts(text))

    def origins(self, text: str) -> list[Span]:
        """Return, for each character of the changed text, the characters of `text` that it comes from."""
        return [span for piece, span in self._parts(text) for _ in piece]

    def _parts(self, text: str) -> Iterator[tuple[str, Span]]:
        """The changed text in parts, each with where it comes from; an unchanged part is one character."""
        at = 0
        while at < len(text):
            length, piece = 1, text[at]
            for end, place in self._walk(text, at):
                if place is not None:
                    length, piece = end - at, self._result(place)
            yield piece, (at, at + length)
            at += length

    def _is_quiet(self, pair: str) -> bool:
        return all(end == 1 and place is None for end, place in self._walk(pair, 0))

    def _walk(self, text: str, at: int) -> Iterator[tuple[int, int | None]]:
        """The ends of the beginnings of entries that stand at `at`, each with the place of the result if it is one."""
        units = self._units
        node, unit = 0, units[0]
        for end in range(at, len(text)):
            for byte in text[end].encode():
                node ^= (unit >> 10) << ((unit & 0x200) >> 6) ^ byte
                if node >= len(units) or units[node] & 0x800000FF != byte:
                    return
                unit = units[node]
            leaf = node ^ (unit >> 10) << ((unit & 0x200) >> 6)
            yield end + 1, units[leaf] & 0x7FFFFFFF if unit & 0x100 and leaf < len(units) else None

    def _result(self, place: int) -> str:
        return self._results[place : self._results.find(b"\0", place)].decode("utf-8", "replace")
