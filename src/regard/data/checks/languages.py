"""Which side is which language: by script where the scripts differ, else by pairs of letters learned from the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from regard.data.checks.blocks import Lines, Mask, TextBlock
from regard.data.checks.characters import END, LETTER, NO_SCRIPT, script_name, scripts

Sums = NDArray[np.float64]

CERTAIN: Final = 12.0
"""Nats by which both sides together must fit the other language better, and a third of it each side by itself."""
DECIDED: Final = 0.8
"""Which share of pairs must be certain one way or the other; with fewer, the sides are too alike to tell apart."""
LEAST: Final = 100
"""Fewest pairs in a sample to learn from."""
ENOUGH: Final = 4
"""Letters of the other script that make a side strange; fewer are an abbreviation."""
MIXED: Final = 0.2
"""Share of the other side's script in a side's own lines from which on a line in it alone means nothing."""
BUCKETS: Final = 1 << 16
"""Pairs of letters are told apart by 16 bits of a hash."""


class Sides(Protocol):
    """Tells the two sides apart."""

    def swapped(self, block: TextBlock) -> Mask:
        """Which pairs look exchanged, (N,)."""

    def strange(self, block: TextBlock) -> Mask:
        """In which pairs exactly one side is in the other side's script, (N,)."""

    def __str__(self) -> str:
        """How they are told apart, in words."""


@dataclass(frozen=True)
class ByScript:
    """The sides are written in different scripts: each line's is the one that more of its letters have.

    Attributes:
        source, target: the scripts (ISO 15924).
        mixed: whether a side is also written in the other's script, as Japanese is in that of Chinese.
    """

    source: str
    target: str
    mixed: tuple[bool, bool] = (False, False)

    def swapped(self, block: TextBlock) -> Mask:
        """Which pairs have the target's script on the source side and the other way round."""
        own, other = self._letters(block.source)
        others, owns = self._letters(block.target)
        mask: Mask = (other > own) & (others > owns)
        return mask

    def strange(self, block: TextBlock) -> Mask:
        """Which pairs have no letter of its own script on one side, but some of the other's, unless it is mixed."""
        own, other = self._letters(block.source)
        others, owns = self._letters(block.target)
        source, target = (own == 0) & (other >= ENOUGH), (owns == 0) & (others >= ENOUGH)
        mask = np.zeros(len(block), dtype=bool)
        if not self.mixed[0]:
            mask |= source & ~target
        if not self.mixed[1]:
            mask |= target & ~source
        return mask

    def _letters(self, lines: Lines) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _letters_of(lines, self.source), _letters_of(lines, self.target)

    def __str__(self) -> str:
        return f"{script_name(self.source)} on the source side, {script_name(self.target)} on the target side"


@dataclass(frozen=True)
class ByLetters:
    """The sides share a script: the odds of each pair of neighbouring letters under the two sides' frequencies.

    A bigram language model of each side (as in Dunning 1994, "Statistical Identification of Language") without
    conditioning: the logarithm of the ratio of a bigram's relative frequencies, summed over a line.

    Attributes:
        odds: ln(frequency on the target side / on the source side) of each bucket of bigrams.
    """

    odds: NDArray[np.float32]

    @classmethod
    def fit(cls, source: Lines, target: Lines) -> Self:
        """Count the bigrams of two sides."""
        counts = [np.bincount(_buckets(side)[_inside(side)], minlength=BUCKETS) + 0.5 for side in (source, target)]
        logs = [np.log(one / one.sum()) for one in counts]
        return cls((logs[1] - logs[0]).astype(np.float32))

    def swapped(self, block: TextBlock) -> Mask:
        """Which pairs fit far better the other way round."""
        source, target = self._sums(block)
        mask: Mask = (source - target > CERTAIN) & (source > CERTAIN / 3) & (-target > CERTAIN / 3)
        return mask

    def strange(self, block: TextBlock) -> Mask:
        """None: there is one script."""
        return np.zeros(len(block), dtype=bool)

    def decided(self, block: TextBlock) -> float:
        """The share of pairs that certainly are as given or exchanged."""
        source, target = self._sums(block)
        return float(np.mean(np.abs(source - target) > CERTAIN)) if len(block) else 0.0

    def _sums(self, block: TextBlock) -> tuple[Sums, Sums]:
        """How much better each line fits the target's language than the source's, in nats."""
        source, target = (
            side.sums(np.where(_inside(side), self.odds[_buckets(side)], np.float32(0)), np.float64)
            for side in block.sides
        )
        return source, target

    def __str__(self) -> str:
        return "by the frequencies of pairs of letters"


def tell_apart(learn: TextBlock, judge: TextBlock) -> Sides | None:
    """A way to tell the sides apart, learned from a sample; None where they are too alike or too few.

    Args:
        learn, judge: two halves of the sample.
    """
    if len(learn) + len(judge) < LEAST:
        return None
    sides = list(zip(learn.sides, judge.sides, strict=True))
    source, target = map(_main_script, sides)
    if source is None or target is None:
        return None
    if source != target:
        mixed = _mixes(sides[0], source, target), _mixes(sides[1], target, source)
        return ByScript(source, target, mixed)
    letters = ByLetters.fit(learn.source, learn.target)
    return letters if letters.decided(judge) >= DECIDED else None


def script_shares(lines: Sequence[Lines]) -> dict[str, float]:
    """The share of each script among the letters, the largest first; empty if there is no letter."""
    codes, names = scripts()
    counts = np.zeros(len(names))
    for side in lines:
        counts += np.bincount(codes[side.points[(side.flags & LETTER) != 0]], minlength=len(names))
    counts[[names.index(name) for name in NO_SCRIPT]] = 0
    order = np.argsort(-counts, kind="stable")
    return {names[index]: float(counts[index] / counts.sum()) for index in order if counts[index]}


def _main_script(lines: Sequence[Lines]) -> str | None:
    return next(iter(script_shares(lines)), None)


def _mixes(lines: Sequence[Lines], own: str, other: str) -> bool:
    """Whether lines with letters of their own script have many of another; lines that were not translated have none."""
    owns = others = 0
    for side in lines:
        letters = _letters_of(side, own)
        owns += int(letters.sum())
        others += int(_letters_of(side, other)[letters > 0].sum())
    return others >= MIXED * (owns + others)


def _letters_of(lines: Lines, script: str) -> NDArray[np.int64]:
    """How many letters of each line are of a script, (N,)."""
    codes, names = scripts()
    return lines.sums(codes[lines.points] == names.index(script))


def _buckets(lines: Lines) -> NDArray[np.uint32]:
    """A hash of each character with the one after it, (P,)."""
    first = lines.folded
    second = np.append(first[1:], np.uint32(0))
    buckets: NDArray[np.uint32] = (first * np.uint32(0x9E3779B1) + second * np.uint32(0x85EBCA77)) >> np.uint32(16)
    return buckets


def _inside(lines: Lines) -> Mask:
    """Where a bigram lies within its line: not at the mark of its end."""
    mask: Mask = lines.points != END
    return mask
