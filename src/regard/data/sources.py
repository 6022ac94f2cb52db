"""Reading text: lines of files, and parallel text from two files or one table.

Lines end at `\\n` and nowhere else: U+2028, U+0085, vertical tabs and the like are characters of a line, so line
numbers agree between the two files of a parallel text and with `wc -l`. A `\\r` before the `\\n` and a byte-order
mark at the start of the file are removed. Text is UTF-8.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import overload

from regard.data.compression import DamagedError, open_bytes
from regard.errors import ArgumentError, DataError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation, without white space at the ends."""

    source: str
    target: str


@dataclass(frozen=True)
class ParallelText(Sequence[Pair]):
    """Pairs in order, each with the place it was read from, so that a later error can name it.

    Attributes:
        pairs: the pairs.
        lines: the line number of each pair, from 1; the same in both files.
        name: the file or files, as error messages call them.
    """

    pairs: tuple[Pair, ...]
    lines: tuple[int, ...]
    name: str

    def __post_init__(self) -> None:
        if len(self.pairs) != len(self.lines):
            raise ArgumentError(f"lines: got {len(self.lines)} line numbers for {len(self.pairs)} pairs")

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> "ParallelText": ...
    def __getitem__(self, index: int | slice) -> "Pair | ParallelText":
        if isinstance(index, slice):
            return ParallelText(self.pairs[index], self.lines[index], self.name)
        return self.pairs[index]

    @property
    def sources(self) -> list[str]:
        """The source side of every pair."""
        return [pair.source for pair in self.pairs]

    @property
    def targets(self) -> list[str]:
        """The target side of every pair."""
        return [pair.target for pair in self.pairs]

    def where(self, index: int) -> str:
        """Where pair `index` comes from, for messages: `a.en and a.de, line 7`."""
        return f"{self.name}, line {self.lines[index]}"


def read_lines(path: Path | str) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, one at a time, without their line ends.

    `-` is standard input; a name that ends in `.gz`, `.xz` or `.zst` is decompressed. The last line counts whether or
    not `\\n` ends it; after a final `\\n` there is no further, empty line. Spaces at the ends of a line stay.

    Raises (when the line is reached):
        DataError: the file is missing, is a folder or cannot be read; the compressed data is damaged or ends
            early; a line is not valid UTF-8 (the message names file and line).
        MissingExtraError: `.zst`, and no library for it is installed.
    """
    name = display_name(path)
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                yield decode_line(raw, name, number)
    except DamagedError as error:
        raise DamagedError(f"{error} (after line {number})") from error


def display_name(path: Path | str) -> str:
    """What messages call a path given by the user: `-` is "standard input"."""
    return "standard input" if str(path) == "-" else str(path)


def read_parallel(source: Path | str, target: Path | str) -> ParallelText:
    """Read two files that are aligned by line: line n of `target` translates line n of `source`.

    Each file is read as `read_lines` does and white space at the ends of lines is removed. Empty lines stay, so
    that numbers agree; `usable` drops them.

    Raises:
        DataError: a file cannot be read, both have no line, or their numbers of lines differ (the message gives
            both numbers).
    """
    if str(source) == str(target) == "-":
        raise DataError("source and target are both standard input (-): one of them must be a file")
    pairs: list[Pair] = []
    counts = [0, 0]
    for left, right in zip_longest(read_lines(source), read_lines(target)):
        counts[0] += left is not None
        counts[1] += right is not None
        if left is not None and right is not None:
            pairs.append(Pair(left.strip(), right.strip()))
    if counts[0] != counts[1]:
        raise DataError(
            f"{display_name(source)} has {count_lines(counts[0])} but {display_name(target)} has "
            f"{count_lines(counts[1])}: line n of one must translate line n of the other"
        )
    name = f"{display_name(source)} and {display_name(target)}"
    if not pairs:
        raise DataError(f"{name}: there is no line in them")
    return ParallelText(tuple(pairs), tuple(range(1, len(pairs) + 1)), name)


def read_table(path: Path | str, columns: tuple[int, int] = (0, 1)) -> ParallelText:
    """Read a table with one pair a line and a tab between columns; there are no quotes and no escapes.

    The file is read as `read_lines` does and white space at the ends of a side is removed. Empty sides stay;
    `usable` drops them.

    Args:
        path: the file, or `-`.
        columns: which columns hold source and target, counted from 0; others are ignored.

    Raises:
        ArgumentError: a column is negative.
        DataError: the file cannot be read or has no line, or a line has too few columns (an empty line too).
    """
    source, target = columns
    if min(columns) < 0:
        raise ArgumentError(f"columns: got {columns}, expected numbers from 0")
    name = display_name(path)
    pairs: list[Pair] = []
    for number, line in enumerate(read_lines(path), start=1):
        cells = line.split("\t")
        if len(cells) <= max(columns):
            raise DataError(
                f"{name}, line {number}: expected at least {max(columns) + 1} columns with a tab between, "
                f"got {len(cells)}: {line[:60]!r}"
            )
        pairs.append(Pair(cells[source].strip(), cells[target].strip()))
    if not pairs:
        raise DataError(f"{name}: there is no line in it")
    return ParallelText(tuple(pairs), tuple(range(1, len(pairs) + 1)), name)


def usable(text: ParallelText) -> tuple[ParallelText, int]:
    """Return the pairs with something on both sides, and how many others were dropped.

    Raises:
        DataError: no pair is left.
    """
    kept = [index for index, pair in enumerate(text.pairs) if pair.source.strip() and pair.target.strip()]
    if not kept:
        raise DataError(f"{text.name}: no pair has text on both sides ({count_lines(len(text))} read)")
    pairs = tuple(text.pairs[index] for index in kept)
    lines = tuple(text.lines[index] for index in kept)
    return ParallelText(pairs, lines, text.name), len(text) - len(kept)


def _open(path: Path | str) -> AbstractContextManager[Iterable[bytes]]:
    if str(path) == "-":
        return nullcontext(sys.stdin.buffer)  # not ours to close
    return open_bytes(path)


def decode_line(raw: bytes, name: str, number: int) -> str:
    """One line of a file, with or without its end, as text: the rules of `read_lines`.

    Raises:
        DataError: it is not UTF-8; the message has the name of the file and the number of the line, from 1.
    """
    if number == 1:
        raw = check_start(raw, name)
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}, line {number}: not valid UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1} "
            f"of the line"
        ) from error


def check_start(raw: bytes, name: str) -> bytes:
    """The first line of a file without the byte-order mark of UTF-8.

    Raises:
        DataError: it begins with the mark of UTF-16.
    """
    if raw.startswith(_UTF16_MARKS):
        raise DataError(f"{name}: is UTF-16 text, expected UTF-8")
    return raw.removeprefix(_BYTE_ORDER_MARK)


def count_lines(count: int) -> str:
    """A number of lines in words."""
    return f"{count} line" if count == 1 else f"{count} lines"
