"""Readers of pairs in text files: two files line by line, tab-separated, CSV, JSON lines; compressed or not."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from regard.data.compression import open_bytes
from regard.data.pairs import Block, FileReader, PairReader
from regard.data.sources import check_start, count_lines, decode_line
from regard.errors import DataError

BLOCK: Final = 4096
"""Rows of a block."""

_EXAMPLE_COLUMNS = 12  # how many columns a message lists

Cells = tuple[str, str, str | None]
"""Source, target and problem of one row."""


@dataclass(frozen=True)
class LineFiles(PairReader):
    """Two files that are aligned by line: line n of `target` translates line n of `source`."""

    source: Path
    target: Path

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.source} and {self.target}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Both files."""
        return self.source, self.target

    def blocks(self) -> Iterator[Block]:
        """Yield the lines of both files side by side."""
        left, right = line_blocks(self.source), line_blocks(self.target)
        first = 1
        while True:
            sources, problems = next(left, ([], {}))
            targets, others = next(right, ([], {}))
            if len(sources) != len(targets):
                both = min(len(sources), len(targets))
                if both:
                    common = {index: text for index, text in {**others, **problems}.items() if index < both}
                    yield Block(
                        range(first, first + both), _stripped(sources[:both]), _stripped(targets[:both]), common
                    )
                counts = [
                    first - 1 + len(side) + sum(len(lines) for lines, _ in rest)
                    for side, rest in ((sources, left), (targets, right))
                ]
                raise DataError(
                    f"{self.source} has {count_lines(counts[0])} but {self.target} has {count_lines(counts[1])}: "
                    "line n of one must translate line n of the other"
                )
            if not sources:
                return
            lines = range(first, first + len(sources))
            yield Block(lines, _stripped(sources), _stripped(targets), {**others, **problems})
            first += len(sources)


@dataclass(frozen=True)
class TabTable(FileReader):
    """A table with one pair a line and a tab between columns; there are no quotes and no escapes.

    `columns` are those of source and target, from 1.
    """

    columns: tuple[int, int]

    def blocks(self) -> Iterator[Block]:
        """Yield the two columns."""
        first, (a, b), most = 1, self.columns, max(self.columns)
        for texts, problems in line_blocks(self.path):
            sources, targets, problems = [], [], dict(problems)
            for index, text in enumerate(texts):
                cells = text.split("\t")
                if len(cells) < most:
                    problems.setdefault(index, f"{self.path}, line {first + index}: " + _too_few(most, cells, "a tab"))
                    cells += [""] * (most - len(cells))
                sources.append(cells[a - 1].strip())
                targets.append(cells[b - 1].strip())
            yield Block(range(first, first + len(texts)), sources, targets, problems)
            first += len(texts)


@dataclass(frozen=True)
class CommaTable(FileReader):
    """A CSV file (RFC 4180): commas between columns, quotes around cells that hold commas, quotes or line ends.

    Columns given by name are found in the first row; with numbers, from 1, the first row is a pair like the others.
    """

    columns: tuple[int, int] | tuple[str, str]

    def blocks(self) -> Iterator[Block]:
        """Yield the two columns."""
        return _collect(self._cells())

    def _cells(self) -> Iterator[tuple[int, Cells]]:
        undecodable: dict[int, str] = {}
        table = csv.reader(self._lines(undecodable))
        places: tuple[int, int] | None = None
        if isinstance(self.columns[0], int) and isinstance(self.columns[1], int):
            places = (self.columns[0] - 1, self.columns[1] - 1)
        while True:
            line = table.line_num + 1
            try:
                cells = next(table, None)
            except csv.Error as error:
                raise DataError(f"{self.path}, line {line}: not CSV: {error} (is a quote not closed?)") from error
            if cells is None:
                return
            problem = " and ".join(undecodable.values()) or None
            undecodable.clear()
            if places is None:
                places = self._places(cells)
                continue
            if not cells:
                continue  # an empty line
            least = max(places) + 1
            if len(cells) < least:
                problem = problem or f"{self.path}, line {line}: " + _too_few(least, cells, "a comma")
                cells += [""] * (least - len(cells))
            yield line, (cells[places[0]].strip(), cells[places[1]].strip(), problem)

    def _places(self, header: list[str]) -> tuple[int, int]:
        names = [cell.strip() for cell in header]
        for column in self.columns:
            if column not in names:
                raise missing_column(f"{self.path}, line 1", str(column), names)
        return names.index(str(self.columns[0])), names.index(str(self.columns[1]))

    def _lines(self, undecodable: dict[int, str]) -> Iterator[str]:
        first = 1
        for texts, problems in line_blocks(self.path):
            for index, text in enumerate(texts):
                if index in problems:
                    undecodable[first + index] = problems[index]
                yield text + "\n"
            first += len(texts)


@dataclass(frozen=True)
class JsonLines(FileReader):
    """A file with one JSON object a line; columns are keys, with a dot for each step into nested objects.

    Whole numbers are read as their digits if `whole_numbers` says so.
    """

    columns: tuple[str, str]
    whole_numbers: bool = False

    def blocks(self) -> Iterator[Block]:
        """Yield the two columns; empty lines are no rows."""
        return _collect(self._cells())

    def _cells(self) -> Iterator[tuple[int, Cells]]:
        first = 1
        for texts, problems in line_blocks(self.path):
            for index, text in enumerate(texts):
                if problem := problems.get(index):
                    yield first + index, ("", "", problem)
                elif text.strip():
                    yield first + index, self._row(text, first + index)
            first += len(texts)

    def _row(self, text: str, line: int) -> Cells:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            return "", "", f"{self.path}, line {line}: not JSON: {error}"
        if not isinstance(row, dict):
            return "", "", f"{self.path}, line {line}: expected a JSON object, got {text[:60]!r}"
        sides, problem = ["", ""], None
        for side, column in enumerate(self.columns):
            try:
                value = row[column] if column in row else _inside(row, column)
            except KeyError:
                problem = problem or str(missing_column(f"{self.path}, line {line}", column, list(_paths(row))))
                continue
            if isinstance(value, str):
                if "\\u" in text and not value.isascii() and _has_surrogate(value):
                    problem = (
                        problem or f"{self.path}, line {line}: {column!r} is not Unicode text: half a surrogate pair"
                    )
                    value = value.encode("utf-8", "replace").decode()
                sides[side] = value.strip()
            elif self.whole_numbers and type(value) is int:
                sides[side] = str(value)
            elif value is not None:
                kind = type(value).__name__
                problem = problem or f"{self.path}, line {line}: {column!r} should be a string, got {kind}"
        return sides[0], sides[1], problem


def line_blocks(path: Path) -> Iterator[tuple[list[str], dict[int, str]]]:
    """Yield the lines of a UTF-8 file as `read_lines` does, `BLOCK` at a time, and what is wrong with some of them.

    A `\\r` at the end of a line may stay. A line that is not UTF-8 has U+FFFD in place of what could not be read; the
    problems, by index in the block, name file and line.

    Raises:
        DataError: the file cannot be read, or is UTF-16.
    """
    name, first = str(path), 1
    with open_bytes(path) as file:
        while raw := list(islice(file, BLOCK)):
            if first == 1:
                raw[0] = check_start(raw[0], name)
            try:
                lines = b"".join(raw).decode("utf-8").split("\n")  # much faster than line by line
                problems: dict[int, str] = {}
            except UnicodeDecodeError:
                lines, problems = _decode_each(raw, name, first)
            else:
                if raw[-1].endswith(b"\n"):
                    lines.pop()
            yield lines, problems
            first += len(raw)


def missing_column(where: str, column: str, names: Sequence[str]) -> DataError:
    """The error for a column that is not there; it names those that are."""
    shown = ", ".join(names[:_EXAMPLE_COLUMNS]) + (", …" if len(names) > _EXAMPLE_COLUMNS else "")
    return DataError(f"{where}: has no column {column!r}; it has: {shown or 'none'}")


def _decode_each(raw: list[bytes], name: str, first: int) -> tuple[list[str], dict[int, str]]:
    lines, problems = [], {}
    for index, line in enumerate(raw):
        try:
            lines.append(decode_line(line, name, first + index))
        except DataError as error:
            problems[index] = str(error)
            lines.append(line.removesuffix(b"\n").decode("utf-8", "replace"))
    return lines, problems


def _collect(rows: Iterator[tuple[int, Cells]]) -> Iterator[Block]:
    while taken := list(islice(rows, BLOCK)):
        lines = [line for line, _ in taken]
        problems = {index: cells[2] for index, (_, cells) in enumerate(taken) if cells[2] is not None}
        yield Block(lines, [cells[0] for _, cells in taken], [cells[1] for _, cells in taken], problems)


def _stripped(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines]


def _too_few(least: int, cells: list[str], between: str) -> str:
    return f"expected at least {least} columns with {between} between, got {len(cells)}: {','.join(cells)[:60]!r}"


def _inside(row: Mapping[str, Any], column: str) -> Any:
    value: Any = row
    for key in column.split("."):
        if not isinstance(value, dict):
            raise KeyError(column)
        value = value[key]
    return value


def _paths(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
