"""What is in several places: pairs repeated in a part, and validation pairs that are in the training parts."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from regard.data.checks.blocks import Hashes, Mask, TextBlock
from regard.data.checks.findings import Example, shown
from regard.data.checks.hashes import HashSet

NOTHING: Final = np.uint64(0)


class Seen:
    """Pairs, sources and near-duplicates that were there before.

    Args:
        rows: the most rows there will be; 16 bytes are taken for each.
    """

    def __init__(self, rows: int) -> None:
        self._pairs, self._sources, self._near = (HashSet(rows) for _ in range(3))

    def add(self, block: TextBlock) -> dict[str, Mask]:
        """Add a block; which of its rows repeat a pair, a source with another target, a pair but for case,
        punctuation and digits: masks (N,) by the names of the rules."""
        pairs = _among(self._pairs, block.pair_hashes, block.readable)
        sources = _among(self._sources, block.source.hashes, block.readable)
        near = _among(self._near, block.near_hashes, block.readable & (block.near_hashes != NOTHING))
        return {"duplicates": pairs, "several-targets": sources & ~pairs, "near-duplicates": near & ~pairs}


def _among(seen: HashSet, hashes: Hashes, usable: Mask) -> Mask:
    mask = np.zeros(len(hashes), dtype=bool)
    mask[usable] = seen.add(hashes[usable])
    return mask


class Validation:
    """The validation part by its hashes, to look for in the training parts.

    Args:
        examples: how many places to remember.
    """

    def __init__(self, examples: int) -> None:
        self._most = examples
        self._columns: list[tuple[Hashes, Hashes, NDArray[np.int64]]] = []
        self._pairs, self._sources = _Wanted([], examples), _Wanted([], examples)

    def add(self, block: TextBlock) -> None:
        """Add a block of the validation part."""
        usable = np.flatnonzero(block.readable)
        lines = np.array(block.lines, np.int64)[usable]
        self._columns.append((block.pair_hashes[usable], block.source.hashes[usable], lines))

    def close(self) -> None:
        """All of the validation part is there."""
        self._pairs = _Wanted([pairs for pairs, _, _ in self._columns], self._most)
        self._sources = _Wanted([sources for _, sources, _ in self._columns], self._most)

    def look(self, block: TextBlock, part: str) -> Mask:
        """Which rows of a block of the training part of that name are validation pairs, (N,)."""
        pairs = _is_in(block.pair_hashes, self._pairs.hashes) & block.readable
        sources = _is_in(block.source.hashes, self._sources.hashes) & block.readable & ~pairs
        self._pairs.mark(block, part, block.pair_hashes, pairs)
        self._sources.mark(block, part, block.source.hashes, sources)
        return pairs

    @property
    def rows(self) -> int:
        """Usable validation pairs."""
        return sum(len(lines) for _, _, lines in self._columns)

    def pairs(self) -> tuple[int, list[Example]]:
        """How many validation pairs were found, and the first of them."""
        return self._pairs.count((pairs, lines) for pairs, _, lines in self._columns)

    def sources(self) -> tuple[int, list[Example]]:
        """How many other validation pairs were found by their source, and the first of them."""

        def columns() -> Iterator[tuple[Hashes, NDArray[np.int64]]]:
            for pairs, sources, lines in self._columns:
                others = np.flatnonzero(~_is_in(pairs, self._pairs.found))
                yield sources[others], lines[others]

        return self._sources.count(columns())


class _Wanted:
    """Hashes that are looked for, which of them were found, and where the first were."""

    def __init__(self, hashes: list[Hashes], most: int) -> None:
        self._most = most
        self.hashes = np.unique(np.concatenate([*hashes, np.zeros(0, np.uint64)]))
        self.found = np.zeros(0, np.uint64)
        self._places: dict[int, str] = {}

    def mark(self, block: TextBlock, part: str, hashes: Hashes, rows: Mask) -> None:
        """They were found in these rows of a block."""
        if rows.any():
            self.found = np.union1d(self.found, hashes[rows])
        for index in map(int, np.flatnonzero(rows)):
            if len(self._places) >= self._most:
                return
            text = shown(block.source.texts[index], block.target.texts[index])
            self._places.setdefault(int(hashes[index]), f"{part}, line {block.lines[index]}: {text}")

    def count(self, columns: Iterable[tuple[Hashes, NDArray[np.int64]]]) -> tuple[int, list[Example]]:
        """How many of these hashes were found; of those whose place is known, the lines that go with them."""
        count, examples = 0, list[Example]()
        for hashes, lines in columns:
            for index in map(int, np.flatnonzero(_is_in(hashes, self.found))):
                count += 1
                place = self._places.get(int(hashes[index]))
                if place is not None and len(examples) < self._most:
                    examples.append(Example(int(lines[index]), f"also in {place}"))
        return count, examples


def _is_in(hashes: Hashes, ordered: Hashes) -> Mask:
    """Which hashes are in an ordered array, by bisection: `np.isin` would sort both for every block."""
    if not len(ordered):
        return np.zeros(len(hashes), dtype=bool)
    place = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    mask: Mask = ordered[place] == hashes
    return mask
