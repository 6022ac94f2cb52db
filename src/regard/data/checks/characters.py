"""What each code point is, as tables that are looked up for whole blocks of text at once.

Every table has one entry more than Unicode has code points: `END`, which no text holds, marks the end of a line in
`regard.data.checks.blocks.Lines`.
"""

import sys
import unicodedata
from functools import cache
from typing import Final

import numpy as np
from fontTools.unicodedata import Scripts  # type: ignore[import-untyped]
from numpy.typing import NDArray

END: Final = sys.maxunicode + 1
"""Stands after each line in an array of code points."""

LETTER, DIGIT, INVISIBLE, DAMAGED = 1, 2, 4, 8
"""Bits of `flags`. INVISIBLE: can be taken out and the text is whole; DAMAGED: something is lost or misread."""

DIRECTION: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Controls of the writing direction (bidi)."""
BREAKS: Final = "\n\v\f\r\x85\u2028\u2029"
"""What some programs take for the end of a line; they become spaces where text is cleaned."""
REMOVED: Final = (
    "".join(chr(point) for point in range(0x20) if chr(point) not in "\t\n\v\f\r")
    + "\x7f\xad\u200b\u2060\ufeff"
    + DIRECTION
)
"""Other controls, marks of direction and characters without a width; taken out where text is cleaned."""
_MISREAD: Final = "".join(chr(point) for point in range(0x80, 0xA0) if point != 0x85)
"""C1 controls: all but surely Windows-1252 that was read as Latin-1."""

NO_SCRIPT: Final = ("Zyyy", "Zinh", "Zzzz")
"""Scripts of what no script or every script has: punctuation, digits, marks, what isn't assigned."""

_CLEANING: Final = str.maketrans(dict.fromkeys(BREAKS, " ") | dict.fromkeys(REMOVED, ""))


def cleaned(text: str) -> str:
    """`text` without invisible characters and line breaks, stripped."""
    return text.translate(_CLEANING).strip()


def visible(text: str, most: int = 80) -> str:
    """`text` for a report: cut after `most` characters, what can't be seen as ⟨U+200B⟩."""
    shown = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(f"⟨U+{ord(one):04X}⟩" if flags()[ord(one)] & (INVISIBLE | DAMAGED) else one for one in shown)


@cache
def flags() -> NDArray[np.uint8]:
    """The bits of every code point."""
    categories = np.array([unicodedata.category(chr(point)) for point in range(END)] + ["End"])
    major = categories.astype("U1")
    bits = np.where((major == "L") | (major == "M"), LETTER, 0).astype(np.uint8)
    bits[categories == "Nd"] |= DIGIT
    bits[[ord(one) for one in BREAKS + REMOVED]] |= INVISIBLE
    points = np.arange(END + 1)
    damaged = (categories == "Co") | (categories == "Cs") | (points & 0xFFFE == 0xFFFE)
    bits[damaged | ((points >= 0xFDD0) & (points <= 0xFDEF))] |= DAMAGED
    bits[[ord(one) for one in _MISREAD + "\ufffd"]] |= DAMAGED
    bits[END] = 0
    return bits


@cache
def scripts() -> tuple[NDArray[np.uint8], list[str]]:
    """The script of every code point as an index, and the scripts' codes (ISO 15924, "Latn"); `END` has none."""
    names = sorted(set(Scripts.VALUES))
    starts = np.array([*Scripts.RANGES, END, END + 1])
    codes = np.array([*(names.index(value) for value in Scripts.VALUES), names.index("Zzzz")], dtype=np.uint8)
    return np.repeat(codes, np.diff(starts)), names


@cache
def folded() -> NDArray[np.uint32]:
    """Each code point in lower case and half width, digits as 0, and 0 for what is not a letter or digit.

    A character that becomes several (ß, ligatures) becomes the first of them.
    """
    table = np.zeros(END + 1, dtype=np.uint32)
    for point in np.flatnonzero(flags() & (LETTER | DIGIT)):
        one = unicodedata.normalize("NFKC", chr(point)).lower()[:1]
        table[point] = ord("0") if one.isdigit() else ord(one)
    return table


def script_name(code: str) -> str:
    """A script in words: "Han" for "Hani"."""
    return str(Scripts.NAMES.get(code, code)).replace("_", " ")
