"""What has to be known about a word before it is drawn: how it is shown, which language's letter shapes it takes."""

import unicodedata
from collections.abc import Iterable

BLANK = "␣"
"""Shown for a word with nothing visible in it."""


def visible(word: str) -> str:
    """Return `word` as it is drawn: on one line, without characters that have no shape of their own.

    Control characters and unusual spaces become a space; format characters and variation selectors are dropped (a
    font without them would draw a box); a word with nothing left is shown as ␣.
    """
    shown = []
    for character in word:
        category = unicodedata.category(character)
        if category in ("Cc", "Zs", "Zl", "Zp"):
            shown.append(" ")
        elif category != "Cf" and not _is_variation_selector(character):
            shown.append(character)
    text = " ".join("".join(shown).split())
    return text or BLANK


def language_of(words: Iterable[str]) -> str | None:
    """Return the language tag whose shapes of Han characters suit `words`, or None when there are none.

    Chinese, Japanese and Korean share code points for characters that they write differently (直, 角, 海). Kana mean
    "ja", hangul "ko", anything else with Han characters "zh-Hans".
    """
    text = "".join(words)
    if any("\u3040" <= c <= "\u30ff" or "\u31f0" <= c <= "\u31ff" for c in text):
        return "ja"
    if any("\uac00" <= c <= "\ud7a3" or "\u1100" <= c <= "\u11ff" for c in text):
        return "ko"
    return "zh-Hans" if any(_is_han(c) for c in text) else None


def _is_han(character: str) -> bool:
    return (
        "\u3400" <= character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or "\U00020000" <= character <= "\U0003ffff"
    )


def _is_variation_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
