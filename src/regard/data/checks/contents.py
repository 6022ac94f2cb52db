"""What can be seen in one pair by itself: empty or equal sides, odd characters, no words, other numbers."""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from regard.data.checks.blocks import Mask, TextBlock
from regard.data.checks.characters import DAMAGED, DIGIT, INVISIBLE, LETTER, visible

# What Windows-1252 has for the bytes 0x80 to 0x9F.
_WINDOWS: Final = bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
_UPPER: Final = "".join(filter(str.isupper, map(chr, (*range(0x250), *range(0x1E00, 0x1F00)))))
# UTF-8 that was read as Latin-1 or Windows-1252: Ã¼ for ü, â€™ for ’. After an upper-case letter Ã is mostly itself:
# AMANHÃ… is Portuguese, ĐÃ” Vietnamese.
_MISREAD: Final = re.compile(f"(?<![{_UPPER}])Ã[\u0080-\u00bf{_WINDOWS}]|â€|Â[\u00a0-\u00bf]|ï»¿|ï¿½")
_MARKUP: Final = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\w+|<[^<>]*>|&#?\w+;")
_MARKUP_START: Final = re.compile(r"[<&@]|://|www\.")
_NUMBER: Final = re.compile(r"\d+(?:[.,'’\u00a0\u202f]\d+)*")
_NOT_DIGIT: Final = re.compile(r"\D")


def empty(block: TextBlock) -> Mask:
    """Which pairs have nothing on a side, though nothing went wrong in reading them, (N,)."""
    mask = block.source.blank | block.target.blank
    mask[list(block.problems)] = False
    return mask


def unreadable(block: TextBlock) -> Mask:
    """Which rows could not be read, (N,)."""
    mask = np.zeros(len(block), dtype=bool)
    mask[list(block.problems)] = True
    return mask


def damaged(block: TextBlock) -> Mask:
    """Which pairs hold characters that say that text was lost or decoded wrongly, (N,)."""
    mask = _any(block, DAMAGED)
    for lines in block.sides:
        for index in _lines_with(lines.texts, _MISREAD):
            mask[index] = True
    return mask & block.readable


def invisible(block: TextBlock) -> Mask:
    """Which pairs hold characters that can't be seen and mean nothing, (N,)."""
    return _any(block, INVISIBLE) & block.readable


def copies(block: TextBlock) -> Mask:
    """Which pairs have the same text, with a letter in it, on both sides, (N,)."""
    same = np.fromiter(map(str.__eq__, block.source.texts, block.target.texts), bool, len(block))
    mask: Mask = same & ((block.source.any_flags & LETTER) != 0) & block.readable
    return mask


def without_words(block: TextBlock) -> Mask:
    """Which pairs have a side without a letter, or with letters in addresses and markup alone, (N,)."""
    mask = np.zeros(len(block), dtype=bool)
    for lines in block.sides:
        mask |= (lines.any_flags & LETTER) == 0
        for index in _lines_with(lines.texts, _MARKUP_START):
            mask[index] |= not any(map(str.isalpha, _MARKUP.sub("", lines.texts[index])))
    return mask & block.readable


def other_numbers(block: TextBlock) -> Mask:
    """Which pairs have numbers in digits on both sides, but not the same ones, (N,).

    Signs between the digits of a number and leading zeros don't count: 1,000.50 and 1.000,50 are the same.
    """
    mask = np.zeros(len(block), dtype=bool)
    both = (block.source.any_flags & block.target.any_flags & DIGIT) != 0
    for index in np.flatnonzero(both & block.readable):
        mask[index] = _numbers(block.source.texts[index]) != _numbers(block.target.texts[index])
    return mask


def numbers_shown(source: str, target: str) -> str:
    """The numbers of both sides, for a report."""
    return " │ ".join(visible(", ".join(_NUMBER.findall(text)), 60) for text in (source, target))


def _numbers(text: str) -> list[int]:
    return sorted(int(_NOT_DIGIT.sub("", number)[:400]) for number in _NUMBER.findall(text))


def _any(block: TextBlock, bits: int) -> Mask:
    mask: Mask = ((block.source.any_flags | block.target.any_flags) & bits) != 0
    return mask


def _lines_with(texts: list[str], pattern: re.Pattern[str]) -> Iterator[int]:
    """Which of the lines match; all of them are looked at in one go first, since most blocks have none."""
    if pattern.search("\n".join(texts)):
        yield from (index for index, text in enumerate(texts) if pattern.search(text))
