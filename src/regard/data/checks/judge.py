"""Judging every pair of one part, block by block."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from regard.data.checks import contents
from regard.data.checks.alignment import LEAST, UNRELATED, Shift, correlation, find_shifts, levels
from regard.data.checks.blocks import Mask, TextBlock
from regard.data.checks.findings import Example, Finding, Tally, shown
from regard.data.checks.languages import Sides
from regard.data.checks.lengths import LengthRatio
from regard.data.checks.overlap import Seen, Validation
from regard.data.checks.rules import RULES, Severity

MOSTLY: Final = 0.5
"""Share of a part from which on copies are an error."""

_SHOWN: Final = {"numbers": contents.numbers_shown}
_DROPPING: Final = [name for name, rule in RULES.items() if rule.drops]


@dataclass(frozen=True)
class Learned:
    """What the samples say.

    Attributes:
        ratio: how lengths go together; None without a usable pair.
        sides: how the languages are told apart; None if they can't be.
        long: the most characters of a line that isn't very long, on each side.
        why_long: where that number comes from.
    """

    ratio: LengthRatio | None
    sides: Sides | None
    long: tuple[int, int]
    why_long: str


class Judge:
    """Applies the rules to one part.

    Args:
        name, place: of the part.
        rows: the most rows it has.
        learned: what the samples say.
        seen: what was there before, in earlier parts too.
        validation: what must not be in this part; None for the validation part itself.
        examples: how many places to keep for each rule.
    """

    def __init__(
        self,
        name: str,
        place: str,
        rows: int,
        learned: Learned,
        seen: Seen,
        validation: Validation | None,
        examples: int,
    ) -> None:
        self._name, self._place, self._rows = name, place, rows
        self._learned, self._seen, self._validation = learned, seen, validation
        self._tallies = {name: Tally(examples, _SHOWN.get(name, shown)) for name in RULES}
        self._levels = np.zeros((2, rows), np.uint8)
        self._examples = examples
        self._usable = 0
        self.dropped: Counter[str] = Counter()

    def judge(self, block: TextBlock) -> Mask:
        """Take the next block; which of its rows belong into a cleaned copy, (N,)."""
        for side, lines in enumerate(block.sides):
            self._levels[side, block.first : block.first + len(block)] = levels(lines.lengths)
        self._usable += int(block.readable.sum())
        hits = self._hits(block)
        for name, hit in hits.items():
            self._tallies[name].add(block, hit)
        kept = np.ones(len(block), dtype=bool)
        for name in _DROPPING:
            if name in hits:
                self.dropped[name] += int((hits[name] & kept).sum())
                kept &= ~hits[name]
        return kept

    def _hits(self, block: TextBlock) -> dict[str, Mask]:
        """Which rows each rule applies to, by its name."""
        readable, learned = block.readable, self._learned
        source, target = block.source.lengths, block.target.lengths
        hits = {
            "unreadable": contents.unreadable(block),
            "empty": contents.empty(block),
            "damaged": contents.damaged(block),
            "invisible": contents.invisible(block),
            "copies": contents.copies(block),
            "long": ((source > learned.long[0]) | (target > learned.long[1])) & readable,
            "no-words": contents.without_words(block),
            "numbers": contents.other_numbers(block),
        }
        if learned.ratio is not None:
            hits["lengths"] = learned.ratio.outliers(source, target) & readable
        if learned.sides is not None:
            hits["swapped"] = learned.sides.swapped(block) & readable
            hits["script"] = learned.sides.strange(block) & readable & ~hits["copies"]
        if self._validation is not None:
            hits["overlap"] = self._validation.look(block, self._name)
        return hits | self._seen.add(block)

    def findings(self) -> list[Finding]:
        """Everything that was found, once all blocks are judged."""
        details = {"lengths": str(self._learned.ratio), "swapped": str(self._learned.sides)}
        details["long"] = "more than {:,} characters of source or {:,} of target, {}".format(
            *self._learned.long, self._learned.why_long
        )
        found = self._alignment()
        for name, tally in self._tallies.items():
            if tally.count and name != "overlap":  # which is reported where the validation part is
                severity = RULES[name].severity
                if name == "copies" and tally.count > MOSTLY * self._usable:
                    severity = Severity.error
                more = tally.count - len(tally.examples)
                found.append(self._finding(name, severity, tally.count, details.get(name, ""), tally.examples, more))
        if not self._usable:
            found.append(self._finding("nothing", Severity.error, 0, "", []))
        return found

    def _alignment(self) -> list[Finding]:
        source, target = self._levels
        shifts = find_shifts(source, target)
        if shifts:
            count = sum(shift.last - shift.first + 1 for shift in shifts)
            examples = [Example(shift.first + 1, _stretch(shift, self._rows)) for shift in shifts[: self._examples]]
            more = len(shifts) - len(examples)
            return [self._finding("shifted", Severity.error, count, "", examples, more)]
        related = correlation(source, target)
        if self._rows >= LEAST and related < UNRELATED and all(side.min() < side.max() for side in self._levels):
            detail = f"their correlation is {related:.2f}; of translations it is mostly above 0.5"
            return [self._finding("unrelated", Severity.warning, 0, detail, [])]
        return []

    def _finding(
        self, name: str, severity: Severity, count: int, detail: str, examples: list[Example], more: int = 0
    ) -> Finding:
        return Finding(name, self._name, self._place, severity, count, detail, tuple(examples), more)


def _stretch(shift: Shift, rows: int) -> str:
    end = "the end" if shift.last >= rows - 20 else f"about line {shift.last + 1:,}"
    sign = "after" if shift.by > 0 else "before"
    return (
        f"from about here to {end}, source line n goes with the target {_lines(abs(shift.by))} {sign} n "
        f"(lengths then correlate with {shift.correlation:.2f}, as they stand with {shift.as_it_stands:.2f})"
    )


def _lines(count: int) -> str:
    return "one line" if count == 1 else f"{count} lines"
