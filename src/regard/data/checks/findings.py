"""What a check reports: findings with their first places, and the report that holds them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.data.checks.blocks import Mask, TextBlock
from regard.data.checks.characters import visible
from regard.data.checks.rules import RULES, Rule, Severity


@dataclass(frozen=True)
class Example:
    """One place where a rule applies.

    Attributes:
        line: the line or row, from 1; 0 where it is not about one line.
        text: what is there, ready to be shown.
    """

    line: int
    text: str


@dataclass(frozen=True)
class Finding:
    """What a rule found in one part.

    Attributes:
        name: the rule's.
        part: the part's name; empty where it is about several.
        place: the file or files, as messages call them.
        severity: how bad it is.
        count: how many lines; 0 where it is about the whole.
        detail: what exactly, thresholds among it.
        examples: the first places.
        more: how many further places there are.
    """

    name: str
    part: str
    place: str
    severity: Severity
    count: int
    detail: str = ""
    examples: tuple[Example, ...] = ()
    more: int = 0

    @property
    def rule(self) -> Rule:
        """What was looked for."""
        return RULES[self.name]

    def to_json(self) -> dict[str, Any]:
        """The finding as nested tables."""
        return {
            "name": self.name,
            "severity": self.severity.value,
            "part": self.part,
            "files": self.place,
            "count": self.count,
            "title": self.rule.title,
            "detail": self.detail,
            "advice": self.rule.advice,
            "examples": [{"line": one.line, "text": one.text} for one in self.examples],
        }


@dataclass(frozen=True)
class PartSummary:
    """A part that was read.

    Attributes:
        name: "training", "training 2", "validation".
        place: the file or files.
        rows: pairs read.
        dropped: how many of them a cleaned copy leaves out, by the rule that applied first.
    """

    name: str
    place: str
    rows: int
    dropped: Mapping[str, int]

    @property
    def kept(self) -> int:
        """How many pairs a cleaned copy has."""
        return self.rows - sum(self.dropped.values())

    def to_json(self) -> dict[str, Any]:
        """The summary as nested tables."""
        return {
            "name": self.name,
            "files": self.place,
            "pairs": self.rows,
            "clean": {"kept": self.kept, "dropped": dict(self.dropped)},
        }


@dataclass(frozen=True)
class Report:
    """Everything that a check found: parts in the order of the recipe, findings with the worst first."""

    parts: Sequence[PartSummary]
    findings: Sequence[Finding]

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [one for one in self.findings if one.severity is severity]

    @property
    def spoiled(self) -> list[Finding]:
        """Findings that leave no way to a cleaned copy."""
        return [one for one in self.findings if one.rule.spoils]

    def to_json(self) -> dict[str, Any]:
        """The report as nested tables."""
        return {
            "parts": [one.to_json() for one in self.parts],
            "counts": {severity.value: len(self.of(severity)) for severity in Severity},
            "findings": [one.to_json() for one in self.findings],
        }


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first, then in the order of the rules."""
    severities, names = list(Severity), list(RULES)
    return sorted(findings, key=lambda one: (severities.index(one.severity), names.index(one.name)))


class Tally:
    """Counts the rows that a rule applies to and keeps the first of them.

    Args:
        most: how many to keep.
        show: makes a line of a report of source and target.
    """

    def __init__(self, most: int, show: Callable[[str, str], str]) -> None:
        self._most, self._show = most, show
        self.count = 0
        self.examples: list[Example] = []

    def add(self, block: TextBlock, hit: Mask) -> None:
        """Count the rows of a block where `hit`, (N,)."""
        found = np.flatnonzero(hit)
        self.count += len(found)
        for index in map(int, found[: self._most - len(self.examples)]):
            text = block.problems.get(index)
            if text is None:
                text = self._show(block.source.texts[index], block.target.texts[index])
            self.examples.append(Example(int(block.lines[index]), text))


def shown(source: str, target: str) -> str:
    """A pair in one line of a report."""
    return f"{visible(source, 60)} │ {visible(target, 60)}"
