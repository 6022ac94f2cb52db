"""Aligned phrases, of which the example grammar is made: English words, Chinese characters, the links between them.

Links follow three rules:

- Words that translate each other are linked; a word that has no counterpart in the other language is not.
- A unit that English leaves unsaid is linked to the word that implies it: in 四日 both characters are linked to
  "fourth", in 三本书 the measure word 本 is linked to "books", in 六点半 the 点 is linked to "six".
- Where several words stand for several characters as a whole, each is linked to each.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")

MARKS = {"?": "？"}
"""Punctuation, English to Chinese; written without a space before it, and a word of its own when words are counted."""


@dataclass(frozen=True)
class Phrase:
    """An English phrase, its Chinese translation and the links between them.

    Attributes:
        english: the words, a punctuation mark being a word of its own.
        chinese: the characters, one by one, each a word of its own.
        links: pairs (index in `english`, index in `chinese`), from 0.
    """

    english: tuple[str, ...]
    chinese: tuple[str, ...]
    links: frozenset[tuple[int, int]]

    def __add__(self, other: "Phrase") -> "Phrase":
        """This phrase followed by `other`, in both languages."""
        rows, columns = len(self.english), len(self.chinese)
        moved = {(i + rows, j + columns) for i, j in other.links}
        return Phrase(self.english + other.english, self.chinese + other.chinese, self.links | moved)

    @property
    def source(self) -> str:
        """The English text."""
        text = " ".join(self.english)
        for mark in MARKS:
            text = text.replace(f" {mark}", mark)
        return text

    @property
    def target(self) -> str:
        """The Chinese text."""
        return "".join(self.chinese)


@dataclass(frozen=True)
class Draft:
    """A phrase with the value it speaks about: what makes two sentences "the same value", whatever their wording."""

    value: tuple[int | str, ...]
    phrase: Phrase


def word(english: str, chinese: str) -> Phrase:
    """English words and the Chinese characters that translate them as a whole: every word linked to every character.

    Either may be empty, for a word without a counterpart.
    """
    words = tuple(english.split())
    links = frozenset((i, j) for i in range(len(words)) for j in range(len(chinese)))
    return Phrase(words, tuple(chinese), links)


def listed(words: str) -> tuple[str, ...]:
    """The words of a text, as a tuple."""
    return tuple(words.split())


def aligned(english: str, chinese: str, **slots: Phrase) -> Phrase:
    """A phrase from a pair of patterns, for example `aligned("the {d} of {m}", "{m} {d}", d=day, m=month)`.

    Both patterns are items with spaces between. `{name}` is replaced by the phrase of that name, with its links.
    `text/label` is a word (in Chinese: characters) linked to every item with the same label on the other side;
    a label may be several letters, `text/ab`, and then links to items labelled a, to those labelled b and so on.
    An item without a label is linked to nothing.

    Raises:
        ValueError: a slot or a label does not occur on both sides, or a slot is missing or left over.
    """
    left, right = _parse(english), _parse(chinese)
    names = sorted(name for kind, name, _ in left if kind == "slot")
    if names != sorted(name for kind, name, _ in right if kind == "slot") or names != sorted(slots):
        raise ValueError(f"slots of {english!r}, {chinese!r} and the phrases {sorted(slots)} do not agree")
    words, word_places, word_starts = _lay_out(left, slots, chinese=False)
    characters, character_places, character_starts = _lay_out(right, slots, chinese=True)
    if word_places.keys() != character_places.keys():
        raise ValueError(f"labels of {english!r} and {chinese!r} do not agree")
    links = {(i, j) for label, places in word_places.items() for i in places for j in character_places[label]}
    for name, phrase in slots.items():
        links |= {(i + word_starts[name], j + character_starts[name]) for i, j in phrase.links}
    return Phrase(tuple(words), tuple(characters), frozenset(links))


def pick(rng: random.Random, items: Sequence[Item]) -> Item:
    """One of `items`, each as likely. Uses `rng.random()` alone, whose numbers Python promises never to change."""
    return items[int(rng.random() * len(items))]


def between(rng: random.Random, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included, each as likely."""
    return low + int(rng.random() * (high - low + 1))


@cache
def _parse(pattern: str) -> tuple[tuple[str, str, str], ...]:
    """The items of a pattern: ("slot", name, "") or ("text", text, labels)."""
    items = []
    for item in pattern.split():
        if item.startswith("{"):
            items.append(("slot", item[1:-1], ""))
        else:
            text, _, labels = item.partition("/")
            items.append(("text", text, labels))
    return tuple(items)


def _lay_out(
    items: tuple[tuple[str, str, str], ...], slots: dict[str, Phrase], chinese: bool
) -> tuple[list[str], dict[str, list[int]], dict[str, int]]:
    """The words of one side, where each label lies, and where each slot begins."""
    words: list[str] = []
    places: dict[str, list[int]] = {}
    starts: dict[str, int] = {}
    for kind, text, labels in items:
        if kind == "slot":
            starts[text] = len(words)
            words += slots[text].chinese if chinese else slots[text].english
            continue
        new = list(text) if chinese else [text]
        for label in labels:
            places.setdefault(label, []).extend(range(len(words), len(words) + len(new)))
        words += new
    return words, places, starts
