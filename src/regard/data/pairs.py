"""Pairs of sentences as they are read: one by one, or many at a time in columns."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regard.data.sources import Pair
from regard.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One pair as read, without white space at the ends of its sides.

    Attributes:
        line: the number of its line, from 1; of its row, where the file has no lines.
        source: the source side.
        target: the target side.
        problem: why it cannot be used, naming file and line; then both sides are what could be made of them.
    """

    line: int
    source: str
    target: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows in columns, for whoever works on many at a time.

    Attributes:
        lines: the number of each, as `Row.line`.
        sources: the source sides.
        targets: the target sides.
        problems: `Row.problem` by index in the block, of those that have one.
    """

    lines: Sequence[int]
    sources: list[str]
    targets: list[str]
    problems: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sources)


class PairReader(ABC):
    """Reads pairs from one place, as often as asked, without ever holding them all."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """Everything it reads, so that changes can be noticed."""

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Yield all rows, some thousands at a time; see `rows`."""

    def rows(self) -> Iterator[Row]:
        """Yield all rows; one that cannot be used says so in `problem`.

        Raises (where it shows; after the last row if line counts differ):
            DataError: a file is missing or cannot be read as what it should be, has no such column, or two files
                have different numbers of lines.
            MissingExtraError: a library that reads this kind of file is not installed.
        """
        for block in self.blocks():
            triples = zip(block.lines, block.sources, block.targets, strict=True)
            for index, (line, source, target) in enumerate(triples):
                yield Row(line, source, target, block.problems.get(index))


@dataclass(frozen=True)
class FileReader(PairReader):
    """A reader of one file, or of one folder that is read as one."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)


def pairs_of(reader: PairReader) -> Iterator[Pair]:
    """Yield the pairs of a reader.

    Raises:
        DataError: at the first row that cannot be used, and as `PairReader.rows` does.
    """
    for row in reader.rows():
        if row.problem is not None:
            raise DataError(row.problem)
        yield Pair(row.source, row.target)
