"""What is done to a text before it is tokenised: Unicode normal forms, lower case, a SentencePiece model's own rules.

In a tokenizer's file these are the first member of the normalizer, a sequence in a sequence; what comes after it
belongs to the tokenizer.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

import tokenizers

from regard.data.character_map import CharacterMap
from regard.data.words import Span
from regard.errors import ArgumentError

Rule = Literal["nfc", "nfkc", "lower"]
"""A rule that a recipe can ask for: Unicode NFC, Unicode NFKC, lower case (character by character)."""

_TYPES: Final = {"nfc": "NFC", "nfkc": "NFKC", "lower": "Lowercase"}


def rules_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rules called `names`, as they stand in a tokenizer's file.

    Raises:
        ArgumentError: there is no rule of that name, or one is given twice.
    """
    for name in names:
        if name not in _TYPES:
            raise ArgumentError(f"normalize: got {name!r}, expected 'nfc', 'nfkc' or 'lower'")
    if len(set(names)) < len(names):
        raise ArgumentError(f"normalize: got {list(names)}, expected each rule once")
    return [{"type": _TYPES[name]} for name in names]


def split_normalizer(normalizer: dict[str, Any] | None) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the rules at the start of a file's normalizer, and what remains of it."""
    match normalizer:
        case {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": list(rules)}]}:
            return rules, None
        case {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": list(rules)}, rest]}:
            return rules, rest
    return [], normalizer


def join_normalizer(rules: list[dict[str, Any]], rest: dict[str, Any] | None) -> dict[str, Any]:
    """Return the normalizer of a file that applies `rules`, then `rest`: the inverse of `split_normalizer`."""
    first = {"type": "Sequence", "normalizers": rules}
    return {"type": "Sequence", "normalizers": [first] if rest is None else [first, rest]}


class _Step(Protocol):
    def apply(self, text: str) -> str:
        """The changed text."""

    def origins(self, text: str) -> list[Span]:
        """For each character of the changed text, the characters of `text` that it comes from."""


class Normalizer:
    """Rules applied one after the other. Build it from the rules of a file."""

    def __init__(self, rules: Sequence[dict[str, Any]]) -> None:
        """Build the rules.

        Raises:
            Exception: the library or the map cannot read a rule; the message says why.
        """
        self._steps: list[_Step] = []
        for rule in rules:
            precompiled = rule.get("type") == "Precompiled"
            self._steps.append(CharacterMap.of_rule(rule) if precompiled else _LibraryRule(rule))

    def __bool__(self) -> bool:
        """Whether there are rules."""
        return bool(self._steps)

    def __call__(self, text: str) -> str:
        """Return the normalised text."""
        for step in self._steps:
            text = step.apply(text)
        return text

    def spans_in(self, text: str, spans: Sequence[Span]) -> list[Span]:
        """Return, for spans of the normalised text, the characters of `text` that they come from."""
        if not self._steps:
            return list(spans)
        origins = [(place, place + 1) for place in range(len(text))]
        end = len(text)
        for step in self._steps:
            changed = [_join(origins, span, end) for span in step.origins(text)]
            text, origins = step.apply(text), changed
        return [_join(origins, span, end) for span in spans]


def _join(origins: list[Span], span: Span, end: int) -> Span:
    """The characters that the characters from `span` come from."""
    first, last = span
    if first == last:
        place = origins[first][0] if first < len(origins) else end
        return place, place
    return origins[first][0], max(stop for _, stop in origins[first:last])


class _LibraryRule:
    """A rule of the library."""

    def __init__(self, rule: dict[str, Any]) -> None:
        # Of the library's objects only a whole tokenizer tells where a normalised character comes from.
        frame = {
            "version": "1.0",
            "added_tokens": [],
            "normalizer": rule,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": r"[\s\S]"},
                "behavior": "Isolated",
                "invert": False,
            },
            "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
        }
        self._characters = tokenizers.Tokenizer.from_str(json.dumps(frame))
        self._rule = self._characters.normalizer

    def apply(self, text: str) -> str:
        changed: str = self._rule.normalize_str(text)
        return changed

    def origins(self, text: str) -> list[Span]:
        found: list[Span] = self._characters.encode(text, add_special_tokens=False).offsets
        # The library leaves out what was composed into the character before it (e + accent), so a character here
        # reaches up to where the next one comes from.
        starts = sorted({start for start, _ in found} | {len(text)})
        return [(start, max(end, starts[bisect_left(starts, start + 1)])) for start, end in found]
