"""Pairs in blocks: the text of a few thousand lines as one array of code points, judged by array operations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from regard.data.checks.characters import END, INVISIBLE, cleaned, flags, folded
from regard.data.pairs import Block

Mask = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

CHARACTERS: Final = 1 << 20
"""A block with more characters, on both sides together, is judged in pieces, which bounds memory."""

_BASE: Final = np.uint64(0x9E3779B97F4A7C15)


class Lines:
    """Texts, laid end to end as code points with `END` after each.

    Attributes:
        texts: the lines.
        points: code points, (P,), uint32.
        starts: where each line begins, (N,).
        lengths: characters of each line, (N,).
    """

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        ends = np.cumsum(self.lengths + 1)
        self.starts = ends - self.lengths - 1
        # the one character between lines is overwritten by END; a line may hold any character, "\n" too
        joined = "\n".join([*texts, ""]) if texts else ""
        self.points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).copy()
        self.points[ends - 1] = END

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def flags(self) -> NDArray[np.uint8]:
        """The bits of every code point, (P,)."""
        return flags()[self.points]

    @cached_property
    def any_flags(self) -> NDArray[np.uint8]:
        """The bits that some character of a line has, (N,)."""
        return np.bitwise_or.reduceat(self.flags, self.starts) if len(self) else np.zeros(0, np.uint8)

    @cached_property
    def blank(self) -> Mask:
        """Which lines have nothing, or nothing that would be left of them in a cleaned copy, (N,)."""
        mask: Mask = self.lengths == 0
        for index in np.flatnonzero(self.any_flags & INVISIBLE):
            mask[index] = not cleaned(self.texts[index])
        return mask

    @cached_property
    def folded(self) -> NDArray[np.uint32]:
        """Letters in lower case, digits as 0, other characters as 0, (P,)."""
        return folded()[self.points]

    def sums(self, values: NDArray[Any], dtype: type[np.generic] = np.int64) -> NDArray[Any]:
        """The sum of `values`, one per code point, over each line, (N,)."""
        if not len(self):
            return np.zeros(0, dtype)
        summed: NDArray[Any] = np.add.reduceat(values, self.starts, dtype=dtype)
        return summed

    @cached_property
    def hashes(self) -> Hashes:
        """64 bits for the text of each line without its invisible characters, the same in every process, (N,)."""
        if len(self) and (self.any_flags & INVISIBLE).any():
            return self._hashes(self.points, (self.flags & INVISIBLE) == 0)
        return self._hashes(self.points, None)

    @cached_property
    def near_hashes(self) -> Hashes:
        """64 bits for the letters of each line in lower case, with every digit alike; 0 if it has none, (N,)."""
        kept = (self.folded != 0) | (self.points == END)
        return np.where(self.sums(kept) > 1, self._hashes(self.folded, kept), np.uint64(0))

    def _hashes(self, values: NDArray[np.uint32], kept: Mask | None) -> Hashes:
        """The polynomial Σ mixed(value) · base^place of each line, modulo 2⁶⁴, mixed again."""
        if not len(self):
            return np.zeros(0, np.uint64)
        starts = self.starts
        if kept is not None:
            starts = np.concatenate([[0], np.cumsum(self.sums(kept))[:-1]])
            values = values[kept]
        lengths = np.diff(np.append(starts, len(values)))
        place = np.arange(len(values)) - np.repeat(starts, lengths)
        terms = _mixed_points()[values] * _powers(int(lengths.max()))[place]
        return mixed(np.add.reduceat(terms, starts))


@dataclass(frozen=True)
class TextBlock:
    """Consecutive rows of a part.

    Attributes:
        first: the index in the part of the first row, from 0.
        lines: the number of each row's line, as `Row.line`.
        source, target: the sides.
        problems: `Row.problem` by index in the block, of those that have one.
    """

    first: int
    lines: Sequence[int]
    source: Lines
    target: Lines
    problems: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.lines)

    @cached_property
    def readable(self) -> Mask:
        """Which rows have no problem and text on both sides, (N,)."""
        mask = ~(self.source.blank | self.target.blank)
        mask[list(self.problems)] = False
        return mask

    @property
    def sides(self) -> tuple[Lines, Lines]:
        """Source and target."""
        return self.source, self.target

    @cached_property
    def pair_hashes(self) -> Hashes:
        """64 bits for each pair."""
        return joined(self.source.hashes, self.target.hashes)

    @cached_property
    def near_hashes(self) -> Hashes:
        """64 bits for each pair's letters; 0 where a side has none."""
        sides = self.source.near_hashes, self.target.near_hashes
        return np.where((sides[0] != 0) & (sides[1] != 0), joined(*sides), np.uint64(0))


def text_blocks(read: Iterable[Block]) -> Iterator[TextBlock]:
    """Blocks as a reader yields them, as arrays; long texts in smaller blocks."""
    first = 0
    for block in read:
        for start, end in _pieces(block):
            problems = {index - start: block.problems[index] for index in block.problems if start <= index < end}
            source, target = Lines(block.sources[start:end]), Lines(block.targets[start:end])
            yield TextBlock(first + start, block.lines[start:end], source, target, problems)
        first += len(block)


def _pieces(block: Block) -> Iterator[tuple[int, int]]:
    start = characters = 0
    for index, (source, target) in enumerate(zip(block.sources, block.targets, strict=True)):
        characters += len(source) + len(target)
        if characters >= CHARACTERS:
            yield start, index + 1
            start, characters = index + 1, 0
    if start < len(block):
        yield start, len(block)


def joined(source: Hashes, target: Hashes) -> Hashes:
    """One hash of two, whose order counts."""
    return mixed(source + _BASE * mixed(target))


def mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection in which every bit depends on all."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _mixed_points() -> Hashes:
    return mixed((np.arange(END + 1, dtype=np.uint64) + np.uint64(1)) * _BASE)


_known_powers = np.ones(1, np.uint64)


def _powers(count: int) -> Hashes:
    """At least `count` powers of the base, from the 0th."""
    global _known_powers
    while len(_known_powers) < count:
        _known_powers = np.concatenate([_known_powers, _known_powers * _known_powers[-1] * _BASE])
    return _known_powers
