"""What is looked for: every rule with its severity, what it found in a few words, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    error = "error"
    """What can't be right; training refuses it or would learn nonsense."""
    warning = "warning"
    """Worth a look."""
    note = "note"
    """Good to know."""


@dataclass(frozen=True)
class Rule:
    """What is looked for.

    Attributes:
        severity: of what is found, unless it is everywhere.
        title: what was found, in a few words.
        advice: what to do about it.
        drops: whether a cleaned copy leaves such pairs out.
        spoils: whether there can be no cleaned copy, since nobody knows which lines belong together.
    """

    severity: Severity
    title: str
    advice: str
    drops: bool = False
    spoils: bool = False


RULES: Final[Mapping[str, Rule]] = {
    "incomplete": Rule(
        Severity.error,
        "reading ended early",
        "If line counts differ, look for a missing or an extra line; a finding 'shifted' says where it is. A "
        "compressed file may be damaged.",
        spoils=True,
    ),
    "shifted": Rule(
        Severity.error,
        "the sides are shifted against each other",
        "Look at both files around the first of these lines: there is a line too many or too few on one side.",
        spoils=True,
    ),
    "unrelated": Rule(
        Severity.warning,
        "the lengths of the sides have nothing to do with each other",
        "Check by eye whether line n of one side translates line n of the other.",
    ),
    "swapped-part": Rule(
        Severity.error,
        "source and target are exchanged in this part",
        "Exchange the two files, or the two columns, of this part.",
        spoils=True,
    ),
    "nothing": Rule(
        Severity.error, "no pair can be used", "Are these the right files, and the right columns?", spoils=True
    ),
    "unreadable": Rule(
        Severity.error,
        "rows that cannot be read",
        "Convert the file to UTF-8 (iconv -f WINDOWS-1252 -t UTF-8, for example), or mend or drop these rows.",
        drops=True,
    ),
    "empty": Rule(
        Severity.warning, "a side is empty", "Training leaves these pairs out; nothing must be done.", drops=True
    ),
    "damaged": Rule(
        Severity.warning,
        "damaged characters: replacement marks (U+FFFD), private or impossible ones, UTF-8 read as something else",
        "The text was decoded wrongly before it came here: make it again from its origin, or drop these pairs.",
        drops=True,
    ),
    "invisible": Rule(
        Severity.warning,
        "invisible characters: controls, byte-order marks, line breaks inside, direction marks, zero width",
        "They make equal words unequal. --write-clean takes them out and keeps the pairs.",
    ),
    "swapped": Rule(
        Severity.warning, "source and target look exchanged", "Exchange or drop the sides of these pairs.", drops=True
    ),
    "script": Rule(
        Severity.warning,
        "a side is written in the other side's script",
        "Probably not translated; names and brands are harmless.",
    ),
    "copies": Rule(
        Severity.warning,
        "source and target are the same text",
        "A model learns from them to copy. Drop them, unless they are names.",
        drops=True,
    ),
    "lengths": Rule(
        Severity.warning,
        "one side is far too long for the other",
        "Mostly wrong or partial translations: look at some, drop them if so.",
        drops=True,
    ),
    "long": Rule(
        Severity.warning,
        "very long lines",
        "Training leaves longer sentences than data.max_length out. Split paragraphs into sentences.",
    ),
    "duplicates": Rule(
        Severity.warning,
        "pairs that were there before",
        "Few do no harm; many make the model repeat them. Drop them, or weigh the part less.",
        drops=True,
    ),
    "overlap": Rule(
        Severity.warning,
        "validation pairs that are in the training part too",
        "Validation then measures memory. Take them out of the training part (--write-clean does), or choose others.",
        drops=True,
    ),
    "overlap-sources": Rule(
        Severity.warning,
        "validation sources that are in the training part with another translation",
        "Validation looks a little better than it is.",
    ),
    "mismatch": Rule(
        Severity.warning,
        "training and validation are written differently",
        "Both should have gone through the same preparation: bring them to the same form.",
    ),
    "tokens": Rule(
        Severity.warning,
        "the tokenizer fits validation far worse than training",
        "Validation is of another language, domain or preparation than training: look at some of its lines.",
    ),
    "no-words": Rule(
        Severity.note, "a side without words: only numbers, marks, addresses or markup", "Mostly useless."
    ),
    "numbers": Rule(
        Severity.note, "different numbers on the two sides", "Often a wrong translation; units and clocks may differ."
    ),
    "several-targets": Rule(
        Severity.note, "sources that were there before with another target", "Normal, if all are good translations."
    ),
    "near-duplicates": Rule(
        Severity.note,
        "pairs that were there before but for case, punctuation or digits",
        "Normal in small numbers; templates in large ones.",
    ),
    "prepared": Rule(
        Severity.note,
        "the text seems to have been tokenised or escaped before",
        "Translations will look like that too. regard tokenises by itself and wants plain text.",
    ),
    "no-validation": Rule(
        Severity.note,
        "no validation part was given",
        "Training holds some pairs out, so that overlap and mismatch need no check.",
    ),
    "unchecked": Rule(Severity.note, "not checked", "See why."),
}
"""Every rule by its name, in the order in which findings are reported."""
