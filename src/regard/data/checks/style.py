"""How text is written: habits that a preparation leaves, compared between training and validation."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from regard.data.checks.blocks import Lines
from regard.data.checks.characters import script_name
from regard.data.checks.languages import script_shares
from regard.data.tokenizers import Tokenizer

DIFFERENT: Final = 0.2
"""By how much the share of lines with a habit may differ."""
DEVIATIONS: Final = 5.0
"""And by how many standard deviations of a difference by chance."""
LEAST: Final = 30
"""Fewest lines of a side to compare."""


@dataclass(frozen=True)
class Habit:
    """Something that a line has or has not.

    Attributes:
        words: what, so that "3 % of the lines have …" reads well.
        has: whether a line has it.
        suspicious: the share of lines from which on it is worth a note by itself; None if it is always normal.
    """

    words: str
    has: Callable[[str], bool]
    suspicious: float | None = None


def _matches(pattern: str) -> Callable[[str], bool]:
    search = re.compile(pattern).search
    return lambda text: search(text) is not None


HABITS: Final[Sequence[Habit]] = (
    Habit("upper-case letters", lambda text: text != text.lower()),
    Habit("a punctuation mark at the end", lambda text: unicodedata.category(text[-1])[0] == "P"),
    Habit("a space before a comma or full stop", _matches(r"\w [.,](?: |$)"), suspicious=0.3),
    Habit(
        "contractions split off (do n't, it 's)", _matches(r"\w (?:n[’']t|[’'](?:s|re|ve|ll|m|d))\b"), suspicious=0.05
    ),
    Habit(
        "spaces between Chinese or Japanese characters",
        _matches(r"[\u3040-\u30ff\u4e00-\u9fff] [\u3040-\u30ff\u4e00-\u9fff]"),
        suspicious=0.5,
    ),
    Habit(
        "HTML escapes (&amp;, &quot;, &#91;)",
        _matches(r"&(?:amp|quot|apos|lt|gt|nbsp|#\d+|#x[0-9a-fA-F]+);"),
        suspicious=0.01,
    ),
    Habit(
        "marks of subwords or of a tokenizer (@@, ▁, @-@)", _matches(r"@@(?: |$)|@-@|▁|(?:^| )##\w"), suspicious=0.05
    ),
    Habit("curly quotes (“ ” ‘ ’)", _matches("[“”‘’„‚]")),
    Habit("full-width letters or signs (Ａ, ，)", _matches("[\uff01-\uff5e]")),
    Habit("characters in more pieces than needed (not NFC)", lambda text: not unicodedata.is_normalized("NFC", text)),
)
"""What is compared. French puts spaces before other marks than these, so those are left out."""


@dataclass(frozen=True)
class Profile:
    """The habits of one side.

    Attributes:
        lines: how many lines it is made from.
        shares: the share of lines with each habit, by its words.
        script: the script of most letters (ISO 15924), or None if there are no letters.
        example: the first line with each habit.
    """

    lines: int
    shares: Mapping[str, float]
    script: str | None
    example: Mapping[str, str]


def profile(texts: list[str]) -> Profile:
    """Count the habits of some lines, none of which is empty."""
    shares: dict[str, float] = {}
    example: dict[str, str] = {}
    for habit in HABITS:
        found = [text for text in texts if habit.has(text)]
        shares[habit.words] = len(found) / max(len(texts), 1)
        if found:
            example[habit.words] = found[0]
    return Profile(len(texts), shares, next(iter(script_shares([Lines(texts)])), None), example)


def differences(training: Profile, validation: Profile) -> list[str]:
    """Where two profiles of the same side differ more than by chance, in words."""
    if min(training.lines, validation.lines) < LEAST:
        return []
    found = []
    if training.script != validation.script and training.script and validation.script:
        found.append(
            f"training is mostly in {script_name(training.script)} script, validation in "
            f"{script_name(validation.script)}"
        )
    for words, share in training.shares.items():
        other = validation.shares[words]
        both = (share * training.lines + other * validation.lines) / (training.lines + validation.lines)
        noise = np.sqrt(both * (1 - both) * (1 / training.lines + 1 / validation.lines))
        if abs(share - other) > max(DIFFERENT, DEVIATIONS * noise):
            found.append(f"{words}: in {share:.0%} of the training lines, in {other:.0%} of the validation lines")
    return found


def oddities(one: Profile) -> list[tuple[str, str]]:
    """Habits of a side that plain text doesn't have, in words, each with a line that has it."""
    if one.lines < LEAST:
        return []
    return [
        (f"{habit.words}: in {one.shares[habit.words]:.0%} of the lines", one.example[habit.words])
        for habit in HABITS
        if habit.suspicious is not None and one.shares[habit.words] > habit.suspicious
    ]


UNKNOWN: Final = 0.02
"""By how much the share of unknown tokens may be larger in validation."""
LONGER: Final = 1.3
"""How many times as many tokens a character validation may need."""


@dataclass(frozen=True)
class Fit:
    """How well a tokenizer fits some text.

    Attributes:
        per_character: tokens for each character.
        unknown: the share of tokens that are unknown or single bytes of a rare character.
    """

    per_character: float
    unknown: float


def fit(tokenizer: Tokenizer, texts: list[str]) -> Fit:
    """Encode lines, at least one of them with text, and count."""
    tokens = unknown = 0
    rare = {tokenizer.unk_id, *_bytes(tokenizer)}
    for ids in tokenizer.encode_batch(texts):
        tokens += len(ids)
        unknown += sum(index in rare for index in ids)
    return Fit(tokens / sum(map(len, texts)), unknown / max(tokens, 1))


def worse(training: Fit, validation: Fit) -> list[str]:
    """How validation is tokenised much worse than training, in words."""
    reasons = []
    if validation.unknown - training.unknown > UNKNOWN:
        reasons.append(
            f"{validation.unknown:.1%} of the validation tokens are unknown or single bytes, "
            f"{training.unknown:.1%} of the training tokens"
        )
    if validation.per_character > LONGER * training.per_character:
        reasons.append(
            f"{validation.per_character:.2f} tokens a character in validation, {training.per_character:.2f} in training"
        )
    return reasons


def _bytes(tokenizer: Tokenizer) -> set[int]:
    """The ids of the tokens that are one byte of a character."""
    names = re.compile(r"<0x[0-9A-F]{2}>")
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    return {index for index, piece in enumerate(pieces) if names.fullmatch(piece)}
